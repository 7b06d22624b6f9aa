"""Submit runs to Slurm, and cancel them: what is sure to be needed becomes arrays of jobs.

`slurm/{run,sweep}/<name>/` beside the runs holds the task lists, the jobs' logs and the id of the
planning job, which runs the same command when a round is over. `slurm.json` in a stage's directory
says which job does the stage. `site.py` tells what of the folder the jobs run.
"""

import os
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

from understudy.config.command_line import override
from understudy.errors import BadInput, EnvironmentFailed
from understudy.pipeline import waits
from understudy.pipeline.record import HoldoutRecord, RoundRecord, RunRecord
from understudy.pipeline.run import Run
from understudy.pipeline.stages import Stage
from understudy.services.journal import identity
from understudy.store.artifacts import StageDir, fingerprint, write_atomically
from understudy.sweep import backlog, environment, jobs, orphans, site, slurm
from understudy.sweep.arrays import Array, Ask, Pending, sinks, without
from understudy.sweep.backlog import Backlog
from understudy.sweep.packs import pack

_AWHILE_S = 600  # after which the job that goes on does so, whatever became of this command


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
        nodes = config.accelerate.nodes if config.accelerate.is_distributed else 1
        left = {stage.path for stage in each.stages}
        flags = dict[str, tuple[str, ...]]()
        for stage in each.stages:
            if (path := each.run.root / stage.path) not in found:
                spec, name = stage.spec, stage.name
                if name not in flags and spec.room == "api" and config.cluster.api == "here":
                    flags[name] = ()
                elif name not in flags:
                    asked = config.cluster.asked(spec.room, stage.kind, config.model.name)
                    gpus = {"none": 0, "one": min(1, asked.gpus), "all": asked.gpus}[spec.gpus]
                    flags[name] = slurm.flags(asked, gpus, nodes if spec.gpus == "all" else 1)
                ask = Ask(name, spec.room, flags[name], _lane(each.run, stage))
                upstream = {up.path for up in stage.inputs.values()} & left
                needs = tuple(each.run.root / up for up in sorted(upstream))
                found[path] = Pending(path, ask, needs, _seconds(stage)), each, stage
    return found


def _lane(run: Run, stage: Stage) -> str | None:
    """What a stage holds alone (`services.account.open_ledger`); a stand-in serves everybody."""
    service = stage.service(run.config)
    if service is None or service.provider == "offline":
        return None
    if run.config.budget.usd is not None:
        return run.purse
    return fingerprint(identity(service))


def _seconds(stage: Stage) -> float:
    """How long a stage may take, to order stages by; a guess that knows nothing of the machine."""
    if stage.spec.room == "cpu":
        return 3.0
    subset = stage.inputs.get("subset")
    rows = stage.params.get("rows") or (subset.params["data_size"] if subset else 0)
    return 30.0 + 0.3 * rows


@dataclass
class Submitted:
    """What one command has done."""

    arrays: dict[str, Array]  # by job, with the ids of the jobs that they wait for
    reused: int  # stages that were queued before
    lost: int  # stages that failed, and those that need them
    left: int  # jobs that are submitted when others have ended
    planning: str | None  # the job that goes on when these have ended
    full: str = ""  # why Slurm took no more, where it did not take all


class Submission:
    """The runs of one command, as far as their next undecided round."""

    def __init__(
        self, directory: Path, runs: Sequence[Run], command: str, is_again: bool = False
    ) -> None:
        self.name = directory.name
        self.cluster = runs[0].config.cluster
        self.root = directory.parents[1]
        self.folder = self.root / "slurm" / directory.parent.name / self.name
        self.command = command
        self._first = len(list(self.folder.glob("*.tsv")))  # task lists of earlier commands
        self._needed = environment.names([run.config for run in runs], shlex.split(command))
        try:  # before the stages are looked at: a job that is gone by now has written DONE
            self._queue = slurm.queue(*jobs.users(self.root))
        except EnvironmentFailed:
            if self.cluster.kind != "dry_run":  # which can be made anywhere
                raise
            self._queue = {}
        if self.cluster.kind != "dry_run":
            jobs.recover(self.root, self._queue)
        self.aheads = [ahead(run) for run in runs]
        needed = {path for each in self.aheads for path in each.record.stage_paths}
        orphans.refuse(directory, runs, needed, self._queue)
        self._cells = pending(self.aheads)
        self._plan = jobs.planner(self.folder)
        self._planner = self._plan.job if self._plan else None
        found = {path: record for path in self._cells if (record := jobs.read(path)) is not None}
        self.queued = {p: record.job for p, record in found.items() if record.job in self._queue}
        self.replaced, self.changes = self._outdated(found)
        for path in self.replaced:
            del self.queued[path]
        self._tries = dict[Path, int]()
        every = [cell for cell, _, _ in self._cells.values()]
        self.here = set[Path]()  # stages that no job does
        if self.cluster.api == "here":
            self.here = {cell.path for cell in every if cell.ask.room == "api"} - {*self.queued}
        every = without(every, self.here)
        # The planning job gives nothing a second chance, or it would go on failing for ever.
        self.cells = without(every, self._lost(found)) if self._is_planner or is_again else every
        self.lost = len(every) - len(self.cells)
        most = slurm.max_indices()
        self.backlog = Backlog(
            folder=self.folder,
            title=self.name,
            cluster=self.cluster,
            pythons=site.pythons(self.cluster, self.folder),
            limit=min(self.cluster.max_array or most, most),
            units=pack(self.cells, self.queued),
            queued=self.queued,
            packed={path for path in self.queued if found[path].stages > 1},
            setup=self._setup,
            options=environment.options(self._needed),
            tries=self._tries,
        )
        self.arrays = self.backlog.next_arrays(self._queue)

    @property
    def is_over(self) -> bool:
        """Whether all stages are done, so that only decisions are left."""
        return not self._cells

    @property
    def waits_for(self) -> list[Path]:
        """The stages of jobs that have not ended."""
        stages = (path for array in self.arrays for unit in array.tasks.values() for path in unit)
        return [*self.queued, *stages]

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
        return os.environ.get("SLURM_JOB_NAME") == self._planner_s_name

    def _lost(self, found: Mapping[Path, jobs.Record]) -> set[Path]:
        """The stages that the planning job leaves to a person, or it would go on for ever.

        A job whose upstream stages are not done has not run: what ended it was the end of theirs.
        """
        lost = set()
        for path, record in found.items():
            if path in self.queued or path in self.replaced or self._cells[path][0].needs:
                continue
            has_failed = (path / "failed.json").is_file()
            if jobs.may_try_again(record, slurm.ending(record.job), self.name, has_failed):
                self._tries[path] = record.tries + 1
            else:
                lost.add(path)
        return lost

    def _outdated(self, found: Mapping[Path, jobs.Record]) -> tuple[dict[Path, str], list[str]]:
        """Jobs that wait and ask for other than the config does now, and what has changed.

        Those of another run are left, unless they can never start. What waits for such a job
        would be cancelled with it. A stage that shares the job of another room's stage does as
        that one does.
        """
        gone, changes = dict[Path, str](), dict[str, None]()
        terms = cache(lambda ask: jobs.terms(ask, self.cluster))
        for path, (cell, _, _) in self._cells.items():
            if self._is_planner or path not in self.queued:
                continue
            record, state = found[path], self._queue[self.queued[path]]
            is_guest = record.room not in ("", cell.ask.room)
            new = [] if is_guest else record.changes(terms(cell.ask))
            is_ours = record.submission == self.name or waits.is_stuck(state.reason)
            if new and is_ours and state.state == "PENDING" and state.user == slurm.me():
                changes |= dict.fromkeys(new)
            elif gone.keys().isdisjoint(cell.needs):
                continue
            gone[path] = record.job
        return gone, [text for text in changes if not text.startswith("sbatch:")] or [*changes]

    def script(self) -> Iterator[str]:
        """Yield the shell lines that would submit the arrays for which there is room."""
        if self.replaced:
            yield shlex.join(["scancel", *sorted(self.replaced.values())])
        lists = self.backlog.task_lists()
        for number, (array, tasks) in enumerate(zip(self.arrays, lists, strict=False), 1):
            words = map(_shell_word, self.backlog.argv(array, tasks))
            yield f"job{number}=$({' '.join(words)})"
        if self._resubmits and self.arrays:
            names = [f"${{job{number}}}" for number in range(1, len(self.arrays) + 1)]
            after = f"--dependency=afterany:{':'.join(self._last(names))}"
            yield " ".join(map(_shell_word, self._planning_argv(after)))

    def submit(self) -> Submitted:
        """Prepare the stages, submit what there is room for, and the job that goes on after it.

        That job is submitted first, to begin in a while: where the queue is full, or this command
        dies, it goes on by itself. Raises BadInput when Slurm refuses an array, and then cancels
        what this call submitted; EnvironmentFailed where nothing goes on by itself.
        """
        self._write_down()
        submitted: dict[str, Array] = {}
        full, planning = "", None
        try:
            planning = self._reserve()
            slurm.cancel(self.replaced.values())
            full = self.backlog.advance(self.arrays, submitted)
            if planning is not None:
                planning = self._begin(planning, list(submitted), bool(full))
        except BadInput:
            self._take_back(planning, list(submitted))
            raise
        except EnvironmentFailed as error:
            raise EnvironmentFailed(f"{error}; {self._left(len(submitted))}") from None
        if full and planning is None:
            raise EnvironmentFailed(f"{full}; {self._left(len(submitted))}")
        left = len(self.backlog.left)
        return Submitted(submitted, len(self.queued), self.lost, left, planning, full)

    def _left(self, submitted: int) -> str:
        told = "are submitted, and the same command submits the rest"
        return f"{submitted} of {len(self.arrays)} arrays {told}"

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
        jobs.sign(self.root)
        script = environment.script(self._needed, site.setup_file(self.cluster))
        write_atomically(self._setup, script)
        for each in self.aheads:
            if each.stages:
                each.record.write(is_flushed=False)
        for cell in self.cells:
            if cell.path not in self.queued:
                _, each, stage = self._cells[cell.path]
                each.run.prepare(stage, is_flushed=False)
        os.sync()  # all of them at once, before a job can look for them
        self.backlog.write()

    def _reserve(self) -> str | None:
        """The job that will go on, waiting for a while; None where nothing is to come."""
        if not self._resubmits or not (self.arrays or self._queued_last):
            return None
        old, me = self._planner or "", os.environ.get("SLURM_JOB_ID", "")
        if (state := self._queue.get(old)) and old != me and state.user == slurm.me():
            parked = {"Dependency": "", "StartTime": f"now+{_AWHILE_S}"}
            asked = jobs.terms(jobs.plan_ask(self.cluster), self.cluster)
            is_right = self._plan is not None and not self._plan.changes(asked)
            if is_right and (not self.arrays or slurm.change(old, **parked)):
                return old
            slurm.cancel([old])
        try:
            argv = self._planning_argv(f"--begin=now+{_AWHILE_S}")
            return jobs.submit_planner(self.folder, argv, self.cluster)
        except slurm.QueueFull as error:
            if self._is_planner and slurm.requeue(me):
                raise EnvironmentFailed(f"{error}; queued again to go on") from None
            raise

    def _begin(self, planning: str, ids: list[str], is_full: bool) -> str:
        """Let the job that goes on wait for all that is submitted; where more is to be, for any."""
        if not self.arrays and planning == self._planner:
            return planning
        after = self._after(ids, is_full)
        if not after:
            return planning  # in a while
        if not slurm.change(planning, StartTime="now", Dependency=after):
            slurm.cancel([planning])
            argv = self._planning_argv(f"--dependency={after}")
            return jobs.submit_planner(self.folder, argv, self.cluster)
        return planning

    def _take_back(self, planning: str | None, ids: list[str]) -> None:
        """Cancel what this command submitted; an older job that goes on does so."""
        slurm.cancel(ids)
        if planning is not None:
            after = self._after([], is_full=True) if planning == self._planner else ""
            if not after or not slurm.change(planning, StartTime="now", Dependency=after):
                slurm.cancel([planning])

    def _after(self, ids: list[str], is_full: bool) -> str:
        if is_full:  # any end makes room
            known = [*ids, *sorted({job.partition("_")[0] for job in self.queued.values()})]
            return "?".join(f"afterany:{job}" for job in known)
        last = self._last(ids)
        return f"afterany:{':'.join(last)}" if last else ""

    def _last(self, ids: list[str]) -> list[str]:
        """The jobs after which all that is submitted has ended; `ids` are those of the arrays."""
        taken = {stages[0] for array in self.arrays for stages in array.tasks.values()}
        last = set(sinks(unit for unit in self.backlog.units if unit.path in taken))
        made = [
            job
            for job, array in zip(ids, self.arrays, strict=True)
            if any(stages[0] in last for stages in array.tasks.values())
        ]
        return made + self._queued_last

    @property
    def _queued_last(self) -> list[str]:
        """The jobs that were queued before and that no other waits for."""
        needed = {path for cell in self.cells for path in cell.needs}
        return sorted({job for path, job in self.queued.items() if path not in needed})

    def _planning_argv(self, after: str) -> list[str]:
        # A dry run prints what cluster=slurm submits, and the same must go on after it.
        words = [
            re.sub(r"^(cluster(?:\.kind)?)=dry_run$", r"\1=slurm", word)
            for word in shlex.split(self.command)
        ]
        if not any(word.startswith("paths.root=") for word in words):  # not by the environment
            words.insert(2, override("paths.root", str(self._paths_root)))
        python = str(site.pythons(self.cluster, self.folder).planner)
        command = f"{shlex.quote(python)} -m {shlex.join(words)}"
        argv = slurm.command_argv(command, after, self.cluster, self._planner_s_name, self._setup)
        return [argv[0], *environment.options(self._needed), *argv[1:]]

    @property
    def _planner_s_name(self) -> str:
        return f"{self.name}-plan"

    @property
    def _paths_root(self) -> Path:
        return Path(self.aheads[0].run.config.paths.root).expanduser().absolute()

    @property
    def _setup(self) -> Path:
        return self.folder / f"{self._first + 1}.sh"


def _shell_word(word: str) -> str:
    return word if word.startswith("--dependency=") else shlex.quote(word)


class Cancelled(NamedTuple):
    """What was cancelled, and what was left to whom."""

    jobs: list[str]
    shared: dict[str, str]  # job → a run that waits for it
    others: dict[str, str]  # job → the user who alone may cancel it


def cancel(run_files: Iterable[Path], planning: Path, with_shared: bool) -> Cancelled:
    """Cancel the jobs of these runs and their planning job.

    A job that does a stage of another run without a decision is left, unless `with_shared`.
    """
    own = [path.absolute() for path in run_files]
    root = planning.parents[3]
    backlog.stop(planning.parent)  # or a job that ends meanwhile would submit the rest
    queue = slurm.queue(*jobs.users(root))
    jobs.recover(root, queue)
    stages = {run.root / path: path for run in map(RunRecord.read, own) for path in run.stage_paths}
    found = {
        record.job: path
        for place, path in stages.items()
        if (record := jobs.read(place)) is not None and record.job in queue
    }
    waiting = orphans.waited_for(root, dict.fromkeys(own))
    shared = {job: waiting[path] for job, path in found.items() if path in waiting}
    doomed = [job for job in found if with_shared or job not in shared]
    if (plan := jobs.planner(planning.parent)) is not None and plan.job in queue:
        doomed.insert(0, plan.job)  # first, or it would go on with what is left
    may_all = os.getuid() == 0
    others = {job: queue[job].user for job in doomed}
    others = {job: user for job, user in others.items() if user != slurm.me() and not may_all}
    doomed = [job for job in doomed if job not in others]
    slurm.cancel(doomed)
    return Cancelled(doomed, {} if with_shared else shared, others)
