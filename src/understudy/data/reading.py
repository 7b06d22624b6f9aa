"""Rows of a file as they stand: JSON lines, JSON, CSV, TSV and parquet.

The contents tell what a file is, its name only what is text in it: gzip, zstd, bzip2 and xz are
unpacked, other encodings become UTF-8 (data/encodings.py), a JSON list or objects over several
lines are rows wherever they stand, and a table may be cut at commas, semicolons, tabs or bars.
A name that stands twice, in an object or a header, is told: it would hide what the first holds.
A file is read in blocks, each small enough for one process to take; of files whose lines are rows
a block is bytes, which nothing has parsed yet. `-` is standard input.
"""

import codecs
import csv
import io
import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

from understudy.data import encodings
from understudy.errors import BadInput

SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")
_PACKED = (".gz", ".zst", ".zstd", ".bz2", ".xz")
STDIN = "-"
_BYTES = 1 << 20
_ROWS = 500
_LISTS = (  # what an API, or whoever writes a data set, calls its rows
    *("data", "traces", "results", "responses", "rows", "items", "records", "examples"),
    *("instances", "samples", "entries"),
)
_SPLITS = ("train", "validation", "valid", "val", "dev", "test", "holdout")
_OF_ONE = ("request", "messages", "conversations", "prompt", "input")  # an object that is a row


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


class _Twice(ValueError):
    """A name that an object has twice."""


def _object_of(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of some pairs; _Twice where a name has two values."""
    made = dict(pairs)
    if len(made) < len(pairs):
        for name, value in pairs:
            if made[name] != value:
                raise _Twice(f"has two values of the name {name!r}")
    return made


_JSON = json.JSONDecoder(object_pairs_hook=_object_of)


def parsed(line: bytes, place: str) -> Raw:
    """Return the row in one line of JSON."""
    try:
        return _row(_JSON.decode(line.decode().removeprefix("\ufeff")), place)
    except _Twice as error:
        return Raw(place, None, str(error))
    except json.JSONDecodeError as error:
        # As lines are that were cut out of a list.
        if error.msg == "Extra data" and error.doc[error.pos :].strip() == ",":
            return parsed(line.rstrip().removesuffix(b","), place)
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
    told = 0
    try:
        with _opened(path) as (raw, file):
            for block in _blocks(path, file):
                if path != STDIN:
                    advance(raw.tell() - told)
                    told = raw.tell()
                yield block
    except encodings.NotWhole as error:
        raise BadInput(f"{path} {error}") from None
    except UnicodeDecodeError as error:
        name = error.encoding.upper()
        raise BadInput(f"{path} is not {name}: {error.reason} at byte {error.start}") from None


@contextmanager
def _opened(path: str) -> Iterator[tuple[IO[bytes], io.BufferedReader]]:
    """Open the file as it is on disk, and as it is to be read: unpacked, in UTF-8."""
    if path == STDIN:
        file = encodings.opened(path, sys.stdin.buffer)
        yield sys.stdin.buffer, file
        return
    with open(path, "rb", buffering=0) as raw:
        yield cast("IO[bytes]", raw), encodings.opened(path, raw)


def _suffix(path: Path) -> str:
    return Path(path.stem).suffix if path.suffix in _PACKED else path.suffix


def _blocks(path: str, file: io.BufferedReader) -> Iterator[Block]:
    suffix, head = _suffix(Path(path)), file.peek(_BYTES)
    if suffix == ".parquet" or (head.startswith(b"PAR1") and path != STDIN):
        return _packed(path, _parquet(path))
    if suffix in (".csv", ".tsv"):
        return _packed(path, _table(path, file, "," if suffix == ".csv" else "\t"))
    start = head.removeprefix(codecs.BOM_UTF8).lstrip()
    if _is_one_value(start, suffix, path):
        return _packed(path, _values(path, file))
    if start[:1] == b"{" and _is_alone(start, suffix, path):
        return _packed(path, _object(path, file.read()))
    return _lines(path, file.read(_BYTES), file)


def _is_alone(start: bytes, suffix: str, path: str) -> bool:
    """Whether an object is all of its file, and no line of several."""
    first, _, rest = start.partition(b"\n")
    if suffix == ".json":
        second = rest.lstrip().partition(b"\n")[0]
        is_broken = parsed(first, path).values is None and parsed(second, path).values is None
        return not rest.strip() or is_broken
    return parsed(first, path).values is None and _after_object(start) == ""


def _is_one_value(start: bytes, suffix: str, path: str) -> bool:
    """Whether lines are no rows: a JSON list, or objects over several lines, as `jq` writes them.

    A list that is whole in its first line, with more lines after it, is a row that is no object.
    """
    first, _, rest = start.partition(b"\n")
    if start[:1] == b"[":
        is_row = parsed(first, path).problem.startswith("is a list") and bool(rest.strip())
        return not is_row or suffix == ".json"
    # One object alone in its file may be what an API answered, with the rows inside.
    return parsed(first, path).values is None and bool(_after_object(start))


def _after_object(start: bytes) -> str | None:
    """What stands after an object over several lines; None where there is no such object."""
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(start)
        _, end = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        return None
    return text[end:].strip() if "\n" in text[:end] else None


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


def _values(path: str, file: IO[bytes]) -> Iterator[Raw]:
    """Yield the elements of a JSON list, or objects one after the other, a few at a time."""
    decode, read = _JSON.raw_decode, codecs.getincrementaldecoder("utf-8-sig")()
    text, number = read.decode(file.read(_BYTES)), 1
    at, lines = len(text) - len(text.lstrip().removeprefix("[")), 0  # lines before `text`
    is_list = text[:at].endswith("[")
    while True:
        while at < len(text) and text[at] in " \t\r\n,":
            at += 1
        try:
            if text[at : at + 1] == "]" and is_list:
                return
            value, at = decode(text, at)
            yield _row(value, f"{path} row {number}")
            number += 1
        except json.JSONDecodeError as error:
            more = file.read(max(_BYTES, len(text) - at))
            if not more and not text[at:] and not is_list:
                return
            if not more:
                place = f"{path}:{lines + error.lineno} row {number}"
                raise BadInput(f"{place} is not JSON: {error.msg}") from None
            lines += text.count("\n", 0, at)
            text, at = text[at:] + read.decode(more), 0
        except _Twice as error:
            raise BadInput(f"{path} row {number} {error}") from None
        except (ValueError, RecursionError):
            raise BadInput(f"{path} row {number} is nested too deep or has a huge number") from None


def _object(path: str, content: bytes) -> Iterator[Raw]:
    """Yield what the one JSON object of a file lists, else the object itself."""
    row = parsed(content, path)
    if row.values is None:
        raise BadInput(f"{path} {row.problem}")
    return (_row(value, f"{path} row {n}") for n, value in enumerate(_listed(row.values), 1))


def _listed(values: dict[str, Any]) -> list[Any]:
    """The rows in an object: its one known list, or a list for each split."""
    talks: Any = values.get("conversations")
    if len(values) == 1 and _is_rows(talks) and all("messages" in row for row in talks):
        return list(talks)
    if any(name in values for name in _OF_ONE):
        return [values]
    parts = [name for name in _SPLITS if _is_rows(values.get(name))]
    if parts:
        return [{"split": name} | row for name in parts for row in values[name]]
    return next((values[name] for name in _LISTS if isinstance(values.get(name), list)), [values])


def _is_rows(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(row, dict) for row in value) and bool(value)


def _table(path: str, file: io.BufferedReader, usual: str) -> Iterator[Raw]:
    csv.field_size_limit(sys.maxsize)
    delimiter, skipped = _delimiter(file.peek(_BYTES), usual)
    text = io.TextIOWrapper(file, "utf-8-sig", newline="")
    reader = csv.reader(text, delimiter=delimiter, strict=True)
    line = 1
    try:
        for _ in range(skipped):
            next(reader)
        header = next(reader, [])
        names, line = _distinct(header), reader.line_num + 1
        for cells in reader:
            place, line = f"{path}:{line}", reader.line_num + 1
            if not any(cells):
                continue  # as a spreadsheet writes the empty rows below its last one
            if cells == header:
                yield Raw(place, None, "repeats the header")
            elif len(cells) != len(names):
                more = "more" if len(cells) > len(names) else "fewer"
                yield Raw(place, None, f"has {more} fields than the header")
            else:
                yield Raw(place, {n: cell or None for n, cell in zip(names, cells, strict=True)})
    except csv.Error as error:
        raise BadInput(f"{path}:{line} is not CSV: {error}") from None
    finally:
        text.detach()  # its end must not close the file


def _distinct(header: list[str]) -> list[str]:
    """The names of columns: one without a name is told by its number, as is one that repeats."""
    names = list[str]()
    for number, name in enumerate(map(str.strip, header), 1):
        names.append(f"{name or 'column'} {number}" if not name or name in names else name)
    return names


def _delimiter(head: bytes, usual: str) -> tuple[str, int]:
    """What cuts the header into most fields, and the lines before it: Excel's `sep=;`.

    A sign that cuts the first row into as many comes first, for names may hold signs, too:
    `GPT4|DA|source`. Where several signs cut as often, it is the usual one.
    """
    lines = head.decode("utf-8-sig", errors="ignore").split("\n", 2)
    if told := re.fullmatch(r'"?sep=(.)"?', lines[0].strip()):
        return told[1], 1
    cut = {
        sign: [len(next(csv.reader([line.rstrip("\r")], delimiter=sign), ())) for line in lines[:2]]
        for sign in ",;\t|"
    }

    def fitness(sign: str) -> tuple[bool, int, bool]:
        fields = cut[sign]
        return len(set(fields)) == 1 < fields[0], fields[0], sign == usual

    return max(cut, key=fitness), 0


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
