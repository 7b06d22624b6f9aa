"""When the service fails or costs too much: who answers then, and what it costs."""

import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from gateways import MODEL, ask, gateway, service, stage, until
from understudy.config import Prices


def client(url: str, **options: Any) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0, **options)


# --- failures ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ({"status": 500}, "500"),
        ({"status": 429}, "429"),
        ({"status": 401}, "401"),  # the gateway's key, not the client's
        ({"how": "reset"}, "connection lost"),
        ({"how": "cut"}, "connection lost"),
        ({"how": "silent"}, "timeout"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_when_the_service_fails_the_local_model_answers(
    tmp_path: Path, how: dict[str, Any], why: str, stream: bool
) -> None:
    if how == {"how": "cut"} and stream:
        return  # a stream that has begun is not taken over: see the next test
    with (
        stage(**how) as star,
        stage(text="mine") as small,
        gateway(tmp_path, star.url, mode="failover", local=small.url, deadline_s=0.5) as running,
    ):
        began = time.monotonic()
        reply = running.post(ask(stream=stream))
        assert time.monotonic() - began < 1.5
        assert reply.status_code == 200
        assert reply.headers["x-understudy-by"] == "local"
        (line,) = running.lines("requests")
        assert line["tried"][0][:2] == ["service", why]
        is_billed = why in ("connection lost", "timeout")
        assert line["is_bound"] == is_billed
        assert (line["microusd"] > 0) == is_billed


def test_a_stream_that_breaks_off_ends_with_an_error_that_clients_raise(tmp_path: Path) -> None:
    with (
        stage(how="cut") as star,
        gateway(tmp_path, star.url, mode="failover", local=star.url) as running,
        client(running.url) as ours,
    ):
        messages: Any = [{"role": "user", "content": "hello"}]
        stream = ours.chat.completions.create(model=MODEL, messages=messages, stream=True)
        with pytest.raises(openai.APIError, match="broke off"):
            list(stream)
        until(lambda: running.lines("requests"))
        assert running.lines("requests")[0]["is_bound"]


def test_a_client_that_says_how_long_it_waits_is_answered_before_that(tmp_path: Path) -> None:
    with (
        stage(how="silent") as star,
        stage(text="mine") as small,
        gateway(tmp_path, star.url, mode="failover", local=small.url) as running,
        client(running.url, timeout=2.0) as ours,
    ):
        messages: Any = [{"role": "user", "content": "hello"}]
        reply = ours.chat.completions.create(model=MODEL, messages=messages)
        assert reply.choices[0].message.content == "mine"


def test_the_breaker_leaves_the_service_alone_and_finds_out_when_it_is_back(
    tmp_path: Path,
) -> None:
    rest = {"breaker_failures": 3, "breaker_s": 0.6}
    with (
        stage(status=503) as star,
        stage() as small,
        gateway(tmp_path, star.url, mode="failover", local=small.url, **rest) as running,
    ):
        for _ in range(10):
            assert running.post().headers["x-understudy-by"] == "local"
        assert len(star.bodies) == 3
        assert running.get("/health").json()["resting"] == ["service"]
        time.sleep(0.65)
        running.post()  # one trial, which fails
        running.post()
        assert len(star.bodies) == 4
        star.status = 200
        time.sleep(0.65)
        assert running.post().headers["x-understudy-by"] == "service"
        assert running.post().headers["x-understudy-by"] == "service"
        assert running.get("/health").json()["resting"] == []


def test_a_service_that_dies_under_load_costs_no_client_an_answer(tmp_path: Path) -> None:
    deadline = 0.5
    with (
        stage(latency_s=0.02) as star,
        stage(text="mine") as small,
        gateway(
            tmp_path, star.url, mode="failover", local=small.url, deadline_s=deadline
        ) as running,
        ThreadPoolExecutor(8) as pool,
    ):
        web = httpx2.Client(timeout=30.0, trust_env=False)

        def call(number: int) -> tuple[int, str, float]:
            began = time.monotonic()
            body = ask(f"n {number}", stream=number % 2 == 0)
            reply = web.post(f"{running.url}/v1/chat/completions", json=body)
            ends = (b"[DONE]\n\n", b"}}\n\n") if number % 2 == 0 else (b"}",)
            assert reply.content.endswith(ends)  # at worst an error within a stream
            return reply.status_code, reply.headers["x-understudy-by"], time.monotonic() - began

        futures = [pool.submit(call, number) for number in range(300)]
        until(lambda: len(star.bodies) > 60)
        star.close()
        found = [future.result() for future in futures]
        web.close()
        assert {status for status, _, _ in found} == {200}
        assert {by for _, by, _ in found} == {"service", "local"}
        assert max(seconds for _, _, seconds in found) < deadline + 1


def test_nobody_to_answer_is_a_bad_gateway_in_openai_s_shape(tmp_path: Path) -> None:
    with gateway(tmp_path) as running:
        reply = running.post()
        assert reply.status_code == 502
        assert reply.json()["error"]["code"] == "no_upstream"


def test_a_client_that_leaves_ends_the_call_and_is_counted_at_its_bound(tmp_path: Path) -> None:
    with stage(how="silent") as star, gateway(tmp_path, star.url) as running:
        body = json.dumps(ask()).encode()
        head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\n"
        head += b"content-type: application/json\r\n"
        port = int(running.url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port)) as line:
            line.sendall(head + b"content-length: %d\r\n\r\n" % len(body) + body)
            until(lambda: star.open == 1)
        until(lambda: star.open == 0)
        until(lambda: running.lines("requests"))
        (written,) = running.lines("requests")
        assert (written["status"], written["is_bound"]) == (499, True)
        assert running.gate.numbers.in_flight == 0


# --- money ---------------------------------------------------------------------------------------


def test_the_cap_holds_under_load_and_the_local_model_takes_over(tmp_path: Path) -> None:
    cap = 0.1  # of 3,000 micro-dollars a call, and 10,000 reserved for each in flight
    with (
        stage(latency_s=0.01) as star,
        stage(text="mine") as small,
        gateway(tmp_path, star.url, mode="failover", local=small.url, usd_per_day=cap) as running,
        ThreadPoolExecutor(8) as pool,
    ):
        replies = list(pool.map(lambda _: running.post(), range(60)))
        assert {reply.status_code for reply in replies} == {200}
        by = [reply.headers["x-understudy-by"] for reply in replies]
        assert by.count("service") == len(star.bodies)
        assert 25 <= len(star.bodies) <= 33
        assert running.gate.spend.spent == 3000 * len(star.bodies) <= 1e6 * cap


def test_calls_that_failed_over_count_and_a_restart_forgets_nothing(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"mode": "failover", "usd_per_day": 0.03, "deadline_s": 0.2}
    with stage(how="silent") as star, stage() as small:
        with gateway(tmp_path, star.url, local=small.url, **settings) as running:
            for _ in range(4):
                running.post()
            spent = running.gate.spend.spent
            assert len(star.bodies) == 2  # each may have been billed: 10,000 and what it heard
            assert 20_000 < spent < 30_000
        with gateway(tmp_path, star.url, local=small.url, **settings) as running:
            assert running.gate.spend.spent == spent
            running.post()
            assert len(star.bodies) == 2


def test_a_paid_fallback_of_a_free_local_model_counts_and_stops_at_the_cap(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"mode": "split", "share": 100.0, "usd_per_day": 0.02}
    with (
        stage() as star,
        stage(status=500) as small,
        gateway(tmp_path, star.url, local=small.url, **settings) as running,
    ):
        replies = [running.post() for _ in range(8)]
        paid = [reply.headers["x-understudy-by"] == "service" for reply in replies]
        assert paid == [True] * 4 + [False] * 4  # the fifth could pass the cap: 12,000 + 10,142
        assert running.gate.spend.spent == 12_000
        assert [reply.status_code for reply in replies] == [200] * 4 + [500] * 4


def test_where_only_the_service_may_answer_the_cap_is_said(tmp_path: Path) -> None:
    with stage() as star, gateway(tmp_path, star.url, usd_per_day=0.005) as running:
        reply = running.post()
        assert (reply.status_code, reply.json()["error"]["code"]) == (429, "spend_cap")
        assert int(reply.headers["retry-after"]) > 0
        assert running.post(ask(model="star-2")).status_code == 404
        assert star.bodies == []


def test_a_trial_of_the_breaker_that_the_cap_forbids_is_made_later(tmp_path: Path) -> None:
    rest = {"breaker_failures": 1, "breaker_s": 0.05, "usd_per_day": 0.015}
    with (
        stage(status=500) as star,
        stage() as small,
        gateway(tmp_path, star.url, mode="failover", local=small.url, **rest) as running,
    ):
        running.post()
        star.status = 200
        time.sleep(0.1)
        running.post(ask(max_tokens=2000))  # it does not fit
        assert len(star.bodies) == 1
        assert running.post(ask(max_tokens=10)).headers["x-understudy-by"] == "service"


def test_a_day_has_a_purse_of_its_own(tmp_path: Path) -> None:
    from understudy.deploy.gateway.calls import Call
    from understudy.deploy.gateway.spend import Spend
    from understudy.service.base import Usage

    day = ["2026-01-01"]
    prices = Prices(input=1.0, output=1.0, date="2026-01-01", source="a test")
    spend = Spend(service(prices=prices), 0.002, tmp_path, lambda: day[0])
    call = Call(b"{}", {"max_tokens": 900}, {})
    first, second = spend.reserve(call), spend.reserve(call)
    assert first is not None
    assert second is not None
    assert spend.reserve(call) is None
    spend.settle(first, Usage(10, output=20), True)
    assert spend.spent == 30
    day[0] = "2026-01-02"
    assert spend.spent == 0
    spend.settle(second, None, True)  # of the day on which it began
    assert spend.spent == 0
