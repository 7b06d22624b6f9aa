"""The spend cap of the gateway: it holds, counts what failed over, and forgets nothing."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from support.gateways import ask, gateway, service, stage
from understudy.config import Prices


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
        assert running.state.spend.spent == 3000 * len(star.bodies) <= 1e6 * cap


def test_calls_that_failed_over_count_and_a_restart_forgets_nothing(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"mode": "failover", "usd_per_day": 0.03, "deadline_s": 0.2}
    with stage(how="silent") as star, stage() as small:
        with gateway(tmp_path, star.url, local=small.url, **settings) as running:
            for _ in range(4):
                running.post()
            spent = running.state.spend.spent
            assert len(star.bodies) == 2  # each may have been billed: 10,000 and what it heard
            assert 20_000 < spent < 30_000
        with gateway(tmp_path, star.url, local=small.url, **settings) as running:
            assert running.state.spend.spent == spent
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
        assert running.state.spend.spent == 12_000
        assert [reply.status_code for reply in replies] == [200] * 4 + [500] * 4


def test_another_model_than_the_one_with_prices_is_not_known_exactly(tmp_path: Path) -> None:
    with stage() as star, gateway(tmp_path, star.url) as running:
        running.post()
        running.post(ask(model="star-2"))
        assert [line["is_bound"] for line in running.lines("requests")] == [False, True]


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
    from understudy.gateway.calls import ChatCall
    from understudy.gateway.spend import Spend
    from understudy.services.base import Usage

    day = ["2026-01-01"]
    prices = Prices(input=1.0, output=1.0, date="2026-01-01", source="a test")
    spend = Spend(service(prices=prices), 0.002, tmp_path, lambda: day[0])
    call = ChatCall(b"{}", {"max_tokens": 900}, {})
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
