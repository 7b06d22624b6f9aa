"""Adjusted p values against statsmodels and scipy; a missing one is no member of the family."""

import warnings

import numpy as np
import pytest
from scipy import stats

from understudy.evaluation import families
from understudy.evaluation.statistics.intervals import Interval, cluster_mean

P_VALUES = [0.012, 0.2, 0.0004, 0.049, 0.012, 0.9, 1.0, 0.03]


@pytest.mark.parametrize(
    ("ours", "theirs"), [(families.holm, "holm"), (families.benjamini_hochberg, "fdr_bh")]
)
def test_adjusted_p_values_equal_statsmodels(ours: type, theirs: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        multitest = pytest.importorskip("statsmodels.stats.multitest")
    expected = multitest.multipletests(P_VALUES, method=theirs)[1]
    assert ours(P_VALUES).values == pytest.approx(expected, abs=1e-9)


def test_benjamini_hochberg_equals_scipy() -> None:
    expected = stats.false_discovery_control(P_VALUES)
    assert families.benjamini_hochberg(P_VALUES).values == pytest.approx(expected, abs=1e-9)


def test_holm_by_hand() -> None:
    assert families.holm([0.04, 0.01, 0.03]).values == pytest.approx([0.06, 0.03, 0.06])


def test_missing_p_values_stay_missing_and_do_not_count() -> None:
    values, size = families.holm([0.02, np.nan, 0.03])
    assert size == 2
    assert values[[0, 2]] == pytest.approx([0.04, 0.04])
    assert np.isnan(values[1])
    assert families.benjamini_hochberg([]).size == 0


def test_the_p_value_of_a_paired_difference_is_scipys() -> None:
    a, b = np.random.default_rng(0).normal(80, 9, size=(2, 40))
    found = cluster_mean(a - b, np.arange(40))
    assert families.p_value(found) == pytest.approx(stats.ttest_rel(a, b).pvalue, abs=1e-9)
    against = families.p_value(found, null=-5.0)
    assert against == pytest.approx(stats.ttest_1samp(a - b, -5).pvalue, abs=1e-9)


def test_without_an_error_there_is_no_p_value_unless_nothing_varies() -> None:
    assert np.isnan(families.p_value(Interval(None, None, None)))
    assert np.isnan(families.p_value(Interval(3.0, None, None, None, 1)))
    assert families.p_value(Interval(0.0, 0.0, 0.0, 0.0, 9)) == 1
    assert families.p_value(Interval(1.0, 1.0, 1.0, 0.0, 9)) == 0
