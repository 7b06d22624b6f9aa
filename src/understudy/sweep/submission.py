"""Submit runs to Slurm, and cancel them: what is sure to be needed becomes arrays of jobs.

`slurm/{run,sweep}/<name>/` beside the runs holds the task lists, the jobs' logs and the id of the
planning job, which runs the same command when a round is over. `slurm.json` in a stage's directory
says which job does the stage. `site.py` tells what of the folder the jobs run.
"""

import fcntl
import json
import os
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from understudy.errors import BadInput, EnvironmentFailed
from understudy.pipeline.record import HoldoutRecord, RoundRecord, RunRecord
from understudy.pipeline.run import Run
from understudy.pipeline.stages import Stage
from understudy.store.artifacts import StageDir, write_atomically
from understudy.sweep import site, slurm
from understudy.sweep.arrays import Array, Ask, Pending, arrange, sinks, without


class Ahead(NamedTuple):
    """How far a run is: its record so far, and the stages that are sure to be needed next."""

    run: Run
    record: RunRecord
    stages: list[Stage]  # not done, each after what it needs; none = only the decision is left


def ahead(run: Run) -> Ahead:
    """Read from the disk which rounds have decided; the next one, or the holdout, is needed."""
    flow = run.flow
    plan = dict(flow.shared)
    record = replace(run.record, stages=_paths(plan), rounds=[])
    stages = list(plan.values())
    for number, size in enumerate(flow.sizes):
        plan = flow.round(number)
        stages += plan.values()
        gate = StageDir(run.root / plan["gate"].path)
        decision = gate.read("out/summary.json")["decision"] if gate.is_done else None
        record.rounds.append(RoundRecord(number, size, _paths(plan), decision))
        if flow.is_ladder and decision == "pass" and (last := run.holdout(number)):
            record.holdout = HoldoutRecord(number, _paths(last))
            stages += last.values()
        if flow.is_ladder and decision in (None, "pass"):
            break
    left = {stage.path: stage for stage in stages if not StageDir(run.root / stage.path).is_done}
    return Ahead(run, record, list(left.values()))


def _paths(plan: Mapping[str, Stage]) -> dict[str, str]:
    return {role: stage.path for role, stage in plan.items()}


def pending(aheads: Iterable[Ahead]) -> dict[Path, tuple[Pending, Ahead, Stage]]:
    """The stages by directory, each after what it needs; the first run that needs one owns it."""
    found: dict[Path, tuple[Pending, Ahead, Stage]] = {}
    for each in aheads:
        config = each.run.config
        cluster, gpu, spread = config.cluster, config.cluster.gpu, config.accelerate
        flags = {
            "all": slurm.flags(gpu, gpu.gpus, spread.nodes if spread.is_distributed else 1),
            "one": slurm.flags(gpu, min(1, gpu.gpus), 1),
            "cpu": slurm.flags(cluster.cpu, 0, 1),
            "api": () if isinstance(cluster.api, str) else slurm.flags(cluster.api, 0, 1),
        }
        left = {stage.path for stage in each.stages}
        for stage in each.stages:
            if (path := each.run.root / stage.path) not in found:
                spec, service = stage.spec, stage.service(config)
                asked = flags[spec.gpus if spec.room == "gpu" else spec.room]
                ask = Ask(stage.name, spec.room, asked, service.name if service else None)
                upstream = {up.path for up in stage.inputs.values()} & left
                needs = tuple(each.run.root / up for up in sorted(upstream))
                found[path] = Pending(path, ask, needs), each, stage
    return found


@dataclass
class Submitted:
    """What one command has done."""

    arrays: dict[str, Array]  # by job, with the ids of the jobs that they wait for
    reused: int  # stages that were queued before
    lost: int  # stages that failed, and those that need them
    planning: str | None  # the job that goes on when these have ended


class Submission:
    """The runs of one command, as far as their next undecided round."""

    def __init__(
        self, directory: Path, runs: Sequence[Run], command: str, is_again: bool = False
    ) -> None:
        self.name = directory.name
        self.cluster = runs[0].config.cluster
        self.folder = directory.parents[1] / "slurm" / directory.parent.name / self.name
        self.command = command
        self._first = len(list(self.folder.glob("*.tsv")))  # task lists of earlier commands
        try:  # before the stages are looked at: a job that is gone by now has written DONE
            self._queue = slurm.queue()
        except EnvironmentFailed:
            if self.cluster.kind != "dry_run":  # which can be made anywhere
                raise
            self._queue = {}
        self.aheads = [ahead(run) for run in runs]
        self._cells = pending(self.aheads)
        self._planner = slurm.job_of(self.folder / "planning.json")
        self.queued, ended = dict[Path, str](), set[Path]()
        for path in self._cells:
            if (job := slurm.job_of(path / "slurm.json")) is not None:
                if job in self._queue:
                    self.queued[path] = job
                else:
                    ended.add(path)
        every = [cell for cell, _, _ in self._cells.values()]
        self.here = set[Path]()  # stages that no job does
        if self.cluster.api == "here":
            self.here = {cell.path for cell in every if cell.ask.room == "api"} - {*self.queued}
        every = without(every, self.here)
        # The planning job gives nothing a second chance, or it would go on failing for ever.
        self.cells = without(every, ended) if self._is_planner or is_again else every
        self.lost = len(every) - len(self.cells)
        limit = min(self.cluster.max_array or slurm.max_indices(), slurm.max_indices())
        self.arrays = arrange(self.cells, self.queued, limit)

    @property
    def is_over(self) -> bool:
        """Whether all stages are done, so that only decisions are left."""
        return not self._cells

    @property
    def waits_for(self) -> list[Path]:
        """The stages of jobs that have not ended."""
        return [*self.queued, *(path for array in self.arrays for path in array.tasks.values())]

    def prepared_here(self) -> list[Path]:
        """Freeze the stages of `here` that wait for nothing more, and return them."""
        cells = (cell for cell, _, _ in self._cells.values() if cell.path in self.here)
        ready = [cell.path for cell in cells if not cell.needs]
        for path in ready:
            _, each, stage = self._cells[path]
            each.run.prepare(stage)
        return ready

    @property
    def _resubmits(self) -> bool:
        return self.cluster.resubmit and self.cluster.api != "here"  # which goes on by itself

    @property
    def _is_planner(self) -> bool:
        return self._planner is not None and self._planner == os.environ.get("SLURM_JOB_ID")

    def script(self) -> Iterator[str]:
        """Yield the shell lines that would submit all arrays."""
        for number, array in enumerate(self.arrays, 1):
            words = map(_shell_word, self._argv(array, number))
            yield f"job{number}=$({' '.join(words)})"
        if self._resubmits and self.arrays:
            names = [f"${{job{number}}}" for number in range(1, len(self.arrays) + 1)]
            yield " ".join(map(_shell_word, self._planning_argv(self._last(names))))

    def submit(self) -> Submitted:
        """Prepare the stages, submit the arrays, and the job that goes on after them.

        Raises BadInput when Slurm refuses an array, and then cancels what this call submitted.
        """
        self._write_down()
        submitted: dict[str, Array] = {}
        try:
            for number, array in enumerate(self.arrays, 1):
                ids = list(submitted)
                known = replace(
                    array,
                    aftercorr=tuple(_with_id(job, ids) for job in array.aftercorr),
                    afterok=tuple(_with_id(job, ids) for job in array.afterok),
                )
                job = slurm.submit(self._argv(known, number), array.ask.room)
                submitted[job] = known
                for index, path in array.tasks.items():
                    (path / "failed.json").unlink(missing_ok=True)
                    record = {"job": f"{job}_{index}", "submission": self.name}
                    record["log"] = str(self.folder / f"{job}_{index}.log")
                    write_atomically(path / "slurm.json", json.dumps(record, indent=1))
            planning = self._plan_next(list(submitted))
        except BadInput:
            slurm.cancel(submitted)
            raise
        except EnvironmentFailed as error:
            raise EnvironmentFailed(
                f"{error}; {len(submitted)} of {len(self.arrays)} arrays are submitted, and the "
                "same command submits the rest"
            ) from None
        return Submitted(submitted, len(self.queued), self.lost, planning)

    @property
    def _is_idle(self) -> bool:
        """Whether no job waits or works for this run or sweep, but the one that asks."""
        return not self.queued and (self._is_planner or self._planner not in self._queue)

    def tidy(self) -> None:
        """Remove what only jobs need, once there are none."""
        if self._is_idle:
            site.clean(self.folder)

    def settle(self) -> None:
        """Record the decision of every run that has nothing left to do."""
        for each in self.aheads:
            path = each.record.path
            is_decided = path.is_file() and RunRecord.read(path).decision is not None
            if not each.stages and not is_decided:
                each.run.is_quiet = True
                each.run.execute()

    def _write_down(self) -> None:
        """Everything that jobs and `status` read."""
        self.folder.mkdir(parents=True, exist_ok=True)
        site.write(self.cluster, self.folder, self._is_idle)
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

    def _plan_next(self, ids: list[str]) -> str | None:
        """Submit the planning job, unless one waits that nothing new has to be added to."""
        waits = self._planner in self._queue and not self._is_planner
        if waits and not ids:
            return self._planner
        if not (after := self._last(ids)) or not self._resubmits:
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
        python = site.pythons(self.cluster, self.folder).stages
        tasks = self._tasks(number)
        return slurm.stages_argv(array, self.cluster, self.name, tasks, self.folder, python)

    def _planning_argv(self, after: list[str]) -> list[str]:
        # A dry run prints what cluster=slurm submits, and the same must go on after it.
        words = [
            re.sub(r"^(cluster(?:\.kind)?)=dry_run$", r"\1=slurm", word)
            for word in shlex.split(self.command)
        ]
        python = str(site.pythons(self.cluster, self.folder).planner)
        command = f"{shlex.quote(python)} -m {shlex.join(words)}"
        return slurm.command_argv(command, after, self.cluster, f"{self.name}-plan", self.folder)

    def _tasks(self, number: int) -> Path:
        return self.folder / f"{self._first + number}.tsv"


@contextmanager
def one_at_a_time(directory: Path) -> Iterator[None]:
    """Keep two commands from submitting the same stage."""
    folder = directory.parents[1] / "slurm"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)  # the kernel lets go of it when we die
        yield


def _with_id(job: str, ids: list[str]) -> str:
    """`${job2}_5` with the id of the second array."""
    return re.sub(r"\$\{job(\d+)\}", lambda found: ids[int(found[1]) - 1], job)


def _shell_word(word: str) -> str:
    return word if word.startswith("--dependency=") else shlex.quote(word)


class Cancelled(NamedTuple):
    """What was cancelled, and what was left to whom."""

    jobs: list[str]
    shared: dict[str, str]  # job → a run that waits for it


def cancel(run_files: Iterable[Path], planning: Path, with_shared: bool) -> Cancelled:
    """Cancel the jobs of these runs and their planning job.

    A job that does a stage of another run without a decision is left, unless `with_shared`.
    """
    own = [path.absolute() for path in run_files]
    root = planning.parents[3]
    queue = slurm.queue()
    jobs = {
        job: path
        for run in map(RunRecord.read, own)
        for path in run.stage_paths
        if (job := slurm.job_of(root / path / "slurm.json")) in queue
    }
    others = (path for path in root.glob("run/*/run.json") if path not in own)
    waiting = {
        path: run.name
        for run in map(RunRecord.read, others)
        if run.decision is None
        for path in run.stage_paths
    }
    shared = {job: waiting[path] for job, path in jobs.items() if job and path in waiting}
    doomed = [job for job in jobs if job and (with_shared or job not in shared)]
    if (plan := slurm.job_of(planning)) is not None and plan in queue:
        doomed.insert(0, plan)  # first, or it would go on with what is left
    slurm.cancel(doomed)
    return Cancelled(doomed, {} if with_shared else shared)
