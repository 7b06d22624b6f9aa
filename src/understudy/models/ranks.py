"""The processes ("ranks") of one fine-tuning: who this one is, and what rank 0 tells the others.

A process that nobody launched as one of several is rank 0 of 1. Importing this is cheap; torch is
imported when there are several.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

SHARDED = "UNDERSTUDY_SHARDED_WEIGHTS"  # set by the launch
_PATIENCE = timedelta(days=30)  # rank 0 may wait that long for a lock; its death ends the others
_ECHO_S = 5.0
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


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


def launch(arguments: Sequence[str], builders: Sequence[str]) -> tuple[int, str]:
    """Do what `accelerate launch` does with these arguments, in this process, which it becomes.

    `builders` name the extensions of DeepSpeed that the ranks will need. Returns the exit code
    and, where no rank can have said it, why. Ctrl-C, SIGTERM and SIGUSR1 go to the ranks, which
    know what to do; the launcher goes on until they have ended.
    """
    end_like_ctrl_c()  # while there are no ranks
    os.environ["PET_SIGNALS_TO_HANDLE"] = "SIGHUP,SIGQUIT"  # torchrun's; the others are ours
    import logging

    from accelerate.commands import launch as accelerate_launch
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    parsed = accelerate_launch.launch_command_parser().parse_args(list(arguments))
    if builders:
        from understudy.models import ranks_deepspeed

        ranks_deepspeed.compile_extensions(builders)
    logging.disable(logging.CRITICAL)  # torchrun's tracebacks of the ranks' exit codes
    # The ranks inherit the block, so that nothing reaches them before they can take it.
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    threading.Thread(target=_pass_on, daemon=True).start()
    try:
        accelerate_launch.launch_command(parsed)
    except ChildFailedError as error:
        number, failure = error.get_first_failure()
        if failure.exitcode >= 0:
            return failure.exitcode, ""
        if -failure.exitcode in _SIGNALS:  # it was told to end, while it ended anyway
            return 130, ""
        return 4, (
            f"rank {number} (process {failure.pid}) was ended by {failure.signal_name()}, which "
            "the kernel also does when memory runs out (then lower trainer.per_device_batch); "
            "the last checkpoint is kept, and the same command goes on from it"
        )
    return 0, ""


_told: list[int] = []


def end_like_ctrl_c() -> None:
    """Let SIGTERM and SIGUSR1 do what Ctrl-C does, and take them if a launcher held them back."""

    def interrupt(number: int, _: object) -> None:
        _told.append(number)
        signal.raise_signal(signal.SIGINT)

    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, interrupt)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)


def was_told_to_end() -> bool:
    """Whether such a signal has come; an import can swallow its KeyboardInterrupt, or break."""
    return bool(_told)


def _pass_on() -> None:
    """Send what the launcher gets to its ranks; without any, before or after them, just end."""
    launcher = os.getpid()
    while True:
        number = signal.sigwait(_SIGNALS)
        ranks = Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()
        for one in ranks:
            with suppress(ProcessLookupError):
                os.kill(int(one), number)
        if not ranks:
            os._exit(130)


_STORES: list[Any] = []


def _store() -> Any:
    """The launch's own key-value store, which the launcher serves."""
    if not _STORES:
        from torch.distributed import rendezvous

        store, _, _ = next(rendezvous("env://", timeout=_PATIENCE))
        _STORES.append(store)
    return _STORES[0]
