"""The one writer of tables: CSV with every digit, Markdown and LaTeX for reading."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from understudy.store.artifacts import write_atomically

from . import labels, latex
from .latex import escape as escape

Row = dict[str, Any]


class Column(NamedTuple):
    """A heading and what stands below it."""

    heading: str
    text: Callable[[Row], str]
    is_number: bool = True


class Table(NamedTuple):
    """A table: its numbers as a frame, and how they are shown."""

    name: str  # of the files
    caption: str
    frame: pd.DataFrame
    columns: Sequence[Column]
    is_rehearsal: bool
    red: Callable[[Row], bool] = lambda row: False


def write(table: Table, out: Path) -> list[Path]:
    """Write `name`.csv, .md and .tex below `out`."""
    out.mkdir(parents=True, exist_ok=True)
    rows = rows_of(table.frame)
    texts = {
        ".csv": table.frame.to_csv(index=False, lineterminator="\n"),
        ".md": markdown(table, rows),
        ".tex": latex.longtable(table.name, caption(table), *_cells(table, rows)),
    }
    paths = [out / f"{table.name}{suffix}" for suffix in texts]
    for path, text in zip(paths, texts.values(), strict=True):
        write_atomically(path, text)
    return paths


def rows_of(frame: pd.DataFrame) -> list[Row]:
    """The rows of a frame by the names of its columns."""
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def caption(table: Table) -> str:
    """The caption, after the word that a rehearsal must carry."""
    note = f"{labels.REHEARSAL}: offline stand-ins, no LLM was asked. "
    return (note if table.is_rehearsal else "") + table.caption


def markdown(table: Table, rows: Sequence[Row]) -> str:
    """A pipe table; red rows are bold."""
    lines = [
        f"| {' | '.join(column.heading for column in table.columns)} |",
        f"| {' | '.join('---:' if column.is_number else '---' for column in table.columns)} |",
    ]
    for row in rows:
        cells = [" ".join(column.text(row).replace("|", "\\|").split()) for column in table.columns]
        if table.red(row):
            cells = [f"**{cell}**" if cell else "" for cell in cells]
        lines.append(f"| {' | '.join(cells)} |")
    return f"{caption(table)}\n\n" + "\n".join(lines) + "\n"


def _cells(table: Table, rows: Sequence[Row]) -> tuple[list[latex.Column], list[list[str]]]:
    """The columns and the cells of LaTeX's table; what is red is so there, too."""
    body = []
    for row in rows:
        cells = [column.text(row) for column in table.columns]
        red = table.red(row)
        body.append([latex.red(cell) if red and cell else latex.escape(cell) for cell in cells])
    heads = [latex.Column(latex.escape(c.heading), c.is_number) for c in table.columns]
    return heads, body


def settings(frame: pd.DataFrame) -> list[Column]:
    """A column for each leaf that the runs differ in, and one for seeds that repeat a system."""
    names = [str(name) for name in frame.columns if str(name).startswith("leaf.")]

    def of(name: str, heading: str) -> Column:
        return Column(
            heading, lambda row: labels.MISSING if missing(row[name]) else str(row[name]), False
        )

    found = [of(name, name.removeprefix("leaf.")) for name in names]
    return [*found, of("seeds", "Seed")] if "seeds" in frame else found


def words(name: str, heading: str) -> Column:
    """A column of names, in the words of the label table."""
    return Column(heading, lambda row: labels.label(row[name]), is_number=False)


CONTAMINATED = Column("Contaminated", labels.contaminated)


def value(name: str, heading: str, digits: int = 1, scale: float = 1) -> Column:
    """A column of numbers with their limits, where `name`.low and .high are known."""

    def text(row: Row) -> str:
        centre: Any = row.get(f"{name}.mean", row.get(name))
        if missing(centre):
            return labels.MISSING
        ends: list[Any] = [row.get(f"{name}.low"), row.get(f"{name}.high")]
        shown = labels.number(scale * centre, digits)
        if any(missing(end) for end in ends):
            return shown
        low, high = (labels.number(scale * end, digits) for end in ends)
        return f"{shown} [{low}, {high}]"

    return Column(heading, text)


def missing(number: Any) -> bool:
    """Whether there is no number: None or NaN."""
    return number is None or number != number
