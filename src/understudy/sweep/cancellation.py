"""Cancel the jobs of a run or sweep, except those of stages that another run waits for."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from understudy.pipeline.record import RunRecord
from understudy.sweep import slurm


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
