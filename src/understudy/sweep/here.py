"""API stages on the machine that submits, where compute nodes have no network (cluster.api=here).

The command stays: it submits what jobs can do, works off the API stages whose inputs are there, and
looks again when a stage is done. Ctrl-C leaves the jobs as they are; the same command goes on.
"""

import time
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path

from understudy.errors import UnderstudyError
from understudy.pipeline.start import Workers
from understudy.store.artifacts import StageDir
from understudy.sweep.submission import Submission

_GLANCE_S = 1.0  # at the directories of stages that jobs do,
_ASK_S = 15.0  # and at Slurm, which tells of those that have failed


def drive(
    submit: Callable[[bool], Submission], processes: int, say: Callable[[str], None]
) -> Submission:
    """Return the last submission: all is done, or nothing more can be.

    `submit(is_again)` looks at the stages and submits. Raises the error of a stage that failed here
    when all that does not need it is done.
    """
    workers, busy = Workers(), dict[Future[int], Path]()
    failed: dict[Path, UnderstudyError] = {}
    with ThreadPoolExecutor(processes) as pool:
        try:
            job = submit(False)
            while True:
                ready = [p for p in job.prepared_here() if p not in failed | _by(busy)]
                for path in ready[: processes - len(busy)]:
                    say(f"here: {path.parent.name}/{path.name}")
                    busy[pool.submit(workers.run, path)] = path
                if job.is_over or not (busy or job.waits_for):
                    break
                for future in _next(busy, job.waits_for):
                    path = busy.pop(future)
                    try:
                        future.result()
                    except UnderstudyError as error:
                        failed[path] = error
                job = submit(True)
        except BaseException:
            workers.stop()
            raise
    if failed:
        raise max(failed.values(), key=lambda error: error.exit_code)
    return job


def _by(busy: dict[Future[int], Path]) -> dict[Path, Future[int]]:
    return {path: future for future, path in busy.items()}


def _next(busy: dict[Future[int], Path], elsewhere: Iterable[Path]) -> Iterable[Future[int]]:
    """Wait until a stage is done, here or in a job, or it is time to ask Slurm."""
    until, jobs = time.monotonic() + _ASK_S, list(map(StageDir, elsewhere))
    while time.monotonic() < until:
        if not busy:
            time.sleep(_GLANCE_S)
        elif done := wait(busy, _GLANCE_S, FIRST_COMPLETED).done:
            return done
        if any(stage.is_done for stage in jobs):
            break
    return []
