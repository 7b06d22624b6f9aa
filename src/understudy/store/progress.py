"""Progress of a stage: a rich bar on a terminal, one plain line every few seconds elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_PLAIN_EVERY_S = 10.0


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

    def advance(count: float = 1, note: str = "") -> None:
        nonlocal done, said
        done += count
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

    yield advance
