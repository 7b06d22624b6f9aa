"""Which job does which stage: written before `sbatch` is asked, and after, so that all are known.

`slurm/{run,sweep}/<name>/<what>.asked` says what a call of `sbatch` is about to submit. It goes
when the job's id stands on the disk in `slurm.json` of each stage, or in `planning.json`. A command
that dies in between leaves it, and the next finds the job by the comment that it was given.
"""

import fcntl
import json
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from understudy.config.cluster import ClusterConfig, Room
from understudy.errors import BadInput
from understudy.pipeline.standing import JobEnd, JobState
from understudy.store.artifacts import lines, write_atomically
from understudy.sweep import slurm
from understudy.sweep.arrays import Ask

_TRIES = 3  # of a stage by jobs that nobody has typed a command for
_HOW = {  # of no job's own
    *("kind", "processes", "max_array", "max_jobs", "throttle", "resubmit", "gpu", "cpu", "api"),
    *("finetune", "inference", "models"),  # as told by the flags
}

Terms = dict[str, Any]  # what a job was asked to be: leaf of the config → value


@dataclass(frozen=True)
class Record:
    """The job that was submitted for a stage: its slurm.json."""

    job: str
    submission: str  # the run or sweep that it was submitted for
    log: str
    user: str = ""  # who submitted it; empty = an older understudy did not say
    room: str = ""
    tries: int = 1  # since somebody has typed a command
    terms: Terms = field(default_factory=dict)
    stages: int = 1  # that the job does

    def changes(self, terms: Terms) -> list[str]:
        """Return what is asked for now and was not then, leaf by leaf."""
        known = self.terms.keys() & terms.keys()
        return [
            f"{leaf}: {self.terms[leaf]} → {terms[leaf]}"
            for leaf in sorted(known)
            if self.terms[leaf] != terms[leaf]
        ]


@dataclass(frozen=True)
class _Asked:
    """What a call of sbatch is about to submit, or has submitted."""

    comment: str
    submission: str
    user: str
    stages: dict[str, list[str]]  # index of the array → its stages, from the submission's folder
    tries: dict[str, int]  # by stage, of those that were tried before
    room: str
    terms: Terms


def terms(ask: Ask, cluster: ClusterConfig) -> Terms:
    """Return what a stage's job depends on of the cluster's settings."""
    every = asdict(cluster)
    own = {f"cluster.{leaf}": value for leaf, value in every.items() if leaf not in _HOW}
    if isinstance(room := every[ask.room], dict):  # else no job does it any more
        own |= {f"cluster.{ask.room}.{leaf}": value for leaf, value in room.items()}
    plain: Terms = json.loads(json.dumps({**own, "sbatch": ask.flags}))
    return plain


def read(stage: Path) -> Record | None:
    """Return the record of the job that does a stage; None where none was submitted."""
    return _read(stage / "slurm.json")


def planner(folder: Path) -> Record | None:
    """Return the job that goes on with a submission, if there was one."""
    return _read(folder / "planning.json")


def _read(path: Path) -> Record | None:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    known = {name: values[name] for name in Record.__dataclass_fields__ if name in values}
    return Record(**{"submission": "", "log": "", **known})


def submit(
    folder: Path,
    what: str,
    argv: list[str],
    stages: Mapping[int, Sequence[Path]],
    ask: Ask,
    cluster: ClusterConfig,
    tries: Mapping[Path, int],
    is_flushed: bool = True,
) -> str:
    """Submit an array and write down which job does which stage; return its id.

    A caller that submits many need not have each flushed, and calls `flush` behind the last.
    """
    names = {path: os.path.relpath(path, folder) for paths in stages.values() for path in paths}
    for path in names:
        (path / "failed.json").unlink(missing_ok=True)
    asked = _Asked(
        f"understudy:{secrets.token_hex(8)}",
        folder.name,
        slurm.me(),
        {str(index): [names[path] for path in paths] for index, paths in stages.items()},
        {name: tries[path] for path, name in names.items() if path in tries},
        ask.room,
        terms(ask, cluster),
    )
    return _submit(folder / f"{what}.asked", asked, argv, ask.room, is_flushed)


def flush(folder: Path, whats: Iterable[str]) -> None:
    """Flush what was written about these arrays, then forget that they were asked for."""
    os.sync()
    for what in whats:
        (folder / f"{what}.asked").unlink(missing_ok=True)


def submit_planner(folder: Path, argv: list[str], cluster: ClusterConfig) -> str:
    """Submit the job that goes on with a submission; return its id."""
    comment = f"understudy:{secrets.token_hex(8)}"
    told = terms(plan_ask(cluster), cluster)
    asked = _Asked(comment, folder.name, slurm.me(), {}, {}, "cpu", told)
    return _submit(folder / "planning.asked", asked, argv, "cpu")


def plan_ask(cluster: ClusterConfig) -> Ask:
    """Return what the job that goes on is and asks for."""
    return Ask("plan", "cpu", slurm.flags(cluster.cpu, 0, 1), None)


def _submit(path: Path, asked: _Asked, argv: list[str], room: Room, is_flushed: bool = True) -> str:
    write_atomically(path, json.dumps(asdict(asked)))
    try:
        job = slurm.submit([argv[0], f"--comment={asked.comment}", *argv[1:]], room)
    except (BadInput, slurm.QueueFull):  # of any other error nobody knows what became of it
        path.unlink()
        raise
    _settle(path, asked, job, is_flushed)
    return job


def _settle(path: Path, asked: _Asked, job: str, is_flushed: bool = True) -> None:
    """Write the job down where everybody looks for it."""
    folder = path.parent
    who, room, told = asked.user, asked.room, asked.terms
    for index, names in asked.stages.items():
        log = str(folder / f"{job}_{index}.log")
        for name in names:
            tries = asked.tries.get(name, 1)
            about = (who, room, tries, told, len(names))
            record = Record(f"{job}_{index}", asked.submission, log, *about)
            home = Path(os.path.normpath(folder / name))
            write_atomically(home / "slurm.json", lines(vars(record)), is_flushed)
    if not asked.stages:
        planned = Record(job, asked.submission, str(folder / f"{job}.log"), who, room, 1, told)
        write_atomically(folder / "planning.json", json.dumps(asdict(planned)))
    if is_flushed:
        path.unlink(missing_ok=True)


def recover(root: Path, queue: Mapping[str, JobState]) -> None:
    """Write down the jobs of commands that died before they could; hold `one_at_a_time`."""
    jobs = {state.comment: job.partition("_")[0] for job, state in queue.items() if state.comment}
    for path in (root / "slurm").glob("*/*/*.asked"):
        with suppress(FileNotFoundError):
            asked = _Asked(**json.loads(path.read_text(encoding="utf-8")))
            if asked.comment in jobs:
                _settle(path, asked, jobs[asked.comment])
            elif not slurm.hides(asked.user):
                path.unlink()  # it was not submitted, or has ended


def users(root: Path) -> list[str]:
    """Return who has submitted below this root; whoever asks from now on is one of them."""
    folder = root / "slurm" / "users"
    return sorted({slurm.me(), *(path.name for path in folder.glob("*"))})


def sign(root: Path) -> None:
    """Write down that this user submits below this root, so that others ask for these jobs too."""
    place = root / "slurm" / "users" / slurm.me()
    place.parent.mkdir(parents=True, exist_ok=True)
    place.touch()


def may_try_again(record: Record, end: JobEnd | None, submission: str, has_failed: bool) -> bool:
    """Whether a planning job may submit a stage anew whose job has ended without a result.

    What another run's job did is no failure of this run, a lost node is nobody's, and of a job
    that Slurm has forgotten nobody knows. All else is for a person to look at.
    """
    if record.tries >= _TRIES:
        return False
    if record.submission != submission or (end is not None and end.is_lost):
        return True
    return end is None and not has_failed and record.tries == 1


@contextmanager
def one_at_a_time(directory: Path) -> Iterator[None]:
    """Keep two commands from submitting the same stage; `directory` is that of a run or sweep."""
    folder = directory.parents[1] / "slurm"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)  # the kernel lets go of it when we die
        os.set_inheritable(guard.fileno(), True)  # and `sbatch`, should it outlive us
        yield
