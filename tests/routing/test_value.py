"""What predictions and routers are worth, by what the sources of the measures define."""

import numpy as np
import pytest

from support.routing_tables import random_tables
from support.routing_worlds import workload
from understudy.errors import BadInput
from understudy.routing.exact import front
from understudy.routing.value import Curve, brier, curve, delta, ece, gain, igd, value, zero_router

TRUE = Curve(np.array([0.0, 2.0, 4.0]), np.array([0.2, 0.6, 0.8]))
FOUND = Curve(np.array([4.0, 0.0, 1.0]), np.array([0.7, 0.2, 0.3]))


def test_the_zero_router_is_the_hull_of_the_single_llms() -> None:
    zero = zero_router(np.array([[1.0, 2.0, 3.0, 5.0]]), np.array([[0.5, 0.4, 0.8, 0.9]]))
    np.testing.assert_allclose(zero.cost, [1, 3, 5])  # the second is worse than a mix
    np.testing.assert_allclose(zero.accuracy, [0.5, 0.8, 0.9])
    p, c = random_tables(1, n=60, m=6)
    exact, zero = front(p, c), zero_router(c, p)
    assert (zero.accuracy <= np.interp(zero.cost, exact.cost, exact.accuracy) + 1e-9).all()


def test_the_zero_router_of_one_llm_or_of_no_number() -> None:
    assert zero_router(np.array([[2.0]]), np.array([[0.5]])).cost.tolist() == [2.0]
    with pytest.raises(BadInput, match="is nan"):
        zero_router(np.array([[1.0, np.nan]]), np.array([[0.5, 0.5]]))


def test_inverted_generational_distance() -> None:
    assert igd(TRUE, FOUND) == pytest.approx(np.mean([0.0, np.hypot(1, 0.3), 0.1]))
    assert igd(TRUE, TRUE) == 0


def test_delta_takes_the_list_as_it_comes() -> None:
    first, last = np.hypot(4, 0.5), np.hypot(3, 0.5)  # the list is not sorted: its ends are these
    gaps = np.hypot(4, 0.5), np.hypot(1, 0.1)
    mean = np.mean(gaps)
    nearest = np.array([np.hypot(3, 0.4), gaps[1], gaps[1]])
    published = (first + last + np.abs(nearest - mean).sum()) / (first + last + 2 * mean)
    assert delta(TRUE, FOUND) == pytest.approx(published)
    assert np.isnan(delta(TRUE, Curve(FOUND.cost[:1], FOUND.accuracy[:1])))


def test_the_true_labels_as_predictions_are_worth_the_oracle() -> None:
    made = workload(600)
    y, c = made.success, made.cost
    oracle = value(curve(y, c, y), c, y)
    assert oracle.highest == pytest.approx(y.max(axis=1).mean())
    assert oracle.saving > 0.4
    assert oracle.gain > 0
    zero = zero_router(c, y)
    assert gain(zero, zero) == pytest.approx(0)
    useless = value(curve(np.tile(y.mean(axis=0), (600, 1)), c, y), c, y)
    assert abs(useless.gain) < 0.03


def test_brier_and_calibration_error_are_those_of_a_count_by_hand() -> None:
    p, y = np.array([[0.2, 0.2], [0.8, 0.8]]), np.array([[0.0, 1.0], [1.0, 1.0]])
    assert brier(p, y) == pytest.approx((0.04 + 0.64 + 0.04 + 0.04) / 4)
    assert ece(p, y, bins=2) == pytest.approx((0.3 * 2 + 0.2 * 2) / 4)
    rng = np.random.default_rng(0)
    chance = rng.random((20000, 2))
    assert ece(chance, (rng.random(chance.shape) < chance).astype(float)) < 0.01
