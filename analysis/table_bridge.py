"""From the judges a set was published with to their successors: the shift of each, with interval.

python -m analysis.table_bridge RUN… --out DIR          (a run of experiment=judge_bridge)

Successor minus published judge, on the answers that both scored, clustered by prompt. Whoever reads
an old table adds the mean shift; the mean distance says how far single answers move around it.
"""

import sys
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from understudy.evaluation.scores import METRICS
from understudy.evaluation.statistics.bias import shifts
from understudy.evaluation.statistics.intervals import Interval

from . import command, labels, scores, tables
from .evaluations import Data, Evaluation, judge_name
from .panels import panel
from .tables import Column, Row, Table


def build(data: Data, out: Path) -> list[Path]:
    """Write table_bridge; nothing where no published answer was judged again."""
    rows = [_row(one) for one in bridges(data)]
    return tables.write(_table(data, pd.DataFrame(rows)), out) if rows else []


class Bridge(NamedTuple):
    """One successor against one published judge, in points."""

    task: str
    metric: str
    published: str
    successor: str
    answers: int  # that both scored
    shift: Interval  # successor minus published
    distance: Interval  # of single answers, whatever the sign


def bridges(data: Data) -> Iterator[Bridge]:
    """Every published judge with every judge that was asked again."""
    for task, metric in product(
        dict.fromkeys(one.system.task for one in data.evaluations), METRICS
    ):
        here = [one for one in data.evaluations if one.system.task == task]
        old = {judge_name(one, with_order=False): None for one in here if _is_published(one)}
        new = {judge_name(one, with_order=False): None for one in here if not _is_published(one)}
        both = panel(here, metric, "reference_first")
        for before, after in product(old, new):
            if both is None or after not in both.judges:  # asked in the other order
                continue
            (found,) = shifts(both.of([before]), both.of([after]))
            head = (task, metric, before, after)
            yield Bridge(*head, found.answers, found.mean, found.absolute)


def _row(one: Bridge) -> Row:
    row: Row = one._asdict()
    for name, found in (("shift", row.pop("shift")), ("distance", row.pop("distance"))):
        row |= {f"{name}.{part}": getattr(found, part) for part in scores.PARTS}
        row["clusters"] = found.clusters
    return row


def _is_published(one: Evaluation) -> bool:
    """Whether the verdicts came with the answers: nobody knows how that judge was asked."""
    return one.order == "unknown"


def _table(data: Data, frame: pd.DataFrame) -> Table:
    columns = [
        tables.words("task", "Task"),
        Column("Metric", lambda row: str(row["metric"]), is_number=False),
        tables.words("published", "Published judge"),
        tables.words("successor", "Successor"),
        Column("Answers", lambda row: labels.count(row["answers"])),
        Column("Clusters", lambda row: labels.count(row["clusters"])),
        tables.value("shift", "Shift"),
        tables.value("distance", "Mean distance"),
    ]
    caption = (
        "Published answers judged again: successor minus published judge in points, on the answers "
        "that both scored. In brackets: 95 % interval over prompts, clustered."
    )
    return Table("table_bridge", caption, frame, columns, data.is_rehearsal)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the shift from every published judge to every successor."""
    return command.run(command.parser("table_bridge", str(main.__doc__)), build, arguments)


if __name__ == "__main__":
    sys.exit(main())
