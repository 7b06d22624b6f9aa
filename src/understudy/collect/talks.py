"""Which rows are turns of one conversation, where a log names neither user nor conversation.

A later turn is asked with the earlier ones before it, so two rows that begin with the same turns
are one conversation. Not where the beginning is a common one, as a greeting or examples that a
program sends with every question: a beginning with more than `_BRANCHES` continuations joins
nothing. System turns do not count, which may hold the time of day; nor do white space and thoughts,
which clients leave out of what they send again.

Kept are 8 bytes for each of a conversation's beginnings, on disk, and 16 for each row.
"""

import hashlib
import sqlite3
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Self

from understudy.errors import EnvironmentFailed
from understudy.records import Message, written

_BRANCHES = 8
_NULL = b'"group_id":null'


def beginnings(messages: Sequence[Message]) -> tuple[int, ...]:
    """Return a number for each beginning of a conversation, from its first user turn on."""
    turns = iter(messages)
    first = next((turn for turn in turns if turn["role"] == "user"), None)
    if first is None:
        return ()
    made, whole = list[int](), hashlib.blake2b(digest_size=8)
    for turn in (first, *turns):
        said = " ".join(written(turn).rpartition("</think>")[2].split())
        whole.update(f"{turn['role']}\0{said}\0".encode(errors="replace"))
        made.append(int.from_bytes(whole.digest(), signed=True) or 1)
    return tuple(made)


class Talks:
    """The kept rows without a group, in the order of the file, and how they begin."""

    def __init__(self) -> None:
        self._rows = array("q")  # of each kept row its whole conversation; 0 = has a group
        self._prompts = array("q")  # the same without the answer
        self._base = sqlite3.connect("")  # a temporary file, gone with the connection
        self._base.execute("CREATE TABLE beginnings (own INTEGER PRIMARY KEY, before INTEGER)")
        self._has_several = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._base.close()

    def add(self, begins: Sequence[int]) -> None:
        """Take a kept row; one with a group has no beginnings."""
        self._rows.append(begins[-1] if begins else 0)
        self._prompts.append(begins[-2] if len(begins) > 1 else 0)
        if len(begins) <= 2:  # by itself it joins nothing
            return
        self._has_several = True
        try:
            self._base.executemany(
                "INSERT OR IGNORE INTO beginnings VALUES (?, ?)",
                zip(begins, (0, *begins), strict=False),
            )
        except sqlite3.OperationalError as error:  # the temporary directory is full
            raise EnvironmentFailed(f"cannot keep how conversations begin: {error}") from None

    def groups(self) -> Iterator[bytes | None] | None:
        """Of each kept row the name of its conversation, if others are of it; None: of no row."""
        if not self._has_several:
            return None
        self._base.execute(
            "CREATE TABLE common AS SELECT before AS own FROM beginnings WHERE before != 0 "
            f"GROUP BY before HAVING COUNT(*) > {_BRANCHES}"
        )
        common = {own for (own,) in self._base.execute("SELECT own FROM common")}
        firsts = array("q", (self._first(n, common) for n in range(len(self._rows))))
        counts = Counter(first for first in firsts if first)
        return (f"{first % 2**64:016x}".encode() if counts[first] > 1 else None for first in firsts)

    def _first(self, row: int, common: set[int]) -> int:
        """The beginning that stands for a row's conversation; 0 where there is none."""
        if not self._rows[row]:
            return 0
        own, before = self._rows[row], self._before(self._rows[row])
        if before is None:  # of one exchange, which others may begin with, answered otherwise
            own, before = self._prompts[row], self._before(self._prompts[row])
            if before is None or own in common:
                return 0
        while before and before not in common:
            own, before = before, self._before(before)
        return own

    def _before(self, own: int) -> int | None:
        found = self._base.execute("SELECT before FROM beginnings WHERE own = ?", (own,)).fetchone()
        return None if found is None else int(found[0])


def grouped(line: bytes, group: bytes | None) -> bytes:
    """Return a row's line with the name of its conversation."""
    return line if group is None else line.replace(_NULL, b'"group_id":"%s"' % group, 1)
