"""Append-only JSON lines, files of a day (UTC): whole lines, in the kernel when `write` returns.

requests/DAY.jsonl     a line per request: who answered, when, at what price; no prompt unless asked
pairs/DAY.jsonl        requests and the service's answers, for `collect`
local_pairs/DAY.jsonl  the same of the local model, apart: nobody learns from them by accident
shadow/DAY.jsonl       both models' answers to a prompt, for `run inference=file`

A file that has grown long is followed by DAY.2.jsonl, and so on; files of days that are over are
deleted when they are older than they are to be kept.

`write` hands a line over in one call, so `kill -9` loses none that it has returned from; a line
that was torn (the process was killed inside, the power went, the disk was full) is cut off by
the next process that opens the file, and every reader of ours skips it.
"""

import math
import os
import re
import time
from contextlib import suppress
from datetime import date, timedelta
from pathlib import Path

_MODE = 0o600
_NAME = re.compile(r"(\d{4}-\d\d-\d\d)(?:\.(\d+))?\.jsonl")


class DayLog:
    """The files of one kind; only one process writes them."""

    def __init__(
        self, directory: Path, most_bytes: float = math.inf, keep_days: int | None = None
    ) -> None:
        self._directory, self._most, self._keep = directory, most_bytes, keep_days
        self._day = ""
        self._file = -1
        self._size = 0

    def write(self, line: bytes) -> bool:
        """Append one line; False, and nothing written, when there is no room."""
        data = line + b"\n"
        with suppress(OSError):
            if (day := today()) != self._day or self._size >= self._most:
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
        self._forget(day)
        path = next(reversed(files(self._directory, day)), self._directory / f"{day}.jsonl")
        if path.is_file() and path.stat().st_size >= self._most:
            path = self._directory / f"{day}.{_part(path) + 1}.jsonl"
        self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, _MODE)
        self._size = cut_torn_line(self._file)
        self._day = day

    def _forget(self, day: str) -> None:
        """Delete the files of days that are to be kept no longer."""
        if self._keep is None:
            return
        oldest = (date.fromisoformat(day) - timedelta(self._keep)).isoformat()
        for path in self._directory.iterdir():
            if (found := _NAME.fullmatch(path.name)) and found[1] < oldest:
                path.unlink(missing_ok=True)


def today() -> str:
    """Return the day in UTC."""
    return time.strftime("%Y-%m-%d", time.gmtime())


def files(directory: Path, day: str) -> list[Path]:
    """Return the files of a day, the oldest first."""
    found = (directory / f"{day}.jsonl", *directory.glob(f"{day}.*.jsonl"))
    return sorted((path for path in found if path.is_file()), key=_part)


def _part(path: Path) -> int:
    found = _NAME.fullmatch(path.name)
    return int(found[2]) if found and found[2] else 1


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
