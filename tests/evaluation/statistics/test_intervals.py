"""Intervals against formulas, scipy and statsmodels, and their coverage in simulation."""

import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import special, stats

from understudy.evaluation.decision import SCALE
from understudy.evaluation.statistics import intervals
from understudy.evaluation.statistics.intervals import (
    BOOTSTRAP_FORM,
    T_FORM,
    Interval,
    cluster_mean,
    cluster_rate,
    ratio_of_means,
)

VALUES = st.lists(st.floats(0, 100), min_size=2, max_size=9)


@settings(deadline=None)
@given(VALUES)
def test_clusters_of_one_give_the_ordinary_t_interval(values: list[float]) -> None:
    found = cluster_mean(values, [str(i) for i in range(len(values))])
    error = np.std(values, ddof=1) / np.sqrt(len(values))
    margin = stats.t.ppf(0.975, len(values) - 1) * error
    mean = np.mean(values)
    assert found[:3] == pytest.approx((mean, mean - margin, mean + margin), abs=1e-6)


@settings(deadline=None)
@given(VALUES, st.integers(2, 5))
def test_repeating_every_prompt_within_its_cluster_adds_no_certainty(
    values: list[float], times: int
) -> None:
    groups = [str(i) for i in range(len(values))]
    once = cluster_mean(values, groups)
    assert cluster_mean(values * times, groups * times)[:4] == pytest.approx(once[:4], abs=1e-6)


def test_the_cluster_interval_is_the_formula_worked_by_hand() -> None:
    # Residuals -30, 10, 10, 10; cluster sums -20 and 20; SE = sqrt(800) / 4 * sqrt(2) = 10.
    found = cluster_mean([50, 90, 90, 90], ["a", "a", "b", "b"])
    margin = 12.706204736432095 * 10  # t with one degree of freedom
    assert found[:3] == pytest.approx((80, 80 - margin, 80 + margin))


def test_an_interval_that_the_data_cannot_give_is_missing() -> None:
    assert cluster_mean([], []) == Interval(None, None, None)
    assert cluster_mean([3.0, 5.0], ["a", "a"]) == Interval(4.0, None, None, clusters=1)
    assert ratio_of_means([], [], []) == Interval(None, None, None)
    assert ratio_of_means([5.0], [0.0], ["a"]) == Interval(None, None, None)
    assert ratio_of_means([5.0], [10.0], ["a"]) == Interval(50.0, None, None, clusters=1)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.floats(1, 100), min_size=2, max_size=20), st.integers(0, 9))
@example([1.0, 1, 1, 1, 21, 40, 42, 100, 66, 100, 87, 100, 86, 100, 1, 2, 1, 5, 62, 100], 0)
def test_a_local_model_always_at_nine_tenths_has_a_p_match_of_90_within_its_limits(
    service_scores: list[float], seed: int
) -> None:
    local = [0.9 * score for score in service_scores]
    groups = [str(i // 2) for i in range(len(local))]
    found = ratio_of_means(local, service_scores, groups, seed)
    assert found.mean is not None
    assert found.mean == pytest.approx(90)
    if len(set(groups)) > 1:
        assert found.low is not None
        assert found.high is not None
        assert found.low <= found.mean <= found.high


def test_equal_ratios_are_sharp_only_as_far_as_there_are_prompts() -> None:
    # Perfect answers of both sides: failures in r^n = .025 of the samples are not seen.
    for prompts in (50, 400):
        found = ratio_of_means([100.0] * prompts, [100.0] * prompts, np.arange(prompts))
        assert found.mean == 100
        assert found.low == pytest.approx(100 * 0.025 ** (1 / prompts), abs=0.5)


def test_a_share_of_groups_of_which_one_failed_is_wider_than_its_error_says() -> None:
    passed = [group > 0 for group in range(20) for _ in range(10)]
    found = cluster_rate(passed, np.repeat(np.arange(20), 10))
    # One of 20 that fail wholly: Clopper and Pearson's lower limit for 19 of 20.
    assert found.low == pytest.approx(stats.beta.ppf(0.025, 19, 2), abs=0.01)


@pytest.mark.slow
def test_the_p_match_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(7)
    groups = [str(i // 2) for i in range(80)]
    covered = 0
    for draw in range(200):
        shared = np.repeat(rng.normal(0, 8, 40), 2)
        theirs = 80 + shared + rng.normal(0, 5, 80)
        ours = 72 + shared + rng.normal(0, 5, 80)
        found = ratio_of_means(list(ours), list(theirs), groups, draw)
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= 90 <= found.high
    assert 0.89 <= covered / 200 <= 0.99


def test_the_same_seed_gives_the_same_p_match_interval() -> None:
    theirs = [60.0 + n for n in range(30)]
    ours = [score - 3 * (n % 7) for n, score in enumerate(theirs)]
    groups = [str(n) for n in range(30)]
    first, again, other = (ratio_of_means(ours, theirs, groups, seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other
    assert first.mean == other.mean


@pytest.mark.parametrize("passed", [[True] * 20, [False] * 20])
def test_a_rate_of_none_or_all_still_has_a_width(passed: list[bool]) -> None:
    interval = cluster_rate(passed, [str(i) for i in range(20)])
    # Clopper-Pearson at 0 of 20: upper limit 1 - 0.025 ** (1 / 20)
    width = 1 - 0.025 ** (1 / 20)
    assert interval.mean in (0, 1)
    assert interval.high is not None
    assert interval.low is not None
    assert interval.high - interval.low == pytest.approx(width)


def test_a_rate_over_independent_rows_is_clopper_pearson() -> None:
    passed = [i < 13 for i in range(40)]
    exact = stats.binomtest(13, 40).proportion_ci(method="exact")
    interval = cluster_rate(passed, [str(i) for i in range(40)])
    assert interval.low == pytest.approx(exact.low, abs=0.01)
    assert interval.high == pytest.approx(exact.high, abs=0.01)


def test_repeats_of_the_same_prompt_do_not_narrow_a_rate() -> None:
    passed = [i < 13 for i in range(40)]
    groups = [str(i) for i in range(40)]
    once, often = cluster_rate(passed, groups), cluster_rate(passed * 4, groups * 4)
    assert often.low == pytest.approx(once.low)
    assert often.high == pytest.approx(once.high)


def test_the_form_follows_the_number_of_clusters_and_is_stated() -> None:
    rng = np.random.default_rng(0)
    for clusters, form in (
        (9, T_FORM),
        (10, BOOTSTRAP_FORM),
        (999, BOOTSTRAP_FORM),
        (1000, T_FORM),
    ):
        found = cluster_mean(rng.normal(size=clusters), np.arange(clusters))
        assert (found.clusters, found.form) == (clusters, form)


def test_a_bootstrap_limit_is_at_least_as_wide_as_t_and_wider_towards_the_long_tail() -> None:
    rng = np.random.default_rng(1)
    scores = 100 - rng.gamma(0.5, 15, size=40)
    found = cluster_mean(scores, np.arange(40))
    t = stats.ttest_1samp(scores, 0).confidence_interval()
    assert found.low is not None
    assert found.high is not None
    assert found.low < t.low - 0.2
    assert found.high == pytest.approx(t.high)


def test_a_decision_moves_the_bootstraps_limit_on_the_side_of_a_long_tail_by_halls_term() -> None:
    plain, rng = SCALE._replace(excess=0.0), np.random.default_rng(6)
    skewed = 5 - 15 * rng.standard_exponential((1, 80))
    ones = np.ones((1, 80))
    moved, upper, _ = intervals.limits(skewed, ones, 0.05, scale=SCALE)
    bare, same, _ = intervals.limits(skewed, ones, 0.05, scale=plain)
    z, error = stats.norm.ppf(0.95), stats.sem(skewed[0])
    term = z * (1 + 2 * z**2) / 6 * stats.skew(skewed[0]) ** 2 / 80
    assert bare - moved == pytest.approx(term * error)
    assert upper == same
    assert intervals.limits(-skewed, ones, 0.05, scale=SCALE)[1] == pytest.approx(-moved)


@pytest.mark.parametrize("failed", [1, 2, 3, 4])
def test_a_few_failures_widen_the_limit_and_do_not_blow_it_up(failed: int) -> None:
    noise = np.random.default_rng(0).normal(0, 0.3, 64)
    values = np.where(np.arange(64) < failed, 30.0, 99.5) + noise
    found = cluster_mean(values, np.arange(64))
    assert found.error is not None
    t_low = found.mean - stats.t.ppf(0.975, 63) * found.error
    assert found.mean - 6 * found.error < found.low <= t_low


def test_too_little_variety_for_a_draw_leaves_t() -> None:
    found = cluster_mean([100.0] * 24 + [0.0], np.arange(25))
    assert found.form == T_FORM
    assert cluster_mean([100.0] * 25, np.arange(25))[:4] == (100, 100, 100, 0)


def clustered(seed: int) -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, 37, size=180)
    shared = rng.normal(0, 8, size=37)[groups]
    a, b = (80 + shared + rng.normal(0, 6, size=180) for _ in range(2))
    return a, b, groups


def sandwich(y: Any, x: Any, groups: Any) -> float:
    """statsmodels' cluster SE without its correction, times the small-sample factor of ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        api = pytest.importorskip("statsmodels.api")
    options = {"groups": groups, "use_correction": False}
    error = api.OLS(y, x).fit(cov_type="cluster", cov_kwds=options).bse[0]
    clusters = len(np.unique(groups))
    return float(error * np.sqrt(clusters / (clusters - 1)))


@pytest.mark.parametrize("seed", range(3))
def test_the_errors_of_a_mean_and_a_difference_equal_statsmodels(seed: int) -> None:
    a, b, groups = clustered(seed)
    one = np.ones(len(a))
    assert cluster_mean(a, groups).error == pytest.approx(sandwich(a, one, groups), abs=1e-9)
    difference = cluster_mean(a - b, groups)
    assert difference.error == pytest.approx(sandwich(a - b, one, groups), abs=1e-9)
    assert difference.mean == pytest.approx((a - b).mean(), abs=1e-9)


def test_the_error_of_p_match_is_the_delta_method() -> None:
    a, b, groups = clustered(3)
    found = ratio_of_means(a, b, groups)
    ratio = a.sum() / b.sum()
    expected = 100 * sandwich(a - ratio * b, np.ones(len(a)), groups) / b.mean()
    # The residuals have mean zero, so statsmodels' intercept is zero and its SE is theirs.
    assert found.error == pytest.approx(expected, abs=1e-9)


def test_a_paired_difference_of_single_prompts_is_scipys_paired_t() -> None:
    rng = np.random.default_rng(4)
    a, b = rng.normal(80, 9, size=(2, 8))
    found = cluster_mean(a - b, np.arange(8))
    expected = stats.ttest_rel(a, b).confidence_interval()
    assert found[1:3] == pytest.approx((expected.low, expected.high), abs=1e-9)


CLUSTERS, COVERED = (25, 100, 400), {25: (0.91, 0.99), 100: (0.93, 0.97), 400: (0.93, 0.97)}


def panels(rng: Any, loops: int, clusters: int, shared: Any) -> Any:
    """Prompt means and answer means of skewed scores: two prompts a cluster, K = 4, M = 10.

    More than half of the scores are 95 to 100, the rest fall off to 0; clusters correlate 0.3.
    """
    latent = np.sqrt(0.3) * rng.normal(size=(loops, clusters, 1)) + np.sqrt(0.7) * shared
    rank = special.ndtr(latent)[..., None]
    low, high = 97 * (rank / 0.4) ** 0.35, 97 + 5 * (rank - 0.4)
    answers = np.where(rank < 0.4, low, high) + rng.normal(0, 2, size=(*latent.shape, 4))
    total = np.zeros_like(answers)
    for _ in range(10):
        total += np.rint(np.clip(answers + rng.normal(0, 2, size=answers.shape), 0, 100))
    return total / 10  # (loops, G, prompts, K)


@pytest.mark.slow
@pytest.mark.parametrize(
    "clusters", [pytest.param(25, marks=pytest.mark.soak), *(n for n in CLUSTERS if n > 25)]
)
def test_intervals_cover_the_truth_as_often_as_they_say_on_scores_at_the_ceiling(
    clusters: int,
) -> None:
    rng = np.random.default_rng(clusters)

    def draw(loops: int, clusters: int) -> tuple[Any, Any]:
        """Service and local scores of the same prompts; the local rank is a noisy copy."""
        shared = rng.normal(size=(loops, clusters, 2))
        local = 0.7 * shared + np.sqrt(1 - 0.49) * rng.normal(size=shared.shape)
        return panels(rng, loops, clusters, shared), panels(rng, loops, clusters, local)

    truth, _ = zip(*(draw(50, 1000) for _ in range(8)), strict=True)
    scores = np.concatenate(truth)
    assert (scores >= 95).mean() > 0.5
    mean, share = scores.mean(), (scores >= 70).mean()
    hits = {"mean": 0, "coverage@70": 0, "P-Match": 0}
    loops, chunk = 4000, 40_000 // clusters
    for _ in range(loops // chunk):
        theirs, ours = draw(chunk, clusters)
        size = np.full((chunk, clusters), 2.0)
        low, high, _ = intervals.limits(theirs.mean(-1).sum(-1), size, 0.025)
        hits["mean"] += ((low <= mean) & (mean <= high)).sum()
        low, high, _ = intervals.limits(ours.sum((2, 3)), theirs.sum((2, 3)), 0.025)
        hits["P-Match"] += ((low <= 1) & (high >= 1)).sum()
        groups = np.repeat(np.arange(clusters), 8)
        for one in theirs[: chunk // 2]:  # one by one, as a stage does
            found = cluster_rate((one >= 70).ravel(), groups)
            hits["coverage@70"] += bool(found.low <= share <= found.high)
    loops = loops // chunk * chunk
    halves = {"mean": loops, "P-Match": loops, "coverage@70": loops // chunk * (chunk // 2)}
    covered = {name: hits[name] / halves[name] for name in hits}
    print(f"{clusters} clusters: {covered}")
    low, high = COVERED[clusters]
    assert all(low <= rate <= high for rate in covered.values()), covered


def test_a_share_over_few_clusters_is_wider_as_their_error_is_itself_uncertain() -> None:
    # 20 clusters of 10 of which each has one failure or three: n_eff is 19 * .16 / .01 or more.
    passed = [answer >= 1 + 2 * (cluster % 2) for cluster in range(20) for answer in range(10)]
    found = cluster_rate(passed, np.repeat(np.arange(20), 10))
    assert (found.mean, found.clusters) == (0.8, 20)
    assert found.error is not None
    assert found.low is not None
    size = min(200.0, 0.16 / found.error**2)
    shrunk = size * (stats.t.ppf(0.025, size - 1) / stats.t.ppf(0.025, 19)) ** 2
    bare, wide = (stats.beta.ppf(0.025, 0.8 * n, 0.2 * n + 1) for n in (size, shrunk))
    assert found.low == pytest.approx(wide)
    assert wide < bare
