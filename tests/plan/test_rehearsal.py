"""The plan of a rehearsal against the bill of its server."""

from collections.abc import Iterator

import pytest

from support.plans import SMALL, Make, planned, priced, work_off
from understudy.config import Config, Prices, changed
from understudy.plan import Plan
from understudy.plan.ranges import Range, total
from understudy.rehearsal.server import RehearsalServer
from understudy.store.artifacts import StageDir

PRICES = {
    "dear-1": Prices(input=3.0, output=15.0, date="2026-11-21", source="a test", batch=0.5),
    "cheap-1": Prices(input=0.5, output=2.0, date="2026-11-21", source="a test"),
}
ALL = ("coverage", "split", "baseline", "evaluation", "synthesis", "inference", "gate")


@pytest.fixture
def server() -> Iterator[RehearsalServer]:
    with RehearsalServer(prices=PRICES) as running:
        yield running


def cells(composed: Make, url: str) -> list[Config]:
    """Two judges and two seeds; the base model answers, so nothing is trained."""
    sizes = ("data_size=125", "trainer=none", "inference.max_new_tokens=16")
    dear = priced("dear", provider="anthropic", prices=PRICES["dear-1"])
    cheap = priced("cheap", prices=PRICES["cheap-1"])
    services = {"judges": {"cheap": cheap}, "synthesis.service": dear, "baseline.service": cheap}
    one = changed(
        composed(*SMALL, *sizes, "coverage.split.test=8"), {**services, "rehearsal.url": url}
    )
    return [one, changed(one, {"judges": {"dear": dear}}), changed(one, {"seed": 1})]


def asked(made: Plan) -> Range:
    return total(item.cost.calls for item in made.open if item.cost is not None)


@pytest.mark.slow
def test_calls_are_exact_and_dollars_within_a_tenth_once_synthesis_is_done(
    composed: Make, server: RehearsalServer
) -> None:
    sweep = cells(composed, server.url)
    fresh = planned(*sweep)
    work_off(sweep[0], *ALL[:5])
    calls, microusd = len(server.log), server.bill().microusd
    half = planned(*sweep)
    for cell in sweep:
        work_off(cell, *ALL)
    assert planned(*sweep).open == []
    # An answer that equals another generator's is asked about, and answered by the journal.
    counts = [
        StageDir(i.root / i.stage.path).read("meta.json")["calls"]
        for i in half.open
        if i.cost is not None
    ]
    reached = sum(count["calls"] + count.get("from_journal", 0) for count in counts)
    assert asked(half).expected == reached
    assert asked(half).low <= len(server.log) - calls <= reached
    usd = (server.bill().microusd - microusd) / 1e6
    assert half.usd.expected == pytest.approx(usd, rel=0.1)
    assert half.usd.low <= usd <= half.usd.high
    assert fresh.usd.low <= server.bill().microusd / 1e6 <= fresh.usd.high
    assert asked(fresh).low <= len(server.log) <= asked(fresh).high


@pytest.mark.slow
def test_with_faults_the_interval_of_an_unfinished_plan_holds_the_bill(composed: Make) -> None:
    with RehearsalServer(prices=PRICES, faults="all=0.1", retry_after_s=0.0) as server:
        (one, *_) = cells(composed, server.url)
        made = planned(one)
        work_off(one, *ALL)
        assert made.usd.low <= server.bill().microusd / 1e6 <= made.usd.high
