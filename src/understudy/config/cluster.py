"""Names and types of `conf/cluster/`: where stages run, and what they ask Slurm for."""

import dataclasses
from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass

from understudy.config.source import STRICT, FilePath, Words
from understudy.errors import BadInput

Room = Literal["gpu", "cpu", "api"]


@dataclass(config=STRICT, frozen=True)
class Resources:
    """What one job asks for; null = what the cluster gives to those who do not ask."""

    partition: str | None
    account: str | None
    qos: str | None
    constraint: str | None
    gpus: Annotated[int, Field(ge=0)]  # of each node, as are the next three
    gpu_type: str | None
    cpus: PositiveInt
    memory_gb: PositiveFloat | None
    hours: PositiveFloat | None
    sbatch: Words  # further options, each one word: --reservation=night


@dataclass(config=STRICT, frozen=True)
class Differing:
    """What one kind of stage asks for instead of what its allocation says; null = the same."""

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    gpus: Annotated[int, Field(ge=0)] | None = None
    gpu_type: str | None = None
    cpus: PositiveInt | None = None
    memory_gb: PositiveFloat | None = None
    hours: PositiveFloat | None = None


@dataclass(config=STRICT, frozen=True)
class ByStage:
    """What the stages of one model ask for instead."""

    finetune: Differing = Differing()
    inference: Differing = Differing()


@dataclass(config=STRICT, frozen=True)
class ClusterConfig:
    """Where stages run; `gpu`, `cpu` and `api` are the allocations of three kinds of stages."""

    kind: Literal["local", "dry_run", "slurm"]
    threads: PositiveInt  # per process
    processes: PositiveInt  # cells of a sweep at a time, on this machine
    gpu: Resources  # finetune, inference
    finetune: Differing  # from gpu
    inference: Differing
    models: dict[str, ByStage]  # by the model's name
    cpu: Resources
    api: Resources | Literal["here"]  # stages that wait for a service; here = no job: this machine
    setup: FilePath | None  # a script that every job sources first; null = the shell as it is
    container: Words  # what is put before the Python of a stage: apptainer exec IMAGE
    python: FilePath | None  # of a stage's job, as in an image; null = the one that submits
    snapshot: bool  # whether jobs run a copy of the code as it was when they were submitted
    scratch: FilePath | None  # a directory of the node, $VARIABLES are the job's; null = paths.root
    throttle: PositiveInt | None  # jobs of a run or sweep at a time; without resubmit of an array
    max_jobs: PositiveInt  # jobs of a run or sweep that are queued or run; others follow
    max_array: PositiveInt | None  # jobs of one array; null = what Slurm allows
    lead_seconds: PositiveInt  # from the warning to the end of the time, to save and requeue
    requeue: bool
    resubmit: bool  # whether compute nodes may submit: a job then plans the next round

    @property
    def rooms(self) -> dict[Room, Resources]:
        """The allocations that jobs ask for."""
        rooms: dict[Room, Resources] = {"gpu": self.gpu, "cpu": self.cpu}
        return rooms if isinstance(self.api, str) else rooms | {"api": self.api}

    def asked(self, room: Room, stage: str, model: str) -> Resources:
        """Return what a stage asks for: a model's own word counts before its stage's and room's."""
        found: Resources = getattr(self, room)
        for told in (self, self.models.get(model)):
            if isinstance(differing := getattr(told, stage, None), Differing):
                given = {k: v for k, v in vars(differing).items() if v is not None}
                found = dataclasses.replace(found, **given)
        return found


# What understudy says to sbatch itself: option → where to say it instead, or why nobody should.
_BY_LEAF = {
    **{"partition": "partition", "account": "account", "qos": "qos", "constraint": "constraint"},
    **{"cpus-per-task": "cpus", "gres": "gpus", "mem": "memory_gb", "time": "hours"},
    **dict.fromkeys(("gpus", "gpus-per-node", "gpus-per-task", "gpus-per-socket"), "gpus"),
    **dict.fromkeys(("mem-per-cpu", "mem-per-gpu"), "memory_gb"),
}
_OURS = {
    **dict.fromkeys(("array", "dependency", "kill-on-invalid-dep", "job-name"), "the order"),
    **dict.fromkeys(("output", "error", "open-mode"), "the log, which status reads"),
    **dict.fromkeys(("signal", "requeue", "no-requeue"), "how a job saves and goes on"),
    **dict.fromkeys(("parsable", "wrap", "wait", "test-only", "help", "usage"), "the answer"),
    **dict.fromkeys(("nodes", "ntasks", "ntasks-per-node"), "one process a node (accelerate)"),
    **dict.fromkeys(("export", "export-file"), "the environment of its jobs"),
    **dict.fromkeys(("clusters", "cluster"), "one cluster, which it asks for its jobs"),
}
_SHORT = {
    **{"p": "partition", "A": "account", "q": "qos", "C": "constraint", "c": "cpus-per-task"},
    **{"t": "time", "G": "gpus", "a": "array", "d": "dependency", "J": "job-name", "o": "output"},
    **{"e": "error", "W": "wait", "h": "help", "N": "nodes", "n": "ntasks", "M": "clusters"},
}


def check_options(room: str, asked: Resources) -> None:
    """Raise BadInput for an option of `cluster.ROOM.sbatch` that contradicts what we say.

    sbatch takes any beginning of a long option that is no beginning of another.
    """
    for word in asked.sbatch:
        place = f"cluster.{room}.sbatch: {word}"
        name = word.lstrip("-").partition("=")[0]
        if not word.startswith("-") or not name or any(sign.isspace() for sign in name):
            raise BadInput(f"{place} is no option of sbatch; give each as one word, --name=value")
        if not word.startswith("--"):
            name = _SHORT.get(name[0], "")
        for option in (*_BY_LEAF, *_OURS):
            if name != option and not (word.startswith("--") and option.startswith(name)):
                continue
            if (leaf := _BY_LEAF.get(option)) is None:
                raise BadInput(f"{place}: --{option} is understudy's to set: {_OURS[option]}")
            if option == leaf or getattr(asked, leaf):
                raise BadInput(f"{place} contradicts cluster.{room}.{leaf}; set that instead")
