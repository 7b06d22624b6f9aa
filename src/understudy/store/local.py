"""Work on a disk of the node: an attempt is copied there, and back however it ends but by a kill.

The copy is `<place>/understudy-<uid>/<stage>/`. Both sides carry the number of moves so far. After
a kill the node's copy stays; the next attempt goes on with it if it is on that node and the shared
disk has moved no further, else with what the shared disk has.
"""

import hashlib
import os
import platform
import secrets
import shutil
from pathlib import Path

from understudy.errors import EnvironmentFailed
from understudy.store.progress import LIVE

_MOVES = "moves"


def borrow(attempt: Path, place: str | None) -> Path:
    """Return where to work on an attempt: itself without a place, else its copy on the node.

    Raises EnvironmentFailed where the node has no such place.
    """
    if place is None:
        return attempt
    home = _home(attempt.parents[1], place)
    if home.is_dir() and _moves(home) != _moves(attempt):
        shutil.rmtree(home)
    if not home.is_dir():
        _copy(attempt, home, _moves(attempt), "")
    live, shared = home / "scratch" / LIVE, attempt / "scratch" / LIVE
    shared.touch()  # so that whoever watches sees the losses of a fine-tuning
    live.unlink(missing_ok=True)
    live.symlink_to(shared.absolute())
    return home


def give_back(work: Path, attempt: Path, is_done: bool) -> Path:
    """Return the attempt on the shared disk, as far as it has come; what is done needs no scratch.

    It has a name of its own till it is whole, and only then is the older one removed.
    """
    if work == attempt:
        return attempt
    stage = attempt.parents[1]
    for torn in stage.glob(".moving-*"):
        shutil.rmtree(torn)
    made = attempt.with_name(secrets.token_hex(6))
    _copy(work, made, _moves(attempt) + 1, "scratch" if is_done else "", stage)
    for old in (attempt, work):  # whose other ranks may still be ending
        shutil.rmtree(old, ignore_errors=True)
    return made


def _copy(source: Path, target: Path, moves: int, without: str, beside: Path | None = None) -> None:
    made = (beside or target.parent) / f".moving-{target.name}"
    shutil.rmtree(made, ignore_errors=True)
    skipped = {str(source): [without]}
    shutil.copytree(
        source, made, ignore=lambda at, _: skipped.get(at, []), ignore_dangling_symlinks=True
    )
    (made / _MOVES).write_text(str(moves), encoding="utf-8")
    os.utime(made)  # the newest attempt is gone on with
    made.rename(target)


def _moves(path: Path) -> int:
    try:
        return int((path / _MOVES).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return 0


def _home(stage: Path, place: str) -> Path:
    path = Path(os.path.expandvars(place)).expanduser()
    where = f"cluster.scratch={place} on {platform.node()}"
    if "$" in str(path):
        raise EnvironmentFailed(f"{where}: the job has no such variable; set it in cluster.setup")
    mine = path / f"understudy-{os.getuid()}"
    try:
        mine.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise EnvironmentFailed(f"{where} cannot be used: {error.strerror}") from None
    digits = hashlib.sha256(str(stage.absolute()).encode()).hexdigest()[:12]
    return mine / f"{stage.parent.name}-{digits}"
