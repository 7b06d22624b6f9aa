"""Run a sweep: every cell to its decision, every stage once.

The runs go on side by side, some workers at a time: only workers run in threads, all bookkeeping
stays in the calling one.
"""

import shlex
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

from understudy.errors import UnderstudyError
from understudy.pipeline.run import Run, Task
from understudy.pipeline.start import Workers
from understudy.store import locks
from understudy.store.artifacts import StageDir
from understudy.sweep.cells import Cells
from understudy.sweep.record import CellRecord, SweepRecord

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
        self.record = SweepRecord(
            path=self.directory / "sweep.json",
            name=self.directory.name,
            command=shlex.join(command),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            rehearsal=is_rehearsal,
            axes=sweep.axes,
            cells=[
                CellRecord(lane.label, str(lane.run.directory.relative_to(self.root)))
                for lane in self.lanes
            ],
        )

    def execute(self) -> int:
        """Run what is not done yet; the worst exit code of a cell that failed, else 0."""
        self.record.write()
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
        """Return how much there is to do."""
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
            self.record.cells[self.lanes.index(lane)].failed = reason
            lane.run.say(f"cell {lane.label} failed: {str(lane.error) or reason}")
            self.record.write()


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
