"""The official SDKs of three makers, and litellm: python core.py URL MODEL."""

from typing import Any

import anthropic
import litellm
import openai
from checks import ASK, MODEL, SCHEMA, TURNS, URL, run
from google import genai
from google.genai import errors, types

SHORT = 8
FUNCTION: Any = {"name": "weather", "description": "The weather.", "parameters": SCHEMA}
TOOLS: Any = [{"type": "function", "function": FUNCTION}]
sdk = openai.OpenAI(base_url=f"{URL}/v1", api_key="x" * 20, max_retries=0)
claude = anthropic.Anthropic(base_url=URL, api_key="x" * 20, max_retries=0)
gemini = genai.Client(api_key="x" * 20, http_options=types.HttpOptions(base_url=URL))


def openai_stream() -> str:
    parts = sdk.chat.completions.create(model=MODEL, messages=TURNS, stream=True, max_tokens=SHORT)
    return "".join(part.choices[0].delta.content or "" for part in parts if part.choices)


def openai_tools() -> str:
    chat = sdk.chat.completions
    made = chat.create(model=MODEL, messages=TURNS, tools=TOOLS, tool_choice="required")
    called = made.choices[0].message.tool_calls or []
    turns = [*TURNS, made.choices[0].message]
    turns += [{"role": "tool", "tool_call_id": one.id, "content": "rain"} for one in called]
    said = chat.create(model=MODEL, messages=turns, tools=TOOLS)
    return f"{[one.function.name for one in called]}, then {said.choices[0].finish_reason}"


def openai_responses_stream() -> str:
    events = sdk.responses.create(model=MODEL, input=ASK, stream=True, max_output_tokens=32)
    *_, last = events
    assert last.type in ("response.completed", "response.incomplete"), last
    return last.response.output_text


def openai_completions_stream() -> str:
    parts = sdk.completions.create(model=MODEL, prompt=ASK, stream=True, max_tokens=SHORT)
    return "".join(part.choices[0].text for part in parts if part.choices)


run(
    "openai",
    (openai.APIStatusError,),
    {
        "chat": lambda: sdk.chat.completions.create(
            model=MODEL, messages=TURNS, max_tokens=SHORT
        ).choices[0].message.content,
        "chat, stream": openai_stream,
        "chat, tools": openai_tools,
        "responses": lambda: sdk.responses.create(
            model=MODEL, input=ASK, max_output_tokens=32
        ).output_text,
        "responses, stream": openai_responses_stream,
        "completions": lambda: sdk.completions.create(
            model=MODEL, prompt=ASK, max_tokens=SHORT
        ).choices[0].text,
        "completions, stream": openai_completions_stream,
        "embeddings": lambda: len(
            sdk.embeddings.create(model=MODEL, input=ASK).data[0].embedding
        ),
        "models": lambda: [one.id for one in sdk.models.list()],
    },
)  # fmt: skip


def claude_stream() -> str:
    with claude.messages.stream(model=MODEL, messages=TURNS, max_tokens=SHORT) as stream:
        return "".join(stream.text_stream)


def claude_tools() -> str:
    tools: Any = [{"name": "weather", "input_schema": SCHEMA}]
    made = claude.messages.create(model=MODEL, messages=TURNS, tools=tools, max_tokens=64)
    return f"{made.stop_reason}: {[block.type for block in made.content]}"


run(
    "anthropic",
    (anthropic.APIStatusError,),
    {
        "messages": lambda: claude.messages.create(
            model=MODEL, messages=TURNS, max_tokens=SHORT
        ).content[0].text,  # type: ignore[union-attr]
        "messages, stream": claude_stream,
        "messages, tools": claude_tools,
    },
)  # fmt: skip

SETTINGS = types.GenerateContentConfig(max_output_tokens=SHORT)


def gemini_stream() -> str:
    parts = gemini.models.generate_content_stream(model=MODEL, contents=ASK, config=SETTINGS)
    return "".join(part.text or "" for part in parts)


def gemini_tools() -> str:
    declared: Any = {"name": "weather", "parameters_json_schema": SCHEMA}
    tool = types.Tool(function_declarations=[declared])
    config = types.GenerateContentConfig(tools=[tool], max_output_tokens=64)
    made = gemini.models.generate_content(model=MODEL, contents=ASK, config=config)
    return f"{made.candidates[0].finish_reason}: {made.function_calls or made.text}"  # type: ignore[index]


run(
    "google-genai",
    (errors.APIError,),
    {
        "generateContent": lambda: (
            gemini.models.generate_content(model=MODEL, contents=ASK, config=SETTINGS).text
        ),
        "generateContent, stream": gemini_stream,
        "generateContent, tools": gemini_tools,
    },
)

litellm.suppress_debug_info = True
OURS: Any = {"api_base": f"{URL}/v1", "api_key": "x" * 20, "messages": TURNS, "num_retries": 0}


def litellm_stream() -> str:
    parts: Any = litellm.completion(f"openai/{MODEL}", stream=True, max_tokens=SHORT, **OURS)
    return "".join(part.choices[0].delta.content or "" for part in parts)


def litellm_claude() -> str:
    ours = OURS | {"api_base": URL}
    made: Any = litellm.completion("anthropic/claude-sonnet-5-5", max_tokens=SHORT, **ours)
    return str(made.choices[0].message.content)


run(
    "litellm",
    (openai.APIStatusError,),  # its errors are OpenAI's
    {
        "completion": lambda: litellm.completion(
            f"openai/{MODEL}", max_tokens=SHORT, **OURS
        ).choices[0].message.content,  # type: ignore[union-attr]
        "completion, stream": litellm_stream,
        "completion, Anthropic's": litellm_claude,
    },
)  # fmt: skip
