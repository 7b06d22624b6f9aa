"""Run a sweep: every cell to its decision, every stage once; and show one.

The runs go on side by side, some workers at a time: only workers run in threads, all bookkeeping
stays in the calling one.
`sweep/<name>/sweep.json` beside the runs holds the command, the axes, and the run of each cell.
"""

import json
import shlex
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from understudy.errors import BadInput, UnderstudyError
from understudy.pipeline.record import RunRecord
from understudy.pipeline.record import run_files as files_of_runs
from understudy.pipeline.run import Run, Task
from understudy.pipeline.standing import Standings
from understudy.pipeline.start import Workers
from understudy.store import locks
from understudy.store.artifacts import StageDir, write_atomically
from understudy.sweep.cells import Cells

_LOOK_AGAIN_S = 1.0
Typed = Callable[[list[str]], list[str]]  # overrides -> the command that runs them


class Lane:
    """A cell on its way: its run, the stage that it needs next, and how it ended."""

    def __init__(self, label: str, run: Run) -> None:
        self.label = label
        self.run = run
        self.task: Task | None = None
        self.is_over = False
        self.error: UnderstudyError | None = None
        self.failed_at = ""
        self._steps: Iterator[Task] | None = None

    @cached_property
    def plans(self) -> list[list[Path]]:
        """The stages before the rounds, then those of every round."""
        flow = self.run.flow
        plans = [flow.shared, *(flow.round(number) for number in range(len(flow.sizes)))]
        return [[self.run.root / stage.path for stage in plan.values()] for plan in plans]

    @property
    def next_stage(self) -> Path:
        """The directory of the stage that comes next; known before the run begins."""
        if self.task is not None:
            return self.task.directory.path
        first = self.plans[0] + self.plans[1]  # what is sure to be needed: up to the first gate
        return next((path for path in first if not StageDir(path).is_done), first[-1])

    def go_on(self) -> None:
        """Ask the run for stages until one is not done, or the run has decided."""
        try:
            if self._steps is None:
                header = "" if self.run.prefix else "\n"
                self.run.say(f"{header}cell {self.label}: {self.run.directory}")
                self._steps = self.run.steps()
            while self.task is None or self.task.directory.is_done:
                self.task = next(self._steps)
        except StopIteration:
            self.is_over = True
        except UnderstudyError as error:
            self.fail(error, "run")

    def fail(self, error: UnderstudyError, where: str) -> None:
        """End this cell; the others go on."""
        self.error, self.failed_at, self.is_over = error, where, True


class Sweep:
    """The cells of one command and their record."""

    def __init__(self, sweep: Cells, command: list[str], typed: Typed) -> None:
        cells = sweep.cells
        first = cells[0].config
        self.processes = first.cluster.processes
        self.root = Path(first.paths.root).expanduser().absolute()
        is_rehearsal = any(cell.config.is_rehearsal for cell in cells)
        purse = f"sweep/{sweep.name}"
        self.lanes = []
        for cell in cells:
            prefix = f"{cell.label} | " if self.processes > 1 else ""
            run = Run(cell.config, typed(cell.overrides), prefix, purse)
            self.lanes.append(Lane(cell.label, run))
        base = self.root / "rehearsal" if is_rehearsal else self.root
        self.directory = base / "sweep" / sweep.name
        self.record: dict[str, Any] = {
            "name": self.directory.name,
            "command": shlex.join(command),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "rehearsal": is_rehearsal,
            "axes": sweep.axes,
            "cells": [
                {
                    "label": lane.label,
                    "run": str(lane.run.directory.relative_to(self.root)),
                    "failed": None,
                }
                for lane in self.lanes
            ],
        }

    @property
    def file(self) -> Path:
        """The record."""
        return self.directory / "sweep.json"

    def execute(self) -> int:
        """Run what is not done yet; the worst exit code of a cell that failed, else 0."""
        self.write()
        drive(self.lanes, self.processes, self._settled)
        return max((lane.error.exit_code for lane in self.lanes if lane.error), default=0)

    @property
    def computed(self) -> int:
        """How many stages were run by this command."""
        return sum(lane.run.computed for lane in self.lanes)

    @property
    def kept(self) -> int:
        """How many of the stages that the cells reached were run before, or by somebody else."""
        done = {
            lane.run.root / path
            for lane in self.lanes
            for path in lane.run.record.stage_paths
            if StageDir(lane.run.root / path).is_done
        }
        return len(done) - self.computed

    def outline(self) -> str:
        """How much there is to do."""
        # at most these: a cell ends with the round that passes
        stages = {path for lane in self.lanes for plan in lane.plans for path in plan}
        done = sum(StageDir(path).is_done for path in stages)
        return (
            f"{len(self.lanes)} cells, at most {len(stages)} different stages, "
            f"{done} of them finished before"
        )

    def _settled(self, lane: Lane) -> None:
        if lane.error is not None:
            code = lane.error.exit_code
            reason = f"{lane.failed_at} ended with exit code {code}"
            self.record["cells"][self.lanes.index(lane)]["failed"] = reason
            lane.run.say(f"cell {lane.label} failed: {str(lane.error) or reason}")
            self.write()

    def write(self) -> None:
        """Write the record."""
        self.directory.mkdir(parents=True, exist_ok=True)
        write_atomically(self.file, json.dumps(self.record, indent=1))


def drive(lanes: list[Lane], processes: int, settled: Callable[[Lane], None]) -> None:
    """Run every lane to its end; a failed stage ends the cells that need it, and no other."""
    workers = Workers()
    failed: dict[Path, UnderstudyError] = {}
    busy: dict[Future[None], Lane] = {}
    with ThreadPoolExecutor(processes) as pool:
        try:
            while True:
                while len(busy) < processes and (lane := _next(lanes, busy, failed, settled)):
                    assert lane.task is not None, f"cell {lane.label} has no stage to run"
                    busy[pool.submit(lane.task.work, workers, lane.run.prefix)] = lane
                if not busy:
                    return
                for future in wait(busy, _LOOK_AGAIN_S, FIRST_COMPLETED).done:
                    lane = busy.pop(future)
                    try:
                        future.result()
                    except UnderstudyError as error:
                        failed[lane.next_stage] = error
        except BaseException:
            workers.stop()
            raise


def _next(
    lanes: list[Lane],
    busy: dict[Future[None], Lane],
    failed: dict[Path, UnderstudyError],
    settled: Callable[[Lane], None],
) -> Lane | None:
    """The first cell whose next stage nobody works on; when idle, one that another process does."""
    working = {lane.next_stage for lane in busy.values()}

    def is_free(lane: Lane, may_wait: bool) -> bool:
        path = lane.next_stage
        return path not in working and (may_wait or not locks.is_held(path / "LOCK"))

    for may_wait in (False,) if busy else (False, True):
        for lane in lanes:
            if lane.is_over or lane in busy.values() or not is_free(lane, may_wait):
                continue
            lane.go_on()
            if not lane.is_over and lane.next_stage in failed:
                stage = lane.next_stage
                lane.fail(failed[stage], f"{stage.parent.name}/{stage.name}")
            if lane.is_over:
                settled(lane)
            elif is_free(lane, may_wait):
                return lane
    return None


def find_sweep(root: Path, name: str | None) -> Path | None:
    """The sweep.json of a name or a path, if there is one; a run of that name is in the way."""
    if name in (None, "latest"):
        return None
    assert name is not None
    for path in (Path(name), Path(name) / "sweep.json"):
        if path.name == "sweep.json" and path.is_file():
            return path.absolute()
    tree = (root / "sweep", root / "rehearsal" / "sweep")
    found = [path for folder in tree for path in folder.glob("*/sweep.json")]
    named = [path for path in found if path.parent.name == name]
    runs = [path for path in files_of_runs(root) if path.parent.name == name]
    if named and len(named) + len(runs) > 1:
        paths = " or ".join(str(path.parent) for path in [*named, *runs])
        raise BadInput(f"{name} is the name of several runs and sweeps; give the path {paths}")
    return named[0] if named else None


def run_files(sweep_json: Path) -> list[Path]:
    """The run.json of every cell that has begun."""
    record, root = _read(sweep_json)
    files = (root / cell["run"] / "run.json" for cell in record["cells"])
    return [path for path in files if path.is_file()]


def show(sweep_json: Path) -> None:
    """Print every cell with its decision, and how to go on when one is missing."""
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    record, root = _read(sweep_json)
    console = Console(highlight=False)
    console = console if console.is_terminal else Console(highlight=False, width=110)
    word = " · [yellow]REHEARSAL[/], offline stand-ins" if record["rehearsal"] else ""
    console.print(f"[bold]{escape(record['name'])}[/]{word}")
    console.print(escape(str(sweep_json.parent)), soft_wrap=True)
    table = Table("cell", "rounds", "decision", "run", box=box.SIMPLE_HEAD, pad_edge=False)
    files = [root / cell["run"] / "run.json" for cell in record["cells"]]
    runs = [RunRecord.read(path) if path.is_file() else None for path in files]
    standings = Standings(sweep_json.parents[2])
    for cell, run in zip(record["cells"], runs, strict=True):
        rounds = "" if run is None else str(len(run.rounds))
        columns = (cell["label"], rounds, _decision(cell, run, standings), Path(cell["run"]).name)
        table.add_row(*map(escape, columns))
    console.print(table)
    if any(run is None or run.decision is None for run in runs):
        print(f"to go on: {record['command']}")


def _decision(cell: dict[str, Any], run: RunRecord | None, standings: Standings) -> str:
    if run is not None and run.decision is not None:
        return f"passed in round {run.decision.round}" if run.decision.passed else "not passed"
    if cell["failed"]:
        return f"failed: {cell['failed']}"
    if run is None:
        return "not begun"
    return standings.outline(run.stage_paths)


def _read(sweep_json: Path) -> tuple[dict[str, Any], Path]:
    """The record, and `paths.root`, which its runs are relative to."""
    record = json.loads(sweep_json.read_text(encoding="utf-8"))
    return record, sweep_json.parents[3 if record["rehearsal"] else 2]
