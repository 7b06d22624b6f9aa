"""One worker per stage directory: a lock file that says who holds it, and how to tell it is dead.

On the holder's host its pid and start time decide; elsewhere the state of its Slurm job, of which
a requeued one has the same id and one more restart; where neither is known we wait, and name the
command that removes the lock by hand.
"""

import fcntl
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

_POLL_S = (0.1, 1.0)  # the first pause, which grows by a half each time, and the longest
_ASK_S = 15.0  # between two questions to Slurm, which answers everybody on the cluster
_HEARTBEAT_S = 30.0  # for the eyes of a person only: clocks of two hosts may differ


@contextmanager
def hold(path: Path, give_up: Callable[[], bool]) -> Iterator[bool]:
    """Hold the lock for the block; yields False when `give_up()` came true while waiting."""
    with _Turn(path) as turn:
        is_ours = _await(path, give_up, turn)
    if not is_ours:
        yield False
        return
    ended = threading.Event()
    beat = threading.Thread(target=_beat, args=(path, ended), daemon=True)
    beat.start()
    try:
        yield not give_up()
    finally:
        ended.set()
        beat.join()
        path.unlink(missing_ok=True)


def _await(path: Path, give_up: Callable[[], bool], turn: "_Turn") -> bool:
    """Take the lock, or return False once `give_up()` is true.

    Of all that wait on several hosts, only the one whose turn it is asks Slurm about the holder.
    """
    said, pause_s = False, _POLL_S[0]
    looked: tuple[dict[str, Any], float] | None = None  # at which holder, and when
    while True:
        if (holder := read(path)) is None:  # a look is cheaper than a try, on a shared disk
            if _take(path):
                return True
            continue
        if give_up():
            return False
        is_near = holder["host"] == socket.gethostname()
        now = time.monotonic()
        if is_near or looked is None or looked[0] != holder or now - looked[1] > _ASK_S:
            looked = holder, now
            is_dead = (
                _is_dead(holder) if is_near or _is_of_my_job(holder) or turn.is_mine() else False
            )
            if is_dead:
                _bury(path, holder)
                continue
            if not said:
                said = True
                words = _words(holder, path, is_dead is None)
                print(f"  waiting for {words}", file=sys.stderr, flush=True)
        time.sleep(pause_s)
        pause_s = min(1.5 * pause_s, _POLL_S[1])


class _Turn:
    """Whose turn it is to ask Slurm; the kernel passes it on when a process ends."""

    def __init__(self, path: Path) -> None:
        self._path = path.with_name(f".{path.name}.ask")
        self._file: TextIO | None = None

    def __enter__(self) -> "_Turn":
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def is_mine(self) -> bool:
        """Take the turn unless another process that waits has it."""
        self._file = self._file or self._path.open("a")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def _is_of_my_job(holder: dict[str, Any]) -> bool:
    """Whether an earlier start of this very job holds it, as is known without asking."""
    return holder["slurm_job"] is not None and holder["slurm_job"] == _me()["slurm_job"]


def is_held(path: Path) -> bool:
    """Whether somebody works under this lock, as far as this machine can know."""
    return (holder := read(path)) is not None and not _is_dead(holder)


def break_open(path: Path) -> str | None:
    """Remove a lock whose holder may be dead; returns who lives and works under it instead."""
    if (holder := read(path)) is None:
        return None
    if _is_dead(holder) is False:
        return f"process {holder['pid']} on {holder['host']}"
    _bury(path, holder)
    return None


def clear(path: Path) -> None:
    """Remove the lock of a process of this host that is gone; others may not know that it is."""
    holder = read(path)
    if holder is not None and holder["host"] == socket.gethostname() and _is_dead(holder):
        _bury(path, holder)


def read(path: Path) -> dict[str, Any] | None:
    """Who holds the lock, or None."""
    try:
        holder: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return holder


def _words(holder: dict[str, Any], path: Path, is_unknown: bool) -> str:
    text = f"process {holder['pid']} on {holder['host']}, which works on {path.parent}"
    if is_unknown:
        from understudy.config.command_line import command  # late, for it loads pydantic

        text += "; whether it lives cannot be known here: if not, "
        text += command("unlock", operand=str(path.parent))
    return text


def _me() -> dict[str, Any]:
    return {
        "host": socket.gethostname(),
        "boot": _boot_id(),
        "pid": os.getpid(),
        "started": _start_time(os.getpid()),
        "slurm_job": os.environ.get("SLURM_JOB_ID"),
        "slurm_restarts": os.environ.get("SLURM_RESTART_COUNT", "0"),  # of a requeued job
    }


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


def _is_dead(holder: dict[str, Any]) -> bool | None:
    """Whether the holder is gone; None when this machine cannot know."""
    if holder["host"] == socket.gethostname():
        same_boot = holder["boot"] == _boot_id()
        return not same_boot or _start_time(int(holder["pid"])) != holder["started"]
    if (job := holder["slurm_job"]) and job == (me := _me())["slurm_job"]:
        return bool(holder.get("slurm_restarts", "0") != me["slurm_restarts"])
    return _job_has_ended(job) if job else None


def _job_has_ended(job: str) -> bool | None:
    """What Slurm says of a job; None where it cannot be asked."""
    try:
        asked = subprocess.run(
            ["squeue", "-h", "-j", job, "-o", "%T"], capture_output=True, text=True, timeout=20
        )
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return None
    if asked.returncode:  # an id that Slurm has forgotten, or a controller that is away
        return True if "Invalid job id" in asked.stderr else None
    return asked.stdout.strip() not in ("RUNNING", "COMPLETING", "SUSPENDED", "STOPPED")


def _take(path: Path) -> bool:
    """Create the lock with its content in one step (a link), so that nobody reads half of it."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    draft.write_text(json.dumps(_me()), encoding="utf-8")
    try:
        os.link(draft, path)
    except FileExistsError:
        return False
    finally:
        draft.unlink()
    return True


def _bury(path: Path, holder: dict[str, Any]) -> None:
    """Remove a dead holder's lock, one process at a time, so that never a live one's goes."""
    with path.with_name(f".{path.name}.bury").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)  # the kernel lets go of it when we die
        if read(path) == holder:
            path.unlink()


def _beat(path: Path, ended: threading.Event) -> None:
    while not ended.wait(_HEARTBEAT_S):
        try:
            os.utime(path)
        except FileNotFoundError:  # removed by hand: the work goes on, and its end will say so
            return
