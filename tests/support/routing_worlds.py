"""Made workloads whose text tells which LLM can answer: for the tests of learning to route."""

from pathlib import Path

import numpy as np

from understudy.routing.data import Outcomes

LLMS = ["small", "large"]
_EASY = ["add the numbers", "sum up the numbers", "count the items", "give the total of"]
_HARD = ["prove the theorem", "derive the bound", "explain the paradox", "refute the claim"]


def chances(text: str) -> tuple[float, float]:
    """The true success of small and large."""
    return (0.95, 0.9) if any(text.startswith(one) for one in _EASY) else (0.2, 0.9)


def workload(n: int, seed: int = 0, labelled: float = 1.0) -> Outcomes:
    """n distinct queries, half of them easy; the first `labelled` share has labels."""
    rng = np.random.default_rng(seed)
    heads = [(_EASY, _HARD)[number % 2][int(rng.integers(4))] for number in range(n)]
    text = [f"{head} {number} {rng.integers(1000)}" for number, head in enumerate(heads)]
    success = (rng.random((n, 2)) < [chances(one) for one in text]).astype(float)
    cost = np.array([[1e-4 * (1 + len(one) / 50), 2e-3 * (1 + len(one) / 50)] for one in text])
    unknown = np.arange(n) >= labelled * n
    success[unknown] = np.nan
    return Outcomes(LLMS, success, cost, [f"q{number}" for number in range(n)], text)


def write_csv(outcomes: Outcomes, path: Path) -> Path:
    """The workload as a user's file; an unknown success is an empty cell."""
    heads = ["id", "text", *outcomes.llms, *(f"{llm}_cost" for llm in outcomes.llms)]
    lines = [",".join(heads)]
    assert outcomes.text is not None
    for row, (name, text) in enumerate(zip(outcomes.ids, outcomes.text, strict=True)):
        successes = ["" if np.isnan(one) else f"{one:g}" for one in outcomes.success[row]]
        lines.append(",".join([name, text, *successes, *map(repr, map(float, outcomes.cost[row]))]))
    path.write_text("\n".join(lines) + "\n")
    return path


def grouped_workload(n: int, rng: np.random.Generator) -> Outcomes:
    """At least n labelled queries in whole groups of 1 to about 40; larger groups are harder.

    The text does not tell the size of a group, so nothing but the labels can.
    """
    group = np.repeat(np.arange(n), rng.geometric(0.15, n))
    group = group[: int(np.searchsorted(group, group[n - 1], side="right"))]
    size = np.bincount(group)[group]
    text = [(_EASY, _HARD)[number % 2][int(rng.integers(4))] for number in range(len(group))]
    chance = np.clip(
        np.array([chances(one) for one in text]) + 0.08 - 0.02 * size[:, None], 0.05, 1
    )
    success = (rng.random(chance.shape) < chance).astype(float)
    cost = np.array([[1e-4 * (1 + len(one) / 50), 2e-3 * (1 + len(one) / 50)] for one in text])
    names = [f"q{number}" for number in range(len(group))]
    return Outcomes(LLMS, success, cost, names, text, {"group": [f"g{one}" for one in group]})
