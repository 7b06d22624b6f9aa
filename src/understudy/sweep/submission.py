"""Submit runs to Slurm: what is sure to be needed and not done becomes arrays of jobs.

`slurm/{run,sweep}/<name>/` beside the runs holds the task lists, the jobs' logs and the id of the
planning job, which runs the same command when a round is over. `slurm.json` in a stage's directory
says which job does the stage.
"""

import fcntl
import json
import os
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from understudy.errors import BadInput, EnvironmentFailed
from understudy.pipeline.record import RunRecord
from understudy.pipeline.run import Run
from understudy.pipeline.standing import JobState
from understudy.store.artifacts import write_atomically
from understudy.sweep import slurm
from understudy.sweep.slurm import Array
from understudy.sweep.submission_arrays import arrange, sinks, without
from understudy.sweep.submission_cells import Ahead, ahead, cells


class Line(NamedTuple):
    """One array that was submitted."""

    array: Array  # with the ids of the jobs that it waits for
    job: str


@dataclass
class Submitted:
    """What one command has done."""

    lines: list[Line]
    reused: int  # cells that were queued before
    lost: int  # cells that failed, and those that need them
    planning: str | None  # the job that goes on when these have ended


class Submission:
    """The runs of one command, as far as their next undecided round."""

    def __init__(self, directory: Path, runs: Sequence[Run], command: str) -> None:
        self.name = directory.name
        self.cluster = runs[0].config.cluster
        self.folder = directory.parents[1] / "slurm" / directory.parent.name / self.name
        self.command = command
        self._first = len(list(self.folder.glob("*.tsv")))  # task lists of earlier commands
        self._queue = self._ask_queue()  # first: a job that is gone by now has written DONE
        self.aheads = [ahead(run) for run in runs]
        self._cells = cells(self.aheads)
        self._planner = slurm.job_of(self.folder / "planning.json")
        self.queued, ended = dict[Path, str](), set[Path]()
        for path in self._cells:
            if (job := slurm.job_of(path / "slurm.json")) is not None:
                if job in self._queue:
                    self.queued[path] = job
                else:
                    ended.add(path)
        every = [cell for cell, _, _ in self._cells.values()]
        # The planning job gives nothing a second chance, or it would go on failing for ever.
        self.cells = without(every, ended) if self._is_planner else every
        self.lost = len(every) - len(self.cells)
        limit = min(self.cluster.max_array or slurm.max_indices(), slurm.max_indices())
        self.arrays = arrange(self.cells, self.queued, limit)

    @property
    def is_over(self) -> bool:
        """Whether all stages are done, so that only decisions are left."""
        return not self._cells

    @property
    def _is_planner(self) -> bool:
        return self._planner is not None and self._planner == os.environ.get("SLURM_JOB_ID")

    def script(self) -> Iterator[str]:
        """The shell lines that would submit all arrays."""
        for number, array in enumerate(self.arrays, 1):
            words = map(_shell_word, self._argv(array, number))
            yield f"job{number}=$({' '.join(words)})"
        if self.cluster.resubmit and self.arrays:
            names = [f"${{job{number}}}" for number in range(1, len(self.arrays) + 1)]
            yield " ".join(map(_shell_word, self._planning_argv(self._last(names))))

    def submit(self) -> Submitted:
        """Prepare the stages, submit the arrays, and the job that goes on after them.

        Raises BadInput when Slurm refuses an array, and then cancels what this call submitted.
        """
        self._write_down()
        lines: list[Line] = []
        ids: list[str] = []
        try:
            for number, array in enumerate(self.arrays, 1):
                known = replace(
                    array,
                    aftercorr=tuple(_with_id(job, ids) for job in array.aftercorr),
                    afterok=tuple(_with_id(job, ids) for job in array.afterok),
                )
                ids.append(slurm.submit(self._argv(known, number), array.room))
                lines.append(Line(known, ids[-1]))
                self._note(known, ids[-1])
            planning = self._plan_next(ids)
        except BadInput:
            slurm.cancel(ids)
            raise
        except EnvironmentFailed as error:
            raise EnvironmentFailed(
                f"{error}; {len(ids)} of {len(self.arrays)} arrays are submitted, and the same "
                "command submits the rest"
            ) from None
        return Submitted(lines, len(self.queued), self.lost, planning)

    def settle(self) -> None:
        """Record the decision of every run that has nothing left to do."""
        for each in self.aheads:
            if not each.stages and not _is_decided(each):
                each.run.is_quiet = True
                each.run.execute()

    def _write_down(self) -> None:
        """Everything that jobs and `status` read."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for each in self.aheads:
            if each.stages:
                each.record.write()
        for cell in self.cells:
            if cell.path not in self.queued:
                _, each, stage = self._cells[cell.path]
                each.run.prepare(stage)
        for number, array in enumerate(self.arrays, 1):
            tasks = "".join(f"{index}\t{path}\n" for index, path in array.tasks.items())
            self._tasks(number).write_text(tasks, encoding="utf-8")

    def _note(self, array: Array, job: str) -> None:
        for index, path in array.tasks.items():
            (path / "failed.json").unlink(missing_ok=True)
            record = {"job": f"{job}_{index}", "submission": self.name}
            record["log"] = str(self.folder / f"{job}_{index}.log")
            write_atomically(path / "slurm.json", json.dumps(record, indent=1))

    def _plan_next(self, ids: list[str]) -> str | None:
        """Submit the planning job, unless one waits that nothing new has to be added to."""
        waits = self._planner in self._queue and not self._is_planner
        if waits and not ids:
            return self._planner
        if not (after := self._last(ids)) or not self.cluster.resubmit:
            return None
        if waits and self._planner is not None:
            slurm.cancel([self._planner])
        job = slurm.submit(self._planning_argv(after), "cpu")
        write_atomically(self.folder / "planning.json", json.dumps({"job": job}))
        return job

    def _last(self, ids: list[str]) -> list[str]:
        """The jobs after which all cells have ended; `ids` are those of the arrays."""
        last = set(sinks(self.cells))
        made = [
            job
            for job, array in zip(ids, self.arrays, strict=True)
            if last & {*array.tasks.values()}
        ]
        return made + sorted(self.queued[path] for path in last & self.queued.keys())

    def _argv(self, array: Array, number: int) -> list[str]:
        return slurm.stages_argv(array, self.cluster, self.name, self._tasks(number), self.folder)

    def _planning_argv(self, after: list[str]) -> list[str]:
        command = f"{shlex.quote(sys.executable)} -m {self.command}"
        return slurm.command_argv(command, after, self.cluster, f"{self.name}-plan", self.folder)

    def _tasks(self, number: int) -> Path:
        return self.folder / f"{self._first + number}.tsv"

    def _ask_queue(self) -> dict[str, JobState]:
        try:
            return slurm.queue()
        except EnvironmentFailed:
            if self.cluster.kind == "dry_run":  # a plan can be made anywhere
                return {}
            raise


@contextmanager
def one_at_a_time(directory: Path) -> Iterator[None]:
    """Keep two commands from submitting the same stage."""
    folder = directory.parents[1] / "slurm"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)  # the kernel lets go of it when we die
        yield


def _is_decided(each: Ahead) -> bool:
    path = each.record.path
    return path.is_file() and RunRecord.read(path).decision is not None


def _with_id(job: str, ids: list[str]) -> str:
    """`${job2}_5` with the id of the second array."""
    return re.sub(r"\$\{job(\d+)\}", lambda found: ids[int(found[1]) - 1], job)


def _shell_word(word: str) -> str:
    return word if word.startswith("--dependency=") else shlex.quote(word)
