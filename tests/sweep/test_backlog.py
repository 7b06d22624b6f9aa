"""Only so many jobs are queued at a time; each that ends submits others."""

import json
from pathlib import Path

import pytest

from support import fake_slurm
from understudy.cli.main import main
from understudy.sweep import backlog

SWEEP = ["data_size=0", "seed=0,1,2", "trainer=none", "run.name=big", "cluster=slurm"]


@pytest.fixture
def bin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = fake_slurm.fakes(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return folder


def finish(root: Path, job: str) -> None:
    """Do what a job is there for."""
    for record in root.glob("rehearsal/*/*/slurm.json"):
        if json.loads(record.read_text())["job"] == job:
            (record.parent / "DONE").touch()


@pytest.mark.slow
@pytest.mark.parametrize("limit", ["cluster.max_jobs=3", "cluster.throttle=3"])
def test_a_sweep_drains_by_itself_and_never_has_more_jobs_than_it_may(
    limit: str, bin: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "runs"
    assert main(["run", *SWEEP, limit, f"paths.root={root}"]) == 0
    assert "jobs follow as these end" in capsys.readouterr().out
    folder = root / "rehearsal/slurm/sweep/big"
    seen = []
    while jobs := [job for job in fake_slurm.queued(bin) if not job.endswith("A")]:
        assert len(jobs) <= 3
        seen.append(jobs[0])
        finish(root, jobs[0])
        fake_slurm.end(bin, jobs[0])
        backlog.refill(folder)
    stages = [path for path in root.glob("rehearsal/*/*/") if (path / "config.json").is_file()]
    assert len(seen) > 3
    assert all((path / "DONE").is_file() for path in stages)
    assert not (folder / "refill").exists()


@pytest.mark.slow
def test_what_needs_a_failed_stage_is_not_submitted_later_and_a_cancelled_run_not_at_all(
    bin: Path, tmp_path: Path
) -> None:
    root = tmp_path / "runs"
    assert main(["run", *SWEEP, "cluster.max_jobs=2", f"paths.root={root}"]) == 0
    folder = root / "rehearsal/slurm/sweep/big"
    while jobs := [job for job in fake_slurm.queued(bin) if not job.endswith("A")]:
        fake_slurm.end(bin, jobs[0])  # none does what it is there for
        assert backlog.refill(folder) >= 0
    submitted = {path.parent.parent.name for path in root.glob("rehearsal/*/*/slurm.json")}
    assert "inference" not in submitted
    assert main(["cancel", "big", "--root", str(root)]) == 0
    assert backlog.refill(folder) == 0


def test_stages_and_models_have_limits_of_their_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["cluster=dry_run", "cluster.finetune.hours=12", "cluster.inference.hours=1"]
    words += ["++cluster.models.tiny.inference.memory_gb=2", f"paths.root={tmp_path}"]
    assert main(["run", "data_size=0", *words]) == 0
    lines = capsys.readouterr().out.splitlines()
    finetune, inference = (
        next(line for line in lines if f"-{stage} " in line) for stage in ("finetune", "inference")
    )
    assert "--mem=32768M --time=720" in finetune
    assert "--mem=2048M --time=60" in inference


def test_what_is_typed_again_finds_its_jobs_and_other_terms_cancel_them(
    bin: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def told(*words: str) -> str:
        # Stages of seconds share the job of a service's, whose room has another time limit.
        given = ["data_size=50", "cluster=slurm", f"paths.root={tmp_path / 'runs'}"]
        assert main(["run", *given, *words]) == 0
        return capsys.readouterr().out

    told()
    before = fake_slurm.queued(bin)
    assert "submitted: 0 stages in 0 jobs" in told()
    assert fake_slurm.queued(bin) == before
    changed = told("cluster.api.hours=3")
    assert "queued for other terms (cluster.api.hours: 24.0 → 3.0)" in changed
