"""A root that several users write: what one makes there, the others can go on with."""

import os
import stat
from contextlib import suppress
from pathlib import Path


def share(root: Path) -> None:
    """Let the group write what this process makes from now on, where the group may write the root.

    A root that is still to be made counts as the directory that it will be made in, if new
    directories there keep its group. Those below an existing root keep the root's group too.
    """
    place = root
    while not place.exists() and place != place.parent:
        place = place.parent
    if not is_shared(place) or (place != root and not place.stat().st_mode & stat.S_ISGID):
        return
    os.umask(os.umask(0o077) & ~stat.S_IRWXG)
    if not place.stat().st_mode & stat.S_ISGID:
        with suppress(PermissionError):  # somebody else's; its owner may
            place.chmod(stat.S_IMODE(place.stat().st_mode) | stat.S_ISGID)


def is_shared(place: Path) -> bool:
    """Whether the group, and not everybody, may write a directory."""
    mode = place.stat().st_mode
    return bool(mode & stat.S_IWGRP) and not mode & (stat.S_ISVTX | stat.S_IWOTH)
