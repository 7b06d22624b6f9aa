"""Table 1: tasks x models x judges, similarity and precision, mean, coverage and P-Match.

python -m analysis.table_main RUN… --out DIR
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from understudy.evaluation.scores import METRICS

from . import command, labels, scores, tables
from .evaluations import Data
from .tables import Column, Row, Table

_SHORT = {"similarity": "Sim.", "precision": "Prec."}


def build(data: Data, out: Path, frame: pd.DataFrame | None = None) -> list[Path]:
    """Write table_main.csv, .md and .tex."""
    frame = scores.table(data) if frame is None else frame
    return tables.write(table(data, frame), out)


def table(data: Data, frame: pd.DataFrame) -> Table:
    """The table as it is printed."""
    columns = [
        tables.words("task", "Task"),
        Column("Model", model, is_number=False),
        tables.words("judge", "Judge"),
        *(
            tables.value(f"{metric}.{name}", f"{_SHORT[metric]} {_heading(name)}")
            for metric in METRICS
            for name in (*scores.STATISTICS, "p_match")
        ),
        tables.CONTAMINATED,
        Column("Prompts", lambda row: labels.count(row["prompts"])),
        Column("Unscored", lambda row: labels.count(row["unscored"])),
    ]
    rivals = sorted({labels.label(name) for name in frame["p_match_with"].dropna()})
    compared = f" P-Match is with {' or '.join(rivals)}." if rivals else ""
    caption = (
        "Similarity and precision by judge: mean over prompts, share of answers whose mean over "
        f"verdicts is at least 50 and 70 (M = {_repeats(data)} verdicts), P-Match in %.{compared} "
        "In brackets: 95 % interval over prompts, clustered, conditional on the trained weights. "
        f"{labels.CONTAMINATED}"
    )
    return Table("table_main", caption, frame, columns, data.is_rehearsal)


def _heading(name: str) -> str:
    return {"mean": "mean", "p_match": "P-Match %"}.get(name, f"≥ {name.partition('@')[2]} %")


def model(row: Row) -> str:
    """The model with what it was trained on."""
    name = labels.label(row["model"])
    if row["role"] == "baseline":
        return f"{name} (service)"
    if row["trainer"] == "none":
        return f"{name}, base"
    parts = []
    if not tables.missing(row["data_size"]):
        parts.append(f"{labels.count(row['data_size'])} rows")
    if not tables.missing(row["teacher"]):
        parts.append(f"by {labels.label(row['teacher'])}")
    if not tables.missing(row["seed"]) and row["seed"]:
        parts.append(f"seed {row['seed']:.0f}")
    return f"{name}, {' '.join(parts)}" if parts else name


def _repeats(data: Data) -> str:
    """How many verdicts an answer has; an imported average does not say."""
    if any(one.order == "unknown" for one in data.evaluations):
        return "an unknown number of"
    most = sorted({int(one.repeat.max(initial=0)) + 1 for one in data.evaluations})
    return " or ".join(map(str, most))


def main(arguments: Sequence[str] | None = None) -> int:
    """Write Table 1 of these runs."""
    return command.run(command.parser("table_main", str(main.__doc__)), build, arguments)


if __name__ == "__main__":
    sys.exit(main())
