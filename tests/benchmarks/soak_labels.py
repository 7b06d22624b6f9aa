"""What labels make of a biased judge: 4,000 runs a world; it can be interrupted.

    PYTHONPATH=tests python tests/benchmarks/soak_labels.py [--out FILE] [--only TEXT] [--table]

A row is a kind of differences, a judge and a number of labels among 200 prompts: the share of false
MIGRATE where the loss is the margin and where it is 8 points, of MIGRATE where there is none (at
the first look's level), and how often the 95 % interval holds the truth at all three.
"""

import zlib
from typing import NamedTuple

import numpy as np

from support import soak
from support.label_worlds import JUDGES, LABELS, PROMPTS, labelled
from support.soak import Row
from understudy.evaluation import decision, looks
from understudy.evaluation.statistics.prediction_powered import powered, powered_limits

DRAWS, BATCH = 999, 500
KINDS = ("gaussian", "skew", "ten")


class Cell(NamedTuple):
    """One row."""

    values: str
    judge: str
    labels: int

    @property
    def name(self) -> str:
        return f"{self.values}, {self.judge}, {self.labels} labels"


def measured(cell: Cell, loops: int) -> Row:
    """Count over `loops` holdouts at each of three true differences."""
    row: Row = {"world": cell.name, "loops": loops}
    held = 0
    cluster = np.arange(PROMPTS)
    for true in (-decision.MARGIN, -8.0, 0.0):
        rng = np.random.default_rng(zlib.crc32(f"{cell.name} {true}".encode()))
        level = decision.ALPHA if true < 0 else looks.level(decision.ALPHA, 1)
        yes = 0
        for start in range(0, loops, BATCH):
            size = min(BATCH, loops - start)
            judge, human, weight = labelled(
                rng, cell.values, JUDGES[cell.judge], cell.labels, size, true
            )
            found = powered(judge, human, weight, cluster)
            one = powered_limits(found, weight, cluster, level, DRAWS, decision.SCALE)
            two = powered_limits(found, weight, cluster, 0.025, DRAWS)
            yes += int((one.low > -decision.MARGIN).sum())
            held += int(((two.low <= true) & (two.high >= true)).sum())
        row[f"{true:g}"] = yes / loops
    row["held"] = held / loops / 3
    return row


def main() -> None:
    """Measure what is not measured yet, and print the table of docs/evaluation.md."""
    cells = [Cell(v, j, n) for v in KINDS for j in JUDGES for n in LABELS]
    rows = soak.rows_of(__doc__, "soak_labels.jsonl", 4000, cells, measured)
    print("| world | loss 5 | loss 8 | no difference | 95 % holds |\n|---|---|---|---|---|")
    for row in rows:
        shares = (row["-5"], row["-8"], row["0"], row["held"])
        print(f"| {row['world']} | " + " | ".join(f"{one:.3f}" for one in shares) + " |")


if __name__ == "__main__":
    main()
