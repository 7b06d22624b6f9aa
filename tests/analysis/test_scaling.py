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


def coverage(name: str, curves: int, seed: int, sizes: Any = SIZES) -> float:
    """How often the band holds the true score at the next doubling, or nothing is promised."""
    rng, shape, hits = np.random.default_rng(seed), SHAPES[name], 0
    for _ in range(curves):
        found = scaling().fit(measured(rng, shape, sizes))
        is_refused = name == "S-curve" and found.chance(0) is None
        hits += is_refused or found.expected[1] <= shape(2 * sizes[-1]) <= found.expected[2]
    return hits / curves


@pytest.mark.slow
@pytest.mark.parametrize("name", ["power", "log-linear", "S-curve"])
def test_the_band_holds_shapes_that_do_not_saturate(name: str) -> None:
    assert coverage(name, 12, seed=0) >= 0.75


def test_no_chance_is_named_while_the_last_step_is_the_largest() -> None:
    found = scaling().fit(measured(np.random.default_rng(1), SHAPES["S-curve"]))
    assert found.chance(80) is None


def test_a_bar_that_the_next_doubling_reaches_is_not_called_out_of_reach() -> None:
    rng, shape = np.random.default_rng(2), SHAPES["power"]
    bar = shape(2 * SIZES[-1]) - 1
    chances = [scaling().fit(measured(rng, shape)).chance(bar) for _ in range(12)]
    assert np.mean([one for one in chances if one is not None]) > 0.4


def test_the_step_from_no_rows_hides_no_later_one() -> None:
    values = np.array([20.0, 50.0, 51.0, 55.0, 80.0])
    sizes = np.array([0.0, 250.0, 500.0, 1000.0, 2000.0])
    rng = np.random.default_rng(3)
    shape = dict(zip(sizes, values, strict=True)).__getitem__
    of = measured(rng, lambda n: np.array([shape(one) for one in n]), sizes)
    assert scaling().fit(of).chance(60) is None


def test_the_odds_of_the_families_add_up_and_leave_out_what_the_points_rule_out() -> None:
    odds = scaling().fit(measured(np.random.default_rng(4), SHAPES["S-curve"])).odds
    assert sum(odds.values()) == pytest.approx(1)
    assert odds["logistic"] > 0.8
    assert odds["power"] < 0.05


@pytest.mark.slow
@pytest.mark.parametrize(
    "sizes",
    [
        pytest.param(SIZES, id="7", marks=pytest.mark.soak),
        pytest.param(SIZES[:5], id="5"),
        pytest.param(SIZES[::2], id="4, each 4 times", marks=pytest.mark.soak),
    ],
)
@pytest.mark.parametrize("name", SHAPES)
def test_the_band_covers_the_next_doubling_in_90_of_100_curves(name: str, sizes: Any) -> None:
    found = coverage(name, 200, seed=5, sizes=sizes)
    print(name, len(sizes), found)
    assert found >= 0.90


@pytest.mark.slow
@pytest.mark.parametrize("name", SHAPES)
def test_a_bar_that_was_reached_in_95_of_100_curves_had_a_chance(name: str) -> None:
    rng, shape = np.random.default_rng(6), SHAPES[name]
    bar = shape(2 * SIZES[-1]) - 1.65 * np.hypot(0.7, np.hypot(12, 10) / np.sqrt(PROMPTS))
    found = [scaling().fit(measured(rng, shape)).chance(bar) for _ in range(60)]
    named = [one for one in found if one is not None]
    print(name, len(named), np.mean(named) if named else None)
    assert not named or np.mean(named) > 0.6
