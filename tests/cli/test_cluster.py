"""Looking after runs on a cluster: what is refused, what a stage differs in, its lock."""

import json
import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from understudy.cli.main import main
from understudy.config import Config
from understudy.pipeline.flow import Flow
from understudy.pipeline.stages import Stage, frozen
from understudy.store import locks
from understudy.store.artifacts import StageDir
from understudy.sweep.explain import Explainer


@pytest.fixture
def no_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))


@pytest.mark.usefixtures("no_slurm")
def test_without_slurm_a_submission_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "cluster=slurm", f"paths.root={tmp_path}/runs"]) == 4
    assert "squeue is not on this machine; cluster=slurm needs" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["cluster=slurm", "rehearsal.url=http://127.0.0.1:1"], "rehearse with cluster=local"),
        (["cluster=slurm", "cluster.gpu.hours=0.01"], "cluster.gpu.hours=0.01 is over before"),
        (["cluster=slurm", "cluster.gpu.gpus=-1"], "cluster.gpu.gpus=-1"),
        (["-m", "seed=0,1", "data_size=0", "cluster=slurm"], "leave it out with cluster=slurm"),
        (["cluster=slrum"], "did you mean slurm?"),
    ],
)
def test_a_wrong_cluster_is_one_sentence(
    given: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", *given, f"paths.root={tmp_path}/runs"]) == 2
    assert words in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


# --- what differs ---------------------------------------------------------------------------------


def finish(root: Path, stage: Stage, config: Config) -> None:
    """A stage and all its upstream ones, finished."""
    for upstream in stage.inputs.values():
        finish(root, upstream, config)
    inputs = {"inputs": {role: upstream.path for role, upstream in stage.inputs.items()}}
    directory = StageDir(root / stage.path)
    directory.prepare(frozen(stage, config), inputs)
    directory.finish()


def finetune(config: Config) -> Stage:
    return Flow(config).round(0)["finetune"]


@pytest.mark.slow
def test_the_leaf_that_changed_is_named_whether_here_or_upstream(
    tmp_path: Path, composed: Callable[..., Config]
) -> None:
    old = composed("data_size=0")
    finish(tmp_path, finetune(old), old)
    far = composed("data_size=0", "task=coding", "trainer.lr=1e-4", "seed=3")
    finish(tmp_path, finetune(far), far)

    def changes(*overrides: str) -> tuple[str, ...]:
        stage = finetune(composed("data_size=0", *overrides))
        found = Explainer(tmp_path, planned(stage)).explain(stage.path)
        assert found.nearest == finetune(old).path
        return found.changes

    assert changes("trainer.epochs=7") == ("trainer.epochs: 40.0 → 7.0",)
    assert changes("coverage.split.test=40") == ("coverage.split.test: 64.0 → 40.0",)
    assert changes("seed=1", "coverage.seed=5") == ("seed: 0 → 1", "coverage.seed: 0 → 5")


def planned(stage: Stage) -> dict[str, Stage]:
    upstream = [planned(each) for each in stage.inputs.values()]
    return {stage.path: stage} | {path: s for each in upstream for path, s in each.items()}


def test_a_first_stage_of_its_kind_has_nothing_to_be_compared_with(
    tmp_path: Path, composed: Callable[..., Config]
) -> None:
    stage = finetune(composed("data_size=0"))
    assert Explainer(tmp_path, planned(stage)).explain(stage.path) == (stage.path, None, ())


@pytest.mark.slow
def test_explain_takes_a_stage_or_the_words_of_a_run(
    tmp_path: Path, composed: Callable[..., Config], capsys: pytest.CaptureFixture[str]
) -> None:
    old = composed("data_size=0")
    root = tmp_path / "runs" / "rehearsal"
    finish(root, finetune(old), old)
    at = f"paths.root={tmp_path}/runs"
    assert main(["explain", "data_size=0", "trainer.lr=5e-4", at]) == 0
    printed = capsys.readouterr().out
    assert f"nearest finished: {finetune(old).path}\n  trainer.lr: 0.001 → 0.0005" in printed
    assert "none is finished" in printed  # of its inference
    digits = finetune(old).fingerprint[:6]
    assert main(["explain", f"finetune/{digits}", "--root", f"{tmp_path}/runs"]) == 0
    assert "none is finished" in capsys.readouterr().out


# --- locks ----------------------------------------------------------------------------------------


def lock(path: Path, **changed: Any) -> Path:
    """A lock of a process on another machine, in job 7."""
    holder = {"host": "elsewhere", "boot": "b", "pid": 1, "started": "1", "slurm_job": "7"}
    path.write_text(json.dumps(holder | {"slurm_restarts": "0"} | changed))
    return path


@pytest.mark.parametrize(("restarts", "held"), [("0", True), ("1", False)])
def test_a_requeued_job_takes_the_lock_of_its_former_self(
    restarts: str, held: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_RESTART_COUNT", restarts)
    path = lock(tmp_path / "LOCK")
    assert locks.is_held(path) is held
    if not held:
        with locks.hold(path, give_up=lambda: False) as is_mine:
            assert is_mine
            assert json.loads(path.read_text())["slurm_restarts"] == "1"


def test_unlock_removes_a_lock_that_nobody_can_judge_and_no_living_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stage = tmp_path / "finetune/f0"
    stage.mkdir(parents=True)
    (stage / "config.json").write_text("{}")
    path = lock(stage / "LOCK", slurm_job=None)
    assert main(["unlock", "finetune/f0", "--root", str(tmp_path)]) == 0
    assert not path.exists()
    with locks.hold(path, give_up=lambda: False):
        assert main(["unlock", str(stage)]) == 2
        shown = capsys.readouterr().err
        assert f"process {os.getpid()} on {platform.node()} is at work" in shown
        assert path.exists()
    assert main(["unlock", "finetune/none", "--root", str(tmp_path)]) == 2
    assert "finetune/none is no stage directory below" in capsys.readouterr().err
