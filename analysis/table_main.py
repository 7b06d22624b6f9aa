"""Table 1: tasks x models x judges, similarity and precision, mean, coverage, ratio to the service.

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

_SEEDS = "; in a row of several seeds: their mean, and Student's 95 % interval between them"
_SHORT = {"similarity": "Sim.", "precision": "Prec."}


def build(data: Data, out: Path, frame: pd.DataFrame | None = None) -> list[Path]:
    """Write table_main and table_p_match as .csv, .md and .tex."""
    frame = scores.table(data) if frame is None else frame
    matches = p_match(data)
    paths = tables.write(table(data, frame), out)
    return paths if matches.frame.empty else paths + tables.write(matches, out)


def table(data: Data, frame: pd.DataFrame) -> Table:
    """The table as it is printed."""
    columns = [
        tables.words("task", "Task"),
        Column("Model", model, is_number=False),
        *tables.settings(frame),
        tables.words("judge", "Judge"),
        *(
            _value(metric, name)
            for metric in METRICS
            for name in (*scores.STATISTICS, "service_ratio")
        ),
        tables.CONTAMINATED,
        Column("Prompts", lambda row: labels.count(row["prompts"])),
        Column("Clusters", lambda row: labels.count(row["clusters"])),
        Column("Unscored", lambda row: labels.count(row["unscored"])),
    ]
    rivals = sorted({labels.label(name) for name in frame["service"].dropna()})
    compared = f" The service is {' or '.join(rivals)}." if rivals else ""
    caption = (
        "Similarity and precision by judge: mean over prompts, share of answers whose mean over "
        f"verdicts is at least 50 and 70 (M = {_repeats(data)} verdicts), mean over the service's "
        f"in %.{compared} "
        "In brackets: 95 % interval over prompts, clustered, conditional on the trained weights"
        f"{_SEEDS if 'seeds' in frame else ''}. {labels.CONTAMINATED}"
    )
    return Table("table_main", caption, frame, columns, data.is_rehearsal)


def _value(metric: str, name: str) -> Column:
    shown = tables.value(f"{metric}.{name}", f"{_SHORT[metric]} {_heading(name)}")
    if name != "service_ratio":
        return shown
    return shown._replace(text=lambda row: shown.text(row) + warning(row[f"{metric}.near_zero"]))


def warning(is_near_zero: bool) -> str:
    """What a ratio carries that says next to nothing."""
    return " (service near 0)" if is_near_zero else ""


def p_match(data: Data) -> Table:
    """The paper's P-Match: of every column of Table 1 the best local over the best service."""
    shown = tables.value("p_match", "P-Match %")
    columns = [
        *(tables.words(name, name.capitalize()) for name in ("task", "judge")),
        Column("Metric", lambda row: str(row["metric"]), is_number=False),
        Column("Statistic", lambda row: str(row["statistic"]), is_number=False),
        tables.words("local", "Best local"),
        tables.words("service", "Best service"),
        shown._replace(text=lambda row: shown.text(row) + warning(row["near_zero"])),
        Column("Clusters", lambda row: labels.count(row["clusters"])),
    ]
    caption = (
        "P-Match as in LlamaDuo: the best local model over the best service of the same task, "
        "judge, metric and statistic, in %. In brackets: 95 % interval of this pair over prompts, "
        "clustered; it does not know that each is the best of several."
    )
    return Table("table_p_match", caption, scores.p_matches(data), columns, data.is_rehearsal)


def _heading(name: str) -> str:
    return {"mean": "mean", "service_ratio": "÷ service %"}.get(
        name, f"≥ {name.partition('@')[2]} %"
    )


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
    if "seeds" not in row and not tables.missing(row["seed"]) and row["seed"]:
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
