"""Table 2: what the service and the local model cost, and every assumption behind it.

python -m analysis.table_cost RUN… --out DIR [--set gpu_usd=2000..3000]
"""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from . import command, costs, labels, tables
from .costs import Assumption
from .evaluations import Data
from .frame import ledger
from .tables import Column, Row, Table


def build(data: Data, out: Path, changed: Sequence[str] = ()) -> list[Path]:
    """Write table_cost and table_cost_assumptions."""
    found = assumptions(data, changed)
    return tables.write(table(data, found), out) + tables.write(_assumptions(data, found), out)


def assumptions(data: Data, changed: Sequence[str]) -> dict[str, Assumption]:
    """The committed ones, with what these runs measured and the user said."""
    return costs.from_ledger(costs.assumptions(changed), ledger(data.runs))


def options(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Add --set."""
    parser.add_argument(
        "--set",
        dest="changed",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="change an assumption (or NAME=LOW..HIGH); names are in analysis/reference/costs.csv",
    )
    return parser


def table(data: Data, found: Mapping[str, Assumption]) -> Table:
    """One row per workload."""
    rows = []
    for workload in costs.WORKLOADS:
        one = costs.cost(found, workload)
        rows.append(
            {
                "workload": workload,
                "months": one.month[-1],
                "local": one.local[-1],
                "service": one.service[-1],
                "saved": one.service[-1] - one.local[-1],
                "break_even.mean": one.break_even,
                "break_even.low": one.low,
                "break_even.high": one.high,
            }
        )
    columns = [
        Column("Workload", lambda row: str(row["workload"]), is_number=False),
        Column("Months", lambda row: labels.count(row["months"])),
        *(Column(f"{name.capitalize()}, $", _usd(name)) for name in ("local", "service", "saved")),
        tables.value("break_even", "Break-even, months"),
    ]
    caption = (
        "Cost of the local model and of the service. In brackets: the middle 95 % when all "
        "assumptions are drawn from their ranges at once; without a range of its own, "
        f"± {100 * found['what_if'].value:g} % (a what-if, no measurement). Assumptions: "
        "table_cost_assumptions."
    )
    return Table("table_cost", caption, pd.DataFrame(rows), columns, data.is_rehearsal)


def _usd(name: str) -> Callable[[Row], str]:
    return lambda row: labels.count(row[name])


def _assumptions(data: Data, found: Mapping[str, Assumption]) -> Table:
    frame = pd.DataFrame([{"name": name, **one._asdict()} for name, one in found.items()])

    def span(row: Row) -> str:
        return "" if tables.missing(row["low"]) else f"{row['low']:g} to {row['high']:g}"

    columns = [
        Column("Assumption", lambda row: str(row["name"]), is_number=False),
        Column("Value", lambda row: f"{row['value']:,g}"),
        Column("Range", span),
        Column("Unit", lambda row: str(row["unit"]), is_number=False),
        Column("Source", lambda row: str(row["source"]), is_number=False),
    ]
    caption = "Assumptions of the cost table, each with its source; --set NAME=VALUE changes one."
    return Table("table_cost_assumptions", caption, frame, columns, data.is_rehearsal)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write Table 2 and its assumptions."""
    parser = options(command.parser("table_cost", str(main.__doc__)))
    return command.run(parser, build, arguments)


if __name__ == "__main__":
    sys.exit(main())
