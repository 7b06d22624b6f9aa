"""Names and types of `conf/cluster/`: where stages run, and what they ask Slurm for."""

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass

from understudy.config.source import STRICT, FilePath

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


@dataclass(config=STRICT, frozen=True)
class ClusterConfig:
    """Where stages run; `gpu`, `cpu` and `api` are the allocations of three kinds of stages."""

    kind: Literal["local", "dry_run", "slurm"]
    threads: PositiveInt  # per process
    processes: PositiveInt  # cells of a sweep at a time, on this machine
    gpu: Resources  # finetune, inference
    cpu: Resources
    api: Resources  # stages that wait for a service
    setup: FilePath | None  # a script that every job sources first; null = the shell as it is
    throttle: PositiveInt | None  # jobs of one array at a time
    max_array: PositiveInt | None  # jobs of one array; null = what Slurm allows
    lead_seconds: PositiveInt  # from the warning to the end of the time, to save and requeue
    requeue: bool
    resubmit: bool  # whether compute nodes may submit: a job then plans the next round
