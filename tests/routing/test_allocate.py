"""From a table to assignment, summary and router."""

import csv
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from support.routing_worlds import chances, workload, write_csv
from understudy.errors import BadInput
from understudy.routing import artifact, output
from understudy.routing.allocate import Goal, learn, of_table


def test_a_believed_table_is_solved_within_the_budget() -> None:
    made = workload(40)
    allocation = of_table(made, Goal("budget", 0.02))
    assert allocation.plan.cost <= 0.02
    assert allocation.plan.certificate.gap <= allocation.plan.certificate.step
    assert allocation.learnt is None
    assert allocation.realised is None


@pytest.mark.parametrize("goal", [Goal("budget", 0.05), Goal("accuracy", 0.8)])
def test_the_published_search_is_held_to_the_exact_bound(goal: Goal) -> None:
    made = workload(80)
    exact, searched = of_table(made, goal), of_table(made, goal, "optllm")
    assert searched.plan.certificate.bound == exact.plan.certificate.bound
    assert searched.plan.certificate.gap >= exact.plan.certificate.gap - 1e-12
    if goal.kind == "budget":
        assert searched.plan.cost <= goal.value
        assert searched.plan.accuracy <= exact.plan.accuracy + 1 / 80
    else:
        assert searched.plan.accuracy >= goal.value - 1e-12


def test_a_search_that_cannot_serve_is_refused() -> None:
    with pytest.raises(BadInput, match="serves a budget or an accuracy, not a knee"):
        of_table(workload(8), Goal(), "optllm")
    with pytest.raises(BadInput, match="magic is no solver; choose from exact, optllm"):
        of_table(workload(8), Goal(), "magic")


@pytest.mark.slow
def test_learning_routes_the_unlabelled_queries_as_their_text_tells() -> None:
    made = workload(400, labelled=0.5)
    allocation = learn(made, Goal("knee"))
    assert len(allocation.plan.assignment) == 200
    assert allocation.queries.text is not None
    truth = np.array([chances(text)[::-1] for text in allocation.queries.text])
    assert allocation.queries.llms == ["large", "small"]
    sent_small = allocation.plan.assignment == 1
    assert (sent_small == (truth[:, 1] > 0.5)).mean() > 0.95
    true = truth[np.arange(200), allocation.plan.assignment].mean()
    assert allocation.band.low <= true <= allocation.band.high


@pytest.mark.slow
def test_where_all_are_labelled_the_held_out_queries_are_routed_and_scored() -> None:
    allocation = learn(workload(200), Goal("knee"))
    assert allocation.realised is not None
    accuracy, usd = allocation.realised
    assert accuracy > 0.85
    assert usd == pytest.approx(allocation.plan.cost, rel=0.05)


@pytest.mark.slow
def test_an_accuracy_that_can_be_promised_sets_the_price() -> None:
    made = workload(600, labelled=0.9)
    kept = learn(made, Goal("accuracy", 0.8))
    assert kept.learnt is not None
    assert kept.learnt.promise is not None
    assert kept.learnt.promise.price == kept.plan.price == kept.learnt.router.price
    large = 2e-3 * 60
    assert kept.plan.cost < 0.75 * large


@pytest.mark.slow
def test_an_accuracy_that_cannot_be_promised_is_planned_and_said() -> None:
    for target in (0.5, 0.99):
        allocation = learn(workload(60, labelled=0.5), Goal("accuracy", target))
        assert allocation.learnt is not None
        assert allocation.learnt.promise is not None
        assert allocation.learnt.promise.price is None
        assert allocation.learnt.promise.sentence.startswith("cannot promise")
        assert allocation.plan.accuracy >= min(target, allocation.path.accuracy[-1])


@pytest.mark.slow  # forests
def test_the_order_of_columns_decides_nothing() -> None:
    made = workload(60, labelled=0.6)
    llms = ["large", "medium", "small"]  # the last two are twins
    turned = [
        replace(
            made,
            llms=[llms[llm] for llm in order],
            success=made.success[:, [(1, 0, 0)[llm] for llm in order]],
            cost=made.cost[:, [(1, 0, 0)[llm] for llm in order]],
        )
        for order in ([0, 1, 2], [2, 1, 0], [1, 2, 0])
    ]
    first, *others = (learn(one, Goal("budget", 0.03), learner="forest") for one in turned)
    for other in others:
        assert other.queries.llms == llms
        np.testing.assert_array_equal(other.plan.assignment, first.plan.assignment)
        assert other.plan.price == first.plan.price


@pytest.mark.slow
@pytest.mark.parametrize("learner", ["neighbours", "logistic"])
def test_the_number_of_threads_decides_nothing(tmp_path: Path, learner: str) -> None:
    write_csv(workload(400, labelled=0.5), tmp_path / "t.csv")
    command = [sys.executable, "-m", "understudy", "route", "t.csv", "--accuracy", "0.8"]
    said = []
    for threads in ("1", "2"):
        environment = os.environ | {"OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads}
        command_of = [*command, "--learner", learner, "--out", threads]
        subprocess.run(command_of, cwd=tmp_path, env=environment, check=True, capture_output=True)
        files = ("assignment.csv", "summary.json", "router/router.json")
        said.append([(tmp_path / threads / file).read_bytes() for file in files])
    assert said[0] == said[1]


@pytest.mark.slow
def test_an_unscored_query_is_a_failure_to_a_promise_and_is_not_routed() -> None:
    made = workload(400)
    success = made.success.copy()
    lost = tuple(range(0, 400, 5))
    success[list(lost)] = np.nan
    whole = learn(made, Goal("accuracy", 0.75), learner="logistic")
    less = learn(
        replace(made, success=success, unscored=lost), Goal("accuracy", 0.75), learner="logistic"
    )
    assert whole.learnt is not None
    assert whole.learnt.promise is not None
    assert whole.learnt.promise.price is not None
    assert less.learnt is not None
    assert less.learnt.promise is not None
    assert less.learnt.promise.price is None
    assert less.learnt.promise.labels == 200
    assert less.realised is not None
    assert len(less.queries.ids) == 160


@pytest.mark.slow
def test_costs_of_queries_to_route_may_be_unknown() -> None:
    made = workload(100, labelled=0.5)
    cost = np.where(made.is_labelled[:, None], made.cost, np.nan)
    known, unknown = (learn(one, Goal()) for one in (made, replace(made, cost=cost)))
    np.testing.assert_array_equal(known.plan.assignment, unknown.plan.assignment)


@pytest.mark.slow
def test_a_repeated_query_is_warned_of() -> None:
    made = workload(40, labelled=0.5)
    assert made.text is not None
    repeating = replace(made, text=[*made.text[:20], *made.text[:20]])
    allocation = learn(repeating, Goal())
    assert allocation.learnt is not None
    assert allocation.learnt.leak is not None
    assert "repeat a labelled query" in allocation.learnt.leak


@pytest.mark.parametrize(
    ("labelled", "held_out", "said"),
    [(0.0, 0.5, "0 labelled queries"), (1.0, 1.0, "held_out=1"), (0.1, 0.5, "1 labelled queries")],
)
def test_too_little_to_learn_from_is_one_sentence(
    labelled: float, held_out: float, said: str
) -> None:
    with pytest.raises(BadInput, match=said):
        learn(workload(10, labelled=labelled), Goal(), held_out=held_out)
    with pytest.raises(BadInput, match="no success"):
        of_table(workload(10, labelled=0.5), Goal())
    with pytest.raises(BadInput, match="no text column"):
        learn(replace(workload(10), text=None), Goal())


@pytest.mark.slow
def test_the_files_hold_the_plan_and_the_router_decides_alike(tmp_path: Path) -> None:
    made = workload(200, labelled=0.5)
    allocation = learn(made, Goal("budget", 0.08))
    summary = output.write(allocation, made, Goal("budget", 0.08), tmp_path)
    assert json.loads((tmp_path / "summary.json").read_text()) == summary
    rows = list(csv.DictReader((tmp_path / "assignment.csv").read_text().splitlines()))
    assert [row["id"] for row in rows] == allocation.queries.ids
    assert sum(float(row["expected_usd"]) for row in rows) == pytest.approx(
        summary["cost"], rel=1e-4
    )
    router = artifact.load(tmp_path / "router")
    assert allocation.queries.text is not None
    chosen = [router.choose(text) for text in allocation.queries.text]
    assert chosen == [row["llm"] for row in rows]
    assert router.facts["goal"] == {"kind": "budget", "value": 0.08}
    success, usd = router.estimate(allocation.queries.text[0])
    np.testing.assert_allclose(success, allocation.p[0])
    np.testing.assert_allclose(usd, allocation.c[0])
