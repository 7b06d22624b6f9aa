"""The columns of verdict tables as codes: each distinct value once, however many rows hold it.

A list of scores in a cell becomes a column for each place, an object one for each of its names.
Long texts are kept by their beginning and a digest, which still tell two of them apart.
"""

import hashlib
from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from understudy.data import reading
from understudy.errors import BadInput
from understudy.judges import cells

Codes32 = NDArray[np.int32]
LONG = 200  # characters; longer values are texts
_PLACES = 256  # of a list that may be repeated scores
_DEEPEST = 3
_NUMBER = 12  # characters of a score in a list
_PACKED = (".gz", ".zst", ".zstd", ".bz2", ".xz")


@dataclass(frozen=True)
class CodedColumn:
    """A column of R rows."""

    name: str
    values: list[Any]  # distinct, in order of appearance
    codes: Codes32  # (R,) into `values`; -1 where there is nothing
    is_place: bool = False  # of a list, whose length may differ from row to row

    @property
    def filled(self) -> int:
        """The number of rows that hold something."""
        return int((self.codes >= 0).sum())


@dataclass(frozen=True)
class CodedTable:
    """A file: its columns, and the rows that could not be read, with why."""

    path: Path
    rows: int
    columns: dict[str, CodedColumn]
    bad: Counter[str] = field(default_factory=Counter)
    first_bad: str = ""


def files(path: Path) -> tuple[list[Path], list[Path]]:
    """The tables of a folder, or the one file, and what else lies in the folder."""
    if not path.is_dir():
        reading.check_file(path)
        return [path], []
    found = sorted(one for one in path.rglob("*") if one.is_file() and one.name[0] != ".")
    known = [one for one in found if _is_table(one)]
    if not known:
        raise BadInput(f"{path} holds no {', '.join(reading.SUFFIXES)} file, packed or not")
    return known, [one for one in found if not _is_table(one)]


def _is_table(path: Path) -> bool:
    suffix = Path(path.stem).suffix if path.suffix in _PACKED else path.suffix
    return suffix in reading.SUFFIXES and path.stat().st_size > 0


def read(path: Path) -> CodedTable:
    """All rows of a file; BadInput when it holds none."""
    tables: dict[str, dict[Any, int]] = {}
    codes: dict[str, array[int]] = {}
    bad, first_bad, rows = Counter[str](), "", 0
    for block in reading.blocks(str(path)):
        held = []
        for raw in block.rows():
            if raw.values is None:
                first_bad = first_bad or f"{raw.place} {raw.problem}"
                bad[raw.problem] += 1
            elif any(isinstance(value, dict | list) for value in raw.values.values()):
                held.append(dict(_flat(raw.values.items())))
            else:
                held.append(raw.values)
        for name in dict.fromkeys(name for row in held for name in row):
            known = tables.setdefault(name, {})
            column = codes.setdefault(name, array("i"))
            column.extend([-1] * (rows - len(column)))
            column.extend([_code(row.get(name), known, name) for row in held])
        rows += len(held)
    if not rows:
        raise BadInput(f"{path} holds no row" + (f"; {first_bad}" if first_bad else ""))
    found = {}
    for name, known in tables.items():
        whole = np.full(rows, -1, dtype=np.int32)
        whole[: len(codes[name])] = np.frombuffer(codes[name], dtype=np.int32)
        found[name] = CodedColumn(name, list(known), whole, name.endswith("]"))
    return CodedTable(path, rows, found, bad, first_bad)


def _code(value: Any, known: dict[Any, int], name: str) -> int:
    """The number of a value; -1 where there is none, but not for an empty place of a list."""
    if value is None or (value == "" and name[-1:] != "]") or value != value:
        return -1
    if isinstance(value, str):
        value = value if len(value) <= LONG else _short(value)
    elif not isinstance(value, int | float):
        value = str(value)
    return known.setdefault(value, len(known))


def _flat(pairs: Any, before: str = "", depth: int = 1) -> Iterator[tuple[str, Any]]:
    """Yield the names and values of a row, objects and lists of scores taken apart."""
    for key, value in pairs:
        name = f"{before}{key}"
        if isinstance(value, dict) and depth < _DEEPEST:
            yield from _flat(value.items(), f"{name}.", depth + 1)
        elif isinstance(value, list) and _is_scores(value):
            # An empty place was asked for; one that is not there was not.
            yield from ((f"{name}[{n}]", "" if v is None else v) for n, v in enumerate(value))
        else:
            yield name, str(value) if isinstance(value, dict | list) else value


def _is_scores(value: list[Any]) -> bool:
    held = [one for one in value if one is not None]
    if not 0 < len(held) <= len(value) <= _PLACES:
        return False
    if all(isinstance(one, int | float) for one in held):
        return True
    return all(len(str(one)) <= _NUMBER and cells.score(one).score is not None for one in held)


def _short(text: str) -> str:
    if len(text) <= LONG:
        return text
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
    return f"{text[:LONG]}… #{digest}"
