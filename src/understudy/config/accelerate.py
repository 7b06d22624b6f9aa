"""How one fine-tuning is spread over processes, and how a batch is divided among them."""

from typing import Literal

from pydantic import PositiveInt
from pydantic.dataclasses import dataclass

from understudy.config.source import STRICT
from understudy.errors import BadInput

Kind = Literal["cpu", "single", "ddp", "fsdp", "zero1", "zero2", "zero3", "zero3_offload"]


@dataclass(config=STRICT, frozen=True)
class AccelerateConfig:
    """`cpu` and `single` are one process; the others one per device, on one or more nodes."""

    kind: Kind
    processes: PositiveInt | None  # per node; null = one per visible GPU, on a CPU two
    nodes: PositiveInt
    port: PositiveInt | None  # of the rendezvous; null = a free one, or MASTER_PORT

    @property
    def is_distributed(self) -> bool:
        """Whether `accelerate launch` starts it."""
        return self.kind not in ("cpu", "single")

    @property
    def uses_deepspeed(self) -> bool:
        """Whether DeepSpeed trains."""
        return self.kind.startswith("zero")


def split_batch(
    batch_size: int,
    per_device: int | None,
    is_packed: bool,
    processes: int,
    name: str = "trainer.batch_size",
) -> tuple[int, int]:
    """Sequences per device and accumulation steps; with `processes`, they multiply to the batch.

    The batch is science and the split is the machine's, so it must come out even. Raises BadInput.
    """
    share, rest = divmod(batch_size, processes)
    if rest:
        raise BadInput(
            f"{name}={batch_size} cannot be divided among {processes} processes; "
            f"accelerate.processes × accelerate.nodes must be one of {_divisors(batch_size)}"
        )
    # Packed sequences of one forward are joined end to end, so two cost four times one.
    per_device = per_device or (1 if is_packed else share)
    if share % per_device:
        raise BadInput(
            f"trainer.per_device_batch={per_device} does not divide {name}={batch_size} among "
            f"{processes} process{'es' * (processes > 1)}; choose one of {_divisors(share)}"
        )
    return per_device, share // per_device


def _divisors(number: int) -> str:
    return ", ".join(str(n) for n in range(1, number + 1) if number % n == 0)
