"""What a router must beat: single LLMs, their hull, random and shuffled assignments, NSGA-II."""

import numpy as np
from numpy.typing import ArrayLike

from understudy.errors import EnvironmentFailed
from understudy.routing.exact import Front, front
from understudy.routing.points import Points, non_dominated, points
from understudy.routing.tables import Floats, Integers, tables


def singles(p: ArrayLike, c: ArrayLike) -> Points:
    """Each of the M LLMs for all queries: M points in the order of the columns."""
    p, c, *_ = tables(p, c)
    return points(p, c, np.repeat(np.arange(p.shape[1])[:, None], len(p), axis=1))


def hull(cost: ArrayLike, accuracy: ArrayLike) -> Front:
    """The zero router (RouterBench): upper concave hull of points, reached by mixing two of them.

    `cost` and `accuracy` are (n,); the front's points are corners, so `np.interp` between them is
    the best expected accuracy without looking at a query.
    """
    return front(np.atleast_2d(np.asarray(accuracy)), np.atleast_2d(np.asarray(cost)))


def random(p: ArrayLike, c: ArrayLike, count: int = 100, seed: int = 0) -> Points:
    """`count` assignments that draw every query's LLM with shares drawn uniformly."""
    p, c, *_ = tables(p, c)
    rng = np.random.default_rng(seed)
    shares = rng.dirichlet(np.ones(p.shape[1]), size=count)
    draws = rng.random((count, len(p)))
    drawn = [np.searchsorted(np.cumsum(s)[:-1], u) for s, u in zip(shares, draws, strict=True)]
    return points(p, c, np.array(drawn))


def shuffled(
    p: ArrayLike, c: ArrayLike, assignment: Integers, count: int = 100, seed: int = 0
) -> Points:
    """The cost-matched control: an assignment dealt to other queries at the same total cost.

    Each of the `count` points permutes the (N,) assignment, which keeps the share of each LLM. What
    the permutation costs too much or too little, queries in random order make up by going to their
    cheapest or dearest LLM, up to the total of the assignment but never above it.
    """
    p, c, *_ = tables(p, c)
    rng = np.random.default_rng(seed)
    queries = np.arange(len(p))
    budget = c[queries, assignment].sum()
    dealt = []
    for _ in range(count):
        deal = rng.permutation(assignment)
        paid = c[queries, deal]
        is_over = paid.sum() > budget
        other = c.argmin(axis=1) if is_over else c.argmax(axis=1)
        order = rng.permutation(len(p))
        total = paid.sum() + np.cumsum((c[queries, other] - paid)[order])
        moved = np.searchsorted(-total if is_over else total, -budget if is_over else budget)
        rows = order[: moved + 1 if is_over else moved]
        deal[rows] = other[rows]
        dealt.append(deal)
    return points(p, c, np.array(dealt))


def nsga2(
    p: ArrayLike,
    c: ArrayLike,
    is_seeded: bool = False,
    generations: int = 100,
    population: int = 100,
    seed: int = 0,
) -> Points:
    """NSGA-II (pymoo) with the paper's settings: its final non-dominated assignments.

    Simulated binary crossover .7780, eta 7; polynomial mutation .8119, eta 9; Latin hypercube
    start (arXiv 2405.15130, from its public code). Seeded, the cheapest and the most accurate
    assignments are put into the start, which the paper does not do.
    """
    success, usd, *_ = tables(p, c)
    try:
        from pymoo.algorithms.moo.nsga2 import NSGA2
        from pymoo.core.problem import Problem
        from pymoo.operators.crossover.sbx import SBX
        from pymoo.operators.mutation.pm import PM
        from pymoo.operators.repair.rounding import RoundingRepair
        from pymoo.operators.sampling.lhs import LHS
        from pymoo.optimize import minimize
    except ImportError:
        raise EnvironmentFailed(
            "the baseline nsga2 needs pymoo: pip install 'understudy[routing]'"
        ) from None

    class Assignment(Problem):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(n_var=len(success), n_obj=2, xl=0, xu=success.shape[1] - 1, vtype=int)

        def _evaluate(self, x: Integers, out: dict[str, Floats], **_: object) -> None:
            chosen = points(success, usd, x)
            out["F"] = np.stack([chosen.cost, -chosen.accuracy], axis=1)

    problem = Assignment()
    start = LHS().do(problem, population, random_state=np.random.default_rng(seed)).get("X")
    start = np.rint(start).astype(int)
    if is_seeded:
        ends = front(success, usd)
        start[:2] = ends.assignment(0), ends.assignment(-1)
    algorithm = NSGA2(
        pop_size=population,
        sampling=start,
        crossover=SBX(prob=0.778, eta=7, vtype=float, repair=RoundingRepair()),
        mutation=PM(prob=0.8119, eta=9, vtype=float, repair=RoundingRepair()),
    )
    found = minimize(problem, algorithm, ("n_gen", generations), seed=seed)
    return non_dominated(points(success, usd, np.atleast_2d(found.X).astype(int)))
