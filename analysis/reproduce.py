"""Build every table and figure and set each number beside the published one.

python -m analysis.reproduce [RUN…] [--out DIR] [--expected FILE] [--accept]

Without RUN the sources are the made-up set (made_set.py), whose numbers are committed in
reference/expected.csv: then it shows that the analysis still says what it said. Exits 1 where a
number or interval has drifted, is missing or new, or where real rows do not make what is published.
"""

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from understudy.config.compose import runs_root
from understudy.errors import BadInput, UnderstudyError

from . import (
    beside,
    cells,
    command,
    costs,
    fig_cost,
    fig_kde,
    fig_published,
    fig_rounds,
    fig_scaling,
    judges,
    labels,
    made_set,
    published,
    setups,
    sources,
    table_bridge,
    table_cost,
    table_differences,
    table_main,
    tables,
)
from .evaluations import Data
from .tables import Column, Row, Table

_RED = ("drift", "gone", "new")
_SAID = 20  # red cells that are printed
_OUT = Path("runs/analysis")


def build(data: Data, out: Path) -> list[Path]:
    """Write everything that these evaluations have something for; say what was refused."""
    paths = [*table_main.build(data, out), *table_differences.build(data, out)]
    paths += tables.write(_steps(data), out)
    for part in (fig_scaling, fig_kde, table_cost, fig_cost, judges, table_bridge, fig_rounds):
        try:
            paths += part.build(data, out)
        except BadInput as error:
            print(error, file=sys.stderr)
    return [*paths, *_papers(data, out)]


def _papers(data: Data, out: Path) -> list[Path]:
    """The paper's tables and figures of its printed cells, with what these data have beside."""
    sides, found = beside.sides(data), table_cost.assumptions(data, ())
    ours = None
    if costs.measured(found) and not data.is_rehearsal:
        ours = {workload: costs.cost(found, workload) for workload in costs.WORKLOADS}
    printed = cells.published()
    tables_ = published.build(out, printed, sides, ours)
    return tables_ + fig_published.build(out, sides, printed, ours)


def compare(data: Data, out: Path, expected: Path | None) -> pd.DataFrame:
    """Write table_reproduction from the tables in `out`, and return its cells."""
    old = None if expected is None else cells.expected(expected)
    origin: cells.Origin = "runs" if data.runs else "released"
    origin = "made up" if data.is_rehearsal else origin
    table = cells.compare(cells.ours(out), cells.published(), old, origin)
    tables.write(_reproduction(data, table), out)
    return table


def _steps(data: Data) -> Table:
    """The optimiser's steps of every trained model."""
    systems = {}
    for one in data.evaluations:
        system = one.system
        if system.steps == system.steps:
            variant = ", ".join(
                filter(None, [system.trainer, f"seed {system.seed}", setups.words(system.setup)])
            )
            key = system.task, system.model, system.teacher, system.data_size, variant
            systems[key] = system.steps
    names = ("task", "model", "teacher", "data_size", "variant")
    rows = [dict(zip(names, key, strict=True)) | {"steps": n} for key, n in systems.items()]
    columns = [
        *(tables.words(name, name.capitalize()) for name in ("task", "model", "teacher")),
        Column("Rows", lambda row: labels.count(row["data_size"])),
        Column("Trainer", lambda row: str(row["variant"]), is_number=False),
        Column("Steps", lambda row: labels.count(row["steps"])),
    ]
    frame = pd.DataFrame(rows, columns=[*names, "steps"])
    return Table("table_steps", "Optimiser steps.", frame, columns, data.is_rehearsal)


def _reproduction(data: Data, table: pd.DataFrame) -> Table:
    def plain(name: str, heading: str) -> Column:
        return Column(
            heading, lambda row: "" if tables.missing(row[name]) else str(row[name]), False
        )

    columns = [
        plain("place", "Place"),
        *(tables.words(name, name.capitalize()) for name in ("task", "model", "teacher")),
        Column("Rows", lambda row: labels.count(_size(row))),
        tables.words("judge", "Judge"),
        *(plain(name, name.capitalize()) for name in ("metric", "statistic", "variant")),
        Column("Ours", _ours),
        Column("Published", lambda row: labels.number(row["published"], 2)),
        plain("certainty", "Certainty"),
        plain("published_says", "Against published"),
        Column("Expected", lambda row: labels.number(row["expected"], 2)),
        plain("expected_says", "Against expected"),
    ]
    caption = (
        "Ours beside the published value and the committed expectation. Published agrees: inside "
        "our 95 % interval, allowing for its rounding; of the paper's own rows, inside the "
        "rounding alone. Derived: made of published values. Made up: no comparison. Expected "
        "drifts: value or interval further away than a thousandth of the interval. Sources of the "
        "published values: analysis/reference."
    )
    return Table("table_reproduction", caption, table, columns, data.is_rehearsal, is_red)


def is_red(row: Row) -> bool:
    """Whether a cell is not what was committed to, or not what real rows make."""
    return row["expected_says"] in _RED or row["published_says"] == "outside"


def _size(row: Row) -> float:
    return float(row["data_size"]) if row["data_size"] not in ("", None) else float("nan")


def _ours(row: Row) -> str:
    ends = {f"value.{part}": row[part] for part in ("low", "high")}
    return tables.value("value", "", 2).text({"value": row["value"], **ends})


def name_of(row: Row) -> str:
    """A cell in one line."""
    parts = [labels.label(row[name]) for name in cells.KEY if row[name]]
    return " / ".join(parts)


def say(table: pd.DataFrame) -> None:
    """Print the counts and the first red cells."""
    for column, what in (("published_says", "published"), ("expected_says", "expected")):
        counts = Counter(word for word in table[column] if word)
        said = ", ".join(f"{number:,} {word}" for word, number in counts.most_common())
        print(f"against {what}: {said or 'nothing to compare'}")
    ink = ("\033[31m", "\033[0m") if sys.stdout.isatty() else ("", "")
    red = [row for row in tables.rows_of(table) if is_red(row)]
    for row in red[:_SAID]:
        what = "published" if row["published_says"] == "outside" else "expected"
        wanted = labels.number(row[what], 4)
        word = row[f"{what}_says"]
        print(f"{ink[0]}{word}: {name_of(row)}: ours {_ours(row)}, {what} {wanted}{ink[1]}")
    if len(red) > _SAID:
        print(f"and {len(red) - _SAID:,} more: table_reproduction has them all")


def main(arguments: Sequence[str] | None = None) -> int:
    """Build everything and compare it with the published and the expected values."""
    parser = command.parser("reproduce", str(main.__doc__), needs_sources=False, out=_OUT)
    parser.add_argument(
        "--expected", type=Path, metavar="FILE", help="expectations (of the made-up set: committed)"
    )
    parser.add_argument(
        "--accept", action="store_true", help="write what is built to --expected, and compare"
    )
    given = parser.parse_args(arguments)
    expected = given.expected or (None if given.sources else cells.EXPECTED)
    if given.accept and expected is None:
        parser.error("--accept needs --expected FILE to write to")
    try:
        if expected is not None and not given.accept:
            cells.expected(expected)  # refused before anything is drawn
        named = given.sources or [str(path) for path in made_set.write(given.out / "made_set")]
        data = sources.load(named, runs_root(given.root), given.only)
        for path in build(data, given.out):
            print(path)
        if given.accept and expected is not None:
            cells.commit(cells.ours(given.out), expected)
        table = compare(data, given.out, expected)
    except UnderstudyError as error:
        print(error, file=sys.stderr)
        return int(error.exit_code)
    say(table)
    return int(any(is_red(row) for row in tables.rows_of(table)))


if __name__ == "__main__":
    sys.exit(main())
