"""The rehearsal through the real SDKs: streams, tools and their results, JSON, stored responses."""

import json
from typing import Any

import anthropic
import openai
import pytest
from google import genai
from google.genai import types

from understudy.rehearsal import tools
from understudy.rehearsal.server import RehearsalServer
from understudy.services.providers.rehearsal_base import AskedCall, SaidCall

ASK = "What is the weather in Paris for the next 3 days?"
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "enum": ["Rome", "Paris"]},
        "days": {"type": "integer", "maximum": 7},
        "note": {"type": "string"},
    },
    "required": ["city", "days"],
}
WANTED = {"city": "Paris", "days": 3}
ABOUT = "Look up the weather."
SAID = "The tool says: rain"


def test_openai_s_sdk_streams_calls_tools_and_takes_results() -> None:
    function = {"name": "forecast", "description": ABOUT, "parameters": SCHEMA}
    known: Any = [{"type": "function", "function": function}]
    turns: list[Any] = [{"role": "user", "content": ASK}]
    with (
        RehearsalServer() as server,
        openai.OpenAI(base_url=f"{server.url}/openai/v1", api_key="any", max_retries=0) as sdk,
    ):
        chats = sdk.chat.completions
        said = chats.create(model="m", messages=turns, tools=known).choices[0]
        assert said.finish_reason == "tool_calls"
        (call,) = said.message.tool_calls or ()
        assert call.type == "function"
        assert json.loads(call.function.arguments) == WANTED
        with chats.stream(model="m", messages=turns, tools=known) as stream:
            streamed = stream.get_final_completion().choices[0].message.tool_calls or []
        assert json.loads(streamed[0].function.arguments) == WANTED
        turns += [said.message, {"role": "tool", "tool_call_id": call.id, "content": "rain"}]
        with chats.stream(model="m", messages=turns, tools=known) as stream:
            assert stream.get_final_completion().choices[0].message.content == SAID
        bare = list(chats.create(model="m", messages=turns[:1], stream=True))
        assert bare[-1].choices[0].finish_reason == "stop"
        assert all(chunk.usage is None for chunk in bare)
        form: Any = {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA}}
        made = chats.create(model="m", messages=turns[:1], response_format=form)
        assert json.loads(made.choices[0].message.content or "") == WANTED


def test_openai_s_sdk_continues_a_stored_response() -> None:
    with (
        RehearsalServer() as server,
        openai.OpenAI(base_url=f"{server.url}/openai/v1", api_key="any", max_retries=0) as sdk,
    ):
        known: Any = [
            {"type": "function", "name": "forecast", "description": ABOUT, "parameters": SCHEMA}
        ]
        with sdk.responses.stream(model="m", input=ASK, tools=known) as stream:
            first = stream.get_final_response()
        (call,) = first.output
        assert call.type == "function_call"
        assert json.loads(call.arguments) == WANTED
        result: Any = [{"type": "function_call_output", "call_id": call.call_id, "output": "rain"}]
        second = sdk.responses.create(model="m", input=result, previous_response_id=first.id)
        assert second.output_text == SAID
        assert sdk.responses.retrieve(second.id).output_text == SAID
        with pytest.raises(openai.BadRequestError, match="not found"):
            sdk.responses.create(model="m", input="more", previous_response_id="resp_0")
        parts = list(sdk.completions.create(model="m", prompt=ASK, max_tokens=5, stream=True))
        assert parts[-1].choices[0].finish_reason == "length"
        vectors = sdk.embeddings.create(model="m", input=["a", "b", "a"])
        first_, other, same = (one.embedding for one in vectors.data)
        assert first_ == same != other
        assert vectors.usage.prompt_tokens > 0
        assert server.bill().copy().log[-1].usage.output == 0


def test_anthropic_s_sdk_streams_calls_tools_and_takes_results() -> None:
    known: Any = [{"name": "forecast", "description": ABOUT, "input_schema": SCHEMA}]
    turns: list[Any] = [{"role": "user", "content": ASK}]
    with (
        RehearsalServer(cached=0.5) as server,
        anthropic.Anthropic(base_url=f"{server.url}/anthropic", api_key="x", max_retries=0) as sdk,
    ):
        more: Any = {"model": "m", "max_tokens": 500, "tools": known}
        said = sdk.messages.create(messages=turns, **more)
        assert said.stop_reason == "tool_use"
        (block,) = said.content
        assert block.type == "tool_use"
        assert block.input == WANTED
        with sdk.messages.stream(messages=turns, **more) as stream:
            final = stream.get_final_message()
        assert final.content[0].input == WANTED  # type: ignore[union-attr]
        assert final.usage == said.usage
        result = {"type": "tool_result", "tool_use_id": block.id, "content": "rain"}
        turns += [{"role": "assistant", "content": said.content}]
        turns += [{"role": "user", "content": [result]}]
        with sdk.messages.stream(messages=turns, **more) as stream:
            assert "".join(stream.text_stream) == SAID


def test_google_s_sdk_streams_calls_tools_and_takes_results() -> None:
    declared: Any = {"name": "forecast", "description": ABOUT, "parameters_json_schema": SCHEMA}
    config = types.GenerateContentConfig(tools=[{"function_declarations": [declared]}])  # type: ignore[list-item]
    options: Any = {"base_url": "", "retry_options": {"attempts": 1}}
    with RehearsalServer() as server:
        options["base_url"] = f"{server.url}/google"
        client = genai.Client(api_key="any", http_options=options)
        said = client.models.generate_content(model="m", contents=ASK, config=config)
        (call,) = said.function_calls or ()
        assert call.args == WANTED
        stream = list(client.models.generate_content_stream(model="m", contents=ASK, config=config))
        (call,) = [call for part in stream for call in part.function_calls or ()]
        assert call.args == WANTED
        assert stream[-1].usage_metadata == said.usage_metadata
        assert said.candidates is not None
        result = types.Part.from_function_response(name="forecast", response={"result": "rain"})
        turns: Any = [
            types.Content(role="user", parts=[types.Part(text=ASK)]),
            said.candidates[0].content,
            types.Content(role="user", parts=[result]),
        ]
        stream = list(
            client.models.generate_content_stream(model="m", contents=turns, config=config)
        )
        assert "".join(part.text or "" for part in stream) == SAID
        assert len(stream) > 1


def asked(text: str, **more: Any) -> AskedCall:
    known = {"name": "forecast", "description": ABOUT, "parameters": SCHEMA}
    turn: Any = {"role": "user", "content": text}
    return AskedCall("m", (turn,), tools=({"name": "add", "parameters": {}}, known), **more)


def test_a_tool_is_called_where_the_prompt_speaks_of_it_or_it_must_be() -> None:
    assert tools.due(asked(ASK)) == SaidCall("forecast", WANTED)
    assert tools.due(asked("Hello!")) is None
    assert tools.due(asked(ASK, choice="none")) is None
    assert tools.due(asked("Hello!", choice="required")) == SaidCall("add", {})
    assert tools.due(asked("Hello!", choice="add")) == SaidCall("add", {})


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": ["null", "number"], "minimum": 2}, 2),
        ({"type": "string", "minLength": 4, "maxLength": 5}, "a 1."),
        ({"type": "array", "items": {"type": "boolean"}, "minItems": 2}, [True, True]),
        ({"anyOf": [{"type": "null"}, {"const": 7}]}, 7),
        ({"$ref": "#/$defs/one", "$defs": {"one": {"enum": ["x", "y"]}}}, "x"),
        ({"properties": {"a": {"type": "null"}, "b": {}}, "required": ["a"]}, {"a": None}),
    ],
)
def test_a_schema_is_filled(schema: dict[str, Any], value: Any) -> None:
    assert tools.example(schema, "a 1") == value


def test_a_schema_that_holds_itself_ends() -> None:
    schema = {"type": "object", "properties": {"next": {"$ref": "#"}}, "required": ["next"]}
    assert len(json.dumps(tools.example(schema, "x"))) < 500
