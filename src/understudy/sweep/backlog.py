"""The jobs of a submission, of which only so many are queued at a time; the rest follow.

    python -m understudy.sweep.backlog FOLDER

is what each job does when it ends, as long as `FOLDER/refill` is there: it submits what fits into
the room that has become free. `FOLDER/backlog.json` holds the units in their order and how to
submit them, `FOLDER/submitted.tsv` the job of each that is.
"""

import dataclasses
import json
import os
import re
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path

from understudy.config.cluster import ClusterConfig
from understudy.errors import BadInput, EnvironmentFailed
from understudy.pipeline.standing import JobState
from understudy.store.artifacts import StageDir, write_atomically
from understudy.sweep import jobs, slurm
from understudy.sweep.arrays import Array, Ask, Unit, arrange
from understudy.sweep.site import Pythons

_ME = "understudy.sweep.backlog"
_NAME, _JOBS, _REFILL = "backlog.json", "submitted.tsv", "refill"
_MANY = 100  # stages, from which on one flush of all is quicker than a flush each
_NICEST = 100  # little beside the weights of a site, enough among the jobs of one sweep


@dataclass
class Backlog:
    """Units in the order to submit them, and the jobs of those that are."""

    folder: Path
    title: str
    cluster: ClusterConfig
    pythons: Pythons  # that its jobs start
    limit: int  # jobs of one array
    units: list[Unit]
    queued: dict[Path, str]  # stages that were queued before, with their job
    packed: set[Path] = field(default_factory=set)  # those of them that share a job
    setup: Path | None = None  # what its jobs source first
    options: list[str] = field(default_factory=list)  # more for sbatch
    tries: dict[Path, int] = field(default_factory=dict)  # of stages that were tried before
    jobs: dict[Path, str] = field(default_factory=dict)  # by unit

    @classmethod
    def read(cls, folder: Path) -> "Backlog":
        """Read what `write` and `advance` have written."""
        values = json.loads((folder / _NAME).read_text(encoding="utf-8"))
        asks = [Ask(stage, room, tuple(flags), lane) for stage, room, flags, lane in values["asks"]]
        units = [
            Unit(_paths(stages), asks[ask], _paths(needs), _paths(after), tail)
            for stages, ask, needs, after, tail in values["units"]
        ]
        lines = (folder / _JOBS).read_text(encoding="utf-8").splitlines()
        submitted = (line.partition("\t") for line in lines)
        return cls(
            folder,
            values["title"],
            ClusterConfig(**values["cluster"]),
            Pythons(*map(Path, values["pythons"])),
            values["limit"],
            units,
            {Path(path): job for path, job in values["queued"].items()},
            set(map(Path, values["packed"])),
            Path(values["setup"]) if values["setup"] else None,
            values["options"],
            {Path(path): tries for path, tries in values["tries"].items()},
            {Path(path): job for job, _, path in submitted},
        )

    def write(self) -> None:
        """Write all but the jobs, and the script that jobs end with."""
        asks = list(dict.fromkeys(unit.ask for unit in self.units))
        number = {ask: n for n, ask in enumerate(asks)}
        values = {
            "title": self.title,
            "cluster": dataclasses.asdict(self.cluster),
            "pythons": _texts(self.pythons),
            "limit": self.limit,
            "queued": {str(path): job for path, job in self.queued.items()},
            "packed": _texts(self.packed),
            "setup": str(self.setup) if self.setup else None,
            "options": self.options,
            "tries": {str(path): tries for path, tries in self.tries.items()},
            "asks": asks,
            "units": [
                (_texts(unit.stages), number[unit.ask], *map(_texts, unit[2:4]), unit.tail)
                for unit in self.units
            ],
        }
        write_atomically(self.folder / _NAME, json.dumps(values))
        write_atomically(self.folder / _JOBS, "")
        if not self.cluster.resubmit:
            return
        script = self.folder / _REFILL
        words = [str(self.pythons.planner), "-m", _ME, str(self.folder)]
        write_atomically(script, f"#!/usr/bin/env bash\nexec {shlex.join(words)}\n")
        script.chmod(0o755)

    @property
    def left(self) -> list[Unit]:
        """The units that are not submitted yet."""
        return [unit for unit in self.units if unit.path not in self.jobs]

    @property
    def most(self) -> int:
        """How many jobs may be queued or run at a time."""
        most, throttle = self.cluster.max_jobs, self.cluster.throttle
        return min(most, throttle) if throttle and self.cluster.resubmit else most

    def next_arrays(self, queue: Mapping[str, JobState]) -> list[Array]:
        """Return the arrays that fit into the room there is."""
        live = {path: job for path, job in (self.queued | self.jobs).items() if job in queue}
        me = "{SLURM_ARRAY_JOB_ID}_{SLURM_ARRAY_TASK_ID}".format_map(_Environment())
        room = self.most - len({job for job in live.values() if job != me})
        taken = list[Unit]()
        coming = set(live)
        for unit in self.left:
            if len(taken) >= room:
                break
            gone = (up for up in unit.needs if up not in coming and not StageDir(up).is_done)
            if len(unit.stages) == 1 and next(gone, None) is not None:
                continue  # it could only find that out
            taken.append(unit)
            coming.add(unit.path)
        return arrange(taken, live, self.limit, self.packed)

    def advance(self, arrays: list[Array], submitted: dict[str, Array]) -> str:
        """Submit these arrays, and note each by its job in `submitted`; say why not all.

        Raises BadInput when Slurm refuses one, EnvironmentFailed when it does not answer.
        """
        full, flushed_later = "", list[str]()
        is_many = sum(len(unit) for array in arrays for unit in array.tasks.values()) > _MANY
        for array, tasks in zip(arrays, self.task_lists(), strict=False):
            known, left = _with_ids(array, list(submitted)), dict(array.tasks)
            while left:
                known = replace(known, tasks=left)
                lines = (f"{at}\t{path}\n" for at, unit in left.items() for path in unit)
                tasks.write_text("".join(lines), encoding="utf-8")
                argv = self.argv(known, tasks)
                argv[1:1] = self.options
                place = self.folder, tasks.stem, argv, left, array.ask, self.cluster, self.tries
                try:
                    job = jobs.submit(*place, is_flushed=not is_many)
                except slurm.QueueFull as error:
                    full, left = str(error), dict(list(left.items())[: len(left) // 2])
                else:
                    submitted[job] = known
                    self._note(job, known)
                    flushed_later += [tasks.stem] * is_many
                    break
            if full:
                break
        if flushed_later:
            jobs.flush(self.folder, flushed_later)
        if not self.left:
            stop(self.folder)
        return full

    def task_lists(self) -> Iterator[Path]:
        """Yield the files of the next task lists."""
        first = 1 + len(list(self.folder.glob("[0-9]*.tsv")))
        return (self.folder / f"{number}.tsv" for number in count(first))

    def argv(self, array: Array, tasks: Path) -> list[str]:
        """Return the line that submits an array; what leads to the latest end is the least nice."""
        longest = max(unit.tail for unit in self.units)
        nice = round(_NICEST * (1 - array.tail / longest)) if longest else 0
        places = tasks, self.folder, self.pythons.stages, self.setup
        return slurm.stages_argv(array, self.cluster, self.title, *places, nice)

    def _note(self, job: str, array: Array) -> None:
        """Say which units are submitted."""
        found = {stages[0]: f"{job}_{index}" for index, stages in array.tasks.items()}
        self.jobs |= found
        with (self.folder / _JOBS).open("a", encoding="utf-8") as file:
            file.writelines(f"{job}\t{path}\n" for path, job in found.items())


def refill(folder: Path) -> int:
    """Submit what fits now; return the number of jobs."""
    root = folder.parents[2]
    with jobs.one_at_a_time(root / folder.parent.name / folder.name):
        if not (folder / _REFILL).is_file():  # cancelled, or all are submitted
            return 0
        backlog, submitted = Backlog.read(folder), dict[str, Array]()
        backlog.advance(backlog.next_arrays(slurm.queue(*jobs.users(root))), submitted)
    return sum(len(array.tasks) for array in submitted.values())


def stop(folder: Path) -> None:
    """Submit nothing more of it."""
    (folder / _REFILL).unlink(missing_ok=True)


class _Environment(dict[str, str]):
    """The environment, in which what is missing is empty."""

    def __missing__(self, key: str) -> str:
        return os.environ.get(key, "")


def _with_ids(array: Array, ids: list[str]) -> Array:
    """The array with `${job2}_5` as the id of the second array that was submitted before it."""

    def known(jobs: tuple[str, ...]) -> tuple[str, ...]:
        found = re.compile(r"\$\{job(\d+)\}")
        return tuple(found.sub(lambda name: ids[int(name[1]) - 1], job) for job in jobs)

    return replace(
        array,
        aftercorr=known(array.aftercorr),
        afterok=known(array.afterok),
        afterany=known(array.afterany),
    )


def _texts(paths: Iterable[Path]) -> list[str]:
    return list(map(str, paths))


def _paths(texts: list[str]) -> tuple[Path, ...]:
    return tuple(map(Path, texts))


if __name__ == "__main__":
    try:
        print(f"submitted {refill(Path(sys.argv[1]))} jobs that waited for room", file=sys.stderr)
    except (
        BadInput,
        EnvironmentFailed,
    ) as error:  # the next end tries again
        print(f"understudy: {error}", file=sys.stderr)
