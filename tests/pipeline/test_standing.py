"""How a stage stands, where jobs were submitted and no Slurm answers."""

import json
from pathlib import Path

import pytest

from support import fake_runs
from understudy.pipeline import standing
from understudy.pipeline.standing import JobEnd, JobState, Standing, Standings
from understudy.sweep import slurm


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


class Slurm:
    """A scheduler that says what it was told to."""

    def __init__(self, queued: dict[str, JobState], ended: JobEnd | None = None) -> None:
        self._queued, self._ended = queued, ended

    def queue(self) -> dict[str, JobState]:
        return self._queued

    def ending(self, job: str) -> JobEnd | None:
        return self._ended


@pytest.mark.parametrize("reason", ["PartitionTimeLimit", "MaxMemPerLimit", "BadConstraints"])
def test_why_a_job_will_never_run_is_said(
    reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared(tmp_path, "finetune/f0", "7_1")
    scripted = Slurm({"7_1": JobState("PENDING", reason)})
    monkeypatch.setattr(standing, "SCHEDULERS", [scripted])
    found = Standings(tmp_path).of("finetune/f0")
    assert found.state == "queued"
    assert reason in found.reason
    assert "7_1" in found.reason


@pytest.mark.parametrize("reason", ["Priority", "Resources", "Dependency", "None", "BeginTime"])
def test_a_job_that_only_waits_needs_no_reason(
    reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared(tmp_path, "finetune/f0", "7_1")
    scripted = Slurm({"7_1": JobState("PENDING", reason)})
    monkeypatch.setattr(standing, "SCHEDULERS", [scripted])
    assert Standings(tmp_path).of("finetune/f0") == Standing("queued")


def test_a_cancelled_job_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared(tmp_path, "finetune/f0", "7_1")
    prepared(tmp_path, "inference/i0", "8_1", "finetune/f0")
    ended = slurm.ending_in("JobId=7 JobState=CANCELLED Reason=None ExitCode=0:15")
    monkeypatch.setattr(standing, "SCHEDULERS", [Slurm({}, ended)])
    standings = Standings(tmp_path)
    assert standings.of("finetune/f0").state == "cancelled"
    assert standings.of("inference/i0").state == "blocked"
    assert standings.outline(["finetune/f0", "inference/i0"]).startswith("1 cancelled, 1 blocked")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("JobState=OUT_OF_MEMORY Reason=OutOfMemory ExitCode=0:125", "memory_gb"),
        ("JobState=TIMEOUT Reason=TimeLimit ExitCode=0:0", "hours"),
        ("JobState=FAILED Reason=NonZeroExitCode ExitCode=3:0", "exit code 3"),
        ("JobState=FAILED Reason=RaisedSignal:9(Killed) ExitCode=0:9", "signal 9"),
        ("JobState=NODE_FAIL Reason=NodeDown ExitCode=1:0", "NODE_FAIL"),
    ],
)
def test_how_a_job_ended_is_said_with_the_setting_that_helps(line: str, told: str) -> None:
    ended = slurm.ending_in(f"JobId=7 {line}")
    assert ended is not None
    assert told in ended.words
    assert "exit code 0" not in ended.words
