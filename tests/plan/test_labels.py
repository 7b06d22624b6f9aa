"""What `plan --labels` says before money is spent, against what was simulated."""

import math

import pytest

from support import evaluations
from understudy.cli.main import main
from understudy.config import GateConfig, changed
from understudy.plan.labels import label_plans

GROUPS = [str(number) for number in range(200)]


def gate(**given: float) -> GateConfig:
    return changed(evaluations.config().gate, given)


def test_power_is_what_thousands_of_decisions_had() -> None:
    # experiments/LOG.md, "what some human labels make of a biased judge": SD 15, a judge of SD 10
    found = label_plans(GROUPS, gate(rho=15 / math.hypot(15, 10)), 10.0, 2.0)
    power = {one.labels: one.power for one in found}
    assert power[50] == pytest.approx(0.921, abs=0.02)
    assert power[100] == pytest.approx(0.991, abs=0.01)
    assert {one.labels: one.usd for one in found}[50] == 110.0
    assert [one.labels for one in found] == [25, 50, 75, 100, 150, 200]


def test_all_labels_need_no_judge_and_clusters_are_worth_less() -> None:
    last = [label_plans(GROUPS, gate(rho=rho), 0.0, 1.0)[-1] for rho in (0.0, 0.9)]
    assert last[0] == last[1]
    fifties = [str(number % 40) for number in range(200)]
    alone, grouped = (label_plans(one, gate(), 0.0, 1.0)[-1] for one in (GROUPS, fifties))
    assert grouped.power < alone.power
    assert grouped.excludes > alone.excludes
    assert label_plans(["a"] * 200, gate(), 0.0, 1.0) == []


def test_a_price_that_is_none_and_a_run_without_a_holdout_are_named(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["plan", "--labels", "-1"]) == 2
    assert "--labels -1 is no price" in capsys.readouterr().err


@pytest.mark.slow
def test_the_table_stands_below_the_plan(capsys: pytest.CaptureFixture[str]) -> None:
    holdout = ("coverage.rows=300", "coverage.split.holdout=100", "gate=noninferiority")
    assert main(["plan", *holdout, "data_size=0", "--labels", "1.5"]) == 0
    assert "power per $100 more" in capsys.readouterr().out
    assert main(["plan", "data_size=0", "--labels", "1.5"]) == 2
    assert "--labels needs a holdout of 20 clusters" in capsys.readouterr().err
