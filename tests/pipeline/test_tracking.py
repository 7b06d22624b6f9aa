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
from understudy.pipeline import tracking as tracking_room
from understudy.pipeline.standing import Standings
from understudy.pipeline.tracking import open_tracker
from understudy.store.artifacts import StageDir
from understudy.store.progress import Loss, latest_loss, note_loss


def tracking(kind: str, mode: str = "offline") -> TrackingConfig:
    return TrackingConfig(kind=kind, project="understudy", mode=mode)  # type: ignore[arg-type]


VALUES = {
    **{"task": {"name": "closed_qa"}, "model": {"name": "tiny"}, "trainer": {"kind": "full"}},
    "rehearsal": True,
}
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_losses_are_sent_while_a_fine_tuning_goes_on_and_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setattr(tracking_room, "_POLL_S", 0.05)
    stage = StageDir(tmp_path / "finetune" / "f0")
    scratch = stage.path / "attempts/a/scratch"
    scratch.mkdir(parents=True)
    curve = write(tmp_path / "curve.jsonl", [
        {"step": n, "train_loss": 3.0 - n, "validation_loss": None, "lr": 0.1} for n in (1, 2, 3)
    ])  # fmt: skip
    sent = list[dict[str, float]]()
    with open_tracker(tracking("wandb"), tmp_path / "run", "demo", VALUES, "sizes") as tracker:
        run = tracker._opened()
        log = run.log
        monkeypatch.setattr(run, "log", lambda values: (sent.append(values), log(values)))
        with tracker.following(stage, "round 0"):
            for number in (1, 2):
                note_loss(scratch, Loss(number, 3, "train_loss", 3.0 - number))
            end = time.monotonic() + 20
            while len(sent) < 2 and time.monotonic() < end:
                time.sleep(0.02)
            assert [values["round 0/step"] for values in sent] == [1, 2]
        tracker.log_curve("finetune/f0", curve, "round 0")
        assert [values["round 0/step"] for values in sent] == [1, 2, 3]
        assert (run.job_type, set(run.tags)) == ("cell", {"closed_qa", "tiny", "full", "rehearsal"})
    (written,) = (tmp_path / "run/wandb").glob("offline-run-*/run-*.wandb")
    content = written.read_bytes()
    for text in (b"round 0/step", b"round 0/train_loss", b"local/*", b"data_size"):
        assert text in content, text


def test_status_names_the_step_and_the_loss_of_a_fine_tuning_that_goes_on(tmp_path: Path) -> None:
    stage = StageDir(tmp_path / "finetune" / "f0")
    assert latest_loss(stage) == ""
    scratch = stage.path / "attempts/a/scratch"
    scratch.mkdir(parents=True)
    for step, name, value in ((1, "train_loss", 2.5), (1, "validation_loss", 2.75),
                              (2, "train_loss", 2.25)):  # fmt: skip
        note_loss(scratch, Loss(step, 40, name, value))
    with (scratch / "live.jsonl").open("a") as file:
        file.write('[3, 40, "train')  # half a line
    assert latest_loss(stage) == "step 2 of 40, loss 2.250, validation 2.750 at step 1"
    assert Standings(tmp_path).losses("finetune/f0") == latest_loss(stage)
    assert Standings(tmp_path).losses("inference/f0") == ""
