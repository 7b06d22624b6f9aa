"""Slurm: what `sbatch` is told, and what `squeue` and `scontrol` say."""

import os
import pwd
import re
import shlex
import signal
import subprocess
import threading
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import lru_cache
from math import ceil
from pathlib import Path

from understudy import locations
from understudy.config.cluster import ClusterConfig, Resources, Room
from understudy.errors import BadInput, EnvironmentFailed
from understudy.pipeline.standing import JobEnd, JobState
from understudy.sweep.arrays import Array
from understudy.sweep.site import setup_file

_INDICES = 1000  # of an array where Slurm does not say (its default MaxArraySize is 1001)
# Not the user's to mend, and the same line may pass later; every other refusal is bad input.
_PASSING = "contact|timed out|configuration source|authentic|protocol"
# The queue is full, for everybody (MaxJobCount), an account, a QOS or a user; it will drain.
_FULL = "temporarily unable|queue full|submit.{0,20}limit"
_TRIES_S = 120  # of one command of Slurm's

# Ends that a setting of ours can help with.
_ENDS = {
    "OUT_OF_MEMORY": "out of memory; raise memory_gb of its allocation (cluster.gpu, cpu or api)",
    "TIMEOUT": "out of time; raise hours of its allocation (cluster.gpu, cpu or api)",
    "DEADLINE": "its deadline passed before it could end",
    "CANCELLED": "its job was cancelled",
    "NODE_FAIL": "its node failed (NODE_FAIL); the same command goes on",
    "BOOT_FAIL": "its node did not start (BOOT_FAIL); the same command goes on",
    "PREEMPTED": "another job took its place (PREEMPTED); the same command goes on",
}
_LOST = ("NODE_FAIL", "BOOT_FAIL", "PREEMPTED", "LAUNCH_FAILED", "RECONFIG_FAIL")
_KILLED = re.compile(r"exit code 137|signal 9\b")
_LIVE = ("PENDING", "RUNNING", "SUSPENDED", "COMPLETING", "CONFIGURING", "REQUEUED", "STOPPED")


class QueueFull(EnvironmentFailed):
    """Slurm takes no further job until others have ended."""


def flags(allocation: Resources, gpus: int, nodes: int) -> tuple[str, ...]:
    """Return the options of `sbatch` that ask for an allocation."""
    given = {
        "partition": allocation.partition,
        "account": allocation.account,
        "qos": allocation.qos,
        "constraint": allocation.constraint,
        "nodes": nodes,
        "ntasks-per-node": 1,
        "cpus-per-task": allocation.cpus,
        "gres": ":".join(filter(None, ("gpu", allocation.gpu_type, str(gpus)))) if gpus else None,
        "mem": allocation.memory_gb and f"{ceil(allocation.memory_gb * 1024)}M",
        "time": allocation.hours and ceil(allocation.hours * 60),  # minutes
    }
    ours = (f"--{name}={value}" for name, value in given.items() if value is not None)
    return *ours, *allocation.sbatch


def stages_argv(
    array: Array,
    cluster: ClusterConfig,
    title: str,
    tasks: Path,
    logs: Path,
    python: Path,
    setup: Path | None = None,
    nice: int = 0,
) -> list[str]:
    """Return the line that submits an array.

    `tasks` is its task list, `python` starts Python, `setup` is what a job sources first.
    """
    stage, room, asked, lane = array.ask
    body = "gpu-stage.sbatch" if room == "gpu" else "cpu-stage.sbatch"
    # Where jobs may submit, `Backlog` keeps the throttle for all arrays together.
    at_once = 1 if lane else None if cluster.resubmit else cluster.throttle
    return [
        *_sbatch(f"{title}-{stage}"),
        f"--array={_ranges(array.tasks)}" + (f"%{at_once}" if at_once else ""),
        *([f"--dependency={array.after}"] if array.after else []),
        *([f"--nice={nice}"] if nice else []),
        *asked,
        f"--output={_literal(logs)}/%A_%a.log",
        "--open-mode=append",
        f"--signal=B:USR1@{cluster.lead_seconds}",
        "--requeue" if cluster.requeue else "--no-requeue",
        str(locations.shared("slurm") / body),
        str(python),
        str(tasks),
        *([str(setup)] if (setup := setup or setup_file(cluster)) else []),
    ]


def command_argv(
    command: str, after: str, cluster: ClusterConfig, title: str, setup: Path
) -> list[str]:
    """Return the line that submits a shell command; `after` is an option that says when."""
    line = f". {shlex.quote(str(setup))} && exec {command}"
    return [
        *_sbatch(title),
        after,
        *flags(cluster.cpu, 0, 1),
        f"--output={_literal(setup.parent)}/%j.log",
        "--open-mode=append",
        "--requeue",
        f"--wrap=exec bash -c {shlex.quote(line)}",  # sbatch wraps for sh
    ]


def _sbatch(name: str) -> list[str]:
    # A job that can never run is cancelled, and with it what depends on it.
    return ["sbatch", "--parsable", "--kill-on-invalid-dep=yes", f"--job-name={name}"]


def _ranges(numbers: Iterable[int]) -> str:
    """1,2,3,7 as Slurm writes it: 1-3,7."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


def _literal(path: Path) -> str:
    """A path in which Slurm replaces nothing."""
    return str(path).replace("%", "%%")


def submit(argv: list[str], room: Room) -> str:
    """Submit, and return the job's id.

    Raises QueueFull where others must end first, BadInput or EnvironmentFailed in one sentence.
    """
    done = _ask_sbatch(argv)
    if done.returncode == 0:
        return done.stdout.strip().partition(";")[0]
    reason = _reason(done.stderr)
    limit = re.match(r"(?:QOS|Assoc)\w+", reason)  # one of many, whose sentence is the same
    if re.search(_FULL, limit[0] if limit else reason, re.IGNORECASE):
        raise QueueFull(f"Slurm takes no further job now: {reason}")
    if not limit and re.search(_PASSING, reason, re.IGNORECASE):
        raise EnvironmentFailed(f"Slurm takes no job now: {reason}")
    asked = " ".join(arg for arg in argv if re.match("--(part|acc|qos|cons|gres|mem|time)", arg))
    choices = f"; the partitions are {', '.join(_partitions())}" * ("artition" in reason)
    raise BadInput(f"Slurm refuses what cluster.{room} asks for ({asked}): {reason}{choices}")


def _reason(said: str) -> str:
    """What sbatch says, without its own name: a limit by its name, then the sentence about it."""
    lines = [line.rpartition("error: ")[2] for line in said.splitlines() if "error: " in line]
    parts = [
        line.rpartition("failed: ")[2].replace(", sleeping and retrying", "") for line in lines
    ]
    return ": ".join(dict.fromkeys(parts)) or said.strip() or "it gave no reason"


def _ask_sbatch(argv: list[str]) -> subprocess.CompletedProcess[str]:
    """Run sbatch, which tries for two minutes where the queue is full: once is enough."""
    with _start(argv) as process:
        timer = threading.Timer(_TRIES_S, _end, [process])
        timer.start()
        lines = list[str]()
        for line in process.stderr or ():
            lines.append(line)
            if "retrying" in line:
                _end(process)
                break
        out = process.stdout.read() if process.stdout and "retrying" not in "".join(lines) else ""
        code = process.wait()
        timed_out = not timer.is_alive()
        timer.cancel()
    if timed_out:
        raise EnvironmentFailed("Slurm did not answer sbatch within two minutes")
    return subprocess.CompletedProcess(argv, code, out, "".join(lines))


def _end(process: "subprocess.Popen[str]") -> None:
    """End it with what it has started: a site's sbatch may be a script around Slurm's."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def cancel(jobs: Iterable[str]) -> None:
    """Cancel jobs; those that have ended do not matter."""
    arrays = dict[str, list[int]]()
    for job in jobs:
        array, _, index = job.partition("_")
        arrays.setdefault(array, []).extend([int(index)] if index else [])
    if arrays:
        _ask("scancel", *(f"{a}_[{_ranges(i)}]" if i else a for a, i in arrays.items()))


def change(job: str, **values: str) -> bool:
    """Change a job that waits; False where Slurm does not let us."""
    words = [f"{name}={value}" for name, value in values.items()]
    try:
        return _ask("scontrol", "update", f"JobId={job}", *words).returncode == 0
    except EnvironmentFailed:
        return False


def requeue(job: str) -> bool:
    """Let a running job start again later; False where Slurm does not let us."""
    return _ask("scontrol", "requeue", job).returncode == 0


@lru_cache(maxsize=1)
def me() -> str:
    """Return the name of whoever runs this."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # in a container
        return str(os.getuid())


def queue(*users: str) -> dict[str, JobState]:
    """Return the jobs of these users, or of this one, that have not ended.

    `12_3` is index 3 of array 12. Users whom this machine does not know are left out.
    """
    whose = f"--user={','.join(filter(_is_known, users))}"
    whose = "--me" if whose in ("--user=", f"--user={me()}") else whose
    done = _ask("squeue", "--noheader", "--array", whose, "--format=%F|%K|%T|%r|%u|%k")
    if done.returncode:
        said = done.stderr.strip().splitlines()[-1:] or ["it gave no reason"]
        raise EnvironmentFailed(f"Slurm does not answer: {said[0]}")
    found = {}
    for line in done.stdout.splitlines():
        job, index, state, reason, user, comment = line.split("|", maxsplit=5)
        if reason != "DependencyNeverSatisfied":  # such a job waits for ever
            job = job if index == "N/A" else f"{job}_{index}"
            found[job] = JobState(state, reason, user, comment)
    return found


def _is_known(user: str) -> bool:
    try:
        pwd.getpwnam(user)
    except KeyError:
        return user.isdecimal()
    return True


def hides(user: str) -> bool:
    """Whether this cluster may keep the jobs of this user from us (PrivateData)."""
    is_private = re.search(r"PrivateData\s*=\s*\S*\bjobs\b", _show("config"))
    return bool(is_private) and user != me()


def ending(job: str) -> JobEnd | None:
    """Return how a job has ended, as long as Slurm or its accounting remembers."""
    array, _, index = job.partition("_")
    for line in _shown(array).splitlines():
        of = re.search(r"\bArrayTaskId=(\S+)", line)
        if not index or (of is not None and of[1] == index):
            return ending_in(line)
    told = _told("sacct", "--noheader", "--parsable2", "-X", f"-j{job}", "--format=State,ExitCode")
    state, _, code = told.strip().partition("\n")[0].partition("|")
    return (
        ending_in(f"JobState={state.partition(' ')[0]} Reason=None ExitCode={code}")
        if code
        else None
    )


def ending_in(shown: str) -> JobEnd | None:
    """Return what `scontrol show job` says of an end; None where there is none."""
    said = dict(re.findall(r"\b(JobState|Reason|ExitCode)=(\S+)", shown))
    state = said.get("JobState")
    if state is None or state in _LIVE:
        return None
    code, _, number = said["ExitCode"].partition(":")
    how = f"exit code {code}" if code != "0" else f"signal {number}" if number != "0" else ""
    words = _ENDS.get(state) or ", ".join(filter(None, (state, said["Reason"], how)))
    if _KILLED.search(words):
        words += (
            ": killed, most often because its memory ran out; raise memory_gb of its allocation"
        )
    return JobEnd(state.startswith("CANCELLED"), words, state in _LOST)


def max_indices() -> int:
    """Return how many jobs an array of this cluster may have."""
    found = re.search(r"MaxArraySize\s*=\s*(\d+)", _show("config"))
    return int(found[1]) - 1 if found else _INDICES


@lru_cache(maxsize=256)
def _shown(array: str) -> str:
    """What Slurm remembers of a job, or of all jobs of an array, a line each."""
    return _show("job", array)


def _show(*what: str) -> str:
    return _told("scontrol", "--oneliner", "show", *what)


def _told(*argv: str) -> str:
    try:
        return _ask(*argv).stdout
    except EnvironmentFailed:
        return ""


def _partitions() -> list[str]:
    return sorted(set(_told("sinfo", "--noheader", "--format=%R").split()))


def _ask(*argv: str) -> subprocess.CompletedProcess[str]:
    """Run a command of Slurm's; EnvironmentFailed where there is none, or no answer."""
    with _start(argv) as process:
        try:
            out, err = process.communicate(timeout=_TRIES_S)
        except subprocess.TimeoutExpired:
            _end(process)
            raise EnvironmentFailed(f"Slurm did not answer {argv[0]} within two minutes") from None
    return subprocess.CompletedProcess(argv, process.returncode, out, err)


def _start(argv: Sequence[str]) -> "subprocess.Popen[str]":
    """Start it, inside a job without that job's variables, which `sbatch` inherits.

    It inherits the lock of `jobs.one_at_a_time`: should we be killed, the lock is held until
    `sbatch` has ended, and whoever looks next sees the job that it made.
    """
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("SLURM_") or name == "SLURM_CONF"
    }
    pipe = subprocess.PIPE
    try:
        return subprocess.Popen(
            argv,
            stdout=pipe,
            stderr=pipe,
            text=True,
            env=inherited,
            close_fds=False,
            process_group=0,
        )
    except FileNotFoundError:
        raise EnvironmentFailed(
            f"{argv[0]} is not on this machine; cluster=slurm needs Slurm's commands here, "
            "cluster=local runs without them"
        ) from None
