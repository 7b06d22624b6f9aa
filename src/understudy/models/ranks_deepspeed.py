"""Compile what DeepSpeed compiles at its first use, before the ranks ask for it."""

import fcntl
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from understudy.errors import EnvironmentFailed

_LIBRARIES = {"ShareMemCommBuilder": "deepspeed_shm_comm", "CPUAdamBuilder": "cpu_adam"}


def compile_extensions(builders: Sequence[str]) -> None:
    """Build these of DeepSpeed's extensions into TORCH_EXTENSIONS_DIR, unless they are there.

    PyTorch marks a build by a file `lock`; a build that is killed leaves it, and from then on
    everybody waits for it in silence. Here one process builds at a time, so a mark that it finds
    is a dead one's. Raises EnvironmentFailed if the compiler fails.
    """
    place = Path(os.environ["TORCH_EXTENSIONS_DIR"])
    place.mkdir(parents=True, exist_ok=True)
    with (place / ".understudy").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)  # the kernel lets go of it when we die
        for mark in place.glob("*/lock"):
            mark.unlink(missing_ok=True)
        for builder in builders:
            library = _LIBRARIES[builder]
            if not (place / library / f"{library}.so").is_file():
                print(f"  compiling {library}, once, for a minute or two", file=sys.stderr)
            _build(builder)


def _build(builder: str) -> None:
    from deepspeed.accelerator import get_accelerator

    try:
        get_accelerator().create_op_builder(builder).load(verbose=False)
    except (RuntimeError, ImportError, AttributeError) as error:
        first = str(error).strip().partition("\n")[0]
        raise EnvironmentFailed(
            f"DeepSpeed's {_LIBRARIES[builder]} cannot be compiled here ({first}); "
            "choose accelerate=ddp or fsdp"
        ) from error
