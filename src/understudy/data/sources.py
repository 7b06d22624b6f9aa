"""A configured source of rows, whatever it is: checked before the first stage, read by stages."""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from understudy.config import Config
from understudy.config.source import Source
from understudy.data import hub
from understudy.data.formats import BadRow, NotWanted
from understudy.data.reading import Raw, check_file, read_file
from understudy.errors import BadInput

_log = logging.getLogger(__name__)
_NAMED = 100  # bad rows that the log names; the rest is counted
T = TypeVar("T")


class Taken(NamedTuple, Generic[T]):
    """What became of the rows of a source; every row is in exactly one of the three."""

    rows: list[tuple[Raw, T]]
    not_wanted: Counter[str]
    bad: list[str]  # place and reason


def of(config: Config) -> dict[str, Source]:
    """The sources of a run that are files or hub data sets, by config group."""
    groups: dict[str, Any] = {"coverage": config.coverage, "synthesis": config.synthesis}
    if config.inference.kind != "local":  # then nothing else is read
        groups = {"inference": config.inference}
    return {name: part for name, part in groups.items() if part.kind in ("file", "hub")}


def check(config: Config, record: Path) -> None:
    """Pin hub names (remembered in `record`) and look for what is missing, in a moment."""
    for name, source in of(config).items():
        try:
            if source.path is not None:
                path = Path(source.path).expanduser().absolute()
                check_file(path)
                source.path = str(path)  # a worker may start in another directory
            else:
                hub.check(source)
                hub.pin(source, record)
        except BadInput as error:
            raise BadInput(f"{name}: {error}") from None
    if config.inference.kind == "local":
        hub.pin_model(config.model, record)


def read(source: Source) -> Sequence[Raw]:
    """All rows."""
    if source.path is not None:
        return read_file(Path(source.path).expanduser())
    return hub.read_hub(source)


def where(source: Source) -> str:
    """What to call a source in a sentence."""
    return str(source.path if source.path is not None else source.repo)


def log(bad: Sequence[str]) -> None:
    """Name the rows that a stage skips in its log."""
    for sentence in bad[:_NAMED]:
        _log.warning("skipped: %s", sentence)


def take(raws: Sequence[Raw], convert: Callable[[dict[str, Any]], T], tolerance: float) -> Taken[T]:
    """Convert every row; BadInput names the first bad one when more than `tolerance` are."""
    taken: Taken[T] = Taken([], Counter(), [])
    for raw in raws:
        try:
            if raw.values is None:
                raise BadRow(raw.problem)
            taken.rows.append((raw, convert(raw.values)))
        except NotWanted as reason:
            taken.not_wanted[str(reason)] += 1
        except BadRow as reason:
            taken.bad.append(f"{raw.place} {reason}")
    if len(taken.bad) > tolerance * len(raws):
        raise BadInput(
            f"{taken.bad[0]} ({len(taken.bad)} of {len(raws)} rows are bad, and "
            f"tolerance={tolerance:g} allows {int(tolerance * len(raws))})"
        )
    return taken
