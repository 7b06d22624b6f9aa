"""From a run to the decision: rounds screen on test, `decide` looks at the holdout once."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

MOVE = [
    *("task=classification", "coverage.rows=200", "coverage.split.validation=20"),
    *("coverage.split.test=60", "coverage.split.holdout=80", "gate=noninferiority"),
    *("data_size=250", "evaluation.m=2", "inference.k=2"),
]


def understudy(*words: str, code: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "understudy", *words], capture_output=True, text=True, timeout=900
    )
    assert done.returncode == code, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def test_a_trained_model_may_migrate_an_untrained_one_not_and_every_look_counts(
    tmp_path: Path,
) -> None:
    where = f"paths.root={tmp_path}"
    told = understudy("run", *MOVE, "run.name=move", where)
    assert "understudy decide move" in told
    record = json.loads((tmp_path / "rehearsal/run/move/run.json").read_text())
    stages = record["holdout"]["stages"]
    assert set(stages) == {"inference", "baseline", "evaluation.offline", "baseline.offline"}
    assert "holdout" not in "".join(record["stages"])  # never looked at by the rounds

    first = understudy("decide", "move", "--root", str(tmp_path))
    assert "MIGRATE" in first
    again = understudy("decide", "move", "--root", str(tmp_path))
    assert "MIGRATE" in again
    looks = [x for path in tmp_path.rglob("looks/*.jsonl") for x in path.read_text().splitlines()]
    assert len(looks) == 1  # the same evidence is the same look

    other = understudy("run", *MOVE, "trainer=none", "data_size=0", "run.name=raw", where)
    assert "not passed" in other
    told = understudy("decide", "raw", "--root", str(tmp_path), code=1)
    assert "NOT YET" in told
