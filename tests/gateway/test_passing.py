"""Makers' own SDKs before their own service: untouched, priced, refused in their own shape."""

import json
from pathlib import Path
from typing import Any

import anthropic
import pytest
from google import genai
from google.genai import errors
from pydantic import TypeAdapter

from support.gateways import KEY, Running, gateway, service, stage, until
from support.wires import Answer
from understudy.config import Service
from understudy.rehearsal.server import RehearsalServer
from understudy.rehearsal.speaker import read_services
from understudy.services.providers import endpoint_of

TURN: Any = [{"role": "user", "content": "What is 2 plus 2?"}]


def known(name: str) -> Service:
    """A service of conf/service, played."""
    values = read_services()[name] | {"rehearsal": True}
    return TypeAdapter(Service).validate_python(values)


def test_anthropic_s_sdk_works_before_anthropic_and_is_priced(tmp_path: Path) -> None:
    of = known("claude_sonnet_5_5")
    with RehearsalServer(cached=0.5) as star:
        url = endpoint_of(of, star.url).base_url
        with (
            gateway(tmp_path, url, of=of, key="rehearsal") as running,
            anthropic.Anthropic(base_url=running.url, api_key="any", max_retries=0) as ours,
        ):
            said = ours.messages.create(model=of.model, messages=TURN, max_tokens=100)
            assert said.content[0].type == "text"
            odd: Any = [{"role": "user", "content": 7}]
            with pytest.raises(anthropic.BadRequestError):
                ours.messages.create(model=of.model, messages=odd, max_tokens=100)
            assert running.state.spend.spent == star.bill().microusd > 0
            assert running.lines("requests")[0]["output"] == said.usage.output_tokens


def test_google_s_sdk_works_before_google_and_is_priced(tmp_path: Path) -> None:
    of = known("gemini_3_8_flash")
    with RehearsalServer() as star:
        url = endpoint_of(of, star.url).base_url
        with gateway(tmp_path, url, of=of, key="rehearsal") as running:
            options: Any = {"base_url": running.url}
            ours = genai.Client(api_key="any", http_options=options)
            said = ours.models.generate_content(model=of.model, contents="What is 2 plus 2?")
            assert said.text
            assert running.state.spend.spent == star.bill().microusd > 0
            assert running.lines("requests")[0]["path"].endswith(":generateContent")


def cut(running: Running) -> None:
    """Leave nothing of the cap."""
    running.state.spend._purse.spent = 10**9


def test_each_maker_s_client_is_refused_in_its_own_words(tmp_path: Path) -> None:
    for maker in ("anthropic", "google"):
        of, where = service(provider=maker), tmp_path / maker
        with stage() as star, gateway(where, star.url, of=of, usd_per_day=5.0) as running:
            cut(running)
            if maker == "anthropic":
                with (
                    anthropic.Anthropic(base_url=running.url, api_key="x", max_retries=0) as ours,
                    pytest.raises(anthropic.RateLimitError, match="of the cap of") as no,
                ):
                    ours.messages.create(model=of.model, messages=TURN, max_tokens=5)
                assert no.value.body["error"]["type"] == "rate_limit_error"  # type: ignore[index]
            else:
                options: Any = {"base_url": running.url, "retry_options": {"attempts": 1}}
                google = genai.Client(api_key="x", http_options=options)
                with pytest.raises(errors.ClientError, match="RESOURCE_EXHAUSTED"):
                    google.models.generate_content(model=of.model, contents="hello")
            assert star.others == []


def test_a_client_s_key_in_the_address_is_not_passed_on(tmp_path: Path) -> None:
    of = service(provider="google")
    with (
        stage() as star,
        gateway(tmp_path, star.url.removesuffix("/v1"), of=of, client_key=KEY[::-1]) as running,
    ):
        assert running.get(f"/v1beta/models?key={KEY[::-1]}&pageSize=2").status_code == 200
        assert (
            running.get("/v1beta/models?key=wrong").json()["error"]["status"] == "UNAUTHENTICATED"
        )
        assert star.others == [("GET", "/v1beta/models?pageSize=2", b"")]
        assert star.headers[-1]["x-goog-api-key"] == KEY
        logged = json.dumps(running.lines("requests"))
        assert KEY not in logged
        assert KEY[::-1] not in logged


def test_a_message_s_stream_is_priced_when_it_ends(tmp_path: Path) -> None:
    told = (
        {"type": "message_start", "message": {"id": "m", "usage": {"input_tokens": 1000}}},
        {"type": "message_delta", "delta": {}, "usage": {"output_tokens": 100}},
        {"type": "message_stop"},
    )
    body = b"".join(b"event: x\ndata: " + json.dumps(one).encode() + b"\n\n" for one in told)
    of = service(provider="anthropic")
    with (
        stage(other=body, other_kind="text/event-stream") as star,
        gateway(tmp_path, star.url.removesuffix("/v1"), of=of) as running,
        anthropic.Anthropic(base_url=running.url, api_key="x", max_retries=0) as ours,
    ):
        stream = ours.messages.create(model=of.model, messages=TURN, max_tokens=5, stream=True)
        assert [event.type for event in stream] == [one["type"] for one in told]
        assert json.loads(star.others[0][2])["stream"] is True
        until(lambda: running.lines("requests"))
        assert running.state.spend.spent == 3000


def test_what_breaks_off_ends_without_an_end_and_is_counted(tmp_path: Path) -> None:
    import httpx2

    from support.gateways import CLIENT, played

    cuts = Answer(b'{"object": "list", "data": []}', how="cut")
    with played([cuts, cuts]) as star, gateway(tmp_path, star.url) as running:
        with pytest.raises(httpx2.HTTPError):
            CLIENT.get(f"{running.url}/v1/files").raise_for_status()
        until(lambda: running.lines("requests"))
        assert running.lines("requests")[0]["is_broken"]
        assert running.state.numbers.errors == 1
