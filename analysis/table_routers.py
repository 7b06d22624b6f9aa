"""Our router beside two plain ones on every published table: gains with intervals, paired by seed.

python -m analysis.table_routers DIR          (where experiments/routing/run.sh wrote)

A seed is a draw of the labelled queries; the routers of a seed have the same labels, features and
tested queries, so their difference is taken seed by seed.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from understudy.errors import BadInput

from . import labels, tables
from .tables import Column, Row, Table

ROUTERS = {"ours": "ours", "k nearest neighbours": "knn", "k-means clusters": "clusters"}
PLAIN = ("knn", "clusters")
_OF_A_SPLIT = ("seeds", "labels", "tested", "best_single", "best_accuracy")
_OF_A_ROUTER = ("saving", "reached", "highest_accuracy")


def build(folder: Path) -> list[Path]:
    """Write table_routers beside the studies; BadInput where the folder has none."""
    rows = [row for path in sorted(folder.glob("*.json")) for row in _rows(path)]
    if not rows:
        raise BadInput(
            f"{folder} holds no study with our router and a plain one: run "
            f"experiments/routing/run.sh DATA {folder} first"
        )
    return tables.write(_table(pd.DataFrame(rows)), folder)


def _rows(path: Path) -> list[Row]:
    """A row per split of one study; accuracies, gains and savings are shares."""
    study = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(study, dict) or "lines" not in study:
        return []
    by_split: dict[str, dict[str, dict[str, Any]]] = {}
    for line in study["lines"]:
        if line["router"] in ROUTERS:
            by_split.setdefault(line["split"], {})[ROUTERS[line["router"]]] = line
    return [
        {"dataset": study["dataset"], "split": split} | _row(lines)
        for split, lines in by_split.items()
        if "ours" in lines and len(lines) > 1
    ]


def _row(lines: dict[str, dict[str, Any]]) -> Row:
    row: Row = {name: lines["ours"][name] for name in _OF_A_SPLIT}
    for router in ROUTERS.values():
        line = lines.get(router, {})
        row |= {f"{router}.{part}": line.get(part) for part in _OF_A_ROUTER}
        for part in ("gain", "ahead") if router in PLAIN else ("gain",):
            row[f"{router}.{part}"] = line.get(part)
            row |= {f"{router}.{part}.{end}": line.get(f"{part}_{end}") for end in ("low", "high")}
    return row


def _table(frame: pd.DataFrame) -> Table:
    columns = [
        tables.words("dataset", "Table"),
        Column("Split", lambda row: str(row["split"]).replace("_", " "), is_number=False),
        Column("Draws", lambda row: labels.count(row["seeds"])),
        Column("Labels", lambda row: labels.count(row["labels"])),
        Column("Best single", _best, is_number=False),
        *(tables.value(f"{one}.gain", f"Gain, {one}", 2, 100) for one in ROUTERS.values()),
        *(tables.value(f"{one}.ahead", f"Ours − {one}", 2, 100) for one in PLAIN),
        *(_saving(name) for name in ROUTERS.values()),
    ]
    caption = (
        "Routers on published tables. Gain: mean accuracy above the hull of single LLMs, in "
        "points. In brackets: Student's 95 % interval over the draws of labels, whose tested "
        "queries overlap; not over other data. Ours − another is taken draw by draw. Saving: of "
        "cost at the best single LLM's accuracy, over the draws (in brackets) that reach it."
    )
    return Table("table_routers", caption, frame, columns, is_rehearsal=False)


def _best(row: Row) -> str:
    return f"{row['best_single']} {labels.number(row['best_accuracy'], 4)}"


def _saving(name: str) -> Column:
    def text(row: Row) -> str:
        reached = row[f"{name}.reached"]
        if tables.missing(reached):
            return labels.MISSING
        return f"{labels.percent(row[f'{name}.saving'])} ({labels.count(reached)})"

    return Column(f"Saving, {name}", text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write one table of all studies of routing in a folder, and print it."""
    made = argparse.ArgumentParser(
        prog="python -m analysis.table_routers", description=main.__doc__
    )
    made.add_argument("folder", type=Path, metavar="DIR", help="where the studies are")
    try:
        paths = build(made.parse_args(arguments).folder)
    except BadInput as error:
        print(error, file=sys.stderr)
        return int(error.exit_code)
    print(next(path for path in paths if path.suffix == ".md").read_text(encoding="utf-8"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
