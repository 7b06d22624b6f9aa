"""Agreement coefficients against published examples, definitions, and GPL libraries if present.

`krippendorff` and `pingouin` are GPL and no dependency: where they are not installed, the two tests
that name them skip, and the worked examples and the definitions remain.
"""

import itertools
import warnings
from typing import Any

import numpy as np
import pytest
from scipy import stats

from support.panels import panel
from understudy.evaluation.statistics import jackknife
from understudy.evaluation.statistics.agreement import (
    bland_altman,
    icc,
    krippendorff_alpha,
    lin_ccc,
)
from understudy.evaluation.statistics.intervals import cluster_draws
from understudy.evaluation.statistics.ranking import effective_judges

N = np.nan
# Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability", section E: coders x units.
KRIPPENDORFF = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, N, N, N],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, N, 3],
        [N, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, N],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, N],
    ]
).T
# Shrout and Fleiss 1979, table 2: targets x judges.
SHROUT_FLEISS = np.array(
    [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], float
)


def own(scores: Any) -> Any:
    return np.arange(len(scores))


def judged(seed: int, missing: float = 0.1, items: int = 60) -> Any:
    rng = np.random.default_rng(seed)
    true = 100 - rng.gamma(1, 15, size=(items, 1))
    scores = np.rint(
        np.clip(true + np.array([5, 0, -8]) + rng.normal(0, 6, size=(items, 3)), 0, 100)
    )
    return np.where(rng.random(scores.shape) < missing, np.nan, scores)


def alpha_by_definition(scores: Any, distance: Any) -> float:
    """1 - D_o / D_e over all pairs of scores within units, and over all pairs of scores."""
    units = [unit[~np.isnan(unit)] for unit in scores]
    units = [unit for unit in units if len(unit) > 1]
    values = np.concatenate(units)
    observed = sum(
        sum(distance(a, b) for a, b in itertools.permutations(unit, 2)) / (len(unit) - 1)
        for unit in units
    ) / len(values)
    pairs = itertools.permutations(values, 2)
    expected = sum(distance(a, b) for a, b in pairs) / (len(values) * (len(values) - 1))
    return float(1 - observed / expected)


@pytest.mark.parametrize(("level", "published"), [("interval", 0.849), ("ordinal", 0.815)])
def test_alpha_of_krippendorffs_own_example(level: Any, published: float) -> None:
    found = krippendorff_alpha(KRIPPENDORFF, own(KRIPPENDORFF), level).mean
    assert found == pytest.approx(published, abs=5e-4)


@pytest.mark.parametrize("seed", range(3))
def test_alpha_equals_its_definition_with_missing_scores(seed: int) -> None:
    scores = judged(seed, missing=0.3, items=30)
    expected = alpha_by_definition(scores, lambda a, b: (a - b) ** 2)
    assert krippendorff_alpha(scores, own(scores)).mean == pytest.approx(expected, abs=1e-9)
    paired = scores[(~np.isnan(scores)).sum(1) > 1]
    count = dict(zip(*np.unique(paired[~np.isnan(paired)], return_counts=True), strict=True))

    def ordinal(a: float, b: float) -> float:
        between = [n for value, n in count.items() if min(a, b) <= value <= max(a, b)]
        return float((sum(between) - (count[a] + count[b]) / 2) ** 2)

    found = krippendorff_alpha(scores, own(scores), "ordinal").mean
    assert found == pytest.approx(alpha_by_definition(scores, ordinal), abs=1e-9)


@pytest.mark.parametrize("level", ["interval", "ordinal"])
def test_alpha_equals_the_krippendorff_library(level: Any) -> None:
    library = pytest.importorskip("krippendorff", reason="GPL, an oracle of tests only")
    for scores in (KRIPPENDORFF, judged(0), judged(1)):
        expected = library.alpha(reliability_data=scores.T, level_of_measurement=level)
        found = krippendorff_alpha(scores, own(scores), level).mean
        assert found == pytest.approx(expected, abs=1e-9)


def test_icc_of_shrout_and_fleiss() -> None:
    found = icc(SHROUT_FLEISS, own(SHROUT_FLEISS))
    assert found.a1.mean == pytest.approx(0.29, abs=5e-3)
    assert found.c1.mean == pytest.approx(0.71, abs=5e-3)
    assert found.ak.mean == pytest.approx(0.62, abs=5e-3)


def test_icc_equals_the_mean_squares_of_statsmodels() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        api = pytest.importorskip("statsmodels.formula.api")
        anova = pytest.importorskip("statsmodels.stats.anova")
        pandas = pytest.importorskip("pandas")
        scores = judged(2, missing=0)
        rows, columns = (codes.ravel() for codes in np.indices(scores.shape))
        frame = pandas.DataFrame({"s": scores.ravel(), "r": rows, "c": columns})
        table = anova.anova_lm(api.ols("s ~ C(r) + C(c)", frame).fit())
    mean_squares = table["sum_sq"] / table["df"]
    r, c, e = (mean_squares[name] for name in ("C(r)", "C(c)", "Residual"))
    n, k = scores.shape
    found = icc(scores, own(scores))
    assert found.a1.mean == pytest.approx((r - e) / (r + (k - 1) * e + k * (c - e) / n), abs=1e-9)
    assert found.ak.mean == pytest.approx((r - e) / (r + (c - e) / n), abs=1e-9)
    assert found.c1.mean == pytest.approx((r - e) / (r + (k - 1) * e), abs=1e-9)


@pytest.mark.slow
def test_icc_equals_pingouin() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pingouin = pytest.importorskip("pingouin", reason="GPL, an oracle of tests only")
        pandas = pytest.importorskip("pandas")
        for scores in (SHROUT_FLEISS, judged(2, missing=0)):
            rows, columns = (codes.ravel() for codes in np.indices(scores.shape))
            frame = pandas.DataFrame({"s": scores.ravel(), "r": rows, "c": columns})
            table = pingouin.intraclass_corr(frame, targets="r", raters="c", ratings="s")
            known = dict(zip(table["Type"], table["ICC"], strict=True))
            found = icc(scores, own(scores))
            for ours, names in (
                (found.a1, ("ICC2", "ICC(A,1)")),
                (found.ak, ("ICC2k", "ICC(A,k)")),
                (found.c1, ("ICC3", "ICC(C,1)")),
            ):
                expected = next(known[name] for name in names if name in known)
                assert ours.mean == pytest.approx(expected, abs=1e-9)


def test_lins_ccc_is_its_formula_and_counts_leniency() -> None:
    x, y = judged(3, missing=0)[:, :2].T
    covariance = np.cov(x, y, ddof=0)
    expected = 2 * covariance[0, 1] / (np.trace(covariance) + (x.mean() - y.mean()) ** 2)
    assert lin_ccc(x, y, own(x)).mean == pytest.approx(expected, abs=1e-9)
    assert lin_ccc(x, x, own(x)).mean == pytest.approx(1)
    shifted = lin_ccc(x, x + 20, own(x)).mean
    assert shifted is not None
    assert shifted < 0.9


def test_bland_altman_says_bias_limits_and_slope() -> None:
    x, y = judged(4, missing=0)[:, :2].T
    found = bland_altman(x, y, own(x))
    difference = x - y
    assert found.bias.mean == pytest.approx(difference.mean(), abs=1e-9)
    assert found.sd == pytest.approx(difference.std(ddof=1), abs=1e-9)
    assert found.upper == pytest.approx(difference.mean() + 1.96 * difference.std(ddof=1))
    expected = stats.linregress((x + y) / 2, difference).slope
    assert found.slope == pytest.approx(expected, abs=1e-9)
    assert bland_altman(x, x * N, own(x)).sd is None


def test_perfect_agreement_is_one_and_scores_without_variance_have_no_coefficient() -> None:
    same = np.repeat(np.arange(20.0)[:, None], 3, axis=1)
    assert krippendorff_alpha(same, own(same)).mean == pytest.approx(1)
    assert icc(same, own(same)).a1.mean == pytest.approx(1)
    flat = np.full((20, 3), 90.0)
    assert krippendorff_alpha(flat, own(flat)).mean is None
    assert icc(flat, own(flat)).a1.mean is None
    assert krippendorff_alpha(np.full((5, 2), N), np.arange(5)).mean is None


def test_intervals_resample_whole_clusters() -> None:
    scores = judged(5, missing=0, items=40)
    once = krippendorff_alpha(scores, own(scores))
    often = krippendorff_alpha(np.repeat(scores, 5, axis=0), np.repeat(own(scores), 5))
    assert once.low is not None
    assert once.high is not None
    assert once.low < (once.mean or 0) < once.high
    assert often.low == pytest.approx(once.low, abs=0.01)
    assert often.high == pytest.approx(once.high, abs=0.01)


def test_a_draw_is_the_coefficient_of_the_drawn_items_and_the_widest_limit_is_told() -> None:
    scores = judged(6, missing=0, items=12)
    found = krippendorff_alpha(scores, own(scores), draws=99)

    def alphas(many: list[Any]) -> Any:
        return np.array([krippendorff_alpha(one, own(one), draws=2).mean for one in many], float)

    counts = cluster_draws(12, 99, 0).astype(int)
    drawn = alphas([np.repeat(scores, count, axis=0) for count in counts])
    left_out = alphas([np.delete(scores, item, axis=0) for item in range(12)])
    ends = [np.quantile(drawn, [0.025, 0.975])]
    for bent, back in ((np.array, np.array), (np.arctanh, np.tanh)):
        values = bent(left_out)
        reach = stats.t.ppf(0.975, 11) * np.sqrt(11 / 12 * ((values - values.mean()) ** 2).sum())
        ends.append(back(bent(found.mean) + np.array([-reach, reach])))
    lows, highs = zip(*ends, strict=True)
    assert found.low == pytest.approx(min(lows), abs=1e-9)
    assert found.high == pytest.approx(min(max(highs), 1.0), abs=1e-9)
    assert found.form == jackknife.WIDEST_FORM


def panels(kind: str, items: int, rng: Any) -> Any:
    """(items, 3): scores of three judges, of whom the second is lenient and the third strict."""
    noise = rng.standard_normal((items, 3))
    if kind == "gaussian":
        return 70 + 15 * rng.standard_normal((items, 1)) + [0, 4, -6] + 10 * noise
    if kind == "weak":
        return 70 + 6 * rng.standard_normal((items, 1)) + [0, 4, -6] + 12 * noise
    if kind == "0/100":
        right = rng.random((items, 1)) < 0.7
        return 100.0 * (right ^ (rng.random((items, 3)) < [0.1, 0.15, 0.2]))
    true = 100 - rng.gamma(1, 15, (items, 1))  # most answers at the ceiling
    return np.rint(np.clip(true + [0, 4, -6] + 6 * noise, 0, 100))


COEFFICIENTS: dict[str, Any] = {
    "alpha": lambda s, draws: krippendorff_alpha(s, own(s), draws=draws),
    "ordinal": lambda s, draws: krippendorff_alpha(s, own(s), "ordinal", draws),
    "icc": lambda s, draws: icc(s, own(s), draws).a1,
    "ccc": lambda s, draws: lin_ccc(s[:, 0], s[:, 1], own(s), draws),
    "judges": lambda s, draws: effective_judges(panel(s, systems=("a",)), draws).value,
}


def covers(kind: str, name: str, items: int, loops: int) -> float:
    """How often an interval, where there is one, holds what 20,000 items have.

    Where draws of few 0/100 scores leave a judge without variance, there is none.
    """
    rng = np.random.default_rng((items, len(kind), len(name)))
    truth = COEFFICIENTS[name](panels(kind, 20_000, rng), 2).mean
    found = [COEFFICIENTS[name](panels(kind, items, rng), 400) for _ in range(loops)]
    told = [one for one in found if one.low is not None]
    assert len(told) > loops / 2
    return sum(one.low <= truth <= one.high for one in told) / len(told)


def test_twenty_items_cover_an_alpha_of_skewed_scores() -> None:
    assert covers("ceiling", "alpha", 20, 200) >= 0.88  # .78 by percentiles alone


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gaussian", "weak", "0/100", "ceiling"])
@pytest.mark.parametrize("name", COEFFICIENTS)
@pytest.mark.parametrize("items", [16, 25])
def test_few_items_cover_what_many_have(kind: str, name: str, items: int) -> None:
    assert covers(kind, name, items, 500) >= 0.93 - 2 * np.sqrt(0.93 * 0.07 / 500)
