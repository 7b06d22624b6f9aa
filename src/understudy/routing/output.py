"""What `understudy route` writes: the assignment, a summary and, where it learnt, the router."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from understudy.routing import artifact
from understudy.routing.allocate import Allocation, Goal, Learnt, chosen
from understudy.routing.data import Outcomes
from understudy.routing.picture import picture
from understudy.store.artifacts import write_atomically


def write(allocation: Allocation, outcomes: Outcomes, goal: Goal, folder: Path) -> dict[str, Any]:
    """Write `assignment.csv`, `summary.json` and, where something was learnt, `router/`.

    Returns the summary; money is in USD, accuracies are shares.
    """
    folder.mkdir(parents=True, exist_ok=True)
    summary = summarise(allocation, outcomes, goal)
    write_atomically(folder / "assignment.csv", _assignment(allocation))
    if allocation.learnt is not None:
        facts = {
            name: summary[name] for name in ("goal", "rehearsal", "promise", "band", "quality")
        }
        artifact.save(replace(allocation.learnt.router, facts=facts), folder / "router")
    write_atomically(folder / "summary.json", json.dumps(summary, indent=1, allow_nan=False) + "\n")
    return summary


def summarise(allocation: Allocation, outcomes: Outcomes, goal: Goal) -> dict[str, Any]:
    """The plan with its certificate, band and promise, and the picture of where it stands."""
    plan, learnt = allocation.plan, allocation.learnt
    counts = np.bincount(plan.assignment, minlength=len(outcomes.llms))
    realised = allocation.realised
    promise = learnt.promise if learnt else None
    is_oracle = learnt is None and np.isin(allocation.p, (0.0, 1.0)).all()
    return {
        "goal": {"kind": goal.kind, "value": None if goal.kind == "knee" else goal.value},
        "rehearsal": outcomes.is_rehearsal,
        "queries": len(plan.assignment),
        "share": {
            llm: float(count / len(plan.assignment))
            for llm, count in zip(outcomes.llms, counts, strict=True)
        },
        "cost": plan.cost,
        "accuracy": plan.accuracy,
        "price": plan.price,
        "certificate": plan.certificate._asdict(),
        "points_on_the_front": len(allocation.path),
        "band": allocation.band._asdict(),
        "promise": None if promise is None else _numbers(promise._asdict()),
        "quality": None if learnt is None else _quality(learnt),
        "realised": None
        if realised is None
        else dict(zip(("accuracy", "cost"), realised, strict=True)),
        "notes": [
            *outcomes.notes,
            *([learnt.leak] if learnt and learnt.leak else []),
            *([_HINDSIGHT] if is_oracle else []),
        ],
        "picture": picture(allocation, outcomes),
    }


_HINDSIGHT = "every success is 0 or 1, so this is hindsight: what an oracle would do, no router"


def _assignment(allocation: Allocation) -> str:
    plan, queries = allocation.plan, allocation.queries
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["id", "llm", "expected_success", "expected_usd"])
    success = chosen(allocation.p, plan.assignment)
    usd = chosen(allocation.c, plan.assignment)
    for query, llm, p, c in zip(queries.ids, plan.assignment, success, usd, strict=True):
        rows.writerow([query, queries.llms[llm], f"{p:.6g}", f"{c:.6g}"])
    return text.getvalue()


def _quality(learnt: Learnt) -> dict[str, Any]:
    """How good the predictor is by cross-validation, and what was chosen by it."""
    predictor, quality = learnt.router.predictor, learnt.quality
    return _numbers(
        {
            "labels": quality.labels,
            "learner": predictor.kind,
            "trust": predictor.trust._asdict(),
            "alpha": predictor.alpha,
            "brier": quality.brier,
            "brier_of_means": quality.brier_of_means,
            "ece": quality.ece,
            "brier_by_learner": quality.learners,
            "gain_by_alpha": {f"{alpha:g}": gain for alpha, gain in quality.gains.items()},
        }
    )


def _numbers(values: dict[str, Any]) -> dict[str, Any]:
    """A number that is not known is null."""
    return {name: None if value != value else value for name, value in values.items()}
