"""Calls over all wires to services of all makers: the ledger is the service's own bill."""

import json
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
from google import genai
from google.genai import types
from pydantic import TypeAdapter

from support.gateways import CLIENT, Running, gateway
from support.served_models import process
from understudy import locations
from understudy.config import Service
from understudy.rehearsal.server import RehearsalServer
from understudy.rehearsal.speaker import read_services
from understudy.services.providers import endpoint_of

MAKERS = {"openai": "gpt_4o", "anthropic": "claude_sonnet_5_5", "google": "gemini_3_8_flash"}
ROUNDS = 4  # × 3 makers × 17 calls: 204
ASK = "What is the weather in Paris for the next 3 days?"
SCHEMA: Any = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
FUNCTION: Any = {"name": "weather", "description": "The weather.", "parameters": SCHEMA}
CHAT_TOOLS = [{"type": "function", "function": FUNCTION}]
TURNS = [{"role": "user", "content": ASK}]


def known(name: str) -> Service:
    """A service of conf/service, played."""
    values = read_services()[name] | {"rehearsal": True}
    return TypeAdapter(Service).validate_python(values)


def bodies(model: str, text: str) -> list[tuple[str, dict[str, Any]]]:
    """Calls of every wire, whole and streamed: (path, body)."""
    turns = [{"role": "user", "content": text}]
    chat: dict[str, Any] = {"model": model, "messages": turns, "max_tokens": 60}
    responses: dict[str, Any] = {"model": model, "input": text, "max_output_tokens": 60}
    message = chat | {"system": "Be brief."}
    contents: dict[str, Any] = {
        "contents": [{"role": "user", "parts": [{"text": text}]}],
        "generationConfig": {"maxOutputTokens": 60},
    }
    streamed = {"stream": True}
    usage = {"stream_options": {"include_usage": True}}
    gemini = f"/v1beta/models/{model}"
    declared = {"tools": [{"functionDeclarations": [FUNCTION]}]}
    used = {"tools": [{"name": "weather", "input_schema": SCHEMA}]}
    return [
        ("/v1/chat/completions", chat),
        ("/v1/chat/completions", chat | streamed),
        ("/v1/chat/completions", chat | streamed | usage),
        ("/v1/chat/completions", chat | streamed | {"tools": CHAT_TOOLS}),
        ("/v1/responses", responses),
        ("/v1/responses", responses | streamed),
        ("/v1/responses", responses | streamed | {"tools": [{"type": "function", **FUNCTION}]}),
        ("/v1/completions", {"model": model, "prompt": text}),
        ("/v1/completions", {"model": model, "prompt": text} | streamed),
        ("/v1/completions", {"model": model, "prompt": text} | streamed | usage),
        ("/v1/messages", message),
        ("/v1/messages", message | streamed),
        ("/v1/messages", message | streamed | used),
        (f"{gemini}:generateContent", contents),
        (f"{gemini}:streamGenerateContent?alt=sse", contents),
        (f"{gemini}:streamGenerateContent?alt=sse", contents | declared),
        ("/v1/chat/completions", chat | {"tools": CHAT_TOOLS, "tool_choice": "required"}),
    ]


@pytest.mark.slow
def test_the_ledger_of_two_hundred_mixed_calls_is_the_bill_to_the_microdollar(
    tmp_path: Path,
) -> None:
    calls = 0
    for maker, name in MAKERS.items():
        of = known(name)
        with RehearsalServer(cached=0.3) as star:
            url = endpoint_of(of, star.url).base_url
            where = tmp_path / maker
            with gateway(where, url, of=of, key="rehearsal") as running:
                for number in range(ROUNDS):
                    for path, body in bodies(of.model, f"{ASK} Round {number}."):
                        reply = CLIENT.post(f"{running.url}{path}", json=body)
                        assert reply.status_code == 200, (maker, path, reply.text)
                        assert "broke off" not in reply.text
                        calls += 1
                ledger = running.lines("requests")
                bill = star.bill()
                assert len(bill.log) == len(ledger)
                assert [line["microusd"] for line in ledger] == [one.microusd for one in bill.log]
                assert running.state.spend.spent == bill.microusd > 0
                assert running.state.spend.bounded == 0
    assert calls >= 200


def asked_by_all(running: Running, model: str, limit: int = 400) -> list[str]:
    """What each official client is answered, whole and streamed, on every wire that it has."""
    heard: list[str] = []
    turns: Any = TURNS
    with openai.OpenAI(base_url=f"{running.url}/v1", api_key="x", max_retries=0) as sdk:
        more: Any = {"model": model, "max_tokens": limit}
        chat = sdk.chat.completions
        heard.append(chat.create(messages=turns, **more).choices[0].message.content or "")
        chats = chat.create(messages=turns, stream=True, **more)
        heard.append("".join(part.choices[0].delta.content or "" for part in chats))
        given: Any = {"model": model, "input": ASK, "max_output_tokens": limit}
        heard.append(sdk.responses.create(**given).output_text)
        *_, ended = sdk.responses.create(stream=True, **given)
        assert ended.type in ("response.completed", "response.incomplete")
        heard.append(ended.response.output_text)
        heard.append(sdk.completions.create(prompt=ASK, **more).choices[0].text)
        parts = sdk.completions.create(prompt=ASK, stream=True, **more)
        heard.append("".join(part.choices[0].text for part in parts if part.choices))
    with anthropic.Anthropic(base_url=running.url, api_key="x", max_retries=0) as claude:
        message = claude.messages.create(messages=turns, **more).content[0]
        heard.append(message.text if message.type == "text" else "")
        with claude.messages.stream(messages=turns, **more) as messages:
            heard.append("".join(messages.text_stream))
    options: Any = {"base_url": running.url, "retry_options": {"attempts": 1}}
    client = genai.Client(api_key="x", http_options=options)
    config = types.GenerateContentConfig(max_output_tokens=limit)
    said = client.models.generate_content(model=model, contents=ASK, config=config)
    heard.append(said.text or "")
    stream = client.models.generate_content_stream(model=model, contents=ASK, config=config)
    heard.append("".join(part.text or "" for part in stream))
    return heard


@pytest.mark.parametrize("maker", MAKERS)
def test_every_official_client_works_before_every_maker(tmp_path: Path, maker: str) -> None:
    of = known(MAKERS[maker])
    with RehearsalServer(repeatable=True) as star:
        url = endpoint_of(of, star.url).base_url
        with gateway(tmp_path, url, of=of, key="rehearsal") as running:
            heard = asked_by_all(running, of.model)
            assert running.state.spend.spent == star.bill().microusd > 0
    assert len(heard) == 10
    assert all(heard)


def test_every_official_client_works_before_a_local_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The local model is one that knows chat completions alone."""
    with RehearsalServer(repeatable=True) as star:
        local = f"{star.url}/openai/v1"
        of = known("gpt_4o")
        monkeypatch.setenv("UNDERSTUDY_TEST_KEY", "rehearsal")
        settings: Any = {"local_key_env": "UNDERSTUDY_TEST_KEY"}
        settings |= {"mode": "local", "local": local, "local_model": "small"}
        with gateway(tmp_path, of=of, key="rehearsal", **settings) as running:
            heard = asked_by_all(running, "any")
        assert len(heard) == 10
        assert len(set(heard)) == 1
        assert heard[0]
        assert {charge.model for charge in star.log} == {"small"}
        assert json.dumps(star.bill().requests).count("openai") == 1


@pytest.mark.slow
def test_every_official_client_works_before_our_own_server(tmp_path: Path) -> None:
    tiny = str(locations.PACKAGE / "models" / "tiny")
    with process(tiny, "--port", "0") as (_, url):
        settings: Any = {"mode": "local", "local": f"{url}/v1"}
        with gateway(tmp_path, of=known("gpt_4o"), key="rehearsal", **settings) as running:
            heard = asked_by_all(running, "any", limit=8)
            lines = running.lines("requests")
        assert len(heard) == len(lines) == 10
        assert {(line["status"], line["by"], line["is_broken"]) for line in lines} == {
            (200, "local", False)
        }
        assert all(line.get("output", 8) <= 8 for line in lines)
