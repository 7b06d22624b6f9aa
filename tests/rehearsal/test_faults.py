"""Fault scripts: drawn as promised, and played through the real SDKs."""

import asyncio
import itertools
import json
import socket
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import anthropic
import httpx2
import numpy as np
import openai
import pytest
from google.genai import errors

from support.rehearsals import ASK, JUDGING, JUDGINGS, MODELS, Heard, each_wire, heard, prices
from understudy.errors import BadInput
from understudy.prompts import judge
from understudy.rehearsal import faults
from understudy.rehearsal.bill import Arrival
from understudy.rehearsal.desk import Desk, RehearsalSettings
from understudy.rehearsal.server import RehearsalServer

STATUS_ERRORS = (openai.APIStatusError, anthropic.APIStatusError)
CONNECTION_ERRORS = (
    openai.APIConnectionError,
    anthropic.APIConnectionError,
    httpx2.TransportError,
)
BODIES = [f"{number:016x}" for number in range(2000)]


def test_rates_are_shares_of_the_calls() -> None:
    script = faults.parse("429=0.1,reset=0.05,broken=0.2", seed=3)
    drawn = Counter(script.on_call(body, 0) for body in BODIES)
    assert drawn["429"] == pytest.approx(200, abs=45)
    assert drawn["reset"] == pytest.approx(100, abs=35)
    assert drawn[None] == 2000 - drawn["429"] - drawn["reset"]
    answers = Counter(script.in_answer(body, 0, 0) for body in BODIES)
    assert answers["broken"] == pytest.approx(400, abs=60)


def test_all_spreads_its_rate_over_every_kind_that_heals() -> None:
    script = faults.parse("all=0.32")
    assert set(script.rates) == {*faults.TRANSPORT, *faults.CONTENT, *faults.ITEM}
    assert sum(script.rates[kind] for kind in (*faults.TRANSPORT, *faults.CONTENT)) == (
        pytest.approx(0.32)
    )


def test_a_fault_depends_on_the_call_and_its_try_alone() -> None:
    script, again = faults.parse("all=0.5", seed=1), faults.parse("all=0.5", seed=1)
    calls = list(itertools.product(BODIES[:100], range(3)))
    drawn = {call: script.on_call(*call) for call in calls}
    assert {call: again.on_call(*call) for call in reversed(calls)} == drawn
    other = faults.parse("all=0.5", seed=2)
    assert {call: other.on_call(*call) for call in calls} != drawn
    assert any(drawn[body, 0] != drawn[body, 1] for body in BODIES[:100])


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ("429=0.1,teapot=0.2", "teapot=0.2 in faults=429=0.1,teapot=0.2 is no fault; choose from"),
        ("429=2", "2 in faults=429=2 is no rate"),
        ("429=x", "x in faults=429=x is no rate"),
        ("429,500=0.1", "mixes rates and a sequence"),
        ("all", "all in faults=all is no fault"),
        ("ok=0.5", "ok=0.5 in faults=ok=0.5 is no fault"),
        ("429=0.7,500=0.7", "the rates in faults=429=0.7,500=0.7 add up to 1.4"),
    ],
)
def test_a_script_that_makes_no_sense_is_refused_in_one_sentence(spec: str, sentence: str) -> None:
    with pytest.raises(BadInput) as caught:
        faults.parse(spec)
    assert sentence in str(caught.value)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline, "it did not happen within five seconds"
        time.sleep(0.01)


def failure(url: str, wire: str, **more: Any) -> Exception:
    try:
        heard(url, wire, **more)
    except (*STATUS_ERRORS, *CONNECTION_ERRORS, errors.APIError) as error:
        return error
    raise AssertionError("the call did not fail")


def status_of(error: Exception) -> int:
    if isinstance(error, errors.APIError):
        return int(error.code)
    assert isinstance(error, STATUS_ERRORS)
    return error.status_code


@pytest.mark.slow
@each_wire
def test_a_sequence_is_played_on_every_call_and_only_the_answer_is_billed(wire: str) -> None:
    with RehearsalServer(faults="429,500,503,529", prices=prices()) as server:
        statuses = [status_of(failure(server.url, wire)) for _ in range(4)]
        assert server.log == []
        text = heard(server.url, wire)[0]
        played = server.bill().faults
        assert len(server.log) == 1
    assert statuses == [429, 500, 503, 529]
    assert isinstance(judge.parse(text or ""), judge.Scores)
    assert played == dict.fromkeys(("429", "500", "503", "529"), 1)


def test_a_429_says_when_to_come_back_unless_it_is_bare() -> None:
    with RehearsalServer(faults="429,429_bare", retry_after_s=0.25) as server:
        for wire, delays in (("openai", 2), ("anthropic", 2)):
            asked = [failure(server.url, wire) for _ in range(delays)]
            waits = [e.response.headers.get("retry-after") for e in asked]  # type: ignore[attr-defined]
            assert waits == ["0.25", None]
        told, bare = failure(server.url, "google"), failure(server.url, "google")
    assert isinstance(told, errors.APIError)
    assert "'retryDelay': '0.250s'" in str(told.details)
    assert isinstance(bare, errors.APIError)
    assert "RetryInfo" not in str(bare.details)


@each_wire
@pytest.mark.parametrize("fault", ["reset", "truncated"])
def test_an_answer_that_is_broken_off_is_not_billed(fault: str, wire: str) -> None:
    with RehearsalServer(faults=fault) as server:
        assert isinstance(failure(server.url, wire), CONNECTION_ERRORS)
        assert server.log == []
        heard(server.url, wire)
        assert len(server.log) == 1


def test_a_stalled_call_ends_when_the_client_leaves_and_is_not_billed() -> None:
    async def main(url: str) -> None:
        sdk = openai.AsyncOpenAI(
            base_url=f"{url}/openai/v1", api_key="k", max_retries=0, timeout=0.3
        )
        async with sdk:
            with pytest.raises(openai.APITimeoutError):
                await sdk.chat.completions.create(model="m", messages=JUDGING)  # type: ignore[arg-type]

    with RehearsalServer(faults="stall") as server:
        asyncio.run(main(server.url))
        until(lambda: server.bill().open == 0)
        assert server.log == []


def test_a_slow_drip_is_whole_late_and_billed() -> None:
    with RehearsalServer(faults="drip", drip_s=0.4) as server:
        started = time.monotonic()
        text = heard(server.url, "openai")[0]
        assert time.monotonic() - started >= 0.4
        assert len(server.log) == 1
    assert isinstance(judge.parse(text or ""), judge.Scores)


SAID: dict[str, dict[str, tuple[str | None, str | None]]] = {
    "refusal": {
        "openai": (None, "stop"),
        "anthropic": (faults.REFUSAL, "refusal"),
        "google": (faults.REFUSAL, "STOP"),
    },
    "blocked": {
        "openai": ("", "content_filter"),
        "anthropic": ("", "refusal"),
        "google": (None, None),
    },
    "empty": {"openai": ("", "stop"), "anthropic": ("", "end_turn"), "google": (None, "STOP")},
}


@each_wire
@pytest.mark.parametrize("fault", list(SAID))
def test_refusals_blocks_and_empty_answers_look_as_the_maker_sends_them(
    fault: str, wire: str
) -> None:
    with RehearsalServer(faults=fault) as server:
        text, finish, usage = heard(server.url, wire)
        (charge,) = server.log
    assert (text, finish) == SAID[fault][wire]
    assert charge.usage == usage


def spoilt(fault: str) -> list[str]:
    """What 30 judgements become."""
    reply = {"similarity_assessment": {"reason": "so", "score": 87}}
    reply["precision_assessment"] = {"reason": "so", "score": 64}
    text = json.dumps(reply)
    return [faults.spoil(fault, text, number / 30)[0] for number in range(30)]


def test_spoilt_answers_are_broken_rescaled_or_doubled() -> None:
    for text in spoilt("broken"):
        with pytest.raises(json.JSONDecodeError):
            json.loads(text)
    scores = [json.loads(text)["similarity_assessment"]["score"] for text in spoilt("scale")]
    assert set(scores) == {870, "87/10", "8.7/10"}
    assert all(len(text.splitlines()) == 2 for text in spoilt("duplicate"))
    assert faults.spoil("scale", "no JSON", 0.0)[0] == "no JSON"


@pytest.mark.slow
@each_wire
def test_errors_that_no_call_heals_from_are_played_by_name(wire: str) -> None:
    played = []
    for fault in faults.FATAL:
        with RehearsalServer(faults=fault) as server:
            played.append(status_of(failure(server.url, wire)))
    bad_key, quota = {"openai": (401, 429), "anthropic": (401, 402), "google": (400, 429)}[wire]
    assert played == [400, bad_key, 404, quota]


def post(client: httpx2.AsyncClient, url: str, number: int = 0) -> Awaitable[httpx2.Response]:
    return client.post(
        f"{url}/openai/v1/chat/completions",
        headers={"Authorization": "Bearer k"},
        json={"model": MODELS["openai"], "messages": JUDGINGS[number]},
    )


def test_latencies_are_log_normal_around_the_median() -> None:
    desk = Desk(RehearsalSettings(latency_s=0.5, latency_spread=0.8))
    arrivals = [Arrival(f"body {n}", 0, "k", "req_1", "online") for n in range(2000)]
    waits = np.log([desk.latency(one) for one in arrivals])
    assert np.exp(np.median(waits)) == pytest.approx(0.5, rel=0.1)
    assert waits.std() == pytest.approx(0.8, rel=0.1)


def test_an_answer_takes_its_latency() -> None:
    async def main(url: str) -> float:
        async with httpx2.AsyncClient() as client:
            started = time.monotonic()
            await post(client, url)
            return time.monotonic() - started

    with RehearsalServer(latency_s=0.3) as server:
        assert asyncio.run(main(server.url)) >= 0.3


def test_the_server_bills_the_call_of_a_client_that_has_left() -> None:
    async def main(url: str) -> None:
        async with httpx2.AsyncClient(timeout=0.1) as client:
            with pytest.raises(httpx2.ReadTimeout):
                await post(client, url)

    with RehearsalServer(latency_s=0.3) as server:
        asyncio.run(main(server.url))
        assert server.bill().open == 1
        until(lambda: len(server.log) == 1)


def test_a_wrong_content_type_is_a_page_of_html_and_free() -> None:
    async def main(url: str) -> httpx2.Response:
        async with httpx2.AsyncClient() as client:
            return await post(client, url)

    with RehearsalServer(faults="wrong_type") as server:
        page = asyncio.run(main(server.url))
        assert server.log == []
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert page.headers["x-understudy-rehearsal"] == "1"


def test_a_client_that_dies_in_the_middle_of_its_request_costs_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    head = b"POST /openai/v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n"
    with RehearsalServer() as server:
        with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2]))) as line:
            line.sendall(head + b'{"model"')
            until(lambda: server.bill().open == 1)
        until(lambda: server.bill().open == 0)
        assert server.log == []
    assert caplog.records == []


def many(url: str, order: list[int]) -> dict[int, str | None]:
    """Sixteen different calls at once, each tried until it is answered."""

    async def one(number: int) -> Heard:
        while True:
            try:
                return await ASK["openai"](url, JUDGINGS[number])
            except (*STATUS_ERRORS, *CONNECTION_ERRORS):
                pass

    async def main() -> dict[int, str | None]:
        replies = await asyncio.gather(*(one(number) for number in order))
        return {number: reply[0] for number, reply in zip(order, replies, strict=True)}

    return asyncio.run(main())


@pytest.mark.slow
def test_the_order_of_arrival_changes_neither_faults_nor_answers() -> None:
    seen = []
    kinds = "429=0.2,500=0.2,reset=0.1,broken=0.2,refusal=0.1"
    for order in (list(range(16)), list(reversed(range(16)))):
        with RehearsalServer(faults=kinds, seed=4) as server:
            seen.append((many(server.url, order), server.bill().faults))
            assert len(server.log) == 16
    assert seen[0] == seen[1]
    assert seen[0][1].total() > 10
