"""The plan of a run or sweep: what is sure, what is perhaps, and that nothing is touched."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from support.plans import (
    ONE_ROUND,
    SMALL,
    Make,
    answers_of,
    calls,
    items,
    planned,
    priced,
    rows_of,
    work_off,
)
from understudy.config import changed
from understudy.pipeline import flow, run
from understudy.plan.ranges import NOTHING, Range, exactly, total
from understudy.records import Answer, read_rows
from understudy.store.artifacts import StageDir

URL = "http://127.0.0.1:1"


@pytest.fixture(autouse=True)
def _idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine as busy at one plan as at the next, since intervals widen with its load."""
    monkeypatch.setattr("os.getloadavg", lambda: (0.0, 0.0, 0.0))


def test_a_plan_touches_nothing(composed: Make, tmp_path: Path) -> None:
    made = planned(composed(*ONE_ROUND))
    assert made.items
    assert list(tmp_path.iterdir()) == []


def test_before_anything_ran_calls_follow_from_the_split_and_the_yield(composed: Make) -> None:
    made = planned(composed(*ONE_ROUND))
    assert {item.state for item in made.items} == {"to run"}
    assert calls(made, "baseline") == exactly(4 * 2)
    assert calls(made, "evaluation") == exactly(2 * 4 * 2 * 3)
    asked = calls(made, "synthesis")
    assert asked.low == 250 / 5
    assert asked.low < asked.expected < asked.high <= 500


def test_rounds_after_the_first_are_needed_only_perhaps(composed: Make) -> None:
    made = planned(composed(*SMALL))
    assert len(items(made, "gate", "to run")) == 1
    assert len(items(made, "gate", "perhaps")) == 3
    first = planned(composed(*SMALL, "data_size=0"))
    assert made.seconds.low == first.seconds.low
    assert made.seconds.high > first.seconds.high
    sure = [i for i in items(made, "evaluation", "to run") if i.cost]
    assert calls(made, "evaluation") == total(i.cost.calls for i in sure if i.cost) + Range(
        0, 3 * 24, 3 * 24
    )


@pytest.mark.parametrize(("decision", "gates"), [("pass", 1), ("fail", 4)])
def test_the_gate_of_a_finished_round_decides_about_the_next(
    composed: Make, decision: str, gates: int
) -> None:
    config = composed(*SMALL)
    stage = flow.flow_of(config).round(0)["gate"]
    directory = StageDir(run.run_root(config) / stage.path)
    directory.prepare({}, {})
    attempt = directory.open_attempt()
    (attempt / "out" / "summary.json").write_text(json.dumps({"decision": decision}))
    directory.publish(attempt, {"seconds": 1.0})
    made = planned(config)
    assert len(items(made, "gate")) == gates
    assert len(items(made, "finetune", "to run")) == (2 if decision == "fail" else 1)


def test_a_stage_that_several_cells_need_is_planned_once(composed: Make) -> None:
    cells = [composed(*ONE_ROUND, f"judge={judge}") for judge in ("offline", "offline_strict")]
    made = planned(*cells)
    assert len(items(made, "inference")) == 1
    assert items(made, "inference")[0].cells == 2
    assert len(items(made, "evaluation")) == 4
    assert calls(made, "baseline") == exactly(8)


def test_what_is_done_is_skipped_and_what_is_begun_counts(composed: Make) -> None:
    config = composed(*ONE_ROUND)
    work_off(config, "coverage", "split")
    done = [item.stage.kind for item in planned(config).items if item.state == "done"]
    assert done == ["coverage", "split"]
    work_off(config, "coverage", "split", "baseline")
    baseline = flow.flow_of(config).baseline["baseline"]
    directory = StageDir(run.run_root(config) / baseline.path)
    lines = (directory.out / "rows.jsonl").read_text().splitlines(keepends=True)
    attempt = directory.path / "attempts" / "interrupted"
    (attempt / "out").mkdir(parents=True)
    (attempt / "out" / "rows.jsonl").write_text("".join(lines[:3]) + lines[3][:20])
    (directory.path / "DONE").unlink()
    assert calls(planned(config), "baseline") == exactly(8 - 3)
    assert (attempt / "out" / "rows.jsonl").read_text().endswith(lines[3][:20])


def test_equal_answers_of_two_generators_are_planned_once(composed: Make) -> None:
    config = changed(
        composed(*ONE_ROUND), {"judges": {"dear": priced("dear")}, "rehearsal.url": URL}
    )
    work_off(config, "coverage", "split", "baseline")
    service, local = (i.cost.calls for i in items(planned(config), "evaluation") if i.cost)
    assert (service, local) == (exactly(4 * 2 * 3), Range(0, 24, 24))
    root = run.run_root(config)
    answers = StageDir(root / flow.flow_of(config).baseline["baseline"].path).out / "rows.jsonl"
    given = {(row.prompt_id, row.k): row.text for row in read_rows(answers, Answer)}
    answers_of(config, lambda row, k: "another" if row.id < "8" else given[row.id, k])
    prompts = [row for row in rows_of(config) if row.split == "test"]
    others = sum(row.id < "8" for row in prompts)
    service, local = (i.cost.calls for i in items(planned(config), "evaluation") if i.cost)
    assert (service, local) == (exactly(24), exactly(others * 2 * 3))
    assert 0 < others < 4


def test_batch_mode_costs_its_share_and_takes_up_to_a_day(composed: Make) -> None:
    config = composed(*SMALL, "data_size=0", "baseline=none")
    config = changed(config, {"rehearsal.url": URL})
    usd, seconds = [], []
    for mode in ("online", "batch"):
        made = planned(changed(config, {"judges": {"dear": priced("dear", mode=mode)}}))
        usd.append(made.usd)
        seconds.append(made.seconds)
    assert usd[1].expected == pytest.approx(usd[0].expected / 2, abs=2e-6)
    assert seconds[1].high > 86400 > seconds[0].high
    made = planned(changed(config, {"judges": {"dear": priced("dear", prices=None)}}))
    assert (made.usd, made.unpriced) == (NOTHING, ["dear"])


def test_limits_and_concurrency_bound_the_wall_time(composed: Make) -> None:
    config = composed(*SMALL, "data_size=0", "baseline=none")
    config = changed(config, {"rehearsal.url": URL})

    def seconds(**facts: Any) -> float:
        judges = {"dear": priced("dear", **facts)}
        (item,) = items(planned(changed(config, {"judges": judges})), "evaluation")
        return item.seconds.expected

    assert seconds(concurrency=1) == pytest.approx(8 * seconds(concurrency=8))
    assert seconds(requests_per_minute=6) == pytest.approx(24 * 60 / 6)
    assert seconds(tokens_per_minute=100) > 24 * 60


def test_hours_of_training_are_learnt_from_what_is_finished(composed: Make) -> None:
    config = composed(*SMALL, "data_size=0")
    work_off(config, "coverage", "split")
    guess = items(planned(config), "inference")[0].seconds
    answers_of(config, lambda row, k: row.response)
    twice = composed(*SMALL, "data_size=0", "inference.k=4")
    learnt = items(planned(config, twice), "inference", "to run")[0].seconds
    assert learnt.expected == pytest.approx(6.0)
    assert learnt.high - learnt.low < guess.high - guess.low


@pytest.mark.slow
def test_training_a_real_model_takes_gpu_hours_by_a_stated_prior(composed: Make) -> None:
    model = ("model.path=null", "model.repo=x/y", f"model.revision={40 * '0'}", "model.context=512")
    hours = {
        size: planned(composed(*ONE_ROUND, f"model.name=some_{size}", *model)).gpu_hours
        for size in ("1b", "7b")
    }
    assert hours["7b"].low < hours["7b"].expected < hours["7b"].high
    assert hours["7b"].expected > 2 * hours["1b"].expected > 0


def test_ranges_add_and_multiply_end_by_end() -> None:
    one = Range(1, 2, 4)
    assert one + exactly(1) == Range(2, 3, 5)
    assert one * one == Range(1, 4, 16)
    assert one.or_nothing() == Range(0, 2, 4)
    assert total([]) == NOTHING
    with pytest.raises(AssertionError, match="out of order"):
        Range(2, 1, 3)


@pytest.mark.slow
def test_the_cost_of_training_grows_with_the_rows_and_not_their_square(composed: Make) -> None:
    model = ("model.path=null", "model.repo=x/y", f"model.revision={40 * '0'}", "model.context=512")
    model = (*model, "model.name=some_7b")
    sizes = ("1k", "4k", "16k")
    for packing in ("false", "true"):
        given = (*SMALL, *model, "trainer.max_steps=null", f"trainer.packing={packing}")
        hours = [
            items(planned(composed(*given, f"data_size={size}")), "finetune")[0].gpu_hours.expected
            for size in sizes
        ]
        for fewer, more in pairwise(hours):
            assert 3 * fewer < more < 5 * fewer, (packing, hours)
