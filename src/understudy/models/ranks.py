"""The processes ("ranks") of one fine-tuning: who this one is, and what rank 0 tells the others.

A process that nobody launched as one of several is rank 0 of 1. Importing this is cheap; torch is
imported when there are several.
"""

import os
import resource
import signal
import sys
import time
from datetime import timedelta
from typing import Any, Self

SHARDED = "UNDERSTUDY_SHARDED_WEIGHTS"  # set by the launch
_PATIENCE = timedelta(days=30)  # rank 0 may wait that long for a lock; its death ends the others
_ECHO_S = 5.0
_PREEMPTION = (signal.SIGTERM, signal.SIGUSR1)
SIGNALS = (signal.SIGINT, *_PREEMPTION)  # that end a command, or ranks


def rank() -> int:
    """This process's number."""
    return int(os.environ.get("RANK", "0"))


def count() -> int:
    """How many processes there are."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_launched() -> bool:
    """Whether a launcher started this process, as one of several or alone."""
    return "RANK" in os.environ


def shards_weights() -> bool:
    """Whether the trainer will shard the weights, so that none should hold them all on its GPU."""
    return os.environ.get(SHARDED) == "true"


def tell(word: str) -> None:
    """Say to the other ranks what they wait for in `hear`."""
    if count() > 1:
        _store().set("word", word)


def hear() -> str:
    """What rank 0 tells."""
    word: bytes = _store().get("word")
    return word.decode()


def barrier() -> None:
    """Wait until every rank is here."""
    if count() > 1:
        import torch

        torch.distributed.barrier()


def total(values: Any) -> Any:
    """The sum of a tensor over all ranks, on the CPU; every rank must ask."""
    if count() == 1:
        return values
    import torch

    device = "cuda" if torch.distributed.get_backend() == "nccl" else "cpu"
    summed = values.to(device)
    torch.distributed.all_reduce(summed)
    return summed.cpu()


def any_of(flag: bool) -> bool:
    """Whether it is true on some rank; every rank must ask."""
    if count() == 1:
        return flag
    import torch

    return bool(total(torch.tensor(float(flag))) > 0)


def part() -> None:
    """Leave the process group, once nothing more is computed together."""
    if count() > 1:
        import torch

        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


def use_own_device() -> None:
    """Let "cuda" mean this rank's GPU."""
    if count() > 1:
        import torch

        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))


def peak_memory_mb() -> float:
    """The most memory that this process has had on its GPU or, without one, in the host."""
    import torch

    if torch.cuda.is_available():
        return float(torch.cuda.max_memory_allocated()) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def await_cause() -> None:
    """Give the launcher time to end this rank when its error only echoes another one's death."""
    if count() > 1:
        time.sleep(_ECHO_S)


def is_first_to_fail() -> bool:
    """Whether no other rank has said why yet."""
    if count() == 1:
        return True
    try:
        return bool(_store().add("failed", 1) == 1)
    except RuntimeError:  # the launcher has ended, and its store with it
        return True


def die_with_parent() -> None:
    """Ask Linux to end this process at once when the one that started it ends."""
    if sys.platform == "linux":
        import ctypes

        parent = os.getppid()
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        if os.getppid() != parent:  # it died before the call
            raise SystemExit(143)


_told: list[int] = []


def end_like_ctrl_c() -> None:
    """Let SIGTERM and SIGUSR1 do what Ctrl-C does, and take them if a launcher held them back."""

    def interrupt(number: int, _: object) -> None:
        _told.append(number)
        signal.raise_signal(signal.SIGINT)

    for number in _PREEMPTION:
        signal.signal(number, interrupt)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def end_undisturbed() -> None:
    """Ignore what would end this process: it ends, and Python would print where it was."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def was_told_to_end() -> bool:
    """Whether such a signal has come; an import can swallow its KeyboardInterrupt, or break."""
    return bool(_told)


class Signals:
    """SIGTERM and SIGUSR1 during training: preemption, or a time limit that comes near.

    Remembers, inside its block, that one came; outside it they end the worker at once.

    One that came before and ended nothing counts as well.
    """

    def __init__(self) -> None:
        self._is_mine = False
        self._before: list[Any] = []

    def __enter__(self) -> Self:
        self._before = [signal.signal(number, self._note) for number in _PREEMPTION]
        self._is_mine |= was_told_to_end()
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in zip(_PREEMPTION, self._before, strict=True):
            signal.signal(number, handler)

    def have_come(self) -> bool:
        """Whether one has reached any rank; every rank must ask, and all get the same answer."""
        return any_of(self._is_mine)

    def _note(self, *_: object) -> None:
        self._is_mine = True


_STORES: list[Any] = []


def _store() -> Any:
    """The launch's own key-value store, which the launcher serves."""
    if not _STORES:
        from torch.distributed import rendezvous

        store, _, _ = next(rendezvous("env://", timeout=_PATIENCE))
        _STORES.append(store)
    return _STORES[0]
