"""What is built on the SDKs, in its defaults: python more.py URL MODEL."""

import asyncio
import os

from checks import ASK, MODEL, TURNS, URL, run

os.environ |= {"OPENAI_BASE_URL": f"{URL}/v1", "OPENAI_API_KEY": "x" * 20}
os.environ |= {"OPENAI_AGENTS_DISABLE_TRACING": "1"}  # it would go to OpenAI, not here

import agents
import instructor
import openai
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel
from pydantic_ai import Agent
from pydantic_ai.exceptions import ModelHTTPError

REFUSED = (openai.APIStatusError,)
model = ChatOpenAI(model=MODEL, max_retries=0)


class City(BaseModel):
    """What is wanted of an answer."""

    city: str


def weather(city: str) -> str:
    """Return the weather of a city."""
    return f"rain in {city}"


run(
    "langchain-openai",
    REFUSED,
    {
        "invoke": lambda: model.invoke(ASK).content,
        "stream": lambda: "".join(str(part.content) for part in model.stream(ASK)),
        "bind_tools": lambda: model.bind_tools([weather]).invoke(ASK).response_metadata,
        "with_structured_output": lambda: model.with_structured_output(City).invoke(ASK),
        "embeddings": lambda: len(OpenAIEmbeddings(model=MODEL).embed_query(ASK)),
    },
)

assistant = agents.Agent(name="a", instructions="Be brief.", model=MODEL)
tooled = agents.Agent(name="b", model=MODEL, tools=[agents.function_tool(weather)])


async def streamed() -> str:
    result = agents.Runner.run_streamed(assistant, ASK)
    async for _ in result.stream_events():
        pass
    return str(result.final_output)


run(
    "openai-agents",
    REFUSED,
    {
        "run": lambda: agents.Runner.run_sync(assistant, ASK).final_output,
        "run, stream": lambda: asyncio.run(streamed()),
        "run, tools": lambda: agents.Runner.run_sync(tooled, ASK).final_output,
    },
)


async def ai_stream() -> str:
    async with Agent(f"openai:{MODEL}").run_stream(ASK) as result:
        return str(await result.get_output())


run(
    "pydantic-ai-slim",
    (ModelHTTPError,),
    {
        "run": lambda: Agent(f"openai:{MODEL}").run_sync(ASK).output,
        "run, stream": lambda: asyncio.run(ai_stream()),
        "run, tools": lambda: Agent(f"openai:{MODEL}", tools=[weather]).run_sync(ASK).output,
        "run, output type": lambda: Agent(f"openai:{MODEL}", output_type=City).run_sync(ASK).output,
    },
)

asked = instructor.from_openai(openai.OpenAI(max_retries=0))
run(
    "instructor",
    REFUSED,
    {
        "create": lambda: asked.chat.completions.create(
            model=MODEL, messages=TURNS, response_model=City, max_retries=0
        ),
    },
)
