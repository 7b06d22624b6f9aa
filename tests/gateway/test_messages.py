"""Anthropic's own SDK before a gateway: any service answers it, and the local model."""

import json
from pathlib import Path
from typing import Any

import anthropic
import pytest

from support.gateways import KEY, MODEL, Running, gateway, service, stage, until
from understudy.services.providers.anthropic import inbound
from understudy.services.providers.translation import CannotSay

TURNS: Any = [{"role": "user", "content": "hello"}]
TOOLS: Any = [{"name": "look", "description": "Look.", "input_schema": {"type": "object"}}]
TALK: Any = {
    "model": "claude-x",
    "max_tokens": 9,
    "system": [{"type": "text", "text": "Be brief."}],
    "stop_sequences": ["END"],
    "metadata": {"user_id": "ann"},
    "tools": TOOLS,
    "tool_choice": {"type": "any", "disable_parallel_tool_use": True},
    "thinking": {"type": "enabled", "budget_tokens": 1024},
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
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": "s"},
                {"type": "text", "text": "I look."},
                {"type": "tool_use", "id": "t1", "name": "look", "input": {"x": 1}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "t1", "content": "42"},
                {"type": "text", "text": "and?"},
            ],
        },
    ],
}


def sdk(running: Running) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=running.url, api_key="any", max_retries=0)


def test_a_message_is_asked_of_others_as_a_chat_completion() -> None:
    call = {"id": "t1", "type": "function", "function": {"name": "look", "arguments": '{"x": 1}'}}
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    assert inbound.chat_request(TALK) == {
        "model": "claude-x",
        "max_tokens": 9,
        "stop": ["END"],
        "user": "ann",
        "tool_choice": "required",
        "parallel_tool_calls": False,
        "tools": [
            {
                "type": "function",
                "function": {
                    "name": "look",
                    "description": "Look.",
                    "parameters": {"type": "object"},
                },
            }
        ],
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "what?"}, image]},
            {"role": "assistant", "content": "I look.", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "t1", "content": "42"},
            {"role": "user", "content": "and?"},
        ],
    }
    document = {"type": "document", "source": {"type": "text", "data": "x"}}
    with pytest.raises(CannotSay):
        inbound.chat_request(TALK | {"messages": [{"role": "user", "content": [document]}]})
    with pytest.raises(CannotSay):
        inbound.chat_request(TALK | {"tools": [{"type": "web_search_20250305", "name": "w"}]})


@pytest.mark.parametrize("mode", ["local", "record"])
def test_the_local_model_and_openai_s_service_answer_anthropic_s_sdk(
    tmp_path: Path, mode: str
) -> None:
    settings: dict[str, Any] = {"mode": mode}
    with (
        stage(text="It is 42.") as star,
        gateway(tmp_path, star.url, local=star.url, **settings) as running,
        sdk(running) as ours,
    ):
        said = ours.messages.create(model="claude-x", max_tokens=9, messages=TURNS)
        assert said.content[0].text == "It is 42."  # type: ignore[union-attr]
        assert (said.stop_reason, said.usage.input_tokens, said.usage.output_tokens) == (
            "end_turn", 1000, 100,
        )  # fmt: skip
        with ours.messages.stream(model="claude-x", max_tokens=9, messages=TURNS) as stream:
            assert "".join(stream.text_stream) == "It is 42."
            final = stream.get_final_message()
        assert (final.stop_reason, final.usage.output_tokens) == ("end_turn", 100)
        asked = json.loads(star.bodies[0])
        assert asked["model"] == ("small-1" if mode == "local" else MODEL)
        assert asked["messages"] == TURNS
        star.tools = True
        used = ours.messages.create(model="claude-x", max_tokens=9, messages=TURNS, tools=TOOLS)
        assert used.stop_reason == "tool_use"
        with ours.messages.stream(
            model="claude-x", max_tokens=9, messages=TURNS, tools=TOOLS
        ) as stream:
            block = stream.get_final_message().content[0]
        assert (block.type, block.name, block.input) == ("tool_use", "look", {"x": 1})  # type: ignore[union-attr]
        spent = running.state.spend.spent
        assert spent == (0 if mode == "local" else 4 * 3000)
        assert len(running.lines("local_pairs" if mode == "local" else "pairs")) == 4


def test_errors_and_broken_streams_are_anthropic_s(tmp_path: Path) -> None:
    with (
        stage(status=404) as star,
        gateway(tmp_path, star.url) as running,
        sdk(running) as ours,
    ):
        with pytest.raises(anthropic.NotFoundError) as no:
            ours.messages.create(model="claude-x", max_tokens=9, messages=TURNS)
        assert no.value.body["error"]["type"] == "not_found_error"  # type: ignore[index]
        odd: Any = [{"type": "web_search_20250305", "name": "w"}]
        with pytest.raises(anthropic.BadRequestError, match="Anthropic's own"):
            ours.messages.create(model="claude-x", max_tokens=9, messages=TURNS, tools=odd)
        star.status, star.how = 200, "cut"
        with (
            pytest.raises(anthropic.APIError, match="broke off"),
            ours.messages.stream(model="claude-x", max_tokens=9, messages=TURNS) as stream,
        ):
            list(stream)


EVENTS = (
    {"type": "message_start", "message": {
        "id": "m", "type": "message", "role": "assistant", "model": MODEL, "content": [],
        "stop_reason": None, "usage": {"input_tokens": 1000, "output_tokens": 1}}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "It is"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"},
     "usage": {"output_tokens": 100}},
    {"type": "message_stop"},
)  # fmt: skip


@pytest.mark.parametrize("stream", [True, False])
def test_anthropic_s_service_gets_and_gives_the_bytes_as_they_are(
    tmp_path: Path, stream: bool
) -> None:
    whole = EVENTS[0]["message"] | {"content": [{"type": "text", "text": "It is"}]}  # type: ignore[operator]
    whole |= {"stop_reason": "end_turn", "usage": {"input_tokens": 1000, "output_tokens": 100}}
    lines = (f"event: {one['type']}\ndata: {json.dumps(one)}\n\n" for one in EVENTS)
    said = "".join(lines).encode() if stream else json.dumps(whole, indent=1).encode()
    kind = "text/event-stream" if stream else "application/json"
    of = service(provider="anthropic")
    body = b'{ "model":"star-1", "max_tokens":9, "cache_control": {"type": "ephemeral"},\n'
    body += b'"stream": %s, "messages":[{"role":"user","content":"hello"}]}'
    body %= b"true" if stream else b"false"
    with (
        stage(other=said, other_kind=kind) as star,
        stage(text="It was") as small,
        gateway(
            tmp_path, star.url.removesuffix("/v1"), of=of, mode="shadow", local=small.url
        ) as running,
    ):
        from support.gateways import CLIENT

        headers = {"content-type": "application/json", "anthropic-beta": "b1", "x-api-key": "any"}
        headers["anthropic-version"] = "2023-06-01"
        reply = CLIENT.post(f"{running.url}/v1/messages", content=body, headers=headers)
        assert reply.content == said
        assert star.others == [("POST", "/v1/messages", body)]
        assert star.headers[0]["x-api-key"] == KEY
        assert star.headers[0]["anthropic-beta"] == "b1"
        assert running.state.spend.spent == 3000
        (pair,) = running.lines("pairs")
        assert pair["request"] == json.loads(body)
        until(lambda: running.lines("shadow"))
        (row,) = running.lines("shadow")
        assert (row["reference"], row["candidate"]) == ("It is", "It was")
        assert "stream" not in json.loads(small.bodies[0])


def test_what_only_anthropic_understands_still_goes_to_it(tmp_path: Path) -> None:
    of = service(provider="anthropic")
    tools: Any = [{"type": "web_search_20250305", "name": "web_search"}]
    with (
        stage(other=b'{"type": "message", "usage": {"input_tokens": 1000, "output_tokens": 100}}')
        as star,
        gateway(tmp_path, star.url.removesuffix("/v1"), of=of) as running,
        sdk(running) as ours,
    ):  # fmt: skip
        ours.messages.create(model=MODEL, max_tokens=9, messages=TURNS, tools=tools)
        assert json.loads(star.others[0][2])["tools"] == tools
        assert running.state.spend.spent == 3000


def test_when_anthropic_fails_the_local_model_answers_its_sdk(tmp_path: Path) -> None:
    of = service(provider="anthropic")
    with (
        stage(status=500) as star,
        stage(text="mine") as small,
        gateway(
            tmp_path, star.url.removesuffix("/v1"), of=of, mode="failover", local=small.url
        ) as running,
        sdk(running) as ours,
    ):
        said = ours.messages.create(model=MODEL, max_tokens=9, messages=TURNS)
        assert said.content[0].text == "mine"  # type: ignore[union-attr]
