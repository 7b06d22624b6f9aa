"""How a stage stands, where jobs were submitted and no Slurm answers."""

import json
from pathlib import Path

import pytest

from support import fake_runs
from understudy.pipeline.standing import Standing, Standings


def prepared(root: Path, stage: str, job: str | None = None, *inputs: str) -> Path:
    """A stage directory that was submitted, whose job Slurm does not know any more."""
    path = root / stage
    path.mkdir(parents=True)
    (path / "inputs.json").write_text(json.dumps({"inputs": {up: up for up in inputs}}))
    if job is not None:
        (path / "slurm.json").write_text(json.dumps({"job": job, "log": f"{job}.log"}))
    return path


@pytest.fixture
def no_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))


@pytest.mark.usefixtures("no_slurm")
def test_what_needs_a_failed_stage_is_blocked_for_its_reason(tmp_path: Path) -> None:
    finetune = prepared(tmp_path, "finetune/f0", "7_1")
    (finetune / "failed.json").write_text(json.dumps({"exit_code": 4, "sentence": "no memory"}))
    prepared(tmp_path, "inference/i0", "8_1", "finetune/f0")
    prepared(tmp_path, "gate/g0", "9_1", "inference/i0")
    fake_runs.stage(tmp_path, "split/s0")
    standings = Standings(tmp_path)
    assert standings.of("gate/g0") == Standing("blocked", "finetune/f0 failed: no memory")
    assert standings.of("split/s0") == Standing("done")
    assert standings.of("subset/s0") == Standing("missing")
    stages = ["split/s0", "finetune/f0", "inference/i0", "gate/g0"]
    told = "1 done, 1 failed, 2 blocked: finetune/f0 failed: no memory"
    assert standings.outline(stages) == told


@pytest.mark.usefixtures("no_slurm")
def test_where_no_slurm_answers_a_job_is_not_called_failed(tmp_path: Path) -> None:
    prepared(tmp_path, "finetune/f0", "7_1")
    standing = Standings(tmp_path).of("finetune/f0")
    assert standing == Standing("queued", "job 7_1, as far as known: no Slurm answers here")
