"""One worker per stage directory: a lock file that says who holds it, and how to tell it is dead."""

import json
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_POLL_S = 0.2


def _boot_id() -> str:
    path = Path("/proc/sys/kernel/random/boot_id")
    return path.read_text().strip() if path.is_file() else ""


def _start_time(pid: int) -> str | None:
    """The kernel's start time of a process, which tells it from a later one of the same pid."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    state, *rest = stat.rpartition(")")[2].split()
    return None if state == "Z" else rest[18]


def _me() -> dict[str, str | int | None]:
    return {
        "host": socket.gethostname(),
        "boot": _boot_id(),
        "pid": os.getpid(),
        "started": _start_time(os.getpid()),
    }


def _is_dead(holder: dict[str, str | int | None]) -> bool | None:
    """Whether the holder is gone; None when this machine cannot know."""
    if holder["host"] != socket.gethostname():
        return None
    return holder["boot"] != _boot_id() or _start_time(int(holder["pid"] or 0)) != holder["started"]


def is_held(path: Path) -> bool:
    """Whether somebody works under this lock, as far as this machine can know."""
    try:
        return not _is_dead(json.loads(path.read_text()))
    except FileNotFoundError:
        return False


def _take(path: Path) -> bool:
    """Create the lock with its content in one step (a link), so that nobody reads half of it."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(json.dumps(_me()))
    try:
        os.link(draft, path)
    except FileExistsError:
        return False
    finally:
        draft.unlink()
    return True


def _bury(path: Path, holder: dict[str, str | int | None]) -> None:
    """Remove a dead holder's lock; of several who try, the rename lets one win."""
    grave = path.with_name(f".{path.name}.dead.{os.getpid()}")
    try:
        path.rename(grave)
    except FileNotFoundError:
        return
    if json.loads(grave.read_text()) != holder:  # a new holder came first: give it back
        os.link(grave, path)
    grave.unlink()


@contextmanager
def hold(path: Path, give_up: Callable[[], bool]) -> Iterator[bool]:
    """Hold the lock for the block; yields False when `give_up()` came true while waiting."""
    said = False
    while not _take(path):
        if give_up():
            yield False
            return
        try:
            holder = json.loads(path.read_text())
        except FileNotFoundError:
            continue
        if _is_dead(holder):
            _bury(path, holder)
            continue
        if not said:
            said = True
            where = f"process {holder['pid']} on {holder['host']}"
            print(f"  waiting for {where}, which works on {path.parent}", file=sys.stderr)
        time.sleep(_POLL_S)
    try:
        yield not give_up()
    finally:
        path.unlink(missing_ok=True)
