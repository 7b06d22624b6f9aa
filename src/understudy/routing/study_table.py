"""The table of a study: means and deviations over seeds, and what a paper printed beside them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Any

import numpy as np

from understudy.routing.data import Outcomes
from understudy.routing.picture import study_picture
from understudy.routing.settings import Published, Study
from understudy.routing.study import SPLITS, Row, inapplicable

_MEANS = (
    *("tested", "best_accuracy", "best_cost", "highest_accuracy"),
    *("gain", "igd", "delta", "brier", "ece", "seconds"),
)


def document(study: Study, outcomes: Outcomes, rows: Sequence[Row]) -> dict[str, Any]:
    """What is written to disk: settings, every seed, the table, and points to draw.

    Accuracies, savings and gains are shares; the picture is in USD per 1,000 queries.
    """
    reasons = {split: inapplicable(outcomes, split) for split in SPLITS}
    leaks = {row.split: row.leak for row in reversed(rows) if row.leak is not None}
    return {
        "dataset": study.dataset,
        "share": study.share,
        "published": [asdict(one) for one in study.published],
        "matches": [_match(one, rows) for one in study.published if one.cost_at_highest],
        "inapplicable": {split: why for split, why in reasons.items() if why is not None},
        "leaks": leaks,
        "lines": summarise(rows),
        "rows": [_row(row) for row in rows],
        "picture": study_picture(outcomes, rows),
    }


def summarise(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """One line per split and router, and the zero router before those of its split.

    `saving` is over the seeds that reached the best single LLM's accuracy; `reached` counts them.
    By its definition the zero router reaches it at no saving, and gains nothing.
    """
    lines = []
    for split in dict.fromkeys(row.split for row in rows):
        first = [row for row in rows if row.split == split and row.router == rows[0].router]
        lines.append(_line(split, "zero router", first) | _ZERO)
        for router in dict.fromkeys(row.router for row in rows if row.split == split):
            part = [row for row in rows if (row.split, row.router) == (split, router)]
            lines.append(_line(split, router, part))
    return lines


_ZERO = {
    **dict.fromkeys(("labels", "seconds", "gain", "saving"), 0),
    **dict.fromkeys(("igd", "delta", "brier", "ece", "saving_sd", "gain_sd")),
}


def _line(split: str, router: str, part: Sequence[Row]) -> dict[str, Any]:
    saving = [row.saving for row in part if row.saving == row.saving]
    line: dict[str, Any] = {
        "split": split,
        "router": router,
        "seeds": len(part),
        "labels": part[0].labels,
        "best_single": Counter(row.best_single for row in part).most_common(1)[0][0],
        **{name: _mean([getattr(row, name) for row in part]) for name in _MEANS},
        "reached": len(saving),
        "saving": _mean(saving),
        "saving_sd": _deviation(saving),
        "gain_sd": _deviation([row.gain for row in part]),
    }
    if router == "zero router":
        line |= {"reached": len(part), "highest_accuracy": line["best_accuracy"]}
    return line


def _match(one: Published, rows: Sequence[Row]) -> dict[str, Any]:
    """What it costs us, on average over the seeds, to be as accurate as a published baseline."""
    assert one.highest_accuracy is not None, f"{one.source} has a cost at no accuracy"
    costs = []
    for row in rows:
        if (row.split, row.router) == ("random", "ours"):
            reached = row.curve.cost[row.curve.accuracy >= one.highest_accuracy]
            costs.append(float(reached.min()) if len(reached) else float("nan"))
    return {
        "source": one.source,
        "accuracy": one.highest_accuracy,
        "cost": one.cost_at_highest,
        "optllm_cost": one.optllm_cost,
        "our_cost": _mean(costs),
    }


def _mean(values: Sequence[float]) -> float | None:
    """The mean; None of nothing, or when a seed has no value."""
    mean = float(np.mean(values)) if values else float("nan")
    return None if mean != mean else mean


def _deviation(values: Sequence[float]) -> float | None:
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


def _row(row: Row) -> dict[str, Any]:
    values = {item.name: getattr(row, item.name) for item in fields(row) if item.name != "curve"}
    return {name: None if value != value else value for name, value in values.items()}
