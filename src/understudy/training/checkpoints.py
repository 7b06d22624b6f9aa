"""Checkpoints that survive a crash: which are whole, which to go on from, what to ship.

The trainer writes `checkpoint-STEP` directories; ours is the mark that says one is whole.
"""

import json
import os
import shutil
from collections.abc import Container
from pathlib import Path

from understudy.errors import BadInput
from understudy.models import ranks
from understudy.store.artifacts import write_atomically
from understudy.training.history import History

_COMPLETE = "COMPLETE"  # written into a checkpoint last; without it, the checkpoint is torn
_TO_SHIP = ("model*.safetensors*", "config.json", "generation_config.json", "adapter_*")


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
