"""The record of a search: a cell per trial, written as they come, and the best so far."""

import json
import shlex
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from understudy import config
from understudy.config import Config
from understudy.errors import UnderstudyError
from understudy.pipeline.run import run_root
from understudy.store.artifacts import fingerprint, write_atomically
from understudy.sweep.cells import label_of, suffixed
from understudy.sweep.record import CellRecord, SweepRecord


class Best(NamedTuple):
    """The cell with the highest score, or the lowest where that is searched."""

    label: str
    score: float
    overrides: list[str]
    path: Path  # of best.json: score, overrides and the whole config


class Trials:
    """What a search has tried; `status` and `report` find it by its name as any sweep."""

    def __init__(self, first: Config, keys: Sequence[str], command: list[str]) -> None:
        self._keys = list(keys)
        self._root = Path(first.paths.root).expanduser().absolute()
        self._name = first.run.name
        self.best: Best | None = None
        is_least = any(word == "hydra.sweeper.direction=minimize" for word in command)
        self._sign = -1 if is_least else 1
        name = suffixed(self._name or "search", "" if self._name else fingerprint(command)[:8])
        self.record = SweepRecord(
            path=run_root(first) / "sweep" / name / "sweep.json",
            name=name,
            command=shlex.join(command),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            rehearsal=first.is_rehearsal,
            axes={key: [] for key in self._keys},
            cells=[],
        )

    def label(self, overrides: Sequence[str]) -> str:
        """Return the values of the axes in their order, as a person would call the trial."""
        given = dict(word.split("=", 1) for word in overrides if "=" in word)
        return label_of([f"{key}={given[key]}" for key in self._keys], self._keys)

    def config(self, values: dict[str, Any], label: str) -> Config:
        """Return the config of a trial; a run that was named has the trial's label behind it."""
        if self._name is not None:
            values = values | {"run": {"name": suffixed(self._name, label)}}
        return config.build(values)

    def begin(self, label: str, directory: Path) -> None:
        """Note a trial, once; what was tried before is at hand."""
        if not any(cell.label == label for cell in self.record.cells):
            run = str(directory.relative_to(self._root))
            self.record.cells.append(CellRecord(label, run))
            for (key, terms), value in zip(
                self.record.axes.items(), label.split(" "), strict=False
            ):
                if (term := f"{key}={value}") not in terms:
                    terms.append(term)
        self.record.write()

    def fail(self, label: str, error: UnderstudyError) -> None:
        """Note why a trial has no score."""
        for cell in self.record.cells:
            if cell.label == label:
                cell.failed = f"ended with exit code {error.exit_code}"
        self.record.write()

    def end(
        self, label: str, score: float, values: dict[str, Any], overrides: Sequence[str]
    ) -> None:
        """Note a score; the highest so far is in best.json, with the whole config of its cell."""
        is_better = self.best is None or self._sign * (score - self.best.score) > 0
        if score != score or not is_better:
            return
        path = self.record.path.with_name("best.json")
        found = {"label": label, "score": score, "overrides": list(overrides), "config": values}
        write_atomically(path, json.dumps(found, indent=1))
        self.best = Best(label, score, list(overrides), path)
