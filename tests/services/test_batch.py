"""The batch driver: everything is answered once, whatever fails or dies, and is submitted once."""

import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from support import paid
from support.books import buy, check_books, drain, rows
from support.paid import USAGE
from understudy.errors import BadInput, BudgetSpent, EnvironmentFailed
from understudy.rehearsal.server import RehearsalServer
from understudy.services.base import BatchState, CallFailed, Reply, Request
from understudy.services.batch import ask_in_batches
from understudy.services.client import ask

PRICE = 225  # micro-dollars of one reply, at half price


class Died(BaseException):
    """As if the process were killed here: nothing catches it, nothing is tidied up."""


class Remote:
    """A provider's batches in memory, which outlive the process that submitted them."""

    most_requests = 50
    most_bytes = 10**6

    def __init__(self, has_labels: bool = True, polls: int = 1) -> None:
        self.batches: dict[str, tuple[str | None, float, dict[str, Request]]] = {}
        self.polls: Counter[str] = Counter()
        self.dies_at: set[str] = set()
        self.fails: list[CallFailed] = []  # of the next submissions, after the batch was made
        self.outcomes: dict[int, list[Reply | CallFailed]] = {}  # of the tries of request n
        self.tries: Counter[int] = Counter()
        self._has_labels, self._polls = has_labels, polls

    def _die(self, place: str) -> None:
        if place in self.dies_at:
            self.dies_at.remove(place)
            raise Died(place)

    async def submit(self, requests: Sequence[tuple[str, Request]], label: str) -> str:
        self._die("before submit")
        name = f"batch{len(self.batches)}"
        if not self.fails or self.fails[0].is_uncertain:
            kept = label if self._has_labels else None
            self.batches[name] = (kept, time.time(), dict(requests))
        if self.fails:
            raise self.fails.pop(0)
        self._die("after submit")
        return name

    def _state(self, name: str) -> BatchState:
        label, created, requests = self.batches[name]
        return BatchState(name, label, self.polls[name] >= self._polls, len(requests), created)

    async def poll(self, batch_id: str) -> BatchState:
        self._die("poll")
        self.polls[batch_id] += 1
        return self._state(batch_id)

    async def recent(self, since: float) -> list[BatchState]:
        found = [name for name, (_, created, _) in self.batches.items() if created >= since]
        return [self._state(name) for name in reversed(found)]

    async def results(self, batch_id: str) -> AsyncIterator[tuple[str, Reply | CallFailed]]:
        requests = self.batches[batch_id][2]
        for number, (name, request) in enumerate(requests.items()):
            if number == len(requests) // 2:
                self._die("results")
            script = self.outcomes.get(request.index, [])
            tries = self.tries[request.index]
            self.tries[request.index] += 1
            if tries < len(script):
                yield name, script[tries]
            else:
                yield name, Reply(f"reply {request.index}", usage=USAGE)

    async def close(self) -> None:
        pass

    @property
    def submitted(self) -> Counter[str]:
        """How often each call was submitted."""
        return Counter(name for _, _, requests in self.batches.values() for name in requests)


def run(root: Path, remote: Any, count: int = 120, **changed: Any) -> Any:
    account = paid.account(root, **changed)
    service = paid.service(mode="batch", attempts=3)
    stream = ask_in_batches(service, remote, paid.requests(count), account)
    return (*drain(stream), account)


def test_a_stage_of_any_size_is_cut_into_batches_and_answered_once(tmp_path: Path) -> None:
    remote = Remote()
    arrived, error, account = run(tmp_path, remote)
    assert error is None
    assert sorted((n, r.text) for n, r in arrived) == [(n, f"reply {n}") for n in range(120)]
    assert [len(requests) for _, _, requests in remote.batches.values()] == [50, 50, 20]
    assert account.spent == 120 * PRICE
    check_books(tmp_path, account)
    again, error, account = run(tmp_path, remote)
    assert (sorted(again), error, len(remote.batches)) == (sorted(arrived), None, 3)
    assert account.counts["from_journal"] == 120


@pytest.mark.slow
@pytest.mark.parametrize("has_labels", [True, False])
@pytest.mark.parametrize("place", ["after submit", "poll", "results"])
def test_a_kill_at_any_point_submits_nothing_twice(
    place: str, has_labels: bool, tmp_path: Path
) -> None:
    remote = Remote(has_labels)
    whole, _, _ = run(tmp_path / "whole", Remote())
    remote.dies_at = {place}
    with pytest.raises(Died):
        run(tmp_path, remote)
    arrived, error, account = run(tmp_path, remote)
    assert error is None
    assert sorted(arrived) == sorted(whole)
    assert set(remote.submitted.values()) == {1}
    assert account.spent == 120 * PRICE
    check_books(tmp_path, account)
    assert rows(tmp_path, "SELECT count(*) FROM replies WHERE finish IS NOT NULL") == [(120,)]


def test_calls_of_a_batch_under_way_are_not_bought_online_as_well(tmp_path: Path) -> None:
    remote, online = Remote(), paid.Scripted()
    remote.dies_at = {"poll"}
    with pytest.raises(Died):
        run(tmp_path, remote)
    arrived, error, _ = buy(tmp_path, online, 9)
    assert (arrived, online.log) == ([], [])
    assert isinstance(error, BadInput)
    assert "collect it with mode=batch" in str(error)
    assert run(tmp_path, remote)[1] is None
    assert len(buy(tmp_path, online, 9)[0]) == 9
    assert online.log == []


@pytest.mark.slow
def test_a_batch_that_never_reached_the_provider_is_submitted_again(tmp_path: Path) -> None:
    remote = Remote()
    remote.dies_at = {"before submit"}
    with pytest.raises(Died):
        run(tmp_path, remote)
    arrived, error, account = run(tmp_path, remote)
    assert (len(arrived), error) == (120, None)
    assert set(remote.submitted.values()) == {1}
    assert account.spent == 120 * PRICE


def test_a_submission_whose_answer_got_lost_is_found_and_not_repeated(tmp_path: Path) -> None:
    remote = Remote()
    remote.fails = [CallFailed("reset", "heal", is_uncertain=True), CallFailed("500", "heal")]
    arrived, error, _ = run(tmp_path, remote)
    assert (len(arrived), error) == (120, None)
    assert set(remote.submitted.values()) == {1}


def test_expired_and_failed_items_are_submitted_again_and_given_up_in_the_end(
    tmp_path: Path,
) -> None:
    remote, expired = Remote(), CallFailed("expired", "heal")
    remote.outcomes = {
        1: [expired],
        2: [expired, expired],
        3: [expired, expired, expired],
        4: [CallFailed("400 too long", "row")],
        5: [CallFailed("unreadable", "heal", is_uncertain=True)],
    }
    arrived, error, account = run(tmp_path, remote, count=10)
    assert error is None
    errors = {n: reply.text for n, reply in arrived if reply.finish == "error"}
    assert errors == {3: "expired", 4: "400 too long"}
    assert len(arrived) == 10
    assert account.counts["uncertain"] == 1
    assert account.spent == 8 * PRICE + 592  # half of 1,183, rounded up
    check_books(tmp_path, account)


def test_an_unusable_reply_is_repaired_in_a_further_batch(tmp_path: Path) -> None:
    def repair(request: Request, reply: Reply) -> Request | None:
        is_bad = reply.text == "gibberish"
        return replace(request, index=request.index + 100) if is_bad else None

    remote = Remote()
    remote.outcomes = {2: [Reply("gibberish", usage=USAGE)], 102: [Reply("gibberish", usage=USAGE)]}
    account, service = paid.account(tmp_path), paid.service(mode="batch")
    for _ in range(2):
        stream = ask_in_batches(service, remote, paid.requests(4), account, repair)
        texts = {n: reply.text for n, reply in stream}
        assert texts == {0: "reply 0", 1: "reply 1", 2: "gibberish", 3: "reply 3"}
    assert [len(requests) for _, _, requests in remote.batches.values()] == [4, 1]


def test_a_budget_lets_as_much_be_submitted_as_fits_and_goes_on_with_what_is_left(
    tmp_path: Path,
) -> None:
    remote = Remote()
    arrived, error, account = run(tmp_path, remote, budget_usd=0.01)
    assert isinstance(error, BudgetSpent)
    assert account.spent == len(arrived) * PRICE
    assert 10_000 - 592 < account.spent <= 10_000
    check_books(tmp_path, account)
    arrived, error, _ = run(tmp_path, remote, budget_usd=1.0)
    assert (len(arrived), error) == (120, None)
    assert set(remote.submitted.values()) == {1}


def test_a_bad_key_stops_and_leaves_nothing_behind(tmp_path: Path) -> None:
    remote = Remote()
    remote.fails = [CallFailed("the key is refused", "stop")]
    arrived, error, account = run(tmp_path, remote)
    assert (arrived, str(error), type(error)) == ([], "the key is refused", BadInput)
    assert account.spent == 0
    check_books(tmp_path, account)


@pytest.mark.slow
def test_a_provider_that_never_answers_stops_the_run_and_the_next_one_goes_on(
    tmp_path: Path,
) -> None:
    remote = Remote()
    remote.fails = [CallFailed("500", "heal")] * 3
    arrived, error, _ = run(tmp_path, remote)
    assert arrived == []
    assert isinstance(error, EnvironmentFailed)
    arrived, error, _ = run(tmp_path, remote)
    assert (len(arrived), error) == (120, None)


@pytest.mark.slow
@pytest.mark.parametrize("provider", ["openai", "anthropic", "google"])
def test_the_real_sdks_buy_everything_once_and_the_ledger_is_the_bill(
    provider: str, tmp_path: Path
) -> None:
    prices = {f"{provider}-test": paid.PRICES}
    faults = "expired=0.2,failed=0.1"
    with RehearsalServer(batch_s=0.2, faults=faults, prices=prices, repeatable=True) as server:
        account = paid.account(tmp_path, rehearsal_url=server.url)
        service = paid.service(provider=provider, model=f"{provider}-test", mode="batch")
        arrived, error = drain(ask(service, paid.requests(40), account))
        assert error is None
        assert sorted(n for n, _ in arrived) == list(range(40))
        assert {reply.finish for _, reply in arrived} == {"stop"}
        assert account.counts["retries"] > 0
        assert account.counts["microusd"] == account.spent == server.bill().microusd > 0
        assert len(server.log) == 40
    check_books(tmp_path, account)
