"""Adjusted p values and sign flips against statsmodels, scipy and by hand; a family's error."""

from typing import Any

import numpy as np
import pytest
from scipy import stats

from understudy.evaluation.statistics import families
from understudy.evaluation.statistics.families import Flipped, Paired, sign_flips
from understudy.evaluation.statistics.intervals import Interval, cluster_mean

P_VALUES = [0.012, 0.2, 0.0004, 0.049, 0.012, 0.9, 1.0, 0.03]


@pytest.mark.parametrize(
    ("ours", "theirs"), [(families.holm, "holm"), (families.benjamini_hochberg, "fdr_bh")]
)
def test_adjusted_p_values_equal_statsmodels(ours: type, theirs: str) -> None:
    from statsmodels.stats.multitest import multipletests

    expected = multipletests(P_VALUES, method=theirs)[1]
    assert ours(P_VALUES).values == pytest.approx(expected, abs=1e-9)


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


def own(values: Any) -> Paired:
    """Every prompt is its own cluster."""
    return Paired(values, [f"{number:04}" for number in range(len(values))])


def test_few_clusters_are_tested_exactly_and_equal_scipy() -> None:
    rng = np.random.default_rng(0)
    family = [own(rng.normal(shift, 3, 10).round()) for shift in (0, 1, 2, 4)]
    found = sign_flips(family)
    assert found.is_exact
    for one, p in zip(family, found.single, strict=True):
        oracle = stats.permutation_test(
            (one.differences,), np.mean, permutation_type="samples", n_resamples=np.inf
        )
        assert p == pytest.approx(oracle.pvalue, abs=1e-9)


def test_many_clusters_are_drawn_and_agree_with_the_t_test() -> None:
    values = np.random.default_rng(1).normal(0.35, 2, 150)
    found = sign_flips([own(values)])
    assert not found.is_exact
    assert found.single[0] == pytest.approx(stats.ttest_1samp(values, 0).pvalue, abs=0.01)
    assert found.adjusted[0] == found.single[0]


def test_prompts_of_one_cluster_change_sign_together() -> None:
    values = np.repeat([3.0, 4.0, 2.0, 5.0, 3.5, 2.5], 10)
    groups = np.repeat(list("abcdef"), 10)
    assert sign_flips([Paired(values, groups)]).single[0] == pytest.approx(2 / 2**6)


def test_equal_comparisons_cost_nothing_where_holm_charges_for_each() -> None:
    values = np.random.default_rng(2).normal(0.5, 2, 100)
    family = [own(values + 0.001 * number) for number in range(5)]
    found = sign_flips(family)
    p_values = [families.p_value(cluster_mean(*one)) for one in family]
    assert found.adjusted == pytest.approx(found.single, abs=0.003)
    assert (families.holm(p_values).values[0] > 4 * found.adjusted).all()


def test_a_clear_difference_does_not_hide_behind_doubtful_ones() -> None:
    rng = np.random.default_rng(3)
    found = sign_flips([own(rng.normal(shift, 2, 60)) for shift in (0.0, 5.0, 0.1)])
    assert found.adjusted[1] == pytest.approx(1 / 10_000)
    assert (found.adjusted >= found.single).all()
    assert found.adjusted[[0, 2]].min() > 0.05


def test_what_cannot_be_tested_is_missing_and_no_difference_is_p_1() -> None:
    found = sign_flips([Paired([1.0, 2.0], ["a", "a"]), own(np.zeros(8)), own(np.full(8, 2.0))])
    assert np.isnan(found.single[0])
    assert np.isnan(found.adjusted[0])
    assert found.single[1] == 1
    assert found.single[2] == pytest.approx(2 / 2**8)
    alone = sign_flips([Paired([1.0], ["a"])])
    assert isinstance(alone, Flipped)
    assert np.isnan(alone.adjusted[0])


@pytest.mark.slow
def test_one_false_claim_in_a_family_of_ten_is_as_rare_as_it_says() -> None:
    rng, loops = np.random.default_rng(4), 1000
    wrong = 0
    for _ in range(loops):
        shared = rng.standard_exponential((80, 1)) - 1  # skewed, and alike by sqrt(0.5)
        values = np.sqrt(0.5) * shared + np.sqrt(0.5) * rng.normal(size=(80, 10))
        found = sign_flips([own(column) for column in values.T], draws=999)
        wrong += found.adjusted.min() <= 0.05
    print(f"\nfamilies of ten with a false claim: {wrong / loops:.3f}")
    assert wrong / loops <= 0.07
