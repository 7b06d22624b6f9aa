"""What a plan learns from the journal, and how sure it is of it."""

import asyncio
from pathlib import Path

import pytest

from support.plans import ONE_ROUND, Make, answers_of, items, planned, priced, rows_of, work_off
from understudy.config import Config, changed
from understudy.evaluation.judge import index_of
from understudy.pipeline import flow, run
from understudy.plan.calls import StageCost
from understudy.plan.learned import TOKENS_PER_BYTE, Fact, Learned
from understudy.plan.ranges import Range, exactly
from understudy.prompts import judge
from understudy.records import Coverage
from understudy.services.base import Reply, Request, Usage
from understudy.services.journal import key_of
from understudy.services.segment import PaidCall, Segment

PRIOR = Range(1, 2, 3)


def fact(model: str, role: str, output: int = 100, size: float = 1000.0) -> Fact:
    return Fact(model, role, 10, size, 300, output, 20.0)


def test_without_a_journal_the_stated_priors_hold() -> None:
    learned, service = Learned([]), priced("dear")
    assert learned.tokens_per_byte(service, "evaluation") == TOKENS_PER_BYTE
    assert learned.reply_tokens(service, "evaluation", PRIOR) == PRIOR
    assert learned.latency_s(service, "evaluation", exactly(60)).expected == pytest.approx(1.7)


def test_the_nearest_calls_are_learnt_from_and_nearer_ones_are_surer() -> None:
    service = priced("dear")
    facts = [
        fact("dear-1", "evaluation", 100),
        fact("dear-1", "evaluation.baseline", 200),
        fact("other", "evaluation", 400),
        fact("dear-1", "synthesis", 9000),
    ]
    expected = []
    while facts:
        found = Learned(facts).reply_tokens(service, "evaluation", PRIOR)
        expected.append((found.expected, round(found.high / found.expected, 2)))
        facts.pop(0)
    # The second is of other answers, about which a judge has a little less to say.
    assert expected == [(10, 1.08), (pytest.approx(22), 1.4), (40, 1.4), (2, 1.5)]


def test_tokens_per_byte_come_from_calls_of_known_size_only() -> None:
    facts = [fact("dear-1", "evaluation", size=0.0), fact("dear-1", "synthesis", size=600.0)]
    found = Learned(facts).tokens_per_byte(priced("dear"), "evaluation")
    assert found.expected == pytest.approx(0.5)


def judged(config: Config, row: Coverage, text: str, k: int, m: int) -> Request:
    settings = config.evaluation
    messages = judge.render(settings.prompt, settings.order, row.instruction, row.response, text)
    return Request(messages, index_of(k, m), judge.schema(settings.prompt))


async def pay(directory: Path, config: Config, requests: list[Request], stage: str) -> None:
    service, segment = config.judges["dear"], Segment(directory)
    for request in requests:
        key = key_of(service, request)
        call = PaidCall(key, stage, "run/x", service.name, service.model, "online", 5000)
        number = await segment.sent(call)
        await segment.answered(number, call, Reply("{}", usage=Usage(700, 0, 50)), 1800, 2.0, 1)
    segment.close()


@pytest.mark.slow
def test_calls_in_the_journal_are_not_planned_again_and_tell_what_others_cost(
    composed: Make,
) -> None:
    asked = {"judges": {"dear": priced("dear")}, "rehearsal.url": "http://127.0.0.1:1"}
    config = changed(composed(*ONE_ROUND, "baseline=none"), asked)
    work_off(config, "coverage", "split")
    answers_of(config, lambda row, k: f"{k}: {row.response}")
    rows = [row for row in rows_of(config) if row.split == "test"]
    one = rows[0]
    paid = [judged(config, one, f"{k}: {one.response}", k, m) for k in (0, 1) for m in (0, 2)]
    stage = flow.flow_of(config).round(0)["evaluation.dear"].path
    before = _cost(config)
    asyncio.run(pay(run.run_root(config) / "journal", config, paid, stage))
    made = planned(config)
    assert made.spent_usd == pytest.approx(4 * 0.0018)
    after = _cost(config)
    assert (before.calls, after.calls) == (exactly(24), exactly(20))
    assert after.output.expected == pytest.approx(20 * 50)
    assert after.input.expected == pytest.approx(20 * 700, rel=0.05)
    assert after.seconds.expected == pytest.approx(20 * 2.0 / 10)
    assert after.online_usd is not None
    assert after.online_usd.expected == pytest.approx((2 * 14000 + 8 * 1000) / 1e6, rel=0.05)


def _cost(config: Config) -> StageCost:
    (item,) = items(planned(config), "evaluation")
    assert item.cost is not None
    return item.cost
