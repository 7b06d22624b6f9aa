"""Trackers: none keeps nothing; wandb stays offline and below the run's directory."""

import sys
from pathlib import Path

import pytest

from understudy.config import Tracking
from understudy.errors import BadInput
from understudy.tracking import open_tracker


def tracking(kind: str, mode: str = "offline") -> Tracking:
    return Tracking(kind=kind, project="understudy", mode=mode)  # type: ignore[arg-type]


def test_none_writes_nothing_and_imports_nothing(tmp_path: Path) -> None:
    with open_tracker(tracking("none"), tmp_path / "run", "demo", {}) as tracker:
        tracker.log({"loss": 1.0}, step=0)
    assert not (tmp_path / "run").exists()


def test_a_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(BadInput, match=r"pip install 'understudy\[wandb\]'"):
        open_tracker(tracking("wandb"), tmp_path, "demo", {})


def test_wandb_offline_writes_below_the_run(tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    with open_tracker(tracking("wandb"), tmp_path / "run", "demo", {"seed": 0}) as tracker:
        for step in (0, 1, 0):
            tracker.log({"loss": 1.0}, step=step)
        curve = tmp_path / "curve.jsonl"
        curve.write_text('{"step":1,"train_loss":2.5,"validation_loss":null}\n')
        tracker.log_curve(curve, "round 0")
    (written,) = (tmp_path / "run" / "wandb").glob("offline-run-*/run-*.wandb")
    assert b"round 0/train_loss" in written.read_bytes()


def test_wandb_online_without_a_key_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with pytest.raises(BadInput, match=r"tracking\.mode=online needs a key: set WANDB_API_KEY"):
        open_tracker(tracking("wandb", "online"), tmp_path, "demo", {})
