"""The rehearsal server through the real SDKs: answers, usage, limits, bill."""

import asyncio
import json
import time
import urllib.request
from typing import Any

import anthropic
import openai
import pytest
from google.genai import types

from support.rehearsals import (
    ASK,
    JUDGING,
    KEY,
    MODELS,
    PAIRS,
    PRICES,
    each_wire,
    heard,
    openai_sdk,
    prices,
)
from understudy import playground
from understudy.prompts import judge, synthesis
from understudy.records import Message
from understudy.rehearsal.limits import Meter
from understudy.rehearsal.server import RehearsalServer
from understudy.rehearsal.speaker import Speaker, read_services
from understudy.services import money

PAIR = PAIRS[0]


FINISHED = {"openai": "stop", "anthropic": "end_turn", "google": "STOP"}
CUT = {"openai": "length", "anthropic": "max_tokens", "google": "MAX_TOKENS"}


@each_wire
def test_a_real_sdk_gets_a_judgement_and_the_bill_has_its_usage(wire: str) -> None:
    with RehearsalServer(prices=prices(), cached=0.25) as server:
        text, finish, usage = heard(server.url, wire)
        bill, (charge,) = server.bill(), server.log
    assert isinstance(judge.parse(text or ""), judge.Scores)
    assert finish == FINISHED[wire]
    assert usage == charge.usage
    assert usage.input > 100
    assert usage.cached == usage.input // 4
    assert bill.microusd == charge.microusd == money.cost(usage, PRICES, "online") > 0
    assert (charge.model, charge.mode) == (MODELS[wire], "online")


@each_wire
def test_the_output_limit_cuts_an_answer_at_exactly_its_tokens(wire: str) -> None:
    with RehearsalServer() as server:
        whole = heard(server.url, wire)
        text, finish, usage = heard(server.url, wire, limit=7)
    assert usage.output == 7
    assert finish == CUT[wire]
    assert text
    assert whole[0] is not None
    assert len(text) < len(whole[0])


REASONING: dict[str, dict[str, Any]] = {
    "openai": {"reasoning_effort": "low"},
    "anthropic": {"thinking": {"type": "enabled", "budget_tokens": 1024}},
    "google": {"thinking_config": types.ThinkingConfig(thinking_budget=1024)},
}


@pytest.mark.slow
@each_wire
def test_hidden_reasoning_is_reported_inside_the_output(wire: str) -> None:
    with RehearsalServer(repeatable=True) as server:
        plain = heard(server.url, wire)[2]
        thought = heard(server.url, wire, **REASONING[wire])[2]
        log = server.log
    assert plain.reasoning == 0
    assert thought.reasoning > 0
    assert thought.output == plain.output + thought.reasoning
    assert [charge.usage for charge in log] == [plain, thought]


def test_the_three_families_speak_with_the_three_planted_biases() -> None:
    with RehearsalServer(repeatable=True) as server:
        texts = {wire: heard(server.url, wire)[0] for wire in ASK}
    scores = {wire: judge.parse(text or "") for wire, text in texts.items()}
    precise = {wire: s.precision for wire, s in scores.items() if isinstance(s, judge.Scores)}
    assert precise["google"] < precise["openai"] <= precise["anthropic"]


def test_a_teacher_and_a_service_answer_too() -> None:
    lesson = synthesis.render(*PAIR, topic="QA", count=3)
    plain: tuple[Message, ...] = ({"role": "user", "content": PAIR.instruction},)
    with RehearsalServer() as server:
        taught, answered = (heard(server.url, "openai", asked)[0] for asked in (lesson, plain))
    assert len(synthesis.parse(taught or "").pairs) == 3
    assert playground.grade(PAIR.instruction, answered or "") is not None


def test_a_request_to_repair_a_reply_is_answered_like_the_first() -> None:
    again = judge.repair(JUDGING, '{"similarity_assessment"')
    assert again is not None
    with RehearsalServer() as server:
        for wire in ASK:
            assert isinstance(judge.parse(heard(server.url, wire, again)[0] or ""), judge.Scores)


@pytest.mark.slow
def test_repeats_of_a_call_differ_unless_the_server_is_repeatable() -> None:
    def texts(**settings: Any) -> list[str | None]:
        with RehearsalServer(**settings) as server:
            return [heard(server.url, "openai")[0] for _ in range(4)]

    assert len(set(texts())) > 1
    assert texts() == texts()
    assert len(set(texts(repeatable=True))) == 1


def fetch(url: str) -> tuple[dict[str, str], dict[str, Any]]:
    with urllib.request.urlopen(url, timeout=10) as response:
        return dict(response.headers), json.load(response)


def test_the_bill_can_be_fetched_and_never_shows_a_key() -> None:
    with RehearsalServer(prices=prices()) as server:
        for wire in ASK:
            heard(server.url, wire)
        headers, bill = fetch(f"{server.url}/rehearsal/bill")
        totals = fetch(f"{server.url}/rehearsal/bill?log=0")[1]
        expected = server.bill().microusd
    assert headers["x-understudy-rehearsal"] == "1"
    assert bill["microusd"] == sum(charge["microusd"] for charge in bill["log"]) == expected
    assert bill["calls"] == bill["bodies"] == 3
    assert set(bill["by_model"]) == set(MODELS.values())
    assert KEY not in json.dumps(bill)
    assert "log" not in totals


@pytest.mark.slow
def test_prices_come_from_the_service_files_where_none_are_given() -> None:
    known = [values for values in read_services().values() if values.get("prices")]
    assert known, "conf/service has files with prices"
    for values in known:
        prices = Speaker().facts(values["model"], "openai").prices
        assert prices is not None
        assert prices.input == values["prices"]["input"]


@pytest.mark.slow
def test_requests_per_minute_are_enforced_and_told_in_headers() -> None:
    async def main(url: str) -> tuple[list[dict[str, str]], Any]:
        headers = []
        async with openai_sdk(url) as sdk:
            completions = sdk.chat.completions.with_raw_response
            for _ in range(3):
                reply = await completions.create(model="gpt-test", messages=JUDGING)  # type: ignore[arg-type]
                headers.append(dict(reply.headers))
            try:
                await completions.create(model="gpt-test", messages=JUDGING)  # type: ignore[arg-type]
            except openai.RateLimitError as error:
                return headers, error
        raise AssertionError("the fourth call of the window was let in")

    with RehearsalServer(requests_per_minute=90, window_s=2.0) as server:
        started = time.monotonic()
        headers, error = asyncio.run(main(server.url))
        wait = float(error.response.headers["retry-after"])
        assert 0 < wait <= 2.0
        time.sleep(max(0.0, started + 2.0 - time.monotonic()) + 0.1)
        heard(server.url, "openai")
        assert len(server.log) == 4
    assert [h["x-ratelimit-remaining-requests"] for h in headers] == ["2", "1", "0"]
    assert headers[0]["x-ratelimit-limit-requests"] == "90"
    assert error.code == "rate_limit_exceeded"


def test_a_meter_admits_its_share_in_every_window_and_says_when_there_is_room_again() -> None:
    meter, admitted = Meter(per_minute=3000, seconds=0.1), list[float]()  # five in 0.1 s
    while len(admitted) < 20:
        if wait := meter.wait(1):
            assert wait <= 0.1
            time.sleep(wait)
        assert meter.wait(1) == 0
        admitted.append(time.monotonic())  # before the meter's own clock, however late this runs
        meter.add(1)
    gaps = [later - first for first, later in zip(admitted, admitted[5:], strict=False)]
    assert all(gap >= 0.1 for gap in gaps)


def test_tokens_per_minute_are_enforced_per_key_and_model() -> None:
    with RehearsalServer(tokens_per_minute=1500) as server:
        first = heard(server.url, "anthropic")[2]
        assert first.input + first.output > 750
        with pytest.raises(anthropic.RateLimitError) as caught:
            heard(server.url, "anthropic")
        heard(server.url, "openai")
    headers = caught.value.response.headers
    left = 1500 - first.input - first.output
    assert headers["anthropic-ratelimit-tokens-remaining"] == str(left)
    assert headers["anthropic-ratelimit-tokens-reset"].endswith("Z")
    assert 0 < float(headers["retry-after"]) <= 60


@each_wire
def test_a_call_without_a_key_or_with_an_unreadable_body_is_refused_and_free(wire: str) -> None:
    paths = {
        "openai": "/openai/v1/chat/completions",
        "anthropic": "/anthropic/v1/messages",
        "google": "/google/v1/models/gemini-test:generateContent",
    }
    statuses = []
    with RehearsalServer() as server:
        for headers in ({}, {"Authorization": "Bearer k", "x-goog-api-key": "k"}):
            request = urllib.request.Request(server.url + paths[wire], b'{"messages"', headers)
            with pytest.raises(urllib.error.HTTPError) as caught:
                urllib.request.urlopen(request, timeout=10)
            assert caught.value.headers["x-understudy-rehearsal"] == "1"
            statuses.append(caught.value.code)
            caught.value.close()
        assert server.log == []
    assert statuses == ([400, 400] if wire == "google" else [401, 400])


def post(url: str, body: bytes, headers: dict[str, str] | None = None) -> Any:
    path = f"{url}/openai/v1/chat/completions"
    request = urllib.request.Request(path, body, headers or {"Authorization": "Bearer k"})
    with urllib.request.urlopen(request, timeout=30) as response:
        return json.load(response)


@pytest.mark.slow
def test_a_prompt_longer_than_the_context_of_a_known_model_is_refused() -> None:
    known = next(v for v in read_services().values() if v.get("context") and v.get("prices"))
    long = [{"role": "user", "content": "a b " * known["context"]}]
    body = json.dumps({"model": known["model"], "messages": long}).encode()
    with RehearsalServer() as server:
        with pytest.raises(urllib.error.HTTPError) as caught:
            post(server.url, body)
        error = json.load(caught.value)["error"]
        assert server.log == []
    assert error["code"] == "context_length_exceeded"


def test_text_that_is_no_valid_unicode_is_answered_all_the_same() -> None:
    body = b'{"model": "m", "messages": [{"role": "user", "content": "lone \\ud800 surrogate"}]}'
    with RehearsalServer() as server:
        assert post(server.url, body)["usage"]["prompt_tokens"] > 4


def test_models_are_listed_as_a_compatible_server_does() -> None:
    async def main(url: str) -> list[str]:
        async with openai_sdk(url) as sdk:
            return [model.id async for model in sdk.models.list()]

    with RehearsalServer() as server:
        assert "gpt-4o" in {name[:6] for name in asyncio.run(main(server.url))}
