"""The rows that planned stages will read: from finished stages, or worked out in a scratch place.

Nothing below the root is written: what costs a moment (the real pairs, their split, ready-made
answers) is made by the stage's own function in a temporary directory.
"""

import json
from pathlib import Path
from typing import Any

from understudy.config import Config
from understudy.pipeline.stages import Stage, named
from understudy.records import R, read_rows
from understudy.store.artifacts import Job, StageDir


class Inputs:
    """What stages hand on, by stage."""

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self._made: dict[str, Path | None] = {}  # by fingerprint, so roots may share
        self._rows: dict[tuple[Path, type[Any]], list[Any]] = {}

    def out(self, root: Path, stage: Stage, config: Config) -> Path | None:
        """Return the out/ of a stage; None while it would take more than a moment to know it."""
        directory = StageDir(root / stage.path)
        if directory.is_done:
            return directory.out
        if not stage.spec.is_quick:
            return None
        if stage.path not in self._made:
            self._made[stage.path] = self._make(root, stage, config)
        return self._made[stage.path]

    def rows(self, root: Path, stage: Stage, config: Config, kind: type[R]) -> list[R] | None:
        """Return the rows of a stage; None as in `out`."""
        if (out := self.out(root, stage, config)) is None:
            return None
        if (out, kind) not in self._rows:
            self._rows[out, kind] = list(read_rows(out / "rows.jsonl", kind))
        return self._rows[out, kind]

    def above(self, root: Path, stage: Stage, config: Config) -> dict[str, Path] | None:
        """The out/ of each upstream stage by role; None where one is not known, as in `out`."""
        inputs = {role: self.out(root, above, config) for role, above in stage.inputs.items()}
        known = {role: out for role, out in inputs.items() if out is not None}
        return known if len(known) == len(inputs) else None

    def _make(self, root: Path, stage: Stage, config: Config) -> Path | None:
        if (inputs := self.above(root, stage, config)) is None:
            return None
        place = self._scratch / stage.path
        job = Job(config, stage.params, inputs, place / "out", place / "scratch")
        job.out.mkdir(parents=True)
        job.scratch.mkdir()
        named(stage.spec.run)(job)
        return job.out


def begun(directory: Path, name: str) -> list[dict[str, Any]]:
    """The rows that an unfinished attempt has in file `name` already; a torn last line is none."""
    try:
        attempts = sorted(directory.glob("attempts/*"), key=lambda path: path.stat().st_mtime)
        content = (attempts[-1] / name).read_bytes() if attempts else b""
    except FileNotFoundError:  # nothing written yet, or published meanwhile
        return []
    lines = content[: content.rfind(b"\n") + 1].decode().split("\n")[:-1]
    return [json.loads(line) for line in lines]
