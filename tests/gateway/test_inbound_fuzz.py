"""Broken requests and answers of every wire: each is refused or translated, none is a traceback."""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.gateways import CLIENT, gateway, stage
from understudy.gateway import calls
from understudy.gateway.calls import RequestRefused
from understudy.services.providers.anthropic import inbound as messages
from understudy.services.providers.google import inbound as gemini
from understudy.services.providers.openai import completions, responses
from understudy.services.providers.translation import Inbound

WIRES: tuple[Inbound, ...] = (messages, gemini, responses, completions)
HEADERS = {"content-type": "application/json"}
ODD: tuple[Any, ...] = (
    *(None, 7, -1.5, True, "", "x", [], {}, [[]], [None], {"type": "x"}, "\ud800", {"a": {}}),
)
TOOL: Any = {"name": "look", "parameters": {"type": "OBJECT", "properties": {"x": {}}}}
GOOD: dict[str, dict[str, Any]] = {
    "messages": {
        "model": "m", "max_tokens": 9, "system": [{"type": "text", "text": "s"}], "stream": True,
        "tools": [{"name": "look", "input_schema": {}}], "tool_choice": {"type": "auto"},
        "metadata": {"user_id": "u"}, "output_config": {"format": {"type": "x"}},
        "messages": [
            {"role": "user", "content": "what?"},
            {"role": "assistant", "content": [
                {"type": "tool_use", "id": "t", "name": "look", "input": {"x": 1}}]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "t", "content": [
                    {"type": "text", "text": "42"}]},
                {"type": "image", "source": {"type": "url", "url": "u"}}]},
        ],
    },
    "generate_content": {
        "systemInstruction": {"parts": [{"text": "s"}]},
        "tools": [{"functionDeclarations": [TOOL]}],
        "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["look"]}},
        "generationConfig": {"maxOutputTokens": 9, "responseMimeType": "application/json",
                             "responseSchema": TOOL["parameters"], "thinkingConfig": {}},
        "contents": [
            {"role": "user", "parts": [{"text": "what?"},
                                       {"inlineData": {"mimeType": "image/png", "data": "A"}}]},
            {"role": "model", "parts": [{"functionCall": {"name": "look", "args": {"x": 1}}}]},
            {"parts": [{"functionResponse": {"name": "look", "response": {"result": "42"}}}]},
        ],
    },
    "responses": {
        "model": "m", "instructions": "s", "reasoning": {"effort": "low"}, "stream": True,
        "text": {"format": {"type": "json_schema", "name": "a", "schema": {}}},
        "tools": [{"type": "function", "name": "look", "parameters": {}}],
        "tool_choice": {"type": "function", "name": "look"},
        "input": [
            {"role": "user", "content": [{"type": "input_text", "text": "what?"},
                                         {"type": "input_image", "image_url": "u"}]},
            {"type": "function_call", "call_id": "t", "name": "look", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "t", "output": "42"},
        ],
    },
    "completions": {"model": "m", "prompt": ["what?"], "best_of": 1, "echo": False, "stream": True},
}  # fmt: skip
CHAT: dict[str, Any] = {
    "id": "c", "model": "m", "created": 1,
    "choices": [{"index": 0, "finish_reason": "tool_calls", "message": {
        "content": "It is", "refusal": None, "tool_calls": [
            {"id": "t", "type": "function", "function": {"name": "look", "arguments": "{}"}}]}}],
    "usage": {"prompt_tokens": 9, "completion_tokens": 9},
}  # fmt: skip
CALL: Any = {"index": 0, "id": "t", "function": {"name": "look", "arguments": "{"}}
DELTAS: list[dict[str, Any]] = [
    {"id": "c", "choices": [{"index": 0, "delta": {"role": "assistant", "content": "It"}}]},
    {"id": "c", "choices": [{"index": 0, "delta": {"tool_calls": [CALL]}}]},
    {"id": "c", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
    {"id": "c", "choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 9}},
]


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every container in a value, with each of its keys."""
    for key in list(value) if isinstance(value, dict) else range(len(value)):
        yield value, key
        if isinstance(value[key], dict | list):
            yield from places(value[key])


def broken(good: Any, rng: random.Random) -> Any:
    """A copy of a value with one to three parts changed or gone."""
    made = json.loads(json.dumps(good))
    for _ in range(rng.randrange(1, 4)):
        found = list(places(made))
        if not found:
            break
        container, key = rng.choice(found)
        if rng.random() < 0.3:
            del container[key]
        else:
            container[key] = json.loads(json.dumps(rng.choice(ODD)))
    return made


@pytest.mark.parametrize("inbound", WIRES, ids=lambda one: one.NAME)
def test_a_broken_request_is_a_chat_or_refused(inbound: Inbound) -> None:
    rng, heard = random.Random(7), {"asked": 0, "refused": 0}
    for _ in range(600):
        raw = json.dumps(broken(GOOD[inbound.NAME], rng)).encode()
        try:
            call = calls.understand_native(raw, HEADERS, inbound, facts={"model": "m"})
        except RequestRefused as refused:
            heard["refused"] += refused.status == 400
        else:
            assert isinstance(call.body["messages"], list)
            heard["asked"] += 1
    assert sum(heard.values()) == 600
    assert min(heard.values()) > 20


@pytest.mark.parametrize("inbound", WIRES, ids=lambda one: one.NAME)
def test_a_broken_answer_is_translated_or_an_error(inbound: Inbound) -> None:
    rng, statuses = random.Random(7), set()
    for _ in range(600):
        body = json.dumps(broken(CHAT, rng)).encode()
        status, said = inbound.answer(200, body, GOOD[inbound.NAME], "1")
        assert isinstance(json.loads(said), dict)
        statuses.add(status)
    assert statuses == {200, 502}


PATHS = ("/v1/messages", "/v1/responses", "/v1/completions")


@pytest.mark.slow
def test_no_broken_request_or_stream_is_a_5xx_of_ours(tmp_path: Path) -> None:
    rng = random.Random(7)
    with stage() as star, gateway(tmp_path, star.url, mode="local", local=star.url) as running:
        for number in range(400):
            events = [broken(one, rng) if rng.random() < 0.3 else one for one in DELTAS]
            lines = [f"data: {json.dumps(event)}\n\n".encode() for event in events]
            star.streams = [b"".join([*lines, b"data: [DONE]\n\n"])]
            inbound = WIRES[number % len(WIRES)]
            path = "/v1beta/models/m:streamGenerateContent?alt=sse"
            if inbound is not gemini:
                path = next(path for path in PATHS if inbound.NAME in path)
            good = GOOD[inbound.NAME]
            body = broken(good, rng) if number % 2 else good
            reply = CLIENT.post(f"{running.url}{path}", content=json.dumps(body), headers=HEADERS)
            assert reply.status_code < 500 or "upstream" in reply.text or "broke" in reply.text
        assert CLIENT.post(f"{running.url}/v1/responses", json=GOOD["responses"]).status_code < 600
        assert running.state.numbers.in_flight == 0
        assert len(running.lines("requests")) + running.state.numbers.refused_here == 401
