"""Rows of a file as they stand: JSONL, JSON, CSV, TSV (each also .gz) and parquet, by suffix."""

import csv
import gzip
import io
import json
import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

from understudy.errors import BadInput

SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")


class Raw(NamedTuple):
    """A row and its place; `problem` says why there are no values."""

    place: str
    values: dict[str, Any] | None
    problem: str = ""


def read_file(path: Path) -> tuple[Raw, ...]:
    """All rows; BadInput when the file as a whole cannot be read, or holds none."""
    check_file(path)
    status = path.stat()
    rows = _read(path, status.st_mtime_ns, status.st_size)
    if not rows:
        raise BadInput(f"{path} holds no row")
    return rows


def check_file(path: Path) -> None:
    """What can be told without reading: it exists, is not empty, has a known suffix."""
    if not path.exists():
        raise BadInput(f"{path} does not exist")
    if not path.is_file():
        raise BadInput(f"{path} is no file; give one that ends in {', '.join(SUFFIXES)}")
    if _suffix(path) not in SUFFIXES:
        raise BadInput(f"{path} ends in none of {', '.join(SUFFIXES)}, so its format is unknown")
    if path.stat().st_size == 0:
        raise BadInput(f"{path} is empty")


def _suffix(path: Path) -> str:
    return Path(path.stem).suffix if path.suffix == ".gz" else path.suffix


@lru_cache(maxsize=4)  # checked before the first stage, then read for the plan
def _read(path: Path, _mtime: int, _size: int) -> tuple[Raw, ...]:
    suffix = _suffix(path)
    if suffix == ".parquet":
        return tuple(_parquet(path))
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            if suffix in (".csv", ".tsv"):
                return tuple(table(path, file, "," if suffix == ".csv" else "\t"))
            return tuple(_json(path, file) if suffix == ".json" else _lines(path, file))
    except (gzip.BadGzipFile, EOFError) as error:
        raise BadInput(f"{path} is no whole gzip file: {error}") from None
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} is not UTF-8: {error.reason} at byte {error.start}") from None


def _lines(path: Path, file: IO[bytes] | gzip.GzipFile) -> Iterator[Raw]:
    for number, line in enumerate(file, 1):
        place = f"{path}:{number}"
        if not line.strip():
            continue
        try:
            yield _object(place, json.loads(line.strip().decode("utf-8-sig")))
        except json.JSONDecodeError as error:
            yield Raw(place, None, f"is not JSON: {error.msg} (column {error.colno})")
        except UnicodeDecodeError as error:
            yield Raw(place, None, f"is not UTF-8: {error.reason}")


def _object(place: str, value: Any) -> Raw:
    if isinstance(value, dict):
        return Raw(place, value)
    return Raw(place, None, f"is a {type(value).__name__}, not an object with columns")


def _json(path: Path, file: IO[bytes] | gzip.GzipFile) -> Iterator[Raw]:
    """A list of objects; many a file of JSON lines is called .json too."""
    content = file.read()
    try:
        rows = json.loads(content.decode("utf-8-sig"))
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":
            yield from _lines(path, iter(content.splitlines()))  # type: ignore[arg-type]
            return
        raise BadInput(f"{path}:{error.lineno} is not JSON: {error.msg}") from None
    if not isinstance(rows, list):
        raise BadInput(f"{path} holds a {type(rows).__name__}, not a list of objects")
    for number, row in enumerate(rows, 1):
        yield _object(f"{path} row {number}", row)


def table(path: Path | str, file: IO[bytes] | gzip.GzipFile, delimiter: str) -> Iterator[Raw]:
    """The rows of a CSV or TSV file as they are read; BadInput where it is none."""
    csv.field_size_limit(sys.maxsize)
    text = io.TextIOWrapper(cast("IO[bytes]", file), "utf-8-sig", newline="")
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


def _parquet(path: Path) -> Iterator[Raw]:
    import pyarrow
    import pyarrow.parquet

    try:
        number = 0
        for batch in pyarrow.parquet.ParquetFile(path).iter_batches():
            for row in batch.to_pylist():
                number += 1
                yield Raw(f"{path} row {number}", row)
    except (pyarrow.ArrowException, OSError) as error:
        raise BadInput(f"{path} is no parquet file: {str(error).splitlines()[0]}") from None
