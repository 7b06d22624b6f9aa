"""Files and pipes of logs as blocks of lines, each small enough for one process to take.

JSON lines, a JSON list, CSV and TSV (each also .gz) and parquet; `-` is standard input.
"""

import gzip
import io
import json
import os
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

from understudy.data.reading import Raw, table
from understudy.errors import BadInput

STDIN = "-"
_BYTES = 1 << 20
_ROWS = 500
_LISTS = ("data", "observations", "traces", "results", "responses")  # what an API calls its rows


class Block(NamedTuple):
    """Some consecutive lines as bytes, or rows that had to be parsed to be told apart."""

    path: str
    first: int  # number of the first line
    content: bytes | list[Raw]

    def rows(self) -> Iterator[Raw]:
        """The rows; `problem` says why there are no values."""
        return iter(self.content) if isinstance(self.content, list) else self._lines()

    def _lines(self) -> Iterator[Raw]:
        assert isinstance(self.content, bytes)
        for number, line in enumerate(self.content.split(b"\n"), self.first):
            if line and not line.isspace():
                yield parsed(line, f"{self.path}:{number}")


def parsed(line: bytes, place: str) -> Raw:
    """One line of JSON."""
    try:
        return _row(json.loads(line.decode("utf-8-sig")), place)
    except json.JSONDecodeError as error:
        return Raw(place, None, f"is not JSON: {error.msg} (column {error.colno})")
    except UnicodeDecodeError as error:
        return Raw(place, None, f"is not UTF-8: {error.reason}")
    except ValueError:
        return Raw(place, None, "has a number with too many digits")
    except RecursionError:
        return Raw(place, None, "is nested too deep")


def blocks(path: str, advance: Callable[[float], None]) -> Iterator[Block]:
    """All lines of a file; `advance` is told the bytes read. BadInput when it cannot be read."""
    with _opened(path) as (raw, file):
        told = 0
        try:
            for block in _blocks(path, file):
                if path != STDIN:
                    advance(raw.tell() - told)
                    told = raw.tell()
                yield block
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise BadInput(f"{path} is no whole gzip file: {error}") from None
        except UnicodeDecodeError as error:
            raise BadInput(f"{path} is not UTF-8: {error.reason} at byte {error.start}") from None


def size(path: str) -> int:
    """Bytes of a file; BadInput when there is none or nothing in it."""
    file = Path(path)
    if not file.exists():
        raise BadInput(f"{path} does not exist")
    if not file.is_file():
        raise BadInput(f"{path} is no file; give files of logs, or {STDIN} for standard input")
    if not os.access(file, os.R_OK):
        raise BadInput(f"{path} cannot be read: permission denied")
    if file.stat().st_size == 0:
        raise BadInput(f"{path} is empty")
    return file.stat().st_size


@contextmanager
def _opened(path: str) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """The file as it is on disk, and as it is to be read."""
    if path == STDIN:
        yield sys.stdin.buffer, sys.stdin.buffer
        return
    with open(path, "rb") as raw:
        if path.endswith(".gz"):
            with gzip.GzipFile(fileobj=raw) as file:
                yield raw, cast("IO[bytes]", file)
        else:
            yield raw, raw


def _blocks(path: str, file: IO[bytes]) -> Iterator[Block]:
    suffix = Path(path.removesuffix(".gz")).suffix
    if suffix == ".parquet":
        return _packed(path, _parquet(path))
    if suffix in (".csv", ".tsv"):
        return _packed(path, table(path, file, "," if suffix == ".csv" else "\t"))
    head = file.read(_BYTES)
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if suffix == ".json" or path == STDIN:
        if start[:1] == b"[":
            return _packed(path, _array(path, head, file))
        if start[:1] == b"{" and parsed(head.split(b"\n", 1)[0], path).values is None:
            return _packed(path, _object(path, head + file.read()))
    return _lines(path, head, file)


def _lines(path: str, head: bytes, file: IO[bytes]) -> Iterator[Block]:
    rest, first = b"", 1
    for piece in chain((head,), iter(lambda: file.read(_BYTES), b"")):
        end = piece.rfind(b"\n") + 1
        if end:
            whole, rest = rest + piece[:end], piece[end:]
            yield Block(path, first, whole)
            first += whole.count(b"\n")
        else:
            rest += piece
    if rest:
        yield Block(path, first, rest)


def _packed(path: str, rows: Iterator[Raw]) -> Iterator[Block]:
    held: list[Raw] = []
    for row in rows:
        held.append(row)
        if len(held) == _ROWS:
            yield Block(path, 0, held)
            held = []
    if held:
        yield Block(path, 0, held)


def _row(value: Any, place: str) -> Raw:
    if isinstance(value, dict):
        return Raw(place, value)
    return Raw(place, None, f"is a {type(value).__name__}, not an object")


def _array(path: str, head: bytes, file: IO[bytes]) -> Iterator[Raw]:
    """The elements of a JSON list, never more than a few in memory."""
    decoder = json.JSONDecoder()
    stream = io.TextIOWrapper(io.BufferedReader(_Joined(head, file)), "utf-8-sig")
    text, at, number = stream.read(_BYTES).lstrip()[1:], 0, 1
    while True:
        while at < len(text) and text[at] in " \t\r\n,":
            at += 1
        try:
            if at < len(text) and text[at] == "]":
                return
            value, at = decoder.raw_decode(text, at)
            yield _row(value, f"{path} row {number}")
            number += 1
        except json.JSONDecodeError as error:
            more = stream.read(max(_BYTES, len(text) - at))
            if not more:
                raise BadInput(f"{path} row {number} is not JSON: {error.msg}") from None
            text, at = text[at:] + more, 0
        except (ValueError, RecursionError):
            raise BadInput(f"{path} row {number} is nested too deep or has a huge number") from None


class _Joined(io.RawIOBase):
    """A stream whose first bytes have been read already."""

    def __init__(self, head: bytes, file: IO[bytes]) -> None:
        self._head, self._file = head, file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._head[: len(buffer)] or self._file.read(len(buffer))
        self._head = self._head[len(data) :]
        buffer[: len(data)] = data
        return len(data)


def _object(path: str, content: bytes) -> Iterator[Raw]:
    """What a JSON object over several lines lists, else the object itself."""
    row = parsed(content, path)
    if row.values is None:
        raise BadInput(f"{path} {row.problem}")
    listed = next((row.values[name] for name in _LISTS if name in row.values), None)
    values = listed if isinstance(listed, list) else [row.values]
    return (_row(value, f"{path} row {number}") for number, value in enumerate(values, 1))


def _parquet(path: str) -> Iterator[Raw]:
    import pyarrow
    import pyarrow.parquet

    try:
        number = 0
        for batch in pyarrow.parquet.ParquetFile(path).iter_batches(_ROWS):
            for row in batch.to_pylist():
                number += 1
                yield Raw(f"{path} row {number}", row)
    except (pyarrow.ArrowException, OSError) as error:
        raise BadInput(f"{path} is no parquet file: {str(error).splitlines()[0]}") from None
