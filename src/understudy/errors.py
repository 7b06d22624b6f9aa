"""The exception tree; each class carries the exit code that `understudy` ends with.

UnderstudyError (1)
├── BadInput (2)           the user's config, file or command is wrong
├── BudgetSpent (3)        the money limit was reached
├── EnvironmentFailed (4)  disk full, out of memory, a dead rank, a missing extra
└── Internal (70)          a stage broke one of our own rules
"""

import errno
import os
import shutil
from pathlib import Path

_NO_ROOM = 1 << 20  # bytes


class UnderstudyError(Exception):
    """An error whose message is one sentence for the user."""

    exit_code = 1


class BadInput(UnderstudyError):
    """The sentence names the value, the place and the valid choices."""

    exit_code = 2


class BudgetSpent(UnderstudyError):
    """The sentence says what was spent and how to go on."""

    exit_code = 3


class EnvironmentFailed(UnderstudyError):
    """The machine, not the input, is at fault; the same command goes on when it is mended."""

    exit_code = 4


class Internal(UnderstudyError):
    """A stage broke a rule of our own; a report is welcome."""

    exit_code = 70


def from_system(error: BaseException, place: Path) -> EnvironmentFailed | None:
    """What the machine ran out of or lost, or None when it is not to blame.

    Libraries put the system's error into words of their own or lose it (torch.save does), so a
    disk that has no room now counts as well.
    """
    if isinstance(error, FileNotFoundError) and error.filename:
        for stage in Path(os.fsdecode(error.filename)).parents:
            if (stage / "DONE").is_file():  # nothing of ours takes a file from a finished stage
                return EnvironmentFailed(
                    f"{os.fsdecode(error.filename)} is gone from a finished stage; remove {stage} "
                    "and run the same command: it is made again, of the replies that were paid for"
                )
    if isinstance(error, PermissionError) and error.filename:
        path = Path(os.fsdecode(error.filename))
        return EnvironmentFailed(
            f"this user may not write or read {path}; where several users share a root, its owner "
            f"lets the group with chmod -R g+rwX {path.parent}"
        )
    words = f"{error} {error.__cause__ or ''} {error.__context__ or ''}".lower()
    if isinstance(error, MemoryError) or "out of memory" in words:
        return EnvironmentFailed(f"out of memory in {place}; lower the batch size and go on")
    is_full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    if is_full or "no space left" in words or shutil.disk_usage(place).free < _NO_ROOM:
        return EnvironmentFailed(
            f"no room left on the disk of {place}; make some and run the same command to go on"
        )
    return None


BY_EXIT_CODE: dict[int, type[UnderstudyError]] = {
    error.exit_code: error for error in (BadInput, BudgetSpent, EnvironmentFailed, Internal)
}
