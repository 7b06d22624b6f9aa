"""Prices, and costs that are not known yet."""

import numpy as np
import pytest

from understudy.errors import BadInput
from understudy.routing.costs import Price, fit_costs, lengths, parse_price


def test_a_price_list_turns_tokens_into_dollars() -> None:
    name, price = parse_price("gpt-4o=2.5/10/0.001")
    assert (name, price) == ("gpt-4o", Price(2.5, 10, 0.001))
    usd = price(np.array([1000.0, 0.0]), np.array([100.0, 0.0]))
    np.testing.assert_allclose(usd, [0.0045, 0.001])
    assert parse_price("a=b=0/0") == ("a=b", Price(0, 0))


@pytest.mark.parametrize("text", ["gpt", "gpt=", "gpt=1", "gpt=1/x", "=1/2", "gpt=1/-2", "a=1/nan"])
def test_an_odd_price_is_one_sentence(text: str) -> None:
    with pytest.raises(BadInput, match="is not NAME=IN/OUT"):
        parse_price(text)


def test_predicted_costs_keep_the_total_and_follow_the_length() -> None:
    rng = np.random.default_rng(0)
    sizes = rng.integers(10, 500, 400).astype(float)
    output = rng.lognormal(3, 1, 400)  # tokens, not known beforehand
    usd = np.stack([1e-6 * sizes + 1e-5 * output, np.zeros(400)], axis=1)
    model = fit_costs(sizes[:300], usd[:300])
    found = model(sizes[300:])
    assert found[:, 0].sum() == pytest.approx(usd[300:, 0].sum(), rel=0.25)
    assert model(sizes[:300])[:, 0].sum() == pytest.approx(usd[:300, 0].sum())
    np.testing.assert_array_equal(found[:, 1], 0)
    assert model(np.array([400.0]))[0, 0] > model(np.array([20.0]))[0, 0]


def test_costs_never_fall_below_zero_or_with_the_length() -> None:
    falling = fit_costs(np.array([10.0, 20.0]), np.array([[2.0, 0.0], [1.0, 10.0]]))
    np.testing.assert_allclose(falling(np.array([0.0, 100.0]))[:, 0], 1.5)
    assert (falling(np.array([0.0, 1e6]))[:, 1] >= 0).all()


def test_a_single_call_is_the_best_guess_and_none_is_an_error() -> None:
    assert fit_costs(np.array([10.0]), np.array([[0.5]]))(np.array([99.0])) == 0.5
    with pytest.raises(BadInput, match="no call is known"):
        fit_costs(np.empty(0), np.empty((0, 2)))


def test_lengths_are_bytes() -> None:
    assert lengths(["ab", "ü", ""]).tolist() == [2, 2, 0]
