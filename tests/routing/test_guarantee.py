"""Promises hold as often as they say, and bands hold what is realised."""

import numpy as np
import pytest

from understudy.errors import BadInput
from understudy.routing.exact import assign, front
from understudy.routing.guarantee import band, lower_limit, prices, promise, proves

Tables = tuple[np.ndarray, np.ndarray, np.ndarray]


def world(rng: np.random.Generator, n: int) -> Tables:
    """True chances, noisy predictions of them, and USD of three LLMs."""
    truth = np.clip(np.array([0.55, 0.75, 0.95]) + 0.5 * (rng.random((n, 3)) - 0.5), 0, 1)
    predicted = np.clip(truth + 0.2 * rng.standard_normal((n, 3)), 0, 1)
    return truth, predicted, np.array([0.1, 1, 4]) * (1 + rng.random((n, 1)))


def draw(rng: np.random.Generator, truth: np.ndarray, graded: bool) -> np.ndarray:
    if graded:
        return rng.beta(4 * truth + 1e-3, 4 * (1 - truth) + 1e-3)
    return (rng.random(truth.shape) < truth).astype(float)


@pytest.mark.slow
@pytest.mark.parametrize("graded", [pytest.param(False, marks=pytest.mark.soak), True])
@pytest.mark.parametrize("delta", [0.05, pytest.param(0.2, marks=pytest.mark.soak)])
def test_promises_are_broken_at_most_as_often_as_delta_in_1000_worlds(
    graded: bool, delta: float
) -> None:
    rng = np.random.default_rng(0)
    truth, predicted, c = world(rng, 40_000)
    path = prices(front(predicted[:500], c[:500]))
    rows = np.arange(len(truth))
    true = np.array([truth[rows, assign(predicted, c, price)].mean() for price in path])
    broken = made = 0
    for _ in range(1000):
        held = world(rng, 300)
        found = promise(held[1], held[2], draw(rng, held[0], graded), path, 0.8, delta)
        if found.price is not None:
            made += 1
            broken += bool(true[np.searchsorted(path, found.price)] < 0.8)
    assert made > 900
    assert broken / 1000 <= delta


def test_a_promise_is_the_cheapest_rule_that_is_proved() -> None:
    rng = np.random.default_rng(1)
    truth, predicted, c = world(rng, 2000)
    y = draw(rng, truth, False)
    path = prices(front(*world(rng, 500)[1:]))
    found = promise(predicted, c, y, path, 0.8, 0.05)
    assert found.price is not None
    assert found.lower >= 0.8
    assert found.cost < promise(predicted, c, y, path, 0.9, 0.05).cost
    assert found.sentence.startswith("accuracy is at least 0.8 with 95% confidence")
    cheaper = path[np.searchsorted(path, found.price) + 1]
    rows = np.arange(len(y))
    assert not proves(y[rows, assign(predicted, c, float(cheaper))], 0.8, 0.05)


def test_the_order_of_the_labels_proves_nothing() -> None:
    y = np.r_[np.full(100, 0.95), np.full(100, 0.35)][:, None]  # the easy ones come first
    one = np.ones((200, 1))
    found = promise(one, one, y, np.array([0.0]), 0.8, 0.05)
    assert found.price is None
    assert found.lower < 0.65


@pytest.mark.parametrize(("n", "target"), [(0, 0.9), (20, 0.95), (20, 0.6)])
def test_too_few_labels_promise_nothing_and_say_so(n: int, target: float) -> None:
    y = np.tile([1.0, 0.0], n // 2)[:, None]
    found = promise(np.full((n, 1), 0.9), np.ones((n, 1)), y, np.array([0.0]), target, 0.05)
    assert found.price is None
    assert f"from {n} held-out labels" in found.sentence
    if target == 0.95:
        assert "even without a mistake it would take 59" in found.sentence
    if target == 0.6:
        assert "reached 0.5000 on them, which proves 0.3020" in found.sentence


def test_59_flawless_labels_promise_95_percent_and_58_do_not() -> None:
    p, path = np.full((59, 1), 0.9), np.array([0.0])
    one = np.ones((59, 1))
    assert promise(p, one, one, path, 0.95, 0.05).price == 0
    assert promise(p[1:], one[1:], one[1:], path, 0.95, 0.05).price is None


def test_the_lower_limit_is_that_of_clopper_and_pearson() -> None:
    from scipy.stats import beta

    hits = np.array([1.0] * 37 + [0.0] * 3)
    assert lower_limit(hits, 0.05) == pytest.approx(beta.ppf(0.05, 37, 4))
    assert lower_limit(np.zeros(10), 0.05) == pytest.approx(0, abs=1e-6)


def test_graded_success_of_low_variance_proves_more_than_hits_do() -> None:
    graded = np.full(200, 0.8) + np.tile([0.01, -0.01], 100)
    hits = np.array([1.0] * 160 + [0.0] * 40)
    assert graded.mean() == pytest.approx(hits.mean())
    assert 0.74 < lower_limit(hits, 0.05) < lower_limit(graded, 0.05) < 0.8


@pytest.mark.parametrize(("target", "delta"), [(1.0, 0.05), (0.9, 0.0), (-1, 0.1)])
def test_an_impossible_promise_is_one_sentence(target: float, delta: float) -> None:
    with pytest.raises(BadInput, match="between 0 and 1"):
        promise(np.ones((2, 1)), np.ones((2, 1)), np.ones((2, 1)), np.zeros(1), target, delta)


def test_a_band_holds_the_realised_accuracy_as_often_as_it_says() -> None:
    rng = np.random.default_rng(2)
    held = 0
    for _ in range(400):
        truth = rng.random(150)
        biased = np.clip(truth + 0.1, 0, 1)  # a predictor that flatters
        known = rng.random(200)
        residuals = (rng.random(200) < known) - np.clip(known + 0.1, 0, 1)
        found = band(biased, residuals)
        assert found is not None
        held += bool(found.low <= (rng.random(150) < truth).mean() <= found.high)
    assert 0.92 <= held / 400 <= 1


def test_a_band_of_certain_predictions_is_a_point_until_residuals_widen_it() -> None:
    certain = band(np.ones(10))
    assert certain is not None
    assert certain[:3] == (1, 1, 1)
    widened = band(np.ones(10), np.tile([0.0, -1.0, 0.0, 0.0], 5))
    assert widened is not None
    assert widened.low < widened.expected == 0.75
    assert band(np.ones(10), np.tile([0.0, -1.0, 0.0, 0.0], 4)) is None  # too few to know


def test_a_band_is_of_queries_and_of_new_groups() -> None:
    rng = np.random.default_rng(3)
    held = 0
    for _ in range(400):
        known, coming = (np.repeat(np.arange(80), rng.geometric(0.2, 80)) for _ in range(2))
        right = []
        for number in (known, coming):
            size = np.bincount(number)
            chance = np.clip(1 - 0.03 * size + 0.1 * rng.standard_normal(80), 0, 1)
            right.append((rng.random(len(number)) < chance[number]).astype(float))
        found = band(np.full(len(coming), 0.9), right[0] - 0.9, coming, known)
        assert found is not None
        held += bool(found.low <= right[1].mean() <= found.high)
    assert 0.92 <= held / 400 <= 1
