"""Give each query its LLM: from a table that is believed, or from labels that are learnt from."""

from dataclasses import replace
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from understudy.errors import BadInput
from understudy.routing import guarantee, optllm
from understudy.routing.artifact import Router
from understudy.routing.costs import fit_costs, lengths
from understudy.routing.data import Outcomes
from understudy.routing.differentiation import Differentiation, differentiation
from understudy.routing.exact import Front, RoutePlan, assign, front
from understudy.routing.fitting import Quality, fit
from understudy.routing.predict import Array, optimistic
from understudy.routing.splits import Cut, Places, codes, duplicates, halves, leak


class Goal(NamedTuple):
    """What is wanted of the front: USD, a share of right answers, successes per USD, or a knee."""

    kind: Literal["budget", "accuracy", "price", "knee"] = "knee"
    value: float = 0.0


class Learnt(NamedTuple):
    """What came of learning from labels."""

    quality: Quality
    promise: guarantee.Promise | None  # for an accuracy only
    router: Router
    leak: str | None  # a warning when queries to route repeat labelled ones


class Routed(NamedTuple):
    """The queries routed, and how well; LLMs are in the order of their names."""

    queries: Outcomes
    p: Array  # (N, M) expected success, as routed by
    c: Array  # (N, M) USD, as routed by
    path: Front
    plan: RoutePlan
    band: guarantee.Band | None  # of the accuracy that will be realised; None: too few labels
    differentiation: Differentiation | None = None  # None for predictions without labels
    learnt: Learnt | None = None

    @property
    def realised(self) -> tuple[float, float] | None:
        """True accuracy and true cost in USD, where the queries routed are labelled."""
        if self.learnt is None or not self.queries.is_labelled.all():
            return None
        accuracy = chosen(self.queries.success, self.plan.assignment).mean()
        return float(accuracy), float(chosen(self.queries.cost, self.plan.assignment).sum())


SOLVERS = ("exact", "optllm")


def of_table(outcomes: Outcomes, goal: Goal, solver: str = "exact") -> Routed:
    """Take the successes as they are: predictions, or labels in hindsight.

    The solver "optllm" is the published search; the certificate tells what it leaves on the table.
    Raises BadInput when a query has no success, or the solver cannot serve the goal.
    """
    missing = int((~outcomes.is_labelled).sum())
    if missing:
        raise BadInput(
            f"{missing:,} of {len(outcomes.ids):,} queries have no success: give one for each LLM, "
            "or a text column to predict it from"
        )
    outcomes = _by_name(outcomes)
    p, c = outcomes.success, outcomes.cost
    path = front(p, c)
    plan = plan_for(path, goal)
    if solver != "exact":
        plan = _searched(p, c, goal, solver, plan)
    groups = outcomes.groups.get("group")
    is_hindsight = np.isin(p, (0.0, 1.0)).all()
    differing = differentiation(p, c, plan.price, groups) if is_hindsight else None
    band = guarantee.band(chosen(p, plan.assignment))
    return Routed(outcomes, p, c, path, plan, band, differing)


def learn(
    outcomes: Outcomes,
    goal: Goal,
    delta: float = 0.05,
    held_out: float = 0.5,
    learner: str = "auto",
    seed: int = 0,
) -> Routed:
    """Learn from the labelled queries and route the others; where all are labelled, the held-out.

    The predictor and the costs, which are taken from a query's length, are fitted on one part of
    the labelled queries. The share `held_out` of their groups is for promise and band; there a
    query without the score that it should have counts as a failure. Where the goal is an accuracy
    that can be promised, the promised price is the plan; where it is more than any plan is expected
    to reach, the most accurate one is. The result does not depend on threads, and not on the order
    of LLMs, which is that of their names. Raises BadInput without a text column or labels, and for
    a share that leaves a part empty.
    """
    import scipy.linalg  # noqa: F401  # brings a BLAS, and only what is loaded can be limited
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1):  # sums of products differ with the number of threads
        return _learn(_by_name(outcomes), goal, delta, held_out, learner, seed)


def _learn(
    outcomes: Outcomes, goal: Goal, delta: float, held_out: float, learner: str, seed: int
) -> Routed:
    if outcomes.text is None:
        raise BadInput("there is no text column to learn from")
    parts = _parts(outcomes, held_out, seed)
    fitted, held = outcomes.rows(parts.fitted), outcomes.rows(parts.held)
    to_route = outcomes.rows(parts.to_route)
    assert fitted.text is not None, "rows() keeps the texts"
    predictor, quality = fit(
        fitted.text,
        fitted.success,
        fitted.cost,
        groups=parts.names(parts.fitted),
        kind=learner,
        seed=seed,
    )
    costs = fit_costs(lengths(fitted.text), fitted.cost)

    def tables(part: Outcomes) -> tuple[Array, Array, Array]:
        """Success to route by, calibrated success, USD; each (N, M)."""
        assert part.text is not None, "rows() keeps the texts"
        estimate = predictor.estimate(part.text)
        return optimistic(estimate, predictor.alpha), estimate.mean, costs(lengths(part.text))

    p, mean, c = tables(to_route)
    path = front(p, c)
    held_p, held_mean, held_c = tables(held)
    groups = codes(parts.names(parts.held))
    promise = None
    if goal.kind == "accuracy":
        fitted_p, _, fitted_c = tables(fitted)
        prices = guarantee.prices(front(fitted_p, fitted_c))
        worst = np.nan_to_num(held.success)
        promise = guarantee.promise(held_p, held_c, worst, prices, goal.value, delta, groups)
    if promise is not None and promise.price is not None:
        plan = path.at_price(promise.price)
    elif promise is not None and goal.value > path.accuracy[-1]:
        plan = path.at_price(0)  # what is expected is a guess, so it refuses nothing
    else:
        plan = plan_for(path, goal)
    rule = assign(held_p, held_c, plan.price)
    known = held.is_labelled
    residuals = (chosen(held.success, rule) - chosen(held_mean, rule))[known]
    band = guarantee.band(
        chosen(mean, plan.assignment), residuals, codes(parts.names(parts.to_route)), groups[known]
    )
    scored = held.rows(known)
    differing = differentiation(
        scored.success,
        scored.cost,
        plan.price,
        parts.names(parts.held[known]),
        (np.arange(len(scored.ids)), rule[known]),
    )
    warning = leak(outcomes.text, Cut(parts.fitted, parts.to_route))
    router = Router(outcomes.llms, predictor, costs, plan.price)
    learnt = Learnt(quality, promise, router, warning)
    return Routed(to_route, p, c, path, plan, band, differing, learnt)


class _Parts(NamedTuple):
    """Row numbers, and the group of every row."""

    fitted: Places
    held: Places  # labelled, or without the score that they should have
    to_route: Places
    groups: list[str]

    def names(self, rows: Places) -> list[str]:
        return [self.groups[row] for row in rows]


def _parts(outcomes: Outcomes, held_out: float, seed: int) -> _Parts:
    """Cut the queries that were asked by whole groups; route the others, else the held-out."""
    assert outcomes.text is not None, "the caller has looked"
    groups = outcomes.groups.get("group", duplicates(outcomes.text))
    labelled = np.flatnonzero(outcomes.is_labelled)
    known = {groups[row] for row in labelled}
    if not 0 < held_out < 1 or len(known) < 2:
        raise BadInput(
            f"{len(labelled):,} labelled queries and held_out={held_out:g}: learning needs two "
            "groups of labelled queries or more, and a share between 0 and 1"
        )
    asked = np.flatnonzero(outcomes.is_labelled | outcomes.is_unscored)
    has_label = np.array([groups[row] in known for row in asked])
    fitted, held = [], []
    for rows in (asked[has_label], asked[~has_label]):  # apart, so that both parts get labels
        if len(rows):
            cut = halves(len(rows), held_out, seed, [groups[row] for row in rows])
            fitted.append(rows[cut.labelled])
            held.append(rows[cut.test])
    learnt, tested = np.sort(np.concatenate(fitted)), np.sort(np.concatenate(held))
    to_route = np.flatnonzero(~(outcomes.is_labelled | outcomes.is_unscored))
    if not len(to_route):
        to_route = tested[outcomes.is_labelled[tested]]
    return _Parts(learnt[outcomes.is_labelled[learnt]], tested, to_route, groups)


def _by_name(outcomes: Outcomes) -> Outcomes:
    """The same with its LLMs in the order of their names, so that the order given decides nothing.

    Sums over LLMs, and so the forests that are grown, round otherwise in another order.
    """
    order = sorted(range(len(outcomes.llms)), key=lambda llm: outcomes.llms[llm])
    llms = [outcomes.llms[llm] for llm in order]
    success, cost = outcomes.success[:, order], outcomes.cost[:, order]
    return replace(outcomes, llms=llms, success=success, cost=cost)


def plan_for(path: Front, goal: Goal) -> RoutePlan:
    """The point of the front that the goal asks for; BadInput when it is out of reach."""
    if goal.kind == "knee":
        return path.knee()
    ask = {"budget": path.at_budget, "accuracy": path.at_accuracy, "price": path.at_price}
    return ask[goal.kind](goal.value)


def _searched(p: Array, c: Array, goal: Goal, solver: str, exact: RoutePlan) -> RoutePlan:
    """The plan of the published search, held to the bound of the exact one."""
    if solver not in SOLVERS:
        raise BadInput(f"{solver} is no solver; choose from {', '.join(SOLVERS)}")
    searches = {"budget": optllm.within_budget, "accuracy": optllm.for_accuracy}
    if goal.kind not in searches:
        raise BadInput(f"the published search serves a budget or an accuracy, not a {goal.kind}")
    found = searches[goal.kind](p, c, goal.value)
    cost, accuracy = float(found.cost[0]), float(found.accuracy[0])
    proof = exact.certificate
    value = accuracy if proof.quantity == "accuracy" else cost
    certificate = proof._replace(gap=abs(proof.bound - value))
    return RoutePlan(found.assignments[0], cost, accuracy, exact.price, certificate)


def chosen(table: Array, assignment: NDArray[np.intp]) -> Array:
    """The table's value of each query at its LLM, (N,)."""
    values: Array = table[np.arange(len(assignment)), assignment]
    return values
