"""Rank stability of systems, and Kish's effective number of judges."""

import numpy as np
import pytest
from scipy import stats

from support.panels import panel
from understudy.evaluation.statistics.ranking import effective_judges, ranking

SYSTEMS = ("a", "b", "c", "d")


def scores_of(means: list[list[float]], sd: float, items: int = 400, seed: int = 0) -> np.ndarray:
    """Items x judges, systems taking turns: `means[judge][system]` plus noise."""
    system = np.arange(items) % len(means[0])
    table = np.array(means)[:, system].T
    return table + np.random.default_rng(seed).normal(0, sd, size=table.shape)


def test_tau_b_equals_scipy_also_with_ties() -> None:
    means = [[90.0, 80, 70, 60], [90.0, 80, 80, 95], [60.0, 90, 80, 70]]
    of = panel(scores_of(means, sd=0), ["x", "y", "z"], systems=SYSTEMS)
    found = ranking(of)
    for pair, tau in found.tau_b.items():
        first, second = (means["xyz".index(name)] for name in pair.split(" / "))
        assert tau.mean == pytest.approx(stats.kendalltau(first, second).statistic, abs=1e-9)
    assert found.means["y"] == {"a": 90, "b": 80, "c": 80, "d": 95}


def test_clear_systems_are_ranked_alike_in_every_draw_and_close_ones_are_not() -> None:
    clear = panel(scores_of([[90, 70, 50, 30]] * 2, sd=5), systems=SYSTEMS)
    found = ranking(clear)
    assert (found.same_best, found.same_order) == (1.0, 1.0)
    close = panel(scores_of([[70, 70.5, 70, 70.2]] * 2, sd=15), systems=SYSTEMS)
    unsure = ranking(close)
    assert unsure.same_order is not None
    assert unsure.same_order < 0.5
    tau = unsure.tau_b["j0 / j1"]
    assert tau.low is not None
    assert tau.high is not None
    assert tau.high - tau.low > 0.5


def test_one_system_or_one_judge_has_no_ranking() -> None:
    assert ranking(panel(scores_of([[90], [80]], 5))).same_best is None
    assert ranking(panel(scores_of([[90, 80]], 5), systems=("a", "b"))).tau_b == {}


def test_judges_that_err_alike_count_as_few() -> None:
    rng = np.random.default_rng(1)
    truth = rng.normal(70, 20, size=4000)
    shared, own = rng.normal(0, 6, size=(4000, 1)), rng.normal(0, 6, size=(4000, 5))
    found = effective_judges(panel(truth[:, None] + shared + own, truth=truth))
    # Errors correlate 0.5: 5 / (1 + 4 * 0.5).
    assert found.value.mean == pytest.approx(5 / 3, abs=0.07)
    assert found.correlation == pytest.approx(0.5, abs=0.03)
    assert not found.is_bound
    alone = effective_judges(panel(truth[:, None] + own, truth=truth))
    assert alone.value.mean == pytest.approx(5, abs=0.35)


def test_without_a_truth_the_number_is_a_lower_bound() -> None:
    rng = np.random.default_rng(2)
    truth = rng.normal(70, 10, size=2000)
    scores = truth[:, None] + rng.normal(0, 10, size=(2000, 3))
    known = effective_judges(panel(scores, truth=truth)).value.mean
    bound = effective_judges(panel(scores))
    assert bound.is_bound
    assert bound.value.mean is not None
    assert known is not None
    assert 1 < bound.value.mean < known <= 3
    assert effective_judges(panel(scores[:, :1])).value.mean is None
