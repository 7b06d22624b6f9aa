"""`understudy plan` from the command line."""

import argparse
import json
from pathlib import Path

import pytest

from understudy.cli import plan as cli_plan
from understudy.cli.table import table


def plan(*words: str) -> None:
    parser = argparse.ArgumentParser()
    cli_plan.register(parser.add_subparsers())
    arguments = parser.parse_args(["plan", *words])
    arguments.verb(arguments)


def test_the_plan_of_a_run_is_two_tables_and_the_sums(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan(f"paths.root={tmp_path / 'runs'}", "coverage.rows=120", "evaluation.m=1")
    stages, services, sums = capsys.readouterr().out.split("\n\n")
    assert stages.splitlines()[0].split()[:4] == ["stage", "done", "to", "run"]
    assert [line.split()[0] for line in stages.splitlines()[2:]] == [
        *("coverage", "split", "baseline", "evaluation", "subset", "finetune", "inference"),
        *("gate", "synthesis"),
    ]
    assert services.splitlines()[2].split()[:3] == ["baseline", "offline", "256"]
    assert sums.startswith("dollars: $0.00\nwall time: ")
    assert "rehearsal" in sums
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_plan_of_a_sweep_shares_stages_and_is_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("sweep=judges", "data_size=0", "seed=0,1", "coverage.rows=120", "budget.usd=5")
    plan("--json", f"paths.root={tmp_path / 'runs'}", *words)
    found = json.loads(capsys.readouterr().out)
    assert (found["cells"], found["budget_usd"], found["spent_usd"]) == (6, 5.0, 0.0)
    cells = {stage["stage"].partition("/")[0]: stage["cells"] for stage in found["stages"]}
    assert cells["split"] == 6
    assert cells["finetune"] == 3
    judged = [stage for stage in found["stages"] if stage["stage"].startswith("evaluation")]
    assert len(judged) == 3 + 2 * 3
    assert judged[0]["calls"]["number"] == {"low": 2560, "expected": 2560, "high": 2560}


def test_a_table_is_aligned() -> None:
    assert table(("name", "n"), [("a", "1"), ("long one", "20")]).splitlines() == [
        "name       n",
        "--------  --",
        "a          1",
        "long one  20",
    ]
