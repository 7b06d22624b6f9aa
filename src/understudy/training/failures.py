"""What to do when a fine-tuning runs out of memory, or of ranks: a sentence, not a traceback."""

from collections.abc import Iterator
from contextlib import contextmanager

from understudy.config import Config
from understudy.config.accelerate import split_batch
from understudy.errors import EnvironmentFailed
from understudy.models import ranks

# torch.OutOfMemoryError, PyTorch's allocator for the CPU, the kernel's ENOMEM
_MEMORY = ("out of memory", "can't allocate memory", "cannot allocate memory")
# Gloo's and NCCL's words for a rank that is gone
_PEER = ("closed by peer", "reset by peer", "gloo", "nccl")


@contextmanager
def explained(config: Config) -> Iterator[None]:
    """Turn what the machine is to blame for, in the block, into EnvironmentFailed."""
    try:
        yield
    except (MemoryError, RuntimeError, OSError) as error:
        words = str(error).lower()
        if isinstance(error, MemoryError) or any(word in words for word in _MEMORY):
            raise EnvironmentFailed(_sentence(config)) from error
        if ranks.count() > 1 and any(word in words for word in _PEER):
            ranks.await_cause()  # the launcher of the rank that died knows more
            raise EnvironmentFailed(
                f"rank {ranks.rank()} has lost another rank of the training (its host's log may "
                "say why); the last checkpoint is kept, and the same command goes on from it"
            ) from error
        raise


def _sentence(config: Config) -> str:
    recipe, kind = config.trainer, config.accelerate.kind
    per_device, _ = split_batch(
        recipe.batch_size, recipe.per_device_batch, recipe.packing, ranks.count()
    )
    if per_device > 1:
        change = f"set trainer.per_device_batch={_below(per_device)} (now {per_device})"
    elif recipe.kind == "full":
        change = "choose trainer=lora, or a smaller model"
    else:
        change = "choose a smaller model"
    if kind != "zero3_offload":
        change += ", or choose accelerate=" + ("zero3_offload" if "zero3" in kind else "zero3")
    return (
        f"out of memory while fine-tuning model={config.model.name}: {change}; "
        "the last checkpoint is kept, and the command goes on from it"
    )


def _below(number: int) -> int:
    """The largest divisor below a number, which keeps the division of the batch even."""
    return max(n for n in range(1, number) if number % n == 0)
