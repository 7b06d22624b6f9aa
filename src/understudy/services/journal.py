"""The call journal: every reply that was paid for, found again by what was asked.

`<root>/journal/<host>-<n>.sqlite` are its segments (see segment.py); all are read when it is
opened. A call that was noted as sent and has neither a reply nor a void note was in flight when
its process ended, or was lost on the way: it may have been billed, and counts at its upper bound.
"""

import fcntl
import hashlib
import json
import os
import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from understudy.config.service import Service
from understudy.errors import BadInput, EnvironmentFailed
from understudy.services.base import Reply, Request, Usage
from understudy.services.segment import NotedBatch, PaidCall, connect, failed, take
from understudy.store.artifacts import canonical

COLUMNS = {
    "day": "strftime('%Y-%m-%d', at, 'unixepoch')",  # UTC
    **{name: name for name in ("stage", "purse", "service", "model", "mode")},
}
_REPLY_COLUMNS = "finish, input, cached, output, reasoning, written, answered_by, request_id, text"


@dataclass(slots=True)
class Total:
    """Sums over some of the journal's calls; money in micro-dollars."""

    by: tuple[str, ...] = ()
    calls: int = 0  # answered
    usage: Usage = field(default_factory=Usage)
    microusd: int = 0  # settled
    uncertain_calls: int = 0
    uncertain_microusd: int = 0  # at most
    latency_s: float = 0.0  # of all answered online calls together
    attempts: int = 0


def key_of(service: Service, request: Request) -> bytes:
    """What makes two calls equal: endpoint, model, messages, schema, tools, parameters, index."""
    document = {
        "endpoint": identity(service),
        "messages": request.messages,
        "schema": request.schema,
        "index": request.index,
        "temperature": service.temperature,
        "max_output_tokens": service.max_output_tokens,
        "reasoning": service.reasoning,
        "structured": service.structured,
    }
    if request.tools:  # a key of its own, so that calls without tools keep theirs
        document["tools"] = request.tools
    return hashlib.sha256(canonical(document).encode()).digest()


def identity(service: Service) -> list[Any]:
    """Who answers: two services with the same identity are the same endpoint and model."""
    return [service.provider, service.base_url or "", service.model, service.rehearsal]


class Journal:
    """All segments of a directory, as they were when it was opened; a missing one is empty."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._segments: list[sqlite3.Connection] = []
        self._paths: list[Path] = []
        self._known: dict[bytes, tuple[sqlite3.Connection, int]] | None = None
        for path in sorted(directory.glob("*.sqlite")):
            database = connect(path)
            self._segments.append(database)
            self._paths.append(path)
            try:
                begun = self._rows(database, "SELECT 1 FROM sqlite_master WHERE name = 'batches'")
            except EnvironmentFailed:
                self.close()
                raise
            if not begun:
                self._segments.pop().close()  # its writer died, or lives, before its first commit
                self._paths.pop()

    def find(self, key: bytes) -> Reply | None:
        """The reply to a call, or None where it was never answered, or is purged."""
        if (place := self._keys.get(key)) is None:
            return None
        database, call = place
        sql = f"SELECT {_REPLY_COLUMNS} FROM replies JOIN texts USING (call) WHERE call = ?"
        ((finish, *tokens, answered_by, request_id, text),) = self._rows(database, sql, call)
        usage = None if tokens[0] is None else Usage(*tokens)
        said = json.loads(text)
        words, calls = (said["text"], said["calls"]) if isinstance(said, dict) else (said, ())
        return Reply(words, finish, usage, answered_by, request_id, calls=tuple(calls))

    def add(self, key: bytes, database: sqlite3.Connection, number: int) -> None:
        """Let a reply be found that this process has written meanwhile."""
        self._keys[key] = (database, number)

    def totals(self, *by: str, **where: str) -> list[Total]:
        """Sums by any of COLUMNS, over the calls whose columns are as `where` says."""
        columns = ", ".join(_column(name) for name in by) or "''"
        condition = " AND ".join(f"{_column(name)} = ?" for name in where) or "1"
        totals: defaultdict[tuple[str, ...], Total] = defaultdict(Total)
        sums = ("1", *Usage.__slots__, "microusd", "latency_s", "attempts")
        sql = (
            f"SELECT {columns}, {', '.join(f'coalesce(sum({name}), 0)' for name in sums)} "
            f"FROM replies WHERE finish IS NOT NULL AND {condition} "
            f"GROUP BY {', '.join(str(n + 1) for n in range(max(1, len(by))))}"
        )
        for database in self._segments:
            for row in self._rows(database, sql, *where.values()):
                group, (calls, *tokens, microusd, latency_s, attempts) = row[: len(by)], row[-9:]
                total = totals[group]
                total.calls += calls
                total.usage = _sum(total.usage, tokens)
                total.microusd += microusd
                total.latency_s += latency_s
                total.attempts += attempts
        sql = f"SELECT call, reserved, {columns} FROM sent WHERE {condition}"
        for _, reserved, *group in self._open(sql, *where.values()):
            total = totals[tuple(group[: len(by)])]
            total.uncertain_calls += 1
            total.uncertain_microusd += reserved
        return [replace(totals[group], by=group) for group in sorted(totals)]

    def latencies(self, stage: str) -> list[float]:
        """Seconds of each answered online call of a stage, retries within."""
        sql = "SELECT latency_s FROM replies WHERE stage = ? AND latency_s IS NOT NULL"
        return [row[0] for database in self._segments for row in self._rows(database, sql, stage)]

    def purse_total(self, purse: str) -> int:
        """What a purse has spent: settled, and at most what is uncertain."""
        return sum(t.microusd + t.uncertain_microusd for t in self.totals(purse=purse))

    def batches(self, endpoint: str) -> list[tuple[float, NotedBatch]]:
        """(when noted last, batch) of all batches of an endpoint, oldest first."""
        sql = "SELECT * FROM batches WHERE endpoint = ?"
        events = sorted(row for db in self._segments for row in self._rows(db, sql, endpoint))
        latest = {row[2]: row for row in events}
        return [(row[1], NotedBatch(*row[2:])) for row in latest.values()]

    def calls_of(self, label: str) -> dict[bytes, tuple[int, PaidCall]]:
        """The calls of a batch that have no reply: key -> (number, call)."""
        columns = "call, key, stage, purse, service, model, mode, reserved, batch"
        rows = self._open(f"SELECT {columns} FROM sent WHERE batch = ?", label)
        return {key: (number, PaidCall(key, *rest)) for number, key, *rest in rows}

    def batched(self, endpoint: str) -> set[bytes]:
        """The keys of all calls whose batch is under way."""
        under_way = [b for _, b in self.batches(endpoint) if b.state in ("intent", "submitted")]
        return {key for batch in under_way for key in self.calls_of(batch.label)}

    def export(self) -> Iterator[dict[str, Any]]:
        """Every answered call that is not purged, as plain values, oldest segment first."""
        for database in self._segments:
            cursor = database.execute(
                "SELECT * FROM replies JOIN texts USING (call) WHERE key IS NOT NULL ORDER BY call"
            )
            names = [column[0] for column in cursor.description]
            for row in cursor:
                values = dict(zip(names, row, strict=True))
                yield values | {"key": values["key"].hex(), "text": json.loads(values["text"])}

    def purge(self, **where: str) -> int:
        """Forget the replies whose columns are as `where` says; the sums of money stay.

        Returns how many were forgotten. Raises BadInput while a command writes the journal.
        """
        condition = " AND ".join(f"{_column(name)} = ?" for name in where) or "1"
        chosen = f"SELECT call FROM replies WHERE key IS NOT NULL AND {condition}"
        with _all_taken(self._paths):
            gone = [row for db in self._segments for row in self._rows(db, chosen, *where.values())]
            for database in self._segments:
                database.execute("PRAGMA secure_delete=ON")
                database.execute("BEGIN IMMEDIATE")
                database.executemany("DELETE FROM texts WHERE call = ?", gone)
                database.executemany("UPDATE replies SET key = NULL WHERE call = ?", gone)
                database.executemany("UPDATE sent SET key = NULL WHERE call = ?", gone)
                database.execute("COMMIT")
                database.execute("VACUUM")
        self._known = None
        return len(gone)

    def close(self) -> None:
        """Close every segment."""
        for database in self._segments:
            database.close()

    @property
    def _keys(self) -> dict[bytes, tuple[sqlite3.Connection, int]]:
        """Where the reply to a key is; replies themselves stay on the disk."""
        if self._known is None:
            sql = "SELECT call, key FROM replies WHERE key IS NOT NULL"
            self._known = {
                key: (database, call)
                for database in self._segments
                for call, key in self._rows(database, sql)
            }
        return self._known

    def _open(self, sql: str, *values: Any) -> list[Any]:
        """The rows of `sent` (call first) that no segment has a reply or a void note for."""
        query = f"SELECT * FROM ({sql}) WHERE call NOT IN (SELECT call FROM replies)"
        rows = [row for db in self._segments for row in self._rows(db, query, *values)]
        sql = "SELECT call FROM replies WHERE call IN (SELECT value FROM json_each(?))"
        numbers = json.dumps([row[0] for row in rows])
        closed = {call for db in self._segments for (call,) in self._rows(db, sql, numbers)}
        return [row for row in rows if row[0] not in closed]

    def _rows(self, database: sqlite3.Connection, sql: str, *values: Any) -> list[Any]:
        try:
            return database.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            (_, _, path), *_ = database.execute("PRAGMA database_list").fetchall()
            raise failed(Path(path), error) from None


@contextmanager
def open_journal(directory: Path) -> Iterator[Journal]:
    """The journal of a directory, read-only for all but `purge`."""
    journal = Journal(directory)
    try:
        yield journal
    finally:
        journal.close()


def _column(name: str) -> str:
    if name not in COLUMNS:
        raise BadInput(f"the journal has no column {name}; choose from {', '.join(COLUMNS)}")
    return COLUMNS[name]


def _sum(usage: Usage, tokens: Sequence[int]) -> Usage:
    return Usage(*(getattr(usage, n) + t for n, t in zip(Usage.__slots__, tokens, strict=True)))


@contextmanager
def _all_taken(paths: list[Path]) -> Iterator[None]:
    locks = [(path, take(path)) for path in paths]
    try:
        for path, lock in locks:
            if lock is None:
                raise BadInput(f"a running command writes {path}; purge when it has ended")
        yield
    finally:
        for _, lock in locks:
            if lock is not None:
                fcntl.flock(lock, fcntl.LOCK_UN)
                os.close(lock)
