"""Trackers: none keeps nothing; wandb stays offline and below the run's directory."""

import json
import sys
import time
from pathlib import Path

import pytest

from support.files import evaluated, write
from understudy.cli.main import main
from understudy.config import TrackingConfig
from understudy.errors import BadInput
from understudy.pipeline.tracking import open_tracker


def tracking(kind: str, mode: str = "offline") -> TrackingConfig:
    return TrackingConfig(kind=kind, project="understudy", mode=mode)  # type: ignore[arg-type]


SCORES = {"mean": 61.5, "low": 58.25, "high": 64.0}
LINE = {
    **{"judge": "strict", "role": "local", "generator": "local", "n_prompts": 4, "n_unscored": 0},
    **{"similarity": SCORES, "precision": SCORES},
}
SUMMARY = {"table": [LINE], "data_size": 250, "decision": "fail", "reason": "Too low."}


def track(run: Path, *finished: int) -> list[Path]:
    """The rounds that a command finds finished go to W&B; the files that are there after."""
    settings = tracking("wandb")
    with open_tracker(settings, run, "demo", {"seed": 0}, "sizes") as tracker:
        for number in finished:
            curve = run / "curve.jsonl"
            curve.write_text('{"step":1,"train_loss":2.5,"validation_loss":null}\n')
            tracker.log_curve(f"finetune/{number}", curve, f"round {number}")
            stages = {"finetune": f"finetune/{number}", "gate": f"gate/{number}"}
            tracker.log_round(number, stages, SUMMARY)
    return sorted((run / "wandb").glob("offline-run-*/run-*.wandb"))


def test_none_writes_nothing_and_imports_nothing(tmp_path: Path) -> None:
    with open_tracker(tracking("none"), tmp_path / "run", "demo", {}) as tracker:
        tracker.log_curve("finetune/0", tmp_path / "nowhere", "round 0")
        tracker.log_round(0, {"gate": "gate/0"}, SUMMARY)
    assert not (tmp_path / "run").exists()


def test_a_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(BadInput, match=r"pip install 'understudy\[wandb\]'"):
        open_tracker(tracking("wandb"), tmp_path, "demo", {})


@pytest.mark.slow
def test_wandb_offline_has_curves_scores_fingerprints_and_the_sweep(tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    (written,) = track(tmp_path / "run", 0)
    content = written.read_bytes()
    for text in (b"round 0/train_loss", b"local/strict/similarity", b"gate/0", b"sizes"):
        assert text in content, text
    (table,) = written.parent.glob("files/media/table/round 0/scores_*.table.json")
    kept = json.loads(table.read_text())
    assert dict(zip(kept["columns"], kept["data"][0], strict=True))["similarity low"] == 58.25


@pytest.mark.slow
def test_a_command_that_goes_on_continues_the_same_run_and_repeats_nothing(tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    run = tmp_path / "run"
    (first,) = track(run, 0)
    assert track(run, 0) == [first]
    time.sleep(1)  # wandb names directories by the second
    (more,) = set(track(run, 0, 1)) - {first}
    assert more.name == first.name  # run-ID.wandb
    assert b"round 1/train_loss" in more.read_bytes()
    assert b"round 0/train_loss" not in more.read_bytes()
    assert track(tmp_path / "other", 0)[0].name != first.name


def test_wandb_online_without_a_key_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with pytest.raises(BadInput, match=r"tracking\.mode=online needs a key: set WANDB_API_KEY"):
        open_tracker(tracking("wandb", "online"), tmp_path, "demo", {})


@pytest.mark.slow
def test_the_cells_of_a_sweep_are_a_group_and_the_same_sweep_adds_nothing(tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    scored = [evaluated(p, "a", "gemma-2b", "gpt-4o", 60.0) for p in ("How many?", "Which?")]
    path = write(tmp_path / "scored.jsonl", scored)
    command = ["run", "inference=file", f"inference.path={path}", "judge=none", "tracking=wandb"]
    command += [f"paths.root={tmp_path / 'runs'}", "gate.similarity=52,70"]
    for _ in range(2):
        assert main(command) == 0
        (sweep,) = (tmp_path / "runs/sweep").iterdir()
        cells = sorted((tmp_path / "runs/run").iterdir())
        files = sorted((tmp_path / "runs/run").glob("*/wandb/offline-run-*/run-*.wandb"))
        assert len(cells) == len(files) == 2
        for cell, file in zip(cells, files, strict=True):
            gate = json.loads((cell / "run.json").read_text())["rounds"][0]["stages"]["gate"]
            assert sweep.name.encode() in file.read_bytes()
            assert gate.encode() in file.read_bytes()
