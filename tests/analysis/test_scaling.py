"""Score against data size: the band holds for shapes that its families can take."""

from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
import pytest

from understudy.report.page import load_analysis

SIZES = 1000.0 * 2 ** np.arange(7)
PROMPTS = 150
Shape = Callable[[Any], Any]
SHAPES: dict[str, Shape] = {
    "saturating": lambda n: 88 - 45 / (1 + n / 6000),
    "power": lambda n: 98 - 55 * (n / 1000) ** -0.25,
    "log-linear": lambda n: 45 + 5.5 * np.log2(n / 1000),
    "logistic": lambda n: 30 + 55 / (1 + (n / 12000) ** -1.3),
    "S-curve": lambda n: 30 + 60 / (1 + np.exp(-1.4 * (np.log2(n / 1000) - 6))),
}


def scaling() -> Any:
    load_analysis()
    return import_module("understudy_analysis.scaling")


def measured(rng: Any, shape: Shape, sizes: Any = SIZES, trainings: float = 0.7) -> Any:
    """A curve of prompts that are hard at every size, answered by one training per size."""
    hard = rng.normal(0, 12, (PROMPTS, 1))
    scores = shape(sizes) + rng.normal(0, trainings, len(sizes)) + hard
    scores = scores + rng.normal(0, 10, (PROMPTS, len(sizes)))
    values, error = scores.mean(0), scores.std(0) / np.sqrt(PROMPTS)
    draws = scaling().DRAWS
    weights = rng.multinomial(PROMPTS, np.full(PROMPTS, 1 / PROMPTS), draws) / PROMPTS
    head = ("coding", "tiny", "offline", "offline", "precision", "mean")
    steps = [float("nan")] * len(sizes)
    ends = values - 2 * error, values + 2 * error
    return scaling().Curve(*head, sizes, steps, values, *ends, weights @ scores)


def coverage(name: str, curves: int, seed: int) -> float:
    """How often the band holds the true score at the next doubling, or nothing is promised."""
    rng, shape, hits = np.random.default_rng(seed), SHAPES[name], 0
    for _ in range(curves):
        found = scaling().fit(measured(rng, shape))
        is_refused = name == "S-curve" and found.chance(0) is None
        hits += is_refused or found.expected[1] <= shape(2 * SIZES[-1]) <= found.expected[2]
    return hits / curves


@pytest.mark.xfail(strict=True, reason="one family of curves")
@pytest.mark.parametrize("name", ["log-linear", "S-curve"])
def test_the_band_holds_shapes_that_do_not_saturate(name: str) -> None:
    assert coverage(name, 12, seed=0) >= 0.75


@pytest.mark.xfail(strict=True, reason="one family of curves")
def test_no_chance_is_named_while_the_last_step_is_the_largest() -> None:
    found = scaling().fit(measured(np.random.default_rng(1), SHAPES["S-curve"]))
    assert found.chance(80) is None


@pytest.mark.xfail(strict=True, reason="one family of curves")
def test_a_bar_that_the_next_doubling_reaches_is_not_called_out_of_reach() -> None:
    rng, shape = np.random.default_rng(2), SHAPES["power"]
    bar = shape(2 * SIZES[-1]) - 1
    chances = [scaling().fit(measured(rng, shape)).chance(bar) for _ in range(12)]
    assert np.mean([one for one in chances if one is not None]) > 0.4
