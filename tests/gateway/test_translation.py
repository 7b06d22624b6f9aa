"""Anthropic and Gemini behind the gateway, for clients that speak OpenAI's protocol."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openai
import pytest

from support.gateways import KEY, Running, ask, gateway, played, service
from support.wires import Answer, error, good
from understudy.rehearsal.server import RehearsalServer
from understudy.services.providers.translation import CannotSay, translation_of

MAKERS = ("anthropic", "google")
PATHS = {"anthropic": "/v1/messages", "google": "/v1beta/models/star-1:generateContent"}
TOOLS: Any = [
    {
        "type": "function",
        "function": {
            "name": "look",
            "description": "Look it up.",
            "parameters": {"type": "object", "properties": {"x": {"type": "integer"}}},
        },
    }
]
CALL = {"id": "t1", "type": "function", "function": {"name": "look", "arguments": '{"x": 1}'}}
TALK: Any = [
    {"role": "system", "content": "Be brief."},
    {"role": "developer", "content": [{"type": "text", "text": "Be kind."}]},
    {
        "role": "user",
        "content": [
            {"type": "text", "text": "what?"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
        ],
    },
    {"role": "assistant", "content": None, "tool_calls": [CALL, CALL | {"id": "t2"}]},
    {"role": "tool", "tool_call_id": "t1", "content": "42"},
    {"role": "tool", "tool_call_id": "t2", "content": "43"},
]


def said(maker: str, **more: Any) -> dict[str, Any]:
    """What a maker is sent for a request."""
    of = service(provider=maker)
    wire = translation_of(of)
    assert wire is not None
    return wire.request(ask() | more, of)


@contextmanager
def before(maker: str, tmp_path: Path, *answers: Answer) -> Iterator[tuple[Running, Any, Any]]:
    """A gateway before a scripted maker, and the official client of OpenAI before it."""
    with (
        played(answers) as server,
        gateway(tmp_path, server.url, of=service(provider=maker)) as running,
        openai.OpenAI(base_url=f"{running.url}/v1", api_key="x", max_retries=0) as client,
    ):
        yield running, client.chat.completions.create, server


def events(*bodies: dict[str, Any]) -> Answer:
    text = "".join(f"event: {b.get('type', 'x')}\ndata: {json.dumps(b)}\n\n" for b in bodies)
    return Answer(text.encode(), content_type="text/event-stream")


# --- requests ------------------------------------------------------------------------------------


def test_anthropic_is_asked_what_the_client_asks() -> None:
    tool = {"type": "tool_use", "name": "look", "input": {"x": 1}}
    made = said(
        "anthropic", messages=TALK, tools=TOOLS, tool_choice="required", stop="END",
        max_tokens=7, temperature=0.5, stream=True, parallel_tool_calls=False,
        reasoning_effort="low",
    )  # fmt: skip
    assert made == {
        "model": "star-1",
        "max_tokens": 7,
        "system": "Be brief.\n\nBe kind.",
        "temperature": 0.5,
        "stream": True,
        "stop_sequences": ["END"],
        "tools": [
            {
                "name": "look",
                "description": "Look it up.",
                "input_schema": TOOLS[0]["function"]["parameters"],
            }
        ],
        "tool_choice": {"type": "any", "disable_parallel_tool_use": True},
        "output_config": {"effort": "low"},
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "what?"},
                    {
                        "type": "image",
                        "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"},
                    },
                ],
            },
            {"role": "assistant", "content": [tool | {"id": "t1"}, tool | {"id": "t2"}]},
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "t1", "content": "42"},
                    {"type": "tool_result", "tool_use_id": "t2", "content": "43"},
                ],
            },
        ],
    }


def test_gemini_is_asked_what_the_client_asks() -> None:
    call = {"functionCall": {"name": "look", "args": {"x": 1}}}
    signed = CALL | {"extra_content": {"google": {"thought_signature": "s=="}}}
    talk = [*TALK[:3], {"role": "assistant", "tool_calls": [signed, CALL | {"id": "t2"}]}]
    made = said(
        "google", messages=[*talk, *TALK[4:]], tools=TOOLS, stop=["A", "B"], seed=3, top_p=0.9,
        tool_choice={"type": "function", "function": {"name": "look"}}, reasoning_effort="low",
    )  # fmt: skip
    function = TOOLS[0]["function"]
    assert made == {
        "systemInstruction": {"parts": [{"text": "Be brief.\n\nBe kind."}]},
        "generationConfig": {
            "maxOutputTokens": 1000,
            "stopSequences": ["A", "B"],
            "seed": 3,
            "topP": 0.9,
            "thinkingConfig": {"thinkingLevel": "LOW"},
        },
        "tools": [
            {
                "functionDeclarations": [
                    {
                        "name": "look",
                        "description": "Look it up.",
                        "parametersJsonSchema": function["parameters"],
                    }
                ]
            }
        ],
        "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["look"]}},
        "contents": [
            {
                "role": "user",
                "parts": [
                    {"text": "what?"},
                    {"inlineData": {"mimeType": "image/png", "data": "AAAA"}},
                ],
            },
            {"role": "model", "parts": [call | {"thoughtSignature": "s=="}, call]},
            {
                "role": "user",
                "parts": [
                    {"functionResponse": {"name": "look", "response": {"result": "42"}}},
                    {"functionResponse": {"name": "look", "response": {"result": "43"}}},
                ],
            },
        ],
    }


@pytest.mark.parametrize("maker", MAKERS)
def test_a_schema_is_passed_on(maker: str) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}
    made = said(maker, response_format=wanted)
    if maker == "anthropic":
        assert made["output_config"]["format"]["schema"] == {"type": "object"}
    else:
        assert made["generationConfig"]["responseJsonSchema"] == {"type": "object"}


@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize(
    "more",
    [
        {"n": 2},
        {"logprobs": True},
        {"response_format": {"type": "json_object"}},
        {"tools": [{"type": "web_search"}]},
        {"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]},
    ],
)
def test_what_cannot_be_passed_on_is_refused_rather_than_left_out(
    maker: str, more: dict[str, Any]
) -> None:
    with pytest.raises(CannotSay) as error:
        said(maker, **more)
    assert error.value.code == "unsupported_parameter"


# --- answers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("maker", MAKERS)
def test_a_whole_answer_comes_as_a_chat_completion(maker: str, tmp_path: Path) -> None:
    with before(maker, tmp_path, Answer(good(maker, "hi there"))) as (running, create, server):
        reply = create(model="star-1", messages=ask()["messages"])
        assert reply.choices[0].message.content == "hi there"
        assert reply.choices[0].finish_reason == "stop"
        assert reply.usage.prompt_tokens == 20
        assert reply.usage.prompt_tokens_details.cached_tokens == 8
        assert (reply.usage.completion_tokens, reply.model) == (12, "model-1-dated")
        assert server.paths == [PATHS[maker]]
        assert KEY in server.headers[0].values()
        assert "authorization" not in server.headers[0]
        (line,) = running.lines("requests")
        assert (line["input"], line["output"], line["is_bound"]) == (20, 12, False)
        (pair,) = running.lines("pairs")
        assert pair["response"]["choices"][0]["message"]["content"] == "hi there"


@pytest.mark.parametrize("maker", MAKERS)
def test_tool_calls_come_as_openai_s(maker: str, tmp_path: Path) -> None:
    if maker == "anthropic":
        block = {"type": "tool_use", "id": "t1", "name": "look", "input": {"x": 1}}
        body = good(maker, content=[block], stop_reason="tool_use")
    else:
        part = {"functionCall": {"name": "look", "args": {"x": 1}}, "thoughtSignature": "s=="}
        content = {"role": "model", "parts": [part]}
        body = good(maker, candidates=[{"content": content, "finishReason": "STOP"}])
    with before(maker, tmp_path, Answer(body)) as (_, create, _):
        choice = create(model="m", messages=ask()["messages"], tools=TOOLS).choices[0]
        assert choice.finish_reason == "tool_calls"
        assert choice.message.content is None
        (call,) = choice.message.tool_calls
        assert (call.function.name, call.function.arguments) == ("look", '{"x": 1}')
        assert call.id == "t1" or maker == "google"
        if maker == "google":
            assert call.extra_content == {"google": {"thought_signature": "s=="}}


ANTHROPIC = (
    {"type": "message_start", "message": {"id": "msg_1", "model": "m-dated",
     "usage": {"input_tokens": 10, "cache_read_input_tokens": 5, "output_tokens": 1}}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "ping"},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hi "}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "ö"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "content_block_start", "index": 1,
     "content_block": {"type": "tool_use", "id": "t1", "name": "look", "input": {}}},
    {"type": "content_block_delta", "index": 1,
     "delta": {"type": "input_json_delta", "partial_json": '{"x":'}},
    {"type": "content_block_delta", "index": 1,
     "delta": {"type": "input_json_delta", "partial_json": " 1}"}},
    {"type": "content_block_stop", "index": 1},
    {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 9}},
    {"type": "message_stop"},
)  # fmt: skip
COUNTS = {"promptTokenCount": 15, "candidatesTokenCount": 9, "cachedContentTokenCount": 5}
GOOGLE = tuple(
    {"candidates": [{"content": {"parts": parts}} | ended], "modelVersion": "m-dated"}
    | {"responseId": "r1", "usageMetadata": COUNTS}
    for parts, ended in (
        ([{"text": "hm", "thought": True}, {"text": "hi "}], {}),
        ([{"text": "ö"}], {}),
        ([{"functionCall": {"name": "look", "args": {"x": 1}}}], {"finishReason": "STOP"}),
    )
)


@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize("wants_usage", [False, True])
def test_a_streamed_answer_comes_in_openai_s_chunks(
    maker: str, wants_usage: bool, tmp_path: Path
) -> None:
    bodies = ANTHROPIC if maker == "anthropic" else GOOGLE
    options = {"stream_options": {"include_usage": True}} if wants_usage else {}
    with before(maker, tmp_path, events(*bodies)) as (running, create, server):
        stream = create(model="m", messages=ask()["messages"], stream=True, **options)
        chunks = list(stream)
        text, arguments = "", ""
        for chunk in chunks:
            for choice in chunk.choices:
                text += choice.delta.content or ""
                for call in choice.delta.tool_calls or ():
                    arguments += call.function.arguments
        assert (text, json.loads(arguments)) == ("hi ö", {"x": 1})
        ends = [c.choices[0].finish_reason for c in chunks if c.choices]
        assert ends[-1] == "tool_calls"
        assert ends.count(None) == len(ends) - 1
        assert chunks[0].choices[0].delta.role == "assistant"
        assert bool(chunks[-1].usage) == wants_usage
        if wants_usage:
            assert chunks[-1].usage.prompt_tokens == 15
        (line,) = running.lines("requests")  # known, whether the client asks or not
        assert (line["input"], line["output"], line["is_bound"]) == (15, 9, False)
        assert server.paths[0].endswith("alt=sse") or maker == "anthropic"


@pytest.mark.parametrize("maker", MAKERS)
def test_events_torn_anywhere_give_the_same_chunks(
    maker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time", lambda: 1.8e9)  # chunks say when their answer began
    wire = translation_of(service(provider=maker))
    assert wire is not None
    body = events(*(ANTHROPIC if maker == "anthropic" else GOOGLE)).content
    call = {"stream_options": {"include_usage": True}}
    whole = wire.stream(call, "x").feed(body)
    for size in (1, 7, 64):
        stream = wire.stream(call, "x")
        torn = b"".join(stream.feed(body[at : at + size]) for at in range(0, len(body), size))
        assert torn == whole
    assert whole.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize("maker", MAKERS)
def test_an_error_within_a_stream_is_no_answer(maker: str, tmp_path: Path) -> None:
    wrong = error(maker, "too busy")
    begun = events(*(ANTHROPIC[:10] if maker == "anthropic" else GOOGLE))
    begun.how = "cut"
    with before(maker, tmp_path, events(wrong), begun) as (running, create, _):
        assert running.post(ask(stream=True)).status_code == 502
        with pytest.raises(openai.APIError, match="broke off"):
            list(create(model="m", messages=ask()["messages"], stream=True))
        lines = running.lines("requests")
        assert [line["is_bound"] for line in lines] == [True, True]  # the counts are not the end's
        assert "output" not in lines[1]
        assert running.lines("pairs") == []
        assert len(running.state.numbers.failovers) == 2


@pytest.mark.parametrize("maker", MAKERS)
def test_an_error_keeps_its_status_and_is_in_openai_s_shape(maker: str, tmp_path: Path) -> None:
    refusal = Answer(error(maker, "too long"), status=400)
    with before(maker, tmp_path, refusal) as (running, create, _):
        with pytest.raises(openai.BadRequestError, match="too long"):
            create(model="m", messages=ask()["messages"])
        with pytest.raises(openai.BadRequestError, match="cannot be passed on"):
            create(model="m", messages=[{"role": "user", "content": [{"type": "text"}]}])
        assert [line["microusd"] for line in running.lines("requests")] == [0, 0]


@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize("body", [b"no json", b"[]", b"{}", b'{"content": 3}'])
def test_an_unreadable_answer_is_a_bad_gateway_and_counted(
    maker: str, body: bytes, tmp_path: Path
) -> None:
    with before(maker, tmp_path, Answer(body)) as (running, _, _):
        reply = running.post()
        if maker == "google" and body in (b"{}", b'{"content": 3}'):
            assert reply.status_code in (200, 502)  # Gemini leaves out what is empty
        else:
            assert reply.status_code == 502
            assert running.lines("requests")[0]["is_bound"]


@pytest.mark.parametrize("name", ["claude_sonnet_5_5", "gemini_3_8_flash", "gpt_4o"])
def test_the_rehearsal_server_s_bill_is_the_gateway_s(name: str, tmp_path: Path) -> None:
    from pydantic import TypeAdapter

    from understudy.config import Service
    from understudy.rehearsal.speaker import read_services
    from understudy.services.providers import endpoint_of

    of = TypeAdapter(Service).validate_python(read_services()[name] | {"rehearsal": True})
    with RehearsalServer(cached=0.5) as server:
        url = endpoint_of(of, server.url).base_url
        with gateway(tmp_path, url, of=of, key="rehearsal") as running:
            for number in range(5):
                body = ask(f"What is {number} plus 2?", model=of.model)
                assert running.post(body).status_code == 200
            assert running.state.spend.spent == server.bill().microusd > 0
            assert all(line["rehearsal"] for line in running.lines("requests"))
