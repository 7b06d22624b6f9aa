"""Checkpoints that survive a crash, and what was logged up to each: stop, go on, ship, the curve.

The trainer writes `checkpoint-STEP` directories; ours is the mark that says one is whole. Each
carries the log history, from which all is decided, so that a resumed run decides exactly as one
that was never interrupted.
"""

import json
import math
import os
import shutil
from collections.abc import Callable, Container, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from understudy.errors import BadInput, EnvironmentFailed
from understudy.models import ranks
from understudy.store.artifacts import Job, write_atomically

_COMPLETE = "COMPLETE"  # written into a checkpoint last; without it, the checkpoint is torn
_TO_SHIP = ("model*.safetensors*", "config.json", "generation_config.json", "adapter_*")
History = list[dict[str, float]]  # {"step", "loss", "learning_rate"} and {"step", "eval_loss"}


class Ready(NamedTuple):
    """Data that are ready to train on; `make` takes a Schedule and returns the trainer."""

    sequences: int
    has_validation: bool
    make: Callable[[Any], Any]


def checkpoints_of(job: Job) -> Path:
    """Where a fine-tuning keeps its checkpoints."""
    return job.scratch / "checkpoints"


def checkpoint(checkpoints: Path, step: int) -> Path:
    """Where the trainer saves after `step`."""
    return checkpoints / f"checkpoint-{step}"


def newest_complete(checkpoints: Path, kind: str) -> Path | None:
    """The checkpoint to go on from; those torn by a crash are deleted.

    Raises BadInput if the newest is in shards that this `accelerate.kind` cannot read.
    """
    complete = []
    for path in checkpoints.glob("checkpoint-*"):
        if (path / _COMPLETE).is_file():
            complete.append(path)
        elif ranks.rank() == 0:
            shutil.rmtree(path)
    newest = max(complete, key=_step, default=None)
    if newest and (layout := (newest / _COMPLETE).read_text(encoding="utf-8")) != _layout(kind):
        raise BadInput(
            f"{newest} was written by {layout or 'one process or ddp'} and cannot be read by "
            f"{_layout(kind) or kind}; go on with that, or delete it to begin again"
        )
    return newest


def _layout(kind: str) -> str:
    """What a checkpoint's shards depend on; without shards, nothing."""
    is_sharded = kind.startswith(("zero", "fsdp"))
    return f"accelerate={kind} in {ranks.count()} processes" if is_sharded else ""


def history_of(path: Path) -> History:
    """The log history that a checkpoint carries."""
    state = json.loads((path / "trainer_state.json").read_text(encoding="utf-8"))
    history: History = state["log_history"]
    return history


def ship(path: Path, model_dir: Path) -> None:
    """Copy the model, without optimiser and random states, out of a checkpoint."""
    shutil.rmtree(model_dir, ignore_errors=True)
    model_dir.mkdir()
    for pattern in _TO_SHIP:
        for file in path.glob(pattern):
            shutil.copy2(file, model_dir / file.name)


def mark_complete(checkpoints: Path, step: int, kind: str) -> None:
    """Leave the mark, only after every byte of the checkpoint is on the disk."""
    path = checkpoint(checkpoints, step)
    for file in path.rglob("*"):
        if file.is_file():
            with file.open("rb") as written:
                os.fsync(written.fileno())
    write_atomically(path / _COMPLETE, _layout(kind))


def keep_only(checkpoints: Path, steps: Container[int]) -> None:
    """Delete the checkpoints of other steps."""
    for path in checkpoints.glob("checkpoint-*"):
        if _step(path) not in steps:
            shutil.rmtree(path)


def _step(path: Path) -> int:
    return int(path.name.rpartition("-")[2])


class ValidationLoss(NamedTuple):
    """The validation loss after a step."""

    step: int
    loss: float


def evaluations(history: History) -> list[ValidationLoss]:
    """The validation losses so far."""
    return [ValidationLoss(int(e["step"]), e["eval_loss"]) for e in history if "eval_loss" in e]


def best(history: History) -> ValidationLoss | None:
    """The lowest validation loss, the earliest of equals; a loss that is no number is worst."""
    return min(
        evaluations(history),
        key=lambda one: (not math.isfinite(one.loss), one.loss, one.step),
        default=None,
    )


def last_step(history: History) -> int:
    """The newest step trained."""
    return max((int(entry["step"]) for entry in history), default=0)


def is_stale(history: History, patience: int | None) -> bool:
    """Whether the last `patience` evaluations brought nothing better."""
    lowest = best(history)
    if patience is None or lowest is None:
        return False
    return sum(one.step > lowest.step for one in evaluations(history)) >= patience


def is_over(history: History, total: int, patience: int | None) -> bool:
    """Whether nothing is left to train."""
    return last_step(history) >= total or is_stale(history, patience)


def chosen(history: History, keep: str) -> int:
    """The step whose model is shipped if training ends here."""
    lowest = best(history)
    return lowest.step if keep == "best" and lowest is not None else last_step(history)


def check_finite(entry: Mapping[str, float], lr: float, has_scaler: bool = False) -> None:
    """Stop a run whose losses or gradients are no longer numbers.

    With fp16's loss scaler, a gradient that is none only makes it skip a step.
    """
    for name in ("loss", "eval_loss", *(() if has_scaler else ("grad_norm",))):
        if not math.isfinite(entry.get(name, 0.0)):
            raise EnvironmentFailed(
                f"training diverged: {name} is {entry[name]} at step {entry['step']:.0f}; "
                f"lower trainer.lr={lr:g} (the last checkpoint before is kept)"
            )


def curve(history: History) -> list[dict[str, Any]]:
    """One line per step: losses and learning rate."""
    validation = dict(evaluations(history))
    return [
        {
            "step": int(entry["step"]),
            "train_loss": entry["loss"],
            "validation_loss": validation.get(int(entry["step"])),
            "lr": entry["learning_rate"],
        }
        for entry in history
        if "loss" in entry
    ]


def facts(history: History, keep: str) -> dict[str, Any]:
    """The part of the summary that the history tells."""
    trained = [entry for entry in history if "loss" in entry]
    measured, lowest = evaluations(history), best(history)
    return {
        "steps": last_step(history),
        "epochs": trained[-1]["epoch"],
        "shipped_step": chosen(history, keep),
        "best_step": lowest.step if lowest else None,
        "best_validation_loss": lowest.loss if lowest else None,
        "final_validation_loss": measured[-1].loss if measured else None,
        "final_train_loss": trained[-1]["loss"],
    }
