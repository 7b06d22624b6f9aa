"""A long measurement, cell by cell: it can be interrupted, and goes on where it stopped."""

import argparse
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

Row = dict[str, Any]


def rows_of(
    doc: str | None,
    out: str,
    loops: int,
    cells: Iterable[Any],
    measure: Callable[[Any, int], Row],
) -> list[Row]:
    """Parse `--out --only --loops`, measure the cells that the file lacks, and return all rows.

    A row has the cell's name as `world`; it is in the file before the next cell begins.
    """
    parser = argparse.ArgumentParser(description=doc)
    parser.add_argument("--out", type=Path, default=Path("runs") / out)
    parser.add_argument("--only", default="", help="cells whose name holds this")
    parser.add_argument("--loops", type=int, default=loops)
    parser.add_argument("--table", action="store_true", help="only print what the file holds")
    given = parser.parse_args()
    given.out.parent.mkdir(parents=True, exist_ok=True)
    lines = given.out.read_text().splitlines() if given.out.exists() else []
    rows: list[Row] = [json.loads(line) for line in lines if line.endswith("}")]
    done = {row["world"] for row in rows}
    with given.out.open("a") as file:
        for cell in cells:
            if given.only in cell.name and cell.name not in done and not given.table:
                rows.append(measure(cell, given.loops))
                print(json.dumps(rows[-1]), file=file, flush=True)
    return rows
