"""Rows of a file as they stand: JSON lines, JSON, CSV, TSV (each also .gz) and parquet.

A file is read in blocks, each small enough for one process to take; of files whose lines are rows
a block is bytes, which nothing has parsed yet. `-` is standard input.
"""

import codecs
import csv
import gzip
import io
import json
import os
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

from understudy.errors import BadInput

SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")
STDIN = "-"
_BYTES = 1 << 20
_ROWS = 500
_LISTS = ("data", "observations", "traces", "results", "responses")  # what an API calls its rows


class Raw(NamedTuple):
    """A row and its place; `problem` says why there are no values."""

    place: str
    values: dict[str, Any] | None
    problem: str = ""


class Block(NamedTuple):
    """Some consecutive lines as bytes, or rows that had to be parsed to be told apart."""

    path: str
    first: int  # number of the first line
    content: bytes | list[Raw]

    def rows(self) -> Iterator[Raw]:
        """Yield the rows; empty lines are none."""
        if isinstance(self.content, list):
            yield from self.content
            return
        for number, line in enumerate(self.content.split(b"\n"), self.first):
            if line and not line.isspace():
                yield parsed(line, f"{self.path}:{number}")


def parsed(line: bytes, place: str) -> Raw:
    """Return the row in one line of JSON."""
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


def read_file(path: Path) -> tuple[Raw, ...]:
    """Return all rows; BadInput when the file as a whole cannot be read, or holds none."""
    check_file(path)
    status = path.stat()
    rows = _read(str(path), status.st_mtime_ns, status.st_size)
    if not rows:
        raise BadInput(f"{path} holds no row")
    return rows


@lru_cache(maxsize=4)  # checked before the first stage, then read for the plan
def _read(path: str, _mtime: int, _size: int) -> tuple[Raw, ...]:
    return tuple(row for block in blocks(path) for row in block.rows())


def check_file(path: Path) -> None:
    """Raise BadInput unless the file exists, is not empty and has a known suffix."""
    endings = ", ".join(SUFFIXES)
    size_of(str(path), f"give one that ends in {endings}")
    if _suffix(path) not in SUFFIXES:
        raise BadInput(f"{path} ends in none of {endings}, so its format is unknown")


def size_of(path: str, instead: str = f"give a file, or {STDIN} for standard input") -> int:
    """Return the bytes of a file; BadInput when there is none or nothing in it."""
    file = Path(path)
    if not file.exists():
        raise BadInput(f"{path} does not exist")
    if not file.is_file():
        raise BadInput(f"{path} is no file; {instead}")
    if not os.access(file, os.R_OK):
        raise BadInput(f"{path} cannot be read: permission denied")
    if file.stat().st_size == 0:
        raise BadInput(f"{path} is empty")
    return file.stat().st_size


def blocks(path: str, advance: Callable[[float], None] = lambda _: None) -> Iterator[Block]:
    """Yield all lines of a file, of any suffix; `advance` is told the bytes read.

    Raises BadInput when the file cannot be read.
    """
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


@contextmanager
def _opened(path: str) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """Open the file as it is on disk, and as it is to be read."""
    if path == STDIN:
        yield sys.stdin.buffer, sys.stdin.buffer
        return
    with open(path, "rb") as raw:
        if path.endswith(".gz"):
            with gzip.GzipFile(fileobj=raw) as file:
                yield raw, cast("IO[bytes]", file)
        else:
            yield raw, raw


def _suffix(path: Path) -> str:
    return Path(path.stem).suffix if path.suffix == ".gz" else path.suffix


def _blocks(path: str, file: IO[bytes]) -> Iterator[Block]:
    suffix = _suffix(Path(path))
    if suffix == ".parquet":
        return _packed(path, _parquet(path))
    if suffix in (".csv", ".tsv"):
        return _packed(path, _table(path, file, "," if suffix == ".csv" else "\t"))
    head = file.read(_BYTES)
    start = head.removeprefix(codecs.BOM_UTF8).lstrip()
    if suffix == ".json" or path == STDIN:
        if start[:1] == b"[":
            return _packed(path, _list(path, head, file))
        # Many a file of JSON lines is called .json too.
        if start[:1] == b"{" and parsed(start.split(b"\n", 1)[0], path).values is None:
            return _packed(path, _object(path, head + file.read()))
    return _lines(path, head, file)


def _lines(path: str, piece: bytes, file: IO[bytes]) -> Iterator[Block]:
    rest, first = b"", 1
    while piece:
        end = piece.rfind(b"\n") + 1
        if end:
            whole, rest = rest + piece[:end], piece[end:]
            yield Block(path, first, whole)
            first += whole.count(b"\n")
        else:
            rest += piece
        piece = file.read(_BYTES)
    if rest:
        yield Block(path, first, rest)


def _packed(path: str, rows: Iterator[Raw]) -> Iterator[Block]:
    while held := list(islice(rows, _ROWS)):
        yield Block(path, 0, held)


def _row(value: Any, place: str) -> Raw:
    if isinstance(value, dict):
        return Raw(place, value)
    return Raw(place, None, f"is a {type(value).__name__}, not an object")


def _list(path: str, head: bytes, file: IO[bytes]) -> Iterator[Raw]:
    """Yield the elements of a JSON list, never more than a few in memory."""
    decode, read = json.JSONDecoder().raw_decode, codecs.getincrementaldecoder("utf-8-sig")()
    text, number = read.decode(head), 1
    at, lines = text.index("[") + 1, 0  # before `text`
    while True:
        while at < len(text) and text[at] in " \t\r\n,":
            at += 1
        try:
            if text[at : at + 1] == "]":
                return
            value, at = decode(text, at)
            yield _row(value, f"{path} row {number}")
            number += 1
        except json.JSONDecodeError as error:
            more = file.read(max(_BYTES, len(text) - at))
            if not more:
                place = f"{path}:{lines + error.lineno} row {number}"
                raise BadInput(f"{place} is not JSON: {error.msg}") from None
            lines += text.count("\n", 0, at)
            text, at = text[at:] + read.decode(more), 0
        except (ValueError, RecursionError):
            raise BadInput(f"{path} row {number} is nested too deep or has a huge number") from None


def _object(path: str, content: bytes) -> Iterator[Raw]:
    """Yield what a JSON object over several lines lists, else the object itself."""
    row = parsed(content, path)
    if row.values is None:
        raise BadInput(f"{path} {row.problem}")
    listed = next((row.values[name] for name in _LISTS if name in row.values), None)
    values = listed if isinstance(listed, list) else [row.values]
    return (_row(value, f"{path} row {number}") for number, value in enumerate(values, 1))


def _table(path: str, file: IO[bytes], delimiter: str) -> Iterator[Raw]:
    csv.field_size_limit(sys.maxsize)
    text = io.TextIOWrapper(file, "utf-8-sig", newline="")
    reader = csv.DictReader(text, delimiter=delimiter, strict=True)
    line = 2
    try:
        for row in reader:
            place, line = f"{path}:{line}", reader.line_num + 1
            if None in row:
                yield Raw(place, None, "has more fields than the header")
            elif None in row.values():
                yield Raw(place, None, "has fewer fields than the header")
            else:
                yield Raw(place, {key: value or None for key, value in row.items()})
    except csv.Error as error:
        raise BadInput(f"{path}:{line} is not CSV: {error}") from None
    finally:
        text.detach()  # its end must not close the file


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
