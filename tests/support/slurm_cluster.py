"""A real Slurm for the slow tests: slurm/dev-cluster.sh, and what tests ask of it."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "slurm" / "dev-cluster.sh"
SMALL = [  # so that a node of two cores takes two jobs
    "cluster=slurm",
    *(f"cluster.{room}.cpus=1" for room in ("gpu", "cpu", "api")),
    *(f"cluster.{room}.memory_gb=1" for room in ("gpu", "cpu", "api")),
]


TINY = [
    *("coverage.rows=24", "coverage.split.test=4", "coverage.split.validation=4"),
    *("inference.k=1", "inference.max_new_tokens=8", "evaluation.m=1"),
]


@contextmanager
def running(more: str = "") -> Iterator[None]:
    """The cluster, in the environment of this process; skips where it cannot be started.

    `more` are further lines of its slurm.conf.
    """
    for program in ("slurmctld", "slurmd", "munged", "squeue"):
        if shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin") is None:
            pytest.skip(f"{program} is not installed: apt-get install -y slurm-wlm munge")
    state = Path(f"/tmp/understudy-slurm-test-{os.getpid()}")  # short: a socket's path is limited
    old = dict(os.environ)
    port = 20000 + 8 * (os.getpid() % 5000)
    os.environ |= {"DEV_CLUSTER": str(state), "DEV_CLUSTER_PORT": str(port)}
    os.environ["DEV_CLUSTER_MORE"] = more
    os.environ["SLURM_CONF"] = str(state / "slurm.conf")
    try:
        up = subprocess.run([str(SCRIPT), "up"], capture_output=True, text=True)
        assert up.returncode == 0, up.stderr
        yield
    finally:
        subprocess.run([str(SCRIPT), "down"], capture_output=True)
        os.environ.clear()
        os.environ.update(old)


def understudy(*words: str, code: int = 0, cwd: Path | None = None, **more: str) -> str:
    """What a command of ours says, in this environment and with `more` of it."""
    done = subprocess.run(
        [sys.executable, "-m", "understudy", *words],
        **{"capture_output": True, "text": True, "timeout": 300},
        cwd=cwd,
        env=os.environ | more,
    )
    assert done.returncode == code, done.stderr + done.stdout
    return done.stdout + done.stderr


def ask(*argv: str) -> str:
    """What a command of Slurm's prints."""
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()


def jobs(form: str = "%F_%K %T %r", *more: str) -> list[str]:
    return ask("squeue", "-h", "-r", "-o", form, *more).splitlines()


def set_node(node: str, state: str) -> None:
    ask("scontrol", "update", f"nodename={node}", f"state={state}", "reason=test")


def restarts(job: str) -> int:
    """How often a job was requeued."""
    found = re.search(r"Restarts=(\d+)", ask("scontrol", "-o", "show", "job", job))
    assert found is not None, f"Slurm does not know job {job}"
    return int(found[1])


def hurry() -> None:
    """Start requeued jobs soon; Slurm makes them wait for two minutes."""
    waiting = [line.split()[0] for line in jobs("%i %r") if line.endswith("BeginTime")]
    if waiting:
        time.sleep(1)  # slurmd launches no job in the second in which it has killed it: it fails
    for job in waiting:
        subprocess.run(["scontrol", "update", f"JobId={job}", "StartTime=now"])


@contextmanager
def nothing_starts() -> Iterator[None]:
    """What is submitted in the block stays queued until its end."""
    for partition in ("main", "low"):
        ask("scontrol", "update", f"PartitionName={partition}", "State=DOWN")
    try:
        yield
    finally:
        for partition in ("main", "low"):
            ask("scontrol", "update", f"PartitionName={partition}", "State=UP")


def wait_until(
    is_so: Callable[[], bool], what: str, hurrying: bool = True, seconds: float = 900
) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, f"{what}: {jobs()}"
        if hurrying:
            hurry()
        time.sleep(0.2)


def cancel_all() -> None:
    """Cancel what is left, and wait for its end."""
    ask("scancel", "--me")
    wait_for_all()


def wait_for_all() -> None:
    """Wait until no job is left, planned ones included."""
    wait_until(lambda: not jobs(), "jobs are left")
