"""The record of a sweep, `sweep/<name>/sweep.json`: its command, its axes, each cell's run.

Only `SweepRecord` reads and writes the file. A sweep with one rehearsal among its cells lies below
`rehearsal/`, but its runs are named from `paths.root`, since each has a tree of its own.
"""

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from understudy.errors import BadInput
from understudy.pipeline import record


@dataclass
class CellRecord:
    """One cell: the values of the axes, its run relative to `paths.root`, and why it failed."""

    label: str
    run: str
    failed: str | None = None


@dataclass(kw_only=True)
class SweepRecord:
    """What is known of a sweep; how far its cells are stands in the records of their runs."""

    path: Path  # of sweep.json, not in it
    name: str
    command: str
    created: str
    rehearsal: bool
    axes: dict[str, list[str]]  # key → its `key=value` overrides
    cells: list[CellRecord]

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a sweep.json; raise BadInput when it is none, or a newer version wrote it."""
        return record.load(cls, path, "a sweep")

    def write(self) -> None:
        """Write sweep.json."""
        record.store(self)

    @property
    def root(self) -> Path:
        """`paths.root`, which its runs are relative to."""
        return self.path.parents[3 if self.rehearsal else 2]

    @property
    def files(self) -> list[Path]:
        """The run.json of each cell, which is there once the cell has begun."""
        return [self.root / cell.run / "run.json" for cell in self.cells]

    @property
    def values(self) -> list[dict[str, str]]:
        """The value of every axis in each cell; none where the cells are no grid of the axes."""
        terms = ([term.partition("=")[2] for term in given] for given in self.axes.values())
        grid = [dict(zip(self.axes, one, strict=True)) for one in itertools.product(*terms)]
        labels = [cell.label for cell in self.cells]
        if [" ".join(values.values()) for values in grid] == labels:
            return grid
        words = (label.split(" ") for label in labels)
        return [
            dict(zip(self.axes, w, strict=True)) if len(w) == len(self.axes) else {} for w in words
        ]

    @property
    def begun(self) -> list[Path]:
        """The run.json of every cell that has begun."""
        return [path for path in self.files if path.is_file()]


def find_sweep(root: Path, name: str | None) -> Path | None:
    """Return the sweep.json of a name or a path, None where a run is meant.

    None or "latest" is the sweep if one of its runs, and not another run, has changed last. Raises
    BadInput where a name is that of several.
    """
    trees = (root / "sweep", root / "rehearsal" / "sweep")
    found = [path for folder in trees for path in folder.glob("*/sweep.json")]
    if name is None or name == "latest":
        return _latest(root, found)
    for path in (Path(name), Path(name) / "sweep.json"):
        if path.name == "sweep.json" and path.is_file():
            return path.absolute()
    named = [path for path in found if path.parent.name == name]
    runs = [path for path in record.run_files(root) if path.parent.name == name]
    if named and len(named) + len(runs) > 1:
        paths = " or ".join(str(path.parent) for path in [*named, *runs])
        raise BadInput(f"{name} is the name of several runs and sweeps; give the path {paths}")
    return named[0] if named else None


def _latest(root: Path, sweeps: list[Path]) -> Path | None:
    """The newest sweep that the run that changed last is a cell of, or that is newer than all."""
    if not sweeps:
        return None
    files = [*record.run_files(root), *sweeps]
    last = max(files, key=lambda path: (path.stat().st_mtime_ns, path))
    if last in sweeps:
        return last
    newest_first = sorted(sweeps, key=lambda path: (-path.stat().st_mtime_ns, path))
    return next((path for path in newest_first if last in SweepRecord.read(path).files), None)
