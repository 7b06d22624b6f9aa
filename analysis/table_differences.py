"""Local model minus service, paired by prompt, for every judge: with p values for the family.

python -m analysis.table_differences RUN… --out DIR

The family is every comparison of the table on one metric. Holm and max T keep the chance of one
false claim in it at the level (max T by sign flips, which knows what the comparisons share), BH the
share of false finds. A migration is decided by `understudy decide`, not here: no difference found
is not the same as no worse.
"""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from understudy.evaluation.scores import METRICS
from understudy.evaluation.statistics.families import (
    Paired,
    benjamini_hochberg,
    holm,
    p_value,
    sign_flips,
)
from understudy.evaluation.statistics.intervals import cluster_mean

from . import command, labels, scores, tables
from .evaluations import Data, Evaluation
from .table_main import model
from .tables import Column, Row, Table


def build(data: Data, out: Path) -> list[Path]:
    """Write table_differences; nothing where no service was judged beside a model."""
    rows = [row for metric in METRICS for row in _family(data, metric)]
    return tables.write(_table(data, pd.DataFrame(rows)), out) if rows else []


def _family(data: Data, metric: str) -> list[Row]:
    rows, pairs = [], []
    for one, service, pair in _compared(data, metric):
        found = cluster_mean(*pair)
        row: Row = scores.identity(one) | {"metric": metric, "service": service.system.model}
        row |= {f"difference.{part}": getattr(found, part) for part in scores.PARTS}
        row |= {"prompts": np.size(pair.differences), "p": p_value(found)}
        row["clusters"] = found.clusters
        rows.append(row | one.system.contamination._asdict())
        pairs.append(pair)
    if not rows:
        return []
    p_values = [row["p"] for row in rows]
    adjusted = {
        "holm": holm(p_values).values,
        "max_t": sign_flips(pairs).adjusted,
        "bh": benjamini_hochberg(p_values).values,
    }
    return [
        row | {name: float(values[number]) for name, values in adjusted.items()}
        for number, row in enumerate(rows)
    ]


def _compared(data: Data, metric: str) -> Iterator[tuple[Evaluation, Evaluation, Paired]]:
    """Every local evaluation, the service's beside it, and their differences by prompt."""
    for one in data.evaluations:
        service = scores.service_of(one, data.evaluations) if one.system.role == "local" else None
        if service is None:
            continue
        ours, theirs = (scores.prompt_means(side, metric) for side in (one, service))
        _, a, b = np.intersect1d(ours.prompt, theirs.prompt, return_indices=True)
        if len(a):
            groups = [f"{one.system.task} {name}" for name in ours.cluster[a]]
            yield one, service, Paired(ours.mean[a] - theirs.mean[b], groups)


def _table(data: Data, frame: pd.DataFrame) -> Table:
    columns = [
        tables.words("task", "Task"),
        Column("Model", model, is_number=False),
        *tables.settings(frame),
        tables.words("service", "Service"),
        tables.words("judge", "Judge"),
        Column("Metric", lambda row: str(row["metric"]), is_number=False),
        tables.value("difference", "Difference", 2),
        *(
            Column(heading, lambda row, name=name: p_text(row[name]))  # type: ignore[misc]
            for name, heading in (("p", "p"), ("holm", "Holm"), ("max_t", "Max T"), ("bh", "BH"))
        ),
        Column("Prompts", lambda row: labels.count(row["prompts"])),
        Column("Clusters", lambda row: labels.count(row["clusters"])),
        tables.CONTAMINATED,
    ]
    caption = (
        "Local model minus service in points, paired by prompt. In brackets: 95 % interval, "
        "clustered, conditional on the trained weights. p: two-sided t; Holm, max T (sign flips) "
        f"and BH: adjusted for all comparisons on the metric. {labels.CONTAMINATED}"
    )
    return Table("table_differences", caption, frame, columns, data.is_rehearsal)


def p_text(value: float) -> str:
    """Three decimals, and no p value of 0."""
    return "< 0.001" if value < 0.001 else labels.number(value, 3)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the paired differences of every model from the service."""
    return command.run(command.parser("table_differences", str(main.__doc__)), build, arguments)


if __name__ == "__main__":
    sys.exit(main())
