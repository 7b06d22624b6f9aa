"""The gate: one cut per burst, pauses that are honoured, and no minute above its limit."""

import asyncio
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.services.base import CallFailed, Fate, Room
from understudy.services.limits import Bucket, Limits, back_off, gives_up


def story(*limits: Any) -> Callable[[Callable[[Limits], Coroutine[Any, Any, None]]], None]:
    """Run a coroutine function with limits of its own."""
    return lambda play: asyncio.run(play(Limits(*limits)))


async def enter(limits: Limits, count: int) -> list[int]:
    tickets = [await limits.enter(1.0) for _ in range(count)]
    return [ticket for ticket in tickets if ticket is not None]


def test_a_burst_of_refusals_is_one_cut_and_the_next_burst_another() -> None:
    @story(128, None, None)
    async def _(limits: Limits) -> None:
        first = await enter(limits, 128)
        for ticket in first[:100]:
            limits.busy(ticket, retry_after_s=0.0)
        assert (limits.allowed, limits.cuts) == (64, 1)
        for _ in first:
            limits.leave()
        second = await enter(limits, 10)
        limits.busy(second[0], retry_after_s=0.0)  # still the same shortage: nothing was answered
        assert limits.cuts == 1
        third = await enter(limits, 2)
        limits.answered(third[0])
        limits.busy(third[1], retry_after_s=0.0)
        assert limits.cuts == 2
        assert 32 <= limits.allowed < 33
        limits.busy(first[100], retry_after_s=0.0)  # a straggler of the first burst
        assert limits.cuts == 2


def test_a_round_trip_of_answers_lets_one_more_call_be_open() -> None:
    @story(128, None, None)
    async def _(limits: Limits) -> None:
        limits.allowed = 10.0
        for ticket in await enter(limits, 10):
            limits.answered(ticket)
        assert 10.9 < limits.allowed <= 11
        for ticket in range(20_000):
            limits.answered(ticket)
        assert limits.allowed == 128


def test_no_more_calls_are_open_than_allowed_and_failed_ones_go_first() -> None:
    @story(2, None, None)
    async def _(limits: Limits) -> None:
        await enter(limits, 2)
        order: list[str] = []

        async def call(name: str, is_again: bool) -> None:
            await limits.enter(1.0, is_again)
            order.append(name)

        tasks = [asyncio.create_task(call("new", False)), asyncio.create_task(call("again", True))]
        await asyncio.sleep(0.01)
        assert order == []
        limits.leave()
        limits.leave()
        await asyncio.gather(*tasks)
        assert order == ["again", "new"]


@pytest.mark.parametrize("retry_after_s", [0.08, 0.2])
def test_nothing_leaves_before_retry_after_is_over(retry_after_s: float) -> None:
    @story(8, None, None)
    async def _(limits: Limits) -> None:
        (ticket,) = await enter(limits, 1)
        began = time.monotonic()
        limits.busy(ticket, retry_after_s)
        await limits.enter(1.0)
        assert retry_after_s <= time.monotonic() - began < retry_after_s + 0.1
        assert limits.paused_s == pytest.approx(retry_after_s, abs=0.01)


def test_a_refusal_without_retry_after_pauses_longer_each_time_in_a_row() -> None:
    @story(8, None, None)
    async def _(limits: Limits) -> None:
        pauses = []
        for _ in range(12):
            limits._paused_until = 0.0  # as if the pause were over
            (ticket,) = await enter(limits, 1)
            limits.leave()
            before = limits.paused_s
            limits.busy(ticket, None)
            pauses.append(limits.paused_s - before)
        assert max(pauses[:3]) <= 2.0
        assert max(pauses) > 2.0


def test_a_stop_sends_everybody_home() -> None:
    @story(1, None, None)
    async def _(limits: Limits) -> None:
        await enter(limits, 1)
        waiting = [asyncio.create_task(limits.enter(1.0)) for _ in range(3)]
        await asyncio.sleep(0)
        limits.stop()
        assert await asyncio.gather(*waiting) == [None, None, None]
        assert await limits.enter(1.0) is None


def leave_at(bucket: Bucket, amount: float, count: int) -> list[float]:
    """When `count` calls leave that all wait at the bucket, in seconds of its own clock."""
    times, now = [], bucket._filled
    for _ in range(count):
        while (delay := bucket.wait(amount, now)) > 0:
            now += delay
        bucket.take(amount)
        times.append(now)
    return [at - times[0] for at in times]


@given(st.integers(1, 20_000), st.integers(1, 40))
@settings(max_examples=40, deadline=None)
def test_no_minute_holds_more_than_the_limit_and_none_wastes_more_than_a_twentieth(
    limit: int, amount: int
) -> None:
    count = min(3000, 3 * limit // amount + 3)
    times = leave_at(Bucket(limit), amount, count)
    for n in range(count):
        within = bisect_left(times, times[n] + 60) - n
        assert (within - 1) * amount <= limit
    if times[-1] > 60:
        assert count * amount / times[-1] * 60 >= 0.95 * limit


def test_limits_are_learnt_from_headers_but_never_loosened_by_them() -> None:
    bucket = Bucket(None)
    assert bucket.wait(1) == 0
    bucket.learn(600, 300)
    assert bucket.per_minute == 600
    bucket.learn(60, 0)
    assert bucket.wait(1) == pytest.approx(1 / 0.99, rel=0.01)
    bucket.learn(6000, 6000)
    assert bucket.per_minute == 60


def test_tokens_that_a_call_did_not_take_are_given_back() -> None:
    @story(8, None, 6000)
    async def _(limits: Limits) -> None:
        limits.learn(Room())
        await limits.enter(3000.0)
        assert limits._delay(100.0) > 20
        limits.correct(3000.0, 50.0)
        assert limits._delay(100.0) < 1


def test_back_off_is_full_jitter_under_a_doubling_ceiling() -> None:
    for failures, most in ((1, 0.5), (2, 1.0), (5, 8.0), (8, 60.0), (500, 60.0)):
        drawn = [back_off(failures) for _ in range(300)]
        assert 0 <= min(drawn) < 0.2 * most
        assert 0.8 * most < max(drawn) <= most


def test_a_busy_service_gets_more_patience_than_a_broken_one() -> None:
    def after(fate: Fate, times: int, is_silent: bool = False) -> bool:
        return gives_up(CallFailed("", fate), Counter({fate: times}), 10, is_silent)

    assert after("row", 1)
    assert not after("heal", 9)
    assert after("heal", 10)
    assert not after("wait", 99)
    assert after("wait", 100)
    assert after("wait", 10, is_silent=True)
