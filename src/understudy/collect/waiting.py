"""Halves of exchanges that wait for each other, on disk: a database file that nobody else sees."""

import sqlite3
from collections.abc import Iterator
from typing import NamedTuple, Self

from understudy.errors import EnvironmentFailed

_TABLE = "CREATE TABLE halves (key BLOB, format TEXT, place BLOB, line BLOB)"


class Half(NamedTuple):
    """A line that holds a part of an exchange."""

    format: str
    place: str
    line: bytes
    key: str | None  # the log's name of the exchange
    answer_id: str | None  # the service's
    asks: bool


class Waiting:
    """All halves, by the exchange that they belong to."""

    def __init__(self) -> None:
        self._base = sqlite3.connect("")  # a temporary file, gone with the connection
        self._base.execute(_TABLE)
        self._open: str | None = None  # the exchange that lines without any id belong to
        self._is_named = True  # whether that one bears an id

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._base.close()

    def add(self, halves: list[Half]) -> None:
        """Keep halves, in input order."""
        rows = [
            (_bytes(self._key(half)), half.format, _bytes(half.place), half.line) for half in halves
        ]
        try:
            self._base.executemany("INSERT INTO halves VALUES (?, ?, ?, ?)", rows)
        except sqlite3.OperationalError as error:  # the temporary directory is full
            raise EnvironmentFailed(f"cannot keep what waits for its other half: {error}") from None

    def new_file(self) -> None:
        """What follows belongs to no exchange of an earlier file, unless an id says so."""
        self._open = None

    def groups(self, size: int) -> Iterator[list[list[Half]]]:
        """The halves of each exchange, in the order of their first lines; `size` lines a list."""
        self._base.execute("CREATE INDEX by_key ON halves (key)")
        ordered = self._base.execute(
            "SELECT h.key, h.format, h.place, h.line FROM halves h JOIN "
            "(SELECT key, MIN(rowid) AS first FROM halves GROUP BY key) f ON h.key = f.key "
            "ORDER BY f.first, h.rowid"
        )
        groups: list[list[Half]] = []
        last, lines = None, 0
        for key, form, place, line in ordered:
            if key != last:
                if lines >= size:
                    yield groups
                    groups, lines = [], 0
                groups.append([])
                last = key
            groups[-1].append(Half(form, place.decode(), line, None, None, False))
            lines += 1
        if groups:
            yield groups

    def _key(self, half: Half) -> str:
        """Its own name; else the request without a name before it; else the service's id."""
        key = half.key
        if key is None and (half.asks or self._open is None or self._is_named):
            key = half.answer_id
        if key is None and half.asks:
            self._open, self._is_named = f"\0{half.place}", False
            return self._open
        if key is None:
            return self._open or f"\0{half.place}"
        self._open, self._is_named = key, True
        return key


def _bytes(text: str) -> bytes:
    """Text for the database, which takes no half of a surrogate pair."""
    return text.encode(errors="backslashreplace")
