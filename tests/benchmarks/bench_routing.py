"""Times of the exact front and of the published search on one table, in one run.

Run: PYTHONPATH=src OMP_NUM_THREADS=1 python tests/benchmarks/bench_routing.py [--exact-only]
"""

import argparse
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from understudy.routing.exact import Front, front
from understudy.routing.optllm import GRID, search

TARGETS = {(31_360, 8): 0.03, (100_000, 12): 0.2, (1_000_000, 12): 2.0}  # seconds, two cores
ROUNDS = 3


def made(queries: int, llms: int, is_deep: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Success that grows with the price of the LLM, with noise; deep: every LLM is on each hull."""
    rng = np.random.default_rng(0)
    if is_deep:
        cost = rng.random((queries, llms)).cumsum(axis=1)
        return np.sqrt(cost / llms), cost
    price = np.geomspace(1, 100, llms)
    tokens = rng.lognormal(5, 1, (queries, 1))
    success = np.clip(rng.normal(np.linspace(0.4, 0.8, llms), 0.2, (queries, llms)), 0, 1)
    return success, 1e-6 * price * tokens * rng.lognormal(0, 0.1, (queries, llms))


def timed(call: Callable[[], Any], rounds: int = 1) -> tuple[float, Any]:
    """The best time of the rounds in seconds, and the result."""
    best = float("inf")
    for _ in range(rounds):
        started = time.perf_counter()
        result = call()
        best = min(best, time.perf_counter() - started)
    return best, result


def exact_table() -> None:
    print(f"exact front, best of {ROUNDS}")
    print(f"{'queries x LLMs':>18} {'seconds':>9} {'target':>7} {'points':>11}")
    for (queries, llms), target in TARGETS.items():
        for is_deep in (False, True):
            tables = made(queries, llms, is_deep)
            seconds, found = timed(lambda tables=tables: front(*tables), ROUNDS)
            goal = "" if is_deep else f"{target:g}"
            name = f"{queries:,} x {llms}" + (" deep" if is_deep else "")
            print(f"{name:>18} {seconds:9.4f} {goal:>7} {len(found):11,}")


def same_table(queries: int = 31_360, llms: int = 8) -> None:
    p, c = made(queries, llms)
    seconds, exact = timed(lambda: front(p, c), ROUNDS)
    print(f"\nthe same table, {queries:,} x {llms}")
    print(f"{'':>22} {'seconds':>9} {'points':>8} {'hypervolume':>12} {'slower':>9}")
    line("exact front", seconds, exact, exact, seconds)
    line(f"OptLLM search GN={GRID}", *timed(lambda: search(p, c)), exact, seconds)


def hypervolume(exact: Front, found: Any) -> float:
    """The share of the box between the ends of the front that the found points dominate."""
    dear, best = exact.cost[-1], exact.accuracy[-1]
    order = np.argsort(found.cost, kind="stable")
    spent = np.clip(found.cost[order], exact.cost[0], dear)
    right = np.maximum.accumulate(np.clip(found.accuracy[order], exact.accuracy[0], best))
    area = ((np.append(spent[1:], dear) - spent) * (right - exact.accuracy[0])).sum()
    return float(area / ((dear - exact.cost[0]) * (best - exact.accuracy[0])))


def line(name: str, seconds: float, found: Any, exact: Front, base: float) -> None:
    volume = hypervolume(exact, found)
    print(
        f"{name:>22} {seconds:9.3f} {len(found.cost):8,} {volume:12.4f} {seconds / base:8,.0f}x",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--exact-only", action="store_true")
    arguments = parser.parse_args()
    print(f"numpy {np.__version__}, python {sys.version.split()[0]}")
    exact_table()
    if not arguments.exact_only:
        same_table()


if __name__ == "__main__":
    main()
