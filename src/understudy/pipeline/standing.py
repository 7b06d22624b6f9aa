"""How a stage stands: done, running, queued, failed, blocked by one that failed, or missing."""

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from understudy.errors import EnvironmentFailed
from understudy.pipeline import waits
from understudy.store import locks
from understudy.store.artifacts import StageDir
from understudy.store.progress import latest_loss

STATES = ("done", "running", "queued", "failed", "cancelled", "blocked", "missing")


class Standing(NamedTuple):
    """One of STATES, and why a stage failed or cannot run."""

    state: str
    reason: str = ""


class JobState(NamedTuple):
    """A job that has not ended, in Slurm's words."""

    state: str
    reason: str
    user: str = ""
    comment: str = ""


class JobEnd(NamedTuple):
    """How a job has ended."""

    is_cancelled: bool
    words: str
    is_lost: bool = False  # by its node, not by what it did


class Scheduler(Protocol):
    """What knows of the jobs that stages were submitted as."""

    def queue(self, *users: str) -> Mapping[str, JobState]:
        """Return unfinished jobs by id, ours or of users; EnvironmentFailed without an answer."""

    def ending(self, job: str) -> JobEnd | None:
        """Return how a job has ended, as long as that is remembered."""

    def hides(self, user: str) -> bool:
        """Return whether this user's jobs may be kept from us."""


SCHEDULERS: list[Scheduler] = []  # what submits stages adds itself


class Standings:
    """The stages below one root; Slurm is asked once, and only when it was given one of them."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._known: dict[str, Standing] = {}
        self._queues: dict[str, tuple[Scheduler | None, Mapping[str, JobState]]] = {}

    def of(self, stage: str) -> Standing:
        """Return how the stage of this directory stands, e.g. `finetune/0123456789abcdef`."""
        if stage not in self._known:
            self._known[stage] = self._look(stage)
        return self._known[stage]

    def losses(self, stage: str) -> str:
        """Return the step and losses of a fine-tuning that goes on; "" of any other stage."""
        return latest_loss(StageDir(self._root / stage)) if stage.startswith("finetune/") else ""

    def outline(self, stages: Iterable[str]) -> str:
        """Return how many are in which state, and the first reason why one failed or waits."""
        found = [self.of(stage) for stage in dict.fromkeys(stages)]
        counts = Counter(standing.state for standing in found)
        text = ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state])
        ended = ("failed", "cancelled")
        reason = next((s.reason for s in found if s.state in ended and s.reason), "")
        reason = reason or next((s.reason for s in found if s.reason), "")
        return f"{text}: {reason}" if reason else text

    def _look(self, stage: str) -> Standing:
        directory = StageDir(self._root / stage)
        try:  # one look at the folder: a sweep has thousands, and most files are not there
            names = set(os.listdir(directory.path))
        except FileNotFoundError:
            return Standing("missing")
        if "DONE" in names:
            return Standing("done")
        record = _read(directory, "slurm.json") if "slurm.json" in names else None
        user = str(record.get("user", "")) if record else ""
        scheduler, queue = self._asked(user) if record else (None, {})
        job = queue.get(record["job"]) if record else None
        is_shared = record is not None and record.get("stages", 1) > 1  # its job does others
        if record and job is not None and not is_shared:
            if job.state != "PENDING":
                return Standing("running")
            why = waits.sentence(record["job"], job.reason, record.get("room", ""))
            return Standing("queued", why)
        if "LOCK" in names and locks.is_held(directory.path / "LOCK"):
            return Standing("running")
        if "failed.json" in names and (failed := _read(directory, "failed.json")):
            return Standing("failed", f"{stage} failed: {failed['sentence']}")
        if record and job is not None:
            why = waits.sentence(record["job"], job.reason, record.get("room", ""))
            return Standing("queued", why)
        if record is None:
            return Standing("missing")
        for upstream in directory.read("inputs.json")["inputs"].values():
            above = self.of(upstream)
            if above.state in ("failed", "cancelled", "blocked"):
                return Standing("blocked", above.reason)
        if scheduler is None:
            return Standing(
                "queued", f"job {record['job']}, as far as known: no Slurm answers here"
            )
        ended = scheduler.ending(record["job"])
        if ended is None and user and scheduler.hides(user):
            words = f"job {record['job']} of {user}, as far as known: this cluster hides it"
            return Standing("queued", f"{words} (PrivateData)")
        ended = ended or JobEnd(False, "Slurm does not remember it")
        state = "cancelled" if ended.is_cancelled else "failed"
        return Standing(state, f"{stage}: job {record['job']}: {ended.words}; see {record['log']}")

    def _asked(self, user: str) -> tuple[Scheduler | None, Mapping[str, JobState]]:
        """The one that answers, and its queue of this user."""
        if user not in self._queues:
            self._queues[user] = None, {}
            for scheduler in SCHEDULERS:
                try:
                    self._queues[user] = scheduler, scheduler.queue(*([user] if user else []))
                    break
                except EnvironmentFailed:  # no machine of the cluster, or a controller that is away
                    continue
        return self._queues[user]


def _read(directory: StageDir, name: str) -> dict[str, Any] | None:
    try:
        content: dict[str, Any] = directory.read(name)
    except FileNotFoundError:
        return None
    return content
