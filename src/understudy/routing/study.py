"""RQ1 of the OptLLM paper, reproduced: what a router saves at the accuracy of the best single LLM.

    understudy route experiment=routing/logpai routing.data=DIR

A row per split, router and seed; `study_table` makes the table of them.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from understudy.errors import BadInput
from understudy.routing import optllm, published
from understudy.routing.calibration import brier, ece
from understudy.routing.data import Outcomes
from understudy.routing.features import Bag, bags, fit_projection
from understudy.routing.fitting import fit
from understudy.routing.points import points
from understudy.routing.predict import Array, features, optimistic
from understudy.routing.splits import Split, leak, split
from understudy.routing.value import Curve, curve, value

# A split tests the queries whose group has no label. Chance would label every one of a few
# systems, so half of them are withheld from labelling.
SPLITS = {
    "random": None,
    "unseen_line": "line",
    "unseen_template": "template",
    "unseen_system": "system",
}
_WITHHELD = {"unseen_system": 0.5}
Queries = Sequence[Bag] | Array


@dataclass(frozen=True)
class Row:
    """One seed. Accuracies and gain are shares; costs are totals in USD of the test queries."""

    split: str
    router: str
    seed: int
    labels: int  # the published predictor reads as many again for validation
    tested: int
    best_single: str
    best_accuracy: float
    best_cost: float
    highest_accuracy: float  # of any point of the router
    saving: float  # of cost at the best single LLM's accuracy; NaN = never reached
    gain: float  # mean accuracy above the zero router
    igd: float  # to the exact front of the true labels, in USD and accuracy as published
    delta: float
    brier: float
    ece: float
    seconds: float
    leak: str | None
    curve: Curve  # total USD and true accuracy on the test queries


def run(
    outcomes: Outcomes, splits: Sequence[str], seeds: Mapping[str, int], share: float, learner: str
) -> Iterator[Row]:
    """All rows: each predictor with its number of seeds; the published one on the first split."""
    for predictor, count in seeds.items():
        wanted = splits if predictor == "ours" else splits[:1]
        yield from measure(outcomes, wanted, predictor, range(count), share, learner)


def measure(
    outcomes: Outcomes,
    splits: Sequence[str],
    predictor: str,
    seeds: Sequence[int],
    share: float = 0.01,
    learner: str = "auto",
) -> Iterator[Row]:
    """Label a share of the queries, learn, route the others, score by their true labels.

    Raises BadInput for an unknown predictor or split, or for a split that the data cannot have.
    """
    if predictor not in PREDICTORS:
        raise BadInput(f"{predictor} is no predictor; choose from {', '.join(PREDICTORS)}")
    queries = _queries(outcomes)
    for name in splits:
        if (reason := inapplicable(outcomes, name)) is not None:
            raise BadInput(f"the split {name} does not apply: {reason}")
        groups = outcomes.groups.get(SPLITS[name] or "line")
        for seed in seeds:
            group = groups if SPLITS[name] else None
            cut = split(len(outcomes.ids), share, seed, group, _WITHHELD.get(name, 0))
            begun = time.perf_counter()
            found = PREDICTORS[predictor](outcomes, queries, cut, groups, seed, learner)
            seconds = time.perf_counter() - begun
            c, y = outcomes.cost[found.cut.test], outcomes.success[found.cut.test]
            for router, path in found.curves.items():
                worth = value(path, c, y)
                yield Row(
                    name,
                    router,
                    seed,
                    len(cut.labelled),
                    len(y),
                    outcomes.llms[worth.best],
                    float(y[:, worth.best].mean()),
                    float(c[:, worth.best].sum()),
                    worth.highest,
                    worth.saving,
                    worth.gain,
                    worth.igd,
                    worth.delta,
                    brier(found.mean, y),
                    ece(found.mean, y),
                    seconds,
                    leak(outcomes.text, found.cut),
                    path,
                )


def inapplicable(outcomes: Outcomes, split: str) -> str | None:
    """Why the data have no such split; None when they have."""
    if split not in SPLITS:
        raise BadInput(f"{split} is no split; choose from {', '.join(SPLITS)}")
    group = SPLITS[split]
    if group is None:
        return None
    if group not in outcomes.groups:
        return f"the data know no {group}"
    if len(set(outcomes.groups[group])) == len(outcomes.ids):
        return f"each {group} occurs once, so the random split is this split"
    return None


class _Found(NamedTuple):
    cut: Split
    mean: Array  # (N, M) predicted success of the test queries
    curves: dict[str, Curve]  # router -> cost and true accuracy


def _ours(
    outcomes: Outcomes,
    queries: Queries,
    cut: Split,
    groups: Sequence[str] | None,
    seed: int,
    learner: str,
) -> _Found:
    predictor, _ = fit(
        _take(queries, cut.labelled),
        outcomes.success[cut.labelled],
        outcomes.cost[cut.labelled],
        groups=None if groups is None else [groups[row] for row in cut.labelled],
        kind=learner,
        seed=seed,
    )
    estimate = predictor.estimate(_take(queries, cut.test))
    p = optimistic(estimate, predictor.alpha)
    path = curve(p, outcomes.cost[cut.test], outcomes.success[cut.test])
    return _Found(cut, estimate.mean, {"ours": path})


def _published(
    outcomes: Outcomes,
    queries: Queries,
    cut: Split,
    groups: Sequence[str] | None,
    seed: int,
    learner: str,
) -> _Found:
    """The paper's predictor, routed by the exact front and by the paper's own search.

    As many queries as are labelled, drawn from the test side, are for validation.
    """
    if not np.isin(outcomes.success, (0.0, 1.0)).all():
        raise BadInput("the published predictor takes right or wrong, and these scores are graded")
    drawn = np.random.default_rng(seed).permutation(cut.test)
    validation, test = drawn[: len(cut.labelled)], np.sort(drawn[len(cut.labelled) :])
    projection = None
    if not isinstance(queries, np.ndarray):
        projection = fit_projection(_take(queries, cut.labelled), seed=seed)
    train, check = (
        published.Labelled(features(_take(queries, rows), projection), outcomes.success[rows])
        for rows in (cut.labelled, validation)
    )
    tables = published.predict(train, check, features(_take(queries, test), projection), seed)
    c, y = outcomes.cost[test], outcomes.success[test]
    search = optllm.search(tables.plain, c, robust=tables.robust())
    true = points(y, c, search.assignments)
    curves = {
        "published, exact front": curve(tables.robust(), c, y),
        "published, OptLLM-M": Curve(true.cost, true.accuracy),
    }
    return _Found(Split(cut.labelled, test), tables.bootstrap.mean, curves)


PREDICTORS = {"ours": _ours, "published": _published}


def _queries(outcomes: Outcomes) -> Queries:
    if outcomes.features is not None:
        return outcomes.features
    if outcomes.text is not None:
        return bags(outcomes.text)
    raise BadInput("the table has neither a text column nor features to predict from")


def _take(queries: Queries, rows: NDArray[np.int64]) -> Any:
    return queries[rows] if isinstance(queries, np.ndarray) else [queries[row] for row in rows]
