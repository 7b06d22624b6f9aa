"""What `understudy route` writes: the assignment, a summary and, where it learnt, the router.

`picture` has points to draw: accuracy against USD per 1,000 queries, of routers and yardsticks.
"""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from understudy.routing import artifact
from understudy.routing.allocate import Goal, Learnt, Routed, chosen
from understudy.routing.data import Outcomes
from understudy.routing.differentiation import Differentiation
from understudy.routing.exact import front
from understudy.routing.predict import Array
from understudy.routing.value import Curve, zero_router
from understudy.store.artifacts import write_atomically

_DRAWN = 200  # points of a curve
_HINDSIGHT = "every success is 0 or 1, so this is hindsight: what an oracle would do, no router"


def write(allocation: Routed, outcomes: Outcomes, goal: Goal, folder: Path) -> dict[str, Any]:
    """Write `assignment.csv`, `summary.json` and, where something was learnt, `router/`.

    Returns the summary; money is in USD, accuracies are shares.
    """
    folder.mkdir(parents=True, exist_ok=True)
    summary = summarise(allocation, outcomes, goal)
    write_atomically(folder / "assignment.csv", _assignment(allocation))
    if allocation.learnt is not None:
        told = ("goal", "rehearsal", "promise", "band", "differentiation", "quality")
        facts = {name: summary[name] for name in told}
        artifact.save(replace(allocation.learnt.router, facts=facts), folder / "router")
    write_atomically(folder / "summary.json", json.dumps(summary, indent=1, allow_nan=False) + "\n")
    return summary


def summarise(allocation: Routed, outcomes: Outcomes, goal: Goal) -> dict[str, Any]:
    """The plan with its certificate, band and promise, and the picture of where it stands."""
    plan, learnt = allocation.plan, allocation.learnt
    llms = allocation.queries.llms
    counts = np.bincount(plan.assignment, minlength=len(llms))
    realised = allocation.realised
    promise = learnt.promise if learnt else None
    band, differing = allocation.band, allocation.differentiation
    is_oracle = learnt is None and differing is not None
    return {
        "goal": {"kind": goal.kind, "value": None if goal.kind == "knee" else goal.value},
        "rehearsal": outcomes.is_rehearsal,
        "queries": len(plan.assignment),
        "share": {
            llm: float(count / len(plan.assignment))
            for llm, count in zip(llms, counts, strict=True)
        },
        "cost": plan.cost,
        # a guess that labels do not bear out, or too few do, is not handed on
        "accuracy": None
        if band is None or (promise is not None and promise.price is None)
        else plan.accuracy,
        "price": plan.price,
        "certificate": plan.certificate._asdict(),
        "points_on_the_front": len(allocation.path),
        "band": None if band is None else band._asdict(),
        "differentiation": None if differing is None else _differentiation(differing),
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


def _differentiation(found: Differentiation) -> dict[str, Any]:
    """The advantages over the best single LLM, as objects of their fields."""
    advantages = {
        name: None if interval is None else interval._asdict()
        for name, interval in zip(
            ("accuracy", "oracle", "router"),
            (found.accuracy, found.oracle, found.router),
            strict=True,
        )
    }
    return {"verdict": found.verdict, "sentence": found.sentence} | advantages


def _assignment(allocation: Routed) -> str:
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


def picture(allocation: Routed, outcomes: Outcomes) -> dict[str, Any]:
    """An allocation's front, its plan with the band, and single LLMs by labels or predictions.

    Without a band nobody knows how accurate the plan is, so neither it nor the front is drawn.
    """
    queries = len(allocation.plan.assignment)
    known = outcomes.rows(outcomes.is_labelled)
    drawn: dict[str, Any] = {"curves": {}}
    if allocation.band is not None:
        path = Curve(allocation.path.cost, allocation.path.accuracy)
        cost = allocation.plan.cost * 1000 / queries
        drawn = {
            "curves": {"router (expected)": points_of(path, queries)},
            "plan": {"cost": cost, "accuracy": allocation.plan.accuracy},
            "band": allocation.band._asdict(),
        }
    drawn |= references(outcomes.llms, known.cost, known.success)
    return drawn if allocation.learnt else drawn | {"oracle": None}  # that is the front itself


def references(llms: list[str], c: Array, y: Array) -> dict[str, Any]:
    """Single LLMs, their hull, a uniform mix, the oracle; c and y are (N, M)."""
    n = len(y)
    usd, success = c.sum(axis=0), y.mean(axis=0)
    oracle, zero = front(y, c), zero_router(c, y)
    dearest = zero.cost[-1]
    costs = zero.cost
    if dearest > 0:  # a mix is a straight line in USD, which a logarithmic axis bends
        costs = np.geomspace(max(zero.cost[0], dearest * 1e-4), dearest, _DRAWN)
    mixed = Curve(costs, np.interp(costs, zero.cost, zero.accuracy))
    return {
        "singles": [
            {"llm": llm, "cost": float(u) * 1000 / n, "accuracy": float(s)}
            for llm, u, s in zip(llms, usd, success, strict=True)
        ],
        "zero": points_of(mixed, n),
        "mix": {"cost": float(usd.mean()) * 1000 / n, "accuracy": float(success.mean())},
        "oracle": points_of(Curve(oracle.cost, oracle.accuracy), n),
    }


def points_of(path: Curve, queries: int) -> dict[str, list[float]]:
    """At most 200 points of a curve of so many queries."""
    at = np.unique(np.linspace(0, len(path.cost) - 1, _DRAWN).astype(int))
    cost = path.cost[at] * 1000 / queries
    return {"cost": cost.tolist(), "accuracy": path.accuracy[at].tolist()}
