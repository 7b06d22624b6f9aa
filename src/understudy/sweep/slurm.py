"""Slurm: what `sbatch` is told, and what `squeue` and `scontrol` say."""

import json
import os
import re
import shlex
import subprocess
from collections.abc import Iterable
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
_PASSING = "contact|timed out|temporarily|submit.*limit|configuration source|authentic|protocol"

# Ends that a setting of ours can help with.
_ENDS = {
    "OUT_OF_MEMORY": "out of memory; raise memory_gb of its allocation (cluster.gpu, cpu or api)",
    "TIMEOUT": "out of time; raise hours of its allocation (cluster.gpu, cpu or api)",
    "CANCELLED": "its job was cancelled",
}


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
    array: Array, cluster: ClusterConfig, title: str, tasks: Path, logs: Path, python: Path
) -> list[str]:
    """Return the line that submits an array; `tasks` is its task list, `python` starts Python."""
    stage, room, asked, service = array.ask
    body = "gpu-stage.sbatch" if room == "gpu" else "cpu-stage.sbatch"
    at_once = 1 if service else cluster.throttle
    return [
        *_sbatch(f"understudy-{service}" if service else f"{title}-{stage}"),
        f"--array={_ranges(array.tasks)}" + (f"%{at_once}" if at_once else ""),
        *([f"--dependency={array.after}"] if array.after else []),
        *asked,
        f"--output={_literal(logs)}/%A_%a.log",
        "--open-mode=append",
        f"--signal=B:USR1@{cluster.lead_seconds}",
        "--requeue" if cluster.requeue else "--no-requeue",
        str(locations.shared("slurm") / body),
        str(python),
        str(tasks),
        *([str(setup)] if (setup := setup_file(cluster)) else []),
    ]


def command_argv(
    command: str, after: Iterable[str], cluster: ClusterConfig, title: str, logs: Path
) -> list[str]:
    """The line that submits a shell command, to run when the jobs `after` have ended somehow."""
    setup = setup_file(cluster)
    line = f"exec {command}" if setup is None else f". {shlex.quote(str(setup))} && exec {command}"
    return [
        *_sbatch(title),
        f"--dependency=afterany:{':'.join(after)}",
        *flags(cluster.cpu, 0, 1),
        f"--output={_literal(logs)}/%j.log",
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
    """Submit, and return the job's id; BadInput or EnvironmentFailed in one sentence."""
    done = _ask(*argv)
    if done.returncode == 0:
        return done.stdout.strip().partition(";")[0]
    said = done.stderr.strip().splitlines()[-1:] or ["it gave no reason"]
    reason = said[0].rpartition("error: ")[2].rpartition("failed: ")[2]
    if re.search(_PASSING, reason, re.IGNORECASE):
        raise EnvironmentFailed(f"Slurm takes no job now: {reason}")
    asked = " ".join(arg for arg in argv if re.match("--(part|acc|qos|cons|gres|mem|time)", arg))
    choices = f"; the partitions are {', '.join(_partitions())}" * ("artition" in reason)
    raise BadInput(f"Slurm refuses what cluster.{room} asks for ({asked}): {reason}{choices}")


def cancel(jobs: Iterable[str]) -> None:
    """Cancel jobs; those that have ended do not matter."""
    if jobs := list(jobs):
        _ask("scancel", *jobs)


def job_of(record: Path) -> str | None:
    """Return the job that a slurm.json or planning.json names, if there is one."""
    try:
        return str(json.loads(record.read_text(encoding="utf-8"))["job"])
    except FileNotFoundError:
        return None


def queue() -> dict[str, JobState]:
    """Return the user's jobs that have not ended; `12_3` is index 3 of array 12."""
    done = _ask("squeue", "--noheader", "--array", "--me", "--format=%F %K %T %r")
    if done.returncode:
        said = done.stderr.strip().splitlines()[-1:] or ["it gave no reason"]
        raise EnvironmentFailed(f"Slurm does not answer: {said[0]}")
    found = {}
    for line in done.stdout.splitlines():
        job, index, state, reason = line.split(maxsplit=3)
        if reason != "DependencyNeverSatisfied":  # such a job waits for ever
            found[job if index == "N/A" else f"{job}_{index}"] = JobState(state, reason)
    return found


def ending(job: str) -> JobEnd | None:
    """Return how a job has ended, as long as Slurm remembers."""
    return ending_in(_show("job", job))


def ending_in(shown: str) -> JobEnd | None:
    """Return what `scontrol show job` says of an end; None where the job is unknown."""
    said = dict(re.findall(r"\b(JobState|Reason|ExitCode)=(\S+)", shown))
    if (state := said.get("JobState")) is None:
        return None
    code, _, number = said["ExitCode"].partition(":")
    how = f"exit code {code}" if code != "0" else f"signal {number}" if number != "0" else ""
    words = _ENDS.get(state) or ", ".join(filter(None, (state, said["Reason"], how)))
    return JobEnd(state.startswith("CANCELLED"), words)


def max_indices() -> int:
    """Return how many jobs an array of this cluster may have."""
    found = re.search(r"MaxArraySize\s*=\s*(\d+)", _show("config"))
    return int(found[1]) - 1 if found else _INDICES


def _show(*what: str) -> str:
    try:
        return _ask("scontrol", "--oneliner", "show", *what).stdout
    except EnvironmentFailed:
        return ""


def _partitions() -> list[str]:
    return sorted(set(_ask("sinfo", "--noheader", "--format=%R").stdout.split()))


def _ask(*argv: str) -> subprocess.CompletedProcess[str]:
    """A command of Slurm's; inside a job, without that job's variables, which `sbatch` inherits."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("SLURM_") or name == "SLURM_CONF"
    }
    try:
        return subprocess.run(argv, capture_output=True, text=True, timeout=120, env=inherited)
    except FileNotFoundError:
        raise EnvironmentFailed(
            f"{argv[0]} is not on this machine; cluster=slurm needs Slurm's commands here, "
            "cluster=local runs without them"
        ) from None
    except subprocess.TimeoutExpired:
        raise EnvironmentFailed(f"Slurm did not answer {argv[0]} within two minutes") from None
