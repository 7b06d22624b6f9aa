"""Append-only JSON lines, a file per day (UTC): whole lines, in the kernel when `write` returns.

requests/DAY.jsonl   a line per request: who answered, when, at what price; no prompt unless asked
pairs/DAY.jsonl      the requests and answers of modes record and shadow, for `collect`
shadow/DAY.jsonl     both models' answers to a prompt, for `run inference=file`

`write` hands a line over in one call, so `kill -9` loses none that it has returned from; a line
that was torn (the process was killed inside, the power went, the disk was full) is cut off by
the next process that opens the file, and every reader of ours skips it.
"""

import json
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

_MODE = 0o600


class DayLog:
    """The files of one kind; only one process writes them."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._day = ""
        self._file = -1
        self._size = 0

    def write(self, line: bytes) -> bool:
        """Append one line; False, and nothing written, when there is no room."""
        data = line + b"\n"
        with suppress(OSError):
            if (day := today()) != self._day:
                self._open(day)
            if os.write(self._file, data) == len(data):
                self._size += len(data)
                return True
        try:
            if self._day:  # a part of the line may stand there
                os.ftruncate(self._file, self._size)
        except OSError:
            self._day = ""  # the next line opens the file anew, and cuts it
        return False

    def close(self) -> None:
        """Close the file."""
        if self._file >= 0:
            os.close(self._file)
        self._file, self._day = -1, ""

    def _open(self, day: str) -> None:
        self.close()
        self._directory.mkdir(parents=True, exist_ok=True)
        path = self._directory / f"{day}.jsonl"
        self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, _MODE)
        self._size = cut_torn_line(self._file)
        self._day = day


def today() -> str:
    """Return the day in UTC."""
    return time.strftime("%Y-%m-%d", time.gmtime())


def cut_torn_line(file: int) -> int:
    """Cut what follows the last newline, and return the size that is left."""
    size = end = os.fstat(file).st_size
    while end:
        start = max(0, end - (1 << 16))
        block = os.pread(file, end - start, start)
        if (found := block.rfind(b"\n")) >= 0:
            end = start + found + 1
            break
        end = start
    if end < size:
        os.ftruncate(file, end)
    return end


def read(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines of a file; a torn one is skipped."""
    if not path.is_file():
        return
    with path.open("rb") as lines:
        for line in lines:
            try:
                values = json.loads(line)
            except ValueError:
                continue
            if isinstance(values, dict):
                yield values
