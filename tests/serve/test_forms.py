"""Answers that keep to a schema, and tool calls, as the official client gets them."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import jsonschema
import openai
import pytest
from pydantic import BaseModel, Field

from support.servers import QUESTION, Server, chat, post
from understudy import locations
from understudy.inference import DecodeRequest
from understudy.prompts import judge
from understudy.serve import Piece, tools
from understudy.serve.chat import Body, ChatReply
from understudy.serve.tools import AnswerReader, ToolUse

WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "maxLength": 12},
                "unit": {"$ref": "#/$defs/unit"},
            },
            "$defs": {"unit": {"enum": ["°C", "°F"]}},
            "required": ["city", "unit"],
            "additionalProperties": False,
        },
    },
}
TIME: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_time",
        "parameters": {
            "type": "object",
            "properties": {"zone": {"enum": ["UTC", "CET"]}},
            "required": ["zone"],
        },
    },
}
TOOLS = [WEATHER, TIME]
FOLDER = Path(__file__).parents[1] / "support" / "templates"
TEMPLATES = {path.stem: path.read_text() for path in sorted(FOLDER.glob("*.jinja"))}
TEMPLATES |= {"own": locations.chat_template("chatml").read_text()}
TEMPLATES |= {"other": "{% if tools %}{{ tools }}{% endif %}"}


class Place(BaseModel):
    name: str = Field(max_length=8)
    kind: Literal["Straße", "東京"]
    tags: list[Literal["x", "y"]] = Field(max_length=3)


class Answer(BaseModel):
    is_sure: bool
    place: Place


def test_openais_parse_gets_an_object_of_a_pydantic_model(client: openai.OpenAI) -> None:
    made = client.chat.completions.parse(**chat(max_tokens=400), response_format=Answer)
    assert made.choices[0].finish_reason == "stop"
    assert isinstance(made.choices[0].message.parsed, Answer)


def test_an_answer_that_is_cut_off_says_so(client: openai.OpenAI) -> None:
    form: Any = {"type": "json_object"}
    made = client.chat.completions.create(**chat(max_tokens=2), response_format=form)
    assert made.choices[0].finish_reason == "length"
    assert (made.choices[0].message.content or "").startswith("{")


@pytest.mark.slow
def test_each_of_several_streamed_answers_keeps_to_the_schema(client: openai.OpenAI) -> None:
    schema = Answer.model_json_schema()
    form: Any = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    fields = chat(n=4, temperature=1, seed=5, max_tokens=400)
    texts = ["", "", "", ""]
    for chunk in client.chat.completions.create(**fields, response_format=form, stream=True):
        texts[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
    assert len(set(texts)) > 1
    for text in texts:
        assert Answer.model_validate_json(text)


@pytest.mark.parametrize("variant", ["default", "paper"])
def test_our_own_judge_can_be_played_by_our_own_server(server: Server, variant: Any) -> None:
    schema = judge.schema(variant)
    form = {"type": "json_schema", "json_schema": {"name": "reply", "strict": True}}
    form["json_schema"]["schema"] = schema  # type: ignore[index]
    made = post(server.url, chat(response_format=form, max_tokens=150)).json["choices"][0]
    assert made["finish_reason"] in ("stop", "length")
    if made["finish_reason"] == "stop":
        jsonschema.validate(json.loads(made["message"]["content"]), schema)


@pytest.mark.parametrize("is_streamed", [False, True])
@pytest.mark.parametrize("choice", ["required", "get_weather"])
def test_a_call_that_is_forced_has_arguments_of_the_tools_schema(
    client: openai.OpenAI, choice: str, is_streamed: bool
) -> None:
    wanted: Any = {"type": "function", "function": {"name": choice}}
    fields = chat(max_tokens=300, temperature=1, seed=2)
    made: Any = client.chat.completions.create(
        **fields,
        tools=TOOLS,
        tool_choice="required" if choice == "required" else wanted,
        stream=is_streamed,
    )
    if is_streamed:
        chunks = [chunk.choices[0] for chunk in made]
        (call,) = [one for chunk in chunks for one in chunk.delta.tool_calls or ()]
        finish, content = chunks[-1].finish_reason, chunks[-1].delta.content
    else:
        (call,) = made.choices[0].message.tool_calls
        finish, content = made.choices[0].finish_reason, made.choices[0].message.content
    assert not content
    assert finish == ("tool_calls" if choice == "required" else "stop")
    tool = next(t["function"] for t in TOOLS if t["function"]["name"] == call.function.name)
    jsonschema.validate(json.loads(call.function.arguments), tool["parameters"])
    if choice != "required":
        assert call.function.name == choice


def test_results_of_tools_reach_the_model_and_an_answer_need_not_call(
    client: openai.OpenAI,
) -> None:
    function = {"name": "get_time", "arguments": '{"zone": "UTC"}'}
    call = {"id": "mine", "type": "function", "function": function}
    turns: Any = [*QUESTION, {"role": "assistant", "content": None, "tool_calls": [call]}]

    def prompted(result: str) -> int:
        said = [*turns, {"role": "tool", "tool_call_id": "mine", "content": result}]
        made = client.chat.completions.create(**chat(messages=said), tools=TOOLS)
        assert made.usage is not None
        return made.usage.prompt_tokens

    assert prompted("12:00") < prompted("It is twelve o'clock, and the bells ring.")


HERMES = '<tool_call>\n{"name": "get_time", "arguments": {"zone": "UTC"}}\n</tool_call>'
OWN = '[{"name":"get_time","arguments":{"zone":"UTC"}}]'
LLAMA = '{"name": "get_time", "parameters": {"zone": "UTC"}}'


@pytest.mark.parametrize(
    ("name", "text", "words", "names"),
    [
        ("hermes", f"I look. {HERMES}", "I look.", ["get_time"]),
        ("hermes", f"{HERMES}\n{HERMES}", "", ["get_time", "get_time"]),
        ("hermes", "a < b, and <tool is no mark", "a < b, and <tool is no mark", []),
        ("own", f"I look.\n{OWN}", "I look.", ["get_time"]),
        ("own", f" {OWN}", "", ["get_time"]),
        ("own", '[{"a": 1}] is a list', '[{"a": 1}] is a list', []),
        ("own", f"Of [1]:\n[2]\n{OWN}", "Of [1]:\n[2]", ["get_time"]),
        ("llama", f"{LLAMA}; {LLAMA}", "", ["get_time", "get_time"]),
        ("llama", '{"a": 1}', '{"a": 1}', []),
        ("mistral", f"[TOOL_CALLS] {OWN}", "", ["get_time"]),
        ("mistral", OWN, "", ["get_time"]),
        ("other", f"I call {LLAMA}", "", ["get_time"]),
        ("other", "I call nobody.", "I call nobody.", []),
        ("own", "", "", []),
        ("own", " ok ", " ok ", []),
    ],
)
def test_calls_in_a_free_answer_are_found_however_it_is_cut(
    name: str, text: str, words: str, names: list[str]
) -> None:
    use = ToolUse(TOOLS, "auto", ("get_weather", "get_time"))
    for size in (1, 3, 7, len(text) + 1):
        reader = AnswerReader(use, tools._LIST, TEMPLATES[name])
        parts = [text[at : at + size] for at in range(0, len(text), size)] or [""]
        told = [reader.add(part, n == len(parts) - 1) for n, part in enumerate(parts)]
        assert "".join(said for said, _ in told) == words
        assert [call["function"]["name"] for _, calls in told for call in calls] == names
        assert reader.finish("stop") == ("tool_calls" if names else "stop")


def test_words_come_as_they_grow_where_they_cannot_be_calls() -> None:
    use = ToolUse(TOOLS, "auto", ("get_weather", "get_time"))
    reader = AnswerReader(use, tools._LIST, TEMPLATES["hermes"])
    parts = ["I lo", "ok now. ", "<tool", "s> are"]
    assert [reader.add(part, False)[0] for part in parts] == ["I lo", "ok now.", "", " <tools> are"]


@pytest.mark.parametrize("is_parallel", [True, False])
def test_calls_are_one_where_a_request_wants_no_parallel_ones(is_parallel: bool) -> None:
    wanted = chat(tools=TOOLS, parallel_tool_calls=is_parallel)
    body, template = Body.model_validate(wanted), SimpleNamespace(chat_template=TEMPLATES["own"])
    use, asked = tools.tool_use(TOOLS, None), DecodeRequest(ids=(1,), max_tokens=9)
    reply = ChatReply(body, asked, template, use, tools._LIST)
    both = f"{OWN[:-1]},{OWN[1:]}"
    (choice,) = reply.whole([Piece(0, both, finish="stop")])["choices"]
    assert len(choice["message"]["tool_calls"]) == 1 + is_parallel
    assert (choice["finish_reason"], choice["message"]["content"]) == ("tool_calls", None)


FORMS = {
    "hermes": ("<tool_call>\n", "name", "arguments", False),
    "mistral": ("[TOOL_CALLS] ", "name", "arguments", True),
    "llama": ("", "name", "parameters", False),
    "own": ("", "name", "arguments", True),
}


@pytest.mark.parametrize("name", FORMS)
def test_the_form_of_a_call_is_that_of_the_chat_template(name: str) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(locations.model("package:tiny"))
    tokenizer.chat_template = TEMPLATES[name]
    form = tools.form_of(tokenizer)
    assert (form.prefix, form.name, form.arguments, form.is_list) == FORMS[name]
    use = tools.tool_use(TOOLS, {"type": "function", "function": {"name": "get_weather"}})
    schema = json.loads(tools.schema_of(use, form))
    made: Any = {form.name: "get_weather", form.arguments: {"city": "Köln", "unit": "°C"}}
    if name == "mistral":
        made |= {"id": "abcdefghi"}
    if form.is_list:
        made = [made]
    jsonschema.validate(made, schema)
    text = json.dumps(made).replace("get_weather", "get_time")
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(json.loads(text), schema)


def test_references_of_a_tool_are_moved_and_values_that_look_like_one_are_not() -> None:
    value = {"$ref": "#/$defs/own"}
    parameters = {
        "type": "object",
        "properties": {"default": value, "kind": {"enum": [value]}},
        "$defs": {"own": {"type": "string"}},
    }
    tool = {"type": "function", "function": {"name": "put", "parameters": parameters}}
    use = tools.tool_use([tool], "required")
    form = tools.CallForm("", {"name": None, "arguments": None}, "name", "arguments", True)
    schema = json.loads(tools.schema_of(use, form))
    moved = schema["$defs"]["tool0"]["properties"]
    assert moved["default"] == {"$ref": "#/$defs/tool0/$defs/own"}
    assert moved["kind"] == {"enum": [value]}
