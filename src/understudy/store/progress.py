"""Progress of a stage: a rich bar on a terminal, one plain line every few seconds elsewhere.

A fine-tuning also notes its losses in `scratch/live.jsonl` of its attempt, for whoever watches; the
file goes with the attempt, and curve.jsonl is what stays.
"""

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from understudy.store.artifacts import StageDir

LIVE = "live.jsonl"
_PLAIN_EVERY_S = 10.0
_SILENT_EVERY_S = 60.0  # before the first is done


class Loss(NamedTuple):
    """A loss that a fine-tuning has measured."""

    step: int
    total: int  # steps of the whole training
    name: str  # "train_loss" | "validation_loss"
    value: float


def note_loss(scratch: Path, loss: Loss) -> None:
    """Append a loss to what is noted of an attempt."""
    with (scratch / LIVE).open("a", encoding="utf-8") as file:
        file.write(f"{json.dumps(loss)}\n")


def noted_losses(stage: StageDir) -> list[Loss]:
    """Return the losses of the newest attempt at a stage so far; steps come again at a resume."""
    files = list(stage.path.glob(f"attempts/*/scratch/{LIVE}"))
    try:
        newest = max(files, key=lambda path: path.stat().st_mtime)
        lines = newest.read_text(encoding="utf-8").split("\n")[:-1]  # the last may be half a line
        return [Loss(*json.loads(line)) for line in lines]
    except (ValueError, OSError):  # none yet, or the attempt has just ended
        return []


def latest_loss(stage: StageDir) -> str:
    """Return the step and losses that a fine-tuning has reached, "" where none is noted."""
    last = {loss.name: loss for loss in noted_losses(stage)}
    train, held = last.get("train_loss"), last.get("validation_loss")
    if train is None:
        return ""
    validation = "" if held is None else f", validation {held.value:.3f} at step {held.step}"
    return f"step {train.step} of {train.total}, loss {train.value:.3f}{validation}"


@contextmanager
def track(label: str, total: int, unit: str = "rows") -> Iterator[Callable[..., None]]:
    """Yield `advance(count=1, note="")`; shows rate and remaining time on stderr."""
    if sys.stderr.isatty():
        with _bar(label, total, unit) as advance:
            yield advance
    else:
        with _lines(label, total, unit) as advance:
            yield advance


@contextmanager
def _bar(label: str, total: int, unit: str) -> Iterator[Callable[..., None]]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(label, total=total, rate="", note="")

        def advance(count: float = 1, note: str = "") -> None:
            speed = progress.tasks[0].speed
            rate = f"{speed:.1f} {unit}/s" if speed else ""
            progress.update(task, advance=count, note=note, rate=rate)

        yield advance


@contextmanager
def _lines(label: str, total: int, unit: str) -> Iterator[Callable[..., None]]:
    started = said = time.monotonic()
    done = 0.0
    moved = threading.Event()
    words = f"  {label}: 0/{total} {unit} yet, the first is under way"
    threading.Thread(target=_repeat, args=(words, moved), daemon=True).start()

    def advance(count: float = 1, note: str = "") -> None:
        nonlocal done, said
        done += count
        if done:
            moved.set()
        now = time.monotonic()
        if now - said >= _PLAIN_EVERY_S and 0 < done < total:
            said = now
            rate = done / (now - started)
            left = (total - done) / rate
            print(
                f"  {label}: {done:.0f}/{total} {unit}, {rate:.1f}/s, {left:.0f} s left {note}",
                file=sys.stderr,
                flush=True,
            )

    try:
        yield advance
    finally:
        moved.set()


def _repeat(words: str, moved: threading.Event) -> None:
    """Say the words after ten seconds, and then once a minute, until something has moved."""
    pause = _PLAIN_EVERY_S
    while not moved.wait(pause):
        print(words, file=sys.stderr, flush=True)
        pause = _SILENT_EVERY_S
