"""The client's promises: every item ends, nothing paid is lost, nothing is paid twice."""

import asyncio
import itertools
import random
import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from support import paid
from support.books import buy, check_books, drain, rows
from support.paid import USAGE, Scripted
from understudy.errors import BadInput, BudgetSpent, EnvironmentFailed, UnderstudyError
from understudy.services.base import CallFailed, Reply, Request
from understudy.services.client import ask_provider
from understudy.services.journal import open_journal


class Waits(Scripted):
    """Request n takes n % len(delays)-th many turns of the loop."""

    def __init__(self, delays: list[int], **script: Any) -> None:
        super().__init__(**script)
        self.delays = delays

    async def work(self, index: int) -> None:
        for _ in range(self.delays[index % len(self.delays)]):
            await asyncio.sleep(0.001)


def test_replies_come_in_order_of_arrival_with_their_positions(tmp_path: Path) -> None:
    provider = Waits([150, 1, 70])
    stream = ask_provider(paid.service(), provider, paid.requests(3), paid.account(tmp_path))
    assert [(n, reply.text) for n, reply in stream] == [(n, f"reply {n}") for n in (1, 2, 0)]
    assert provider.is_closed


def test_few_more_requests_are_taken_ahead_than_may_be_open(tmp_path: Path) -> None:
    provider, source = Waits([1, 3, 2]), iter(paid.requests(200))
    stream = ask_provider(paid.service(concurrency=4), provider, source, paid.account(tmp_path))
    assert len(list(itertools.islice(stream, 10))) == 10
    stream.close()  # type: ignore[attr-defined]
    assert provider.most_open == 4
    assert next(source).index <= 10 + 4 + 2


def test_closing_the_iterator_finishes_and_keeps_what_is_in_flight(tmp_path: Path) -> None:
    provider, account = Waits([0, 50]), paid.account(tmp_path)
    stream = ask_provider(paid.service(concurrency=2), provider, paid.requests(9), account)
    assert next(stream)[0] == 0
    stream.close()  # type: ignore[attr-defined]
    assert (provider.open, provider.cancelled) == (0, 0)
    assert len(rows(tmp_path, "SELECT * FROM replies")) == len(provider.log) >= 2
    check_books(tmp_path, account)


def test_a_rerun_takes_every_reply_from_the_journal(tmp_path: Path) -> None:
    first, second = Scripted(), Scripted()
    bought, _, _ = buy(tmp_path, first, 50)
    found, _, account = buy(tmp_path, second, 50)
    assert sorted(found) == sorted(bought)
    assert (len(first.log), len(second.log)) == (50, 0)
    assert account.counts["from_journal"] == 50
    assert account.summary()["calls"]["from_journal"] == 50
    assert account.spent == 50 * 450


def test_identical_requests_are_sent_once_in_flight_and_afterwards(tmp_path: Path) -> None:
    provider, account = Waits([5]), paid.account(tmp_path)
    same = paid.requests(1) * 40
    replies = [r for _, r in ask_provider(paid.service(concurrency=8), provider, same, account)]
    assert len(replies) == 40
    assert len(set(replies)) == 1
    assert provider.log == [0]
    assert account.counts["shared"] == 11  # of the twelve that are taken at once
    assert account.counts["from_journal"] == 28
    check_books(tmp_path, account)


def faults(rate: float) -> Any:
    """A script of all kinds of faults that heal, drawn by (call, try)."""
    kinds = [
        CallFailed("500", "heal"),
        CallFailed("503", "heal", retry_after_s=0.01),
        CallFailed("stall", "heal", is_uncertain=True),
        CallFailed("reset", "heal", is_uncertain=True),
        CallFailed("truncated", "heal", is_uncertain=True),
        CallFailed("429", "wait", retry_after_s=0.01),
        CallFailed("529", "wait", retry_after_s=0.0),
    ]

    def script(index: int, tries: int) -> Reply | Exception | None:
        rng = random.Random(f"{index}/{tries}")
        return rng.choice(kinds) if rng.random() < rate else None

    return script


@pytest.mark.slow
def test_with_30_percent_faults_every_item_ends_and_the_books_agree(tmp_path: Path) -> None:
    provider = Scripted(faults(0.3))
    arrived, error, account = buy(tmp_path, provider, 300, concurrency=64)
    assert error is None
    assert sorted(n for n, _ in arrived) == list(range(300))
    assert {reply.finish for _, reply in arrived} == {"stop"}
    counts = account.counts
    assert counts["retries"] == len(provider.log) - 300
    with open_journal(tmp_path / "journal") as journal:
        (total,) = journal.totals()
    assert total.calls == 300
    assert total.microusd == counts["microusd"] == 300 * 450
    assert total.uncertain_calls == counts["uncertain"] > 20
    assert total.attempts <= len(provider.log)
    check_books(tmp_path, account)


@pytest.mark.slow
def test_a_call_that_never_heals_is_an_error_reply_and_costs_nothing(tmp_path: Path) -> None:
    def script(index: int, tries: int) -> Exception | None:
        return CallFailed("broken pipe", "heal") if index == 3 else None

    provider = Waits([5], script=script)
    arrived, error, account = buy(tmp_path, provider, 12, attempts=3, concurrency=2)
    assert error is None
    assert {n: r.finish for n, r in arrived if r.finish != "stop"} == {3: "error"}
    assert dict(arrived)[3].text == "broken pipe"
    assert provider.log.count(3) == 3
    assert account.spent == 11 * 450
    assert rows(tmp_path, "SELECT count(*) FROM replies WHERE finish IS NULL") == [(1,)]
    check_books(tmp_path, account)


def test_a_request_that_can_never_be_answered_is_tried_once(tmp_path: Path) -> None:
    def script(index: int, tries: int) -> Exception | None:
        return CallFailed("400 too long", "row") if index % 2 else None

    provider = Scripted(script)
    arrived, _, _ = buy(tmp_path, provider, 10)
    assert Counter(reply.finish for _, reply in arrived) == {"stop": 5, "error": 5}
    assert len(provider.log) == 10


def test_a_service_that_never_answers_stops_the_run_in_one_sentence(tmp_path: Path) -> None:
    provider = Scripted(lambda index, tries: CallFailed("connection refused", "heal"))
    arrived, error, account = buy(tmp_path, provider, 50, attempts=2)
    assert arrived == []
    assert isinstance(error, EnvironmentFailed)
    sentence = "service paid does not answer (connection refused); the same command goes on"
    assert str(error) == sentence
    assert account.spent == 0
    check_books(tmp_path, account)


@pytest.mark.parametrize(
    ("message", "kind"), [("key refused", BadInput), ("insufficient_quota", BudgetSpent)]
)
def test_a_bad_key_or_an_empty_account_stops_after_what_was_in_flight(
    message: str, kind: type[UnderstudyError], tmp_path: Path
) -> None:
    def script(index: int, tries: int) -> Exception | None:
        return CallFailed(message, "stop") if index == 5 else None

    provider = Waits([40, 40, 40, 40, 40, 1], script=script)
    arrived, error, account = buy(tmp_path, provider, 50, concurrency=8)
    assert type(error) is kind
    assert sorted(n for n, _ in arrived) == sorted(set(provider.log) - {5})
    assert 8 <= len(provider.log) <= 12
    check_books(tmp_path, account)


def test_an_unusable_reply_is_repaired_once_and_both_calls_are_kept(tmp_path: Path) -> None:
    def script(index: int, tries: int) -> Reply | None:
        return Reply("gibberish", usage=USAGE) if index in (1, 2, 102) else None

    def repair(request: Request, reply: Reply) -> Request | None:
        unusable = reply.text == "gibberish"
        return replace(request, index=request.index + 100) if unusable else None

    provider = Scripted(script)
    for _ in range(2):
        arrived, _, account = buy(tmp_path, provider, 4, repair)
        texts = {n: reply.text for n, reply in arrived}
        assert texts == {0: "reply 0", 1: "reply 101", 2: "gibberish", 3: "reply 3"}
        assert sorted(provider.log) == [0, 1, 2, 3, 101, 102]
        assert account.spent == 6 * 450


@pytest.mark.slow
def test_a_budget_is_never_passed_and_what_was_in_flight_is_handed_out(tmp_path: Path) -> None:
    seen: list[int] = []

    class Watched(Waits):
        async def work(self, index: int) -> None:
            seen.append(len(rows(tmp_path, "SELECT call FROM sent")))
            await super().work(index)

    provider = Watched([3, 9, 1])
    arrived, error, account = buy(tmp_path, provider, 500, budget_usd=0.05, concurrency=128)
    assert isinstance(error, BudgetSpent)
    assert "budget.usd=0.05" in str(error)
    assert "run/test has spent $0.0" in str(error)
    bound = 1000 + 2.5 * (4 + 5 + 64)  # the reservation of one call
    assert 50_000 - bound <= account.spent <= 50_000
    assert account.spent == 450 * len(arrived) == 450 * len(provider.log)
    check_books(tmp_path, account)

    arrived, error, _ = buy(tmp_path, provider, 500, budget_usd=1.0, concurrency=128)
    assert (error, len(arrived), len(provider.log)) == (None, 500, 500)
    other = paid.account(tmp_path, purse="run/other", budget_usd=0.001)
    arrived, error = drain(ask_provider(paid.service(), provider, paid.requests(500), other))
    assert (error, len(arrived)) == (None, 500)  # found, not bought


def test_uncertain_calls_count_against_the_budget_at_their_upper_bound(tmp_path: Path) -> None:
    provider = Scripted(lambda index, tries: CallFailed("reset", "heal", is_uncertain=True))
    facts = {"concurrency": 2, "attempts": 50}
    arrived, error, account = buy(tmp_path, provider, 20, budget_usd=0.005, **facts)
    assert isinstance(error, BudgetSpent)
    assert arrived == []
    assert len(provider.log) == 4  # 1,183 micro-dollars each at most
    assert account.spent == 4 * 1183
    check_books(tmp_path, account)


def test_a_reply_without_usage_settles_at_its_upper_bound(tmp_path: Path) -> None:
    provider = Scripted(lambda index, tries: Reply("words"))
    arrived, _, account = buy(tmp_path, provider, 1)
    assert (len(arrived), account.spent) == (1, 1183)


def test_a_burst_of_429s_is_one_cut_and_retry_after_is_honoured(tmp_path: Path) -> None:
    left: list[float] = []

    class Clocked(Scripted):
        async def work(self, index: int) -> None:
            left.append(asyncio.get_running_loop().time())
            await asyncio.sleep(0.01)

    def script(index: int, tries: int) -> Exception | None:
        return CallFailed("429", "wait", retry_after_s=0.3) if not tries else None

    arrived, error, account = buy(tmp_path, Clocked(script), 32, concurrency=32)
    assert (error, len(arrived)) == (None, 32)
    assert account.counts["cuts"] == 1
    assert account.counts["busy"] == 32
    assert left[32] - left[31] >= 0.3
    assert len(left) == 64


def test_calls_of_one_endpoint_wait_for_each_other(tmp_path: Path) -> None:
    order: list[str] = []

    def ask_all(name: str, model: str) -> None:
        service, account = paid.service(model=model), paid.account(tmp_path)
        for _ in ask_provider(service, Waits([20]), paid.requests(4), account):
            order.append(name)

    names = [("a", "one"), ("b", "one")]
    threads = [threading.Thread(target=ask_all, args=pair) for pair in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(order) == 8
    assert [name for name, _ in itertools.groupby(order)] in (["a", "b"], ["b", "a"])


def test_an_error_of_ours_ends_the_stream_and_keeps_what_was_bought(tmp_path: Path) -> None:
    def script(index: int, tries: int) -> Exception | None:
        return ZeroDivisionError("a bug") if index == 2 else None

    stream = ask_provider(
        paid.service(), Waits([20, 20, 1], script=script), paid.requests(4), paid.account(tmp_path)
    )
    arrived = [next(stream) for _ in range(3)]
    with pytest.raises(ZeroDivisionError):
        next(stream)
    assert {n for n, _ in arrived} == {0, 1, 3}
