"""One segment of the call journal: an SQLite file that one process writes and all may read.

A segment has one writer, so that the journal needs no lock between hosts, and a rollback journal:
SQLite's WAL would need all its processes on one host. Rows are only ever added.
"""

import asyncio
import fcntl
import json
import os
import random
import socket
import sqlite3
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass, fields
from itertools import count
from pathlib import Path
from typing import Any, Literal

from understudy.errors import EnvironmentFailed
from understudy.services.base import Reply, Usage
from understudy.services.money import Mode
from understudy.store.sharing import is_shared

_GATHER_S = 0.005  # one commit for all that arrives meanwhile; it costs about as long itself
_BUSY_S = 60.0  # a reader holds a segment for milliseconds
_CALL = "stage TEXT, purse TEXT, service TEXT, model TEXT, mode TEXT, batch TEXT"

_SCHEMA = f"""
PRAGMA journal_mode=DELETE;
PRAGMA synchronous=FULL;
PRAGMA secure_delete=ON;
CREATE TABLE IF NOT EXISTS sent (
    call INTEGER PRIMARY KEY, key BLOB, at REAL, {_CALL}, reserved INTEGER);
CREATE TABLE IF NOT EXISTS replies (
    call INTEGER PRIMARY KEY, key BLOB, at REAL, {_CALL}, microusd INTEGER, input INTEGER,
    cached INTEGER, output INTEGER, reasoning INTEGER, written INTEGER, finish TEXT,
    answered_by TEXT, request_id TEXT, latency_s REAL, attempts INTEGER);
CREATE TABLE IF NOT EXISTS texts (call INTEGER PRIMARY KEY, text TEXT);
CREATE TABLE IF NOT EXISTS batches (
    event INTEGER PRIMARY KEY, at REAL, label TEXT, service TEXT, endpoint TEXT, requests INTEGER,
    state TEXT, batch_id TEXT);
"""
_ROWS = 1000  # of one statement; SQLite takes 32,766 values

Statement = tuple[str, tuple[Any, ...]]  # table, row
BatchFate = Literal["intent", "submitted", "done", "dropped"]


@dataclass(frozen=True, slots=True)
class PaidCall:
    """What is known of a call before it leaves; `reserved` in micro-dollars."""

    key: bytes
    stage: str
    purse: str
    service: str
    model: str
    mode: Mode
    reserved: int
    batch: str | None = None  # the label of the batch that it is part of

    @property
    def place(self) -> tuple[str | None, ...]:
        """Who asked whom; the columns that sums are taken by."""
        return (self.stage, self.purse, self.service, self.model, self.mode, self.batch)


@dataclass(frozen=True, slots=True)
class NotedBatch:
    """A batch as it was noted last; `dropped`: it was never submitted, or nothing came of it."""

    label: str
    service: str
    endpoint: str
    requests: int
    state: BatchFate
    batch_id: str | None = None


class Segment:
    """The segment that this process writes; every write returns once it is on the disk."""

    def __init__(self, directory: Path) -> None:
        make_private(directory)
        self.path, self._lock = _claim(directory)
        os.close(_open(self.path))  # SQLite would ask the umask
        self._last = 0
        self._pending: list[Statement] = []
        self._waiting: list[asyncio.Future[None]] = []
        self._flush: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, "journal")
        self.database = connect(self.path)
        try:
            self.database.executescript(_SCHEMA)
        except sqlite3.Error as error:
            self.database.close()
            raise failed(self.path, error) from None

    async def sent(self, call: PaidCall) -> int:
        """Note that a call leaves now; until it is answered or void it may have been billed."""
        number = self._next()
        await self._write(("sent", (number, call.key, time.time(), *call.place, call.reserved)))
        return number

    async def answered(
        self,
        number: int,
        call: PaidCall,
        reply: Reply,
        microusd: int,
        latency_s: float | None,
        attempts: int,
    ) -> None:
        """Note the reply to a call and what it cost."""
        usage = reply.usage
        tokens = astuple(usage) if usage else (None,) * len(fields(Usage))
        said = (reply.finish, reply.model, reply.request_id, latency_s, attempts)
        values = (number, call.key, time.time(), *call.place, microusd, *tokens, *said)
        text = {"text": reply.text, "calls": reply.calls} if reply.calls else reply.text
        await self._write(("texts", (number, json.dumps(text))), ("replies", values))

    async def void(self, number: int, call: PaidCall, attempts: int) -> None:
        """Note that a call has certainly not been billed, and will not be tried again."""
        values = (number, None, time.time(), *call.place, 0, *(None,) * 9, attempts)
        await self._write(("replies", values))

    async def batch(self, batch: NotedBatch, calls: Iterable[PaidCall] = ()) -> list[int]:
        """Note what became of a batch; with the calls in it, when it is about to be submitted."""
        sent = {self._next(): call for call in calls}
        rows = [(n, c.key, time.time(), *c.place, c.reserved) for n, c in sent.items()]
        event = (self._next(), time.time(), *astuple(batch))
        await self._write(*(("sent", row) for row in rows), ("batches", event))
        return list(sent)

    def close(self) -> None:
        """Close the file and let go of the segment; what was not awaited is lost."""
        self._thread.shutdown()
        self.database.close()
        os.close(self._lock)

    def _next(self) -> int:
        """A number that no other call has, in any segment; later calls have larger ones."""
        self._last = max(self._last + 1, (time.time_ns() // 1000 << 10) | random.getrandbits(10))
        return self._last

    async def _write(self, *statements: Statement) -> None:
        """Put statements into the next commit and wait for it."""
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        self._pending.extend(statements)
        self._waiting.append(done)
        if self._flush is None:
            self._flush = loop.create_task(self._flush_all())
        await done

    async def _flush_all(self) -> None:
        """Commit group after group until nothing is pending."""
        loop = asyncio.get_running_loop()
        try:
            while self._pending:
                await asyncio.sleep(_GATHER_S)
                group, self._pending = self._pending, []
                waiting, self._waiting = self._waiting, []
                error = await loop.run_in_executor(self._thread, self._commit, group)
                for done in waiting:
                    if done.done():  # its caller was cancelled
                        continue
                    done.set_exception(error) if error else done.set_result(None)
        finally:
            self._flush = None

    def _commit(self, group: list[Statement]) -> EnvironmentFailed | None:
        """Write a group in few statements: each of them waits for the event loop's thread twice."""
        tables: dict[str, list[tuple[Any, ...]]] = {}
        for table, values in group:
            tables.setdefault(table, []).append(values)
        try:
            with self.database:
                self.database.execute("BEGIN IMMEDIATE")
                for table, rows in tables.items():
                    for start in range(0, len(rows), _ROWS):
                        self._insert(table, rows[start : start + _ROWS])
        except sqlite3.Error as error:
            return failed(self.path, error)
        return None

    def _insert(self, table: str, rows: list[tuple[Any, ...]]) -> None:
        one = f"({','.join('?' * len(rows[0]))})"
        sql = f"INSERT INTO {table} VALUES {','.join([one] * len(rows))}"
        self.database.execute(sql, [value for row in rows for value in row])


def make_private(directory: Path) -> None:
    """Make the journal's directory, for the eyes of its owner, and of those who share the root."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    directory.mkdir(mode=0o770 if is_shared(directory.parent) else 0o700, exist_ok=True)


def _open(path: Path) -> int:
    """Open a file as private as the journal's directory; it is made if it is not there."""
    mode = 0o660 if is_shared(path.parents[1]) else 0o600
    return os.open(path, os.O_RDWR | os.O_CREAT, mode)


def connect(path: Path) -> sqlite3.Connection:
    """A connection that any thread may use; transactions are ours to begin."""
    try:
        return sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
    except sqlite3.Error as error:
        raise failed(path, error) from None


def failed(path: Path, error: sqlite3.Error) -> EnvironmentFailed:
    """One sentence for a segment that cannot be read or written."""
    return EnvironmentFailed(
        f"the call journal {path} cannot be used ({error}); mend it and run the same command to "
        "go on, or move it away and pay for its calls again"
    )


def _claim(directory: Path) -> tuple[Path, int]:
    """The first segment of this host whose writer is gone or never was, and its lock."""
    for number in count():
        path = directory / f"{socket.gethostname()}-{number}.sqlite"
        if (lock := take(path)) is not None:
            return path, lock
    raise AssertionError("count() never ends")


def take(path: Path) -> int | None:
    """Lock a segment against other writers; the kernel lets go of it when this process ends."""
    lock = _open(path.with_suffix(".lock"))
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return lock
