"""RQ1 of the OptLLM paper, reproduced: what a router saves at the accuracy of the best single LLM.

    understudy route experiment=routing/logpai routing.data=DIR

`conf/experiment/routing/*.yaml` sets a `Study`. Its measurements, one for each split, router and
seed, become a document: means and deviations over seeds, and what a paper printed beside them.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked_dataclass

from understudy.config import schema
from understudy.config.source import STRICT
from understudy.errors import BadInput
from understudy.routing import baselines, optllm
from understudy.routing.benchmarks import BENCHMARKS, PRICED
from understudy.routing.costs import parse_price
from understudy.routing.data import Outcomes
from understudy.routing.features import Bag, bags, fit_projection
from understudy.routing.fitting import fit
from understudy.routing.output import points_of, references
from understudy.routing.predict import FITS, Array, features, optimistic
from understudy.routing.splits import Cut, draw, leak
from understudy.routing.value import Curve, brier, curve, ece, value

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


@checked_dataclass(config=STRICT)
class Published:
    """What a paper prints beside our numbers; null where it prints nothing."""

    source: str
    best_single: str | None = None
    best_accuracy: float | None = None
    best_cost: float | None = None
    cost: float | None = None  # at the best single LLM's accuracy, as is the saving
    saving: float | None = None
    highest_accuracy: float | None = None
    cost_at_highest: float | None = None
    optllm_cost: float | None = None  # the paper's cost of OptLLM at that accuracy
    igd: float | None = None
    delta: float | None = None
    seconds: float | None = None


@checked_dataclass(config=STRICT)
class Study:
    """RQ1 of the OptLLM paper on one data set."""

    dataset: str
    data: str | None  # the directory with the tables
    share: Annotated[float, Field(gt=0, lt=1)]  # of the queries is labelled
    splits: list[str]
    seeds: dict[str, Annotated[int, Field(ge=0)]]  # predictor -> how many
    learner: str
    prices: dict[str, str] = field(default_factory=dict)  # IN/OUT of a table without costs
    published: list[Published] = field(default_factory=list)

    def load(self) -> Outcomes:
        """The data set; BadInput when `data` is not its directory."""
        if self.data is None:
            raise BadInput("routing.data is not set: give the directory with the published tables")
        place = Path(self.data).expanduser()
        if self.dataset in PRICED:
            prices = dict(parse_price(f"{name}={text}") for name, text in self.prices.items())
            return PRICED[self.dataset](place, prices)
        return BENCHMARKS[self.dataset](place)


def build(values: dict[str, Any]) -> Study:
    """The checked settings of a composed config; BadInput says the first thing wrong."""
    if "routing" not in values:
        raise BadInput("nothing to reproduce is named: give experiment=routing/logpai, say")
    known = list(schema.leaves(Study))
    try:
        study = TypeAdapter(Study).validate_python(values["routing"])
    except ValidationError as error:
        raise BadInput(f"routing: {schema.sentence(error, values['routing'], known)}") from None
    if study.prices and study.dataset not in PRICED:
        raise BadInput(f"routing.prices: {study.dataset} has costs of its own; leave prices out")
    for what, given, choices in (
        ("dataset", [study.dataset], [*BENCHMARKS, *PRICED]),
        ("splits", study.splits, list(SPLITS)),
        ("seeds", list(study.seeds), list(PREDICTORS)),
        ("learner", [study.learner], ["auto", *FITS]),
    ):
        for name in given:
            if name not in choices:
                raise BadInput(f"routing.{what}: {name} is none of {', '.join(choices)}")
    return study


@dataclass(frozen=True)
class Measurement:
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
) -> Iterator[Measurement]:
    """All rows: each predictor with its number of seeds; the published one on the first split.

    Predictors with a seed in common have the same labels and the same features. Raises BadInput
    for an unknown predictor or split, or for a split that the data cannot have.
    """
    for predictor in seeds:
        if predictor not in PREDICTORS:
            raise BadInput(f"{predictor} is no predictor; choose from {', '.join(PREDICTORS)}")
    if outcomes.features is None and outcomes.text is None:
        raise BadInput("the table has neither a text column nor features to predict from")
    queries = bags(outcomes.text or []) if outcomes.features is None else outcomes.features
    for split in splits:
        if (reason := inapplicable(outcomes, split)) is not None:
            raise BadInput(f"the split {split} does not apply: {reason}")
        for seed in range(max(seeds.values(), default=0)):
            drawn = _Drawn.of(outcomes, queries, split, share, seed)
            for predictor, count in seeds.items():
                if seed < count and (predictor != "published" or split == splits[0]):
                    yield from _measure(outcomes, split, drawn, predictor, learner)


class _Drawn(NamedTuple):
    """Which queries are labelled, and the features of all."""

    seed: int
    cut: Cut
    known: Array  # (n, d), of the labelled
    asked: Array  # (N, d), of the tested
    groups: list[str] | None  # of the labelled, for cross-validation
    seconds: float  # that the features took

    @classmethod
    def of(
        cls, outcomes: Outcomes, queries: Queries, split: str, share: float, seed: int
    ) -> "_Drawn":
        """Draw, and fit the projection of texts on the labelled queries."""
        groups = outcomes.groups.get(SPLITS[split] or "line")
        kept = groups if SPLITS[split] else None
        cut = draw(len(outcomes.ids), share, seed, kept, _WITHHELD.get(split, 0))
        begun = time.perf_counter()
        projection = None
        if not isinstance(queries, np.ndarray):
            projection = fit_projection(_take(queries, cut.labelled), seed=seed)
        known, asked = (features(_take(queries, rows), projection) for rows in cut)
        names = None if groups is None else [groups[row] for row in cut.labelled]
        return cls(seed, cut, known, asked, names, time.perf_counter() - begun)


def _take(queries: Queries, rows: NDArray[np.int64]) -> Any:
    return queries[rows] if isinstance(queries, np.ndarray) else [queries[row] for row in rows]


def _measure(
    outcomes: Outcomes, split: str, drawn: _Drawn, predictor: str, learner: str
) -> Iterator[Measurement]:
    """Learn from the labels, route the others, score by their true labels."""
    begun = time.perf_counter()
    found = PREDICTORS[predictor](outcomes, drawn, learner)
    seconds = drawn.seconds + time.perf_counter() - begun
    c, y = outcomes.cost[found.test], outcomes.success[found.test]
    for router, path in found.curves.items():
        worth = value(path, c, y)
        yield Measurement(
            split,
            router,
            drawn.seed,
            len(drawn.cut.labelled),
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
            leak(outcomes.text, Cut(drawn.cut.labelled, found.test)),
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
    test: NDArray[np.int64]  # the N queries that were routed
    mean: Array  # (N, M) predicted success of the test queries
    curves: dict[str, Curve]  # router -> cost and true accuracy


def _ours(outcomes: Outcomes, drawn: _Drawn, learner: str) -> _Found:
    cut = drawn.cut
    predictor, _ = fit(
        drawn.known,
        outcomes.success[cut.labelled],
        outcomes.cost[cut.labelled],
        groups=drawn.groups,
        kind=learner,
        seed=drawn.seed,
    )
    estimate = predictor.estimate(drawn.asked)
    p = optimistic(estimate, predictor.alpha)
    path = curve(p, outcomes.cost[cut.test], outcomes.success[cut.test])
    return _Found(cut.test, estimate.mean, {"ours": path})


def _published(outcomes: Outcomes, drawn: _Drawn, learner: str) -> _Found:
    """The paper's predictor, routed by the exact front and by the paper's own search.

    As many queries as are labelled, drawn from the test side, are for validation.
    """
    if not np.isin(outcomes.success, (0.0, 1.0)).all():
        raise BadInput("the published predictor takes right or wrong, and these scores are graded")
    labelled, places = drawn.cut.labelled, np.arange(len(drawn.cut.test))
    mixed = np.random.default_rng(drawn.seed).permutation(places)
    held, asked = mixed[: len(labelled)], np.sort(mixed[len(labelled) :])
    validation, test = drawn.cut.test[held], drawn.cut.test[asked]
    train = optllm.Labelled(drawn.known, outcomes.success[labelled])
    check = optllm.Labelled(drawn.asked[held], outcomes.success[validation])
    tables = optllm.forecast(train, check, drawn.asked[asked], drawn.seed)
    c, y = outcomes.cost[test], outcomes.success[test]
    search = optllm.search(tables.plain, c, robust=tables.robust())
    true = optllm.points(y, c, search.assignments)
    curves = {
        "published, exact front": curve(tables.robust(), c, y),
        "published, OptLLM-M": Curve(true.cost, true.accuracy),
    }
    return _Found(test, tables.bootstrap.mean, curves)


def _plain(
    predict: Callable[..., Array], router: str, outcomes: Outcomes, drawn: _Drawn, learner: str
) -> _Found:
    """A baseline on the features, the groups and the price that ours has."""
    labelled, test = drawn.cut
    names = drawn.groups or [str(row) for row in labelled]
    p = predict(drawn.known, outcomes.success[labelled], drawn.asked, names, drawn.seed)
    path = curve(p, outcomes.cost[test], outcomes.success[test])
    return _Found(test, p, {router: path})


KNN, CLUSTERS = "k nearest neighbours", "k-means clusters"
PREDICTORS: dict[str, Callable[[Outcomes, _Drawn, str], _Found]] = {
    "ours": _ours,
    "published": _published,
    "knn": partial(_plain, baselines.knn, KNN),
    "clusters": partial(_plain, baselines.clusters, CLUSTERS),
}


_MEANS = (
    *("tested", "best_accuracy", "best_cost", "highest_accuracy"),
    *("gain", "igd", "delta", "brier", "ece", "seconds"),
)


def document(study: Study, outcomes: Outcomes, rows: Sequence[Measurement]) -> dict[str, Any]:
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
        "notes": list(outcomes.notes),
        "lines": summarise(rows),
        "rows": [_row(row) for row in rows],
        "picture": _picture(outcomes, rows),
    }


def summarise(rows: Sequence[Measurement]) -> list[dict[str, Any]]:
    """One line per split and router, and the zero router before those of its split.

    `saving` is over the seeds that reached the best single LLM's accuracy; `reached` counts them.
    By its definition the zero router reaches it at no saving, and gains nothing. The intervals are
    Student's over the seeds, so over what was labelled and not over other data; `ahead` is how much
    more ours gains on the same seeds.
    """
    lines = []
    for split in dict.fromkeys(row.split for row in rows):
        first = [row for row in rows if row.split == split and row.router == rows[0].router]
        lines.append(_line(split, "zero router", first) | _ZERO)
        for router in dict.fromkeys(row.router for row in rows if row.split == split):
            part = [row for row in rows if (row.split, row.router) == (split, router)]
            ours = {
                row.seed: row.gain for row in rows if (row.split, row.router) == (split, "ours")
            }
            more = [ours[row.seed] - row.gain for row in part if row.seed in ours]
            ends = _limits([row.gain for row in part]), _limits([] if router == "ours" else more)
            names = ("gain", "gain_low", "gain_high"), ("ahead", "ahead_low", "ahead_high")
            line = _line(split, router, part)
            for keys, values in zip(names, ends, strict=True):
                line |= dict(zip(keys, values, strict=True))
            lines.append(line)
    return lines


_ZERO = {
    **dict.fromkeys(("labels", "seconds", "gain", "saving"), 0),
    **dict.fromkeys(("igd", "delta", "brier", "ece", "saving_sd", "gain_sd")),
    **dict.fromkeys(("gain_low", "gain_high", "ahead", "ahead_low", "ahead_high")),
}


def _line(split: str, router: str, part: Sequence[Measurement]) -> dict[str, Any]:
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


def _match(one: Published, rows: Sequence[Measurement]) -> dict[str, Any]:
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


def _limits(values: Sequence[float]) -> tuple[float | None, float | None, float | None]:
    """The mean with Student's 95 % interval; without limits below two values."""
    from scipy.special import stdtrit

    mean, deviation = _mean(values), _deviation(values)
    if mean is None or deviation is None:
        return mean, None, None
    half = float(stdtrit(len(values) - 1, 0.975)) * deviation / len(values) ** 0.5
    return mean, mean - half, mean + half


def _row(row: Measurement) -> dict[str, Any]:
    values = {item.name: getattr(row, item.name) for item in fields(row) if item.name != "curve"}
    return {name: None if value != value else value for name, value in values.items()}


def _picture(outcomes: Outcomes, rows: Sequence[Measurement]) -> dict[str, Any]:
    """The true curve of each router, its first seed, on the first split only.

    Other splits test other queries, on which single LLMs and their hull lie elsewhere.
    """
    curves: dict[str, Any] = {}
    for row in rows:
        if row.split == rows[0].split:
            curves.setdefault(row.router, points_of(row.curve, row.tested))
    return {"curves": curves, **references(outcomes.llms, outcomes.cost, outcomes.success)}
