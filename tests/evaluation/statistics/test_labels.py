"""Estimates on the humans' scale: against oracles, and whether they hold what they promise."""

import math
from typing import Any

import numpy as np
import pytest

from support.label_worlds import JUDGES, PROMPTS, labelled
from understudy.evaluation import decision
from understudy.evaluation.statistics.agreement import correlation
from understudy.evaluation.statistics.isotonic import cross_fitted, curve, transport
from understudy.evaluation.statistics.misclassification import (
    confusion,
    pass_share,
    rogan_gladen,
)
from understudy.evaluation.statistics.prediction_powered import (
    powered,
    powered_interval,
    powered_limits,
)


def separate(rng: Any, n: int = 60, others: int = 240) -> tuple[Any, Any, Any]:
    """Judge, human and weight of one sample, the labelled prompts first."""
    human = rng.normal(70, 15, n + others)
    judge = 0.8 * human + 20 + rng.normal(0, 8, n + others)
    return judge, human, np.r_[np.ones(n), np.zeros(others)]


def test_estimate_tuning_and_error_are_those_of_the_paper() -> None:
    judge, human, weight = separate(np.random.default_rng(0))
    y, g, f = human[:60], judge[:60], judge[60:]
    lam = ((y - y.mean()) * (g - g.mean())).mean() / ((1 + 60 / 240) * judge.var(ddof=1))
    mean = lam * f.mean() + (y - lam * g).mean()
    error = math.sqrt((lam * f).var() / 240 + (y - lam * g).var() / 60)
    cluster = np.arange(300)
    tuned = powered(judge, human, weight, cluster, is_apart=True).tuning
    assert tuned == pytest.approx(lam, abs=1e-12)
    found = powered(judge[None], human[None], weight, cluster, tuning=lam, is_apart=True)
    assert found.mean[0] == pytest.approx(mean, abs=1e-9)
    got = powered_limits(found, weight, cluster, 0.025, 99).error[0]
    assert got * math.sqrt(299 / 300) == pytest.approx(error, abs=1e-9)
    # Of one sample whose labels are a part of it, the estimate is the same.
    whole = powered(judge, human, weight, cluster)
    assert whole.tuning == pytest.approx(lam * 300 / 240, abs=1e-9)
    as_one = powered(judge, human, weight, cluster, tuning=float(whole.tuning))
    assert as_one.mean == pytest.approx(mean, abs=1e-9)


def test_ppi_python_agrees() -> None:
    # No extra brings it: it installs a package named `tests`, which hides ours from processes.
    ppi = pytest.importorskip("ppi_py", reason="needs pip install --no-deps ppi-python==0.2.3")
    judge, human, weight = separate(np.random.default_rng(1))
    y, g, f = human[:60], judge[:60], judge[60:]
    cluster = np.arange(300)
    lam = float(powered(judge, human, weight, cluster, is_apart=True).tuning)
    found = powered(judge[None], human[None], weight, cluster, tuning=lam, is_apart=True)
    theirs = np.ravel(ppi.ppi_mean_pointestimate(y, g, f))[0]
    assert found.mean[0] == pytest.approx(theirs, abs=1e-6)
    low, high = (float(np.ravel(one)[0]) for one in ppi.ppi_mean_ci(y, g, f, alpha=0.05))
    error = powered_limits(found, weight, cluster, 0.025, 99).error[0] * math.sqrt(299 / 300)
    assert (high - low) / 2 == pytest.approx(1.959963984540054 * error, abs=1e-6)


def test_a_judge_that_says_nothing_leaves_the_humans_mean() -> None:
    rng = np.random.default_rng(2)
    human, weight = rng.normal(70, 15, 100), (rng.random(100) < 0.5).astype(float)
    found = powered(np.full(100, 80.0), human, weight, np.arange(100))
    assert found.tuning == 0
    assert found.mean == pytest.approx(human[weight > 0].mean())


def test_unequal_probabilities_and_clusters_are_allowed_for() -> None:
    rng = np.random.default_rng(3)
    held, means, samples = 0, [], 120
    cluster = np.repeat(np.arange(60), 4)
    for _ in range(samples):
        human = np.repeat(rng.normal(0, 10, 60), 4) + rng.normal(-3, 10, 240)
        judge = human + 5 + rng.normal(0, 8, 240)
        # Those that the judge doubts are chosen three times as often.
        chance = np.where(judge < 0, 0.6, 0.2)
        weight = np.where(rng.random(240) < chance, 1 / chance, 0.0)
        got = powered_interval(judge, human, weight, cluster, 0.025, draws=199)
        assert got.low is not None
        assert got.high is not None
        means.append(got.mean)
        held += got.low <= -3 <= got.high
    assert held / samples >= 0.88
    assert np.mean(means) == pytest.approx(-3, abs=0.6)


@pytest.mark.parametrize("judge", ["fair", "favours by 8", "compresses"])
def test_a_bias_of_the_judge_moves_no_decision(judge: str) -> None:
    rng, cluster = np.random.default_rng(4), np.arange(PROMPTS)
    shares = []
    for true in (-8.0, 0.0):
        said, human, weight = labelled(rng, "gaussian", JUDGES[judge], 50, 150, true)
        raw = said.mean(1) - 1.78 * said.std(1, ddof=1) / math.sqrt(PROMPTS)
        found = powered(said, human, weight, cluster)
        limits = powered_limits(found, weight, cluster, 0.0375, 199, decision.SCALE)
        shares.append(((limits.low > -5).mean(), (raw > -5).mean()))
    (wrong, raw_wrong), (right, _) = shares
    assert wrong <= 0.03
    assert right >= 0.8
    assert (raw_wrong > 0.9) == (judge != "fair")


def test_labels_without_a_failure_do_not_show_that_there_is_none() -> None:
    none = np.zeros(200)
    weight = np.r_[np.ones(50), np.zeros(150)]
    found = powered_interval(none, none, weight, np.arange(200), 0.0375, scale=decision.SCALE)
    assert found.low is not None
    # (1 - .0636)^50 = .0375: so many failures of 100 points would be seen once or more.
    assert found.low == pytest.approx(-6.36, abs=0.02)


def test_kappa_and_both_rates_are_those_of_the_table() -> None:
    # 40 both pass, 10 the judge alone, 5 the human alone, 45 both fail
    judge = np.repeat([True, True, False, False], [40, 10, 5, 45])
    human = np.repeat([True, False, True, False], [40, 10, 5, 45])
    found = confusion(judge, human, np.arange(100), 200)
    chance = 0.5 * 0.45 + 0.5 * 0.55
    assert found.kappa.mean == pytest.approx((0.85 - chance) / (1 - chance))
    assert (found.sensitivity.mean, found.specificity.mean) == (
        pytest.approx(40 / 45), pytest.approx(45 / 55),
    )  # fmt: skip
    assert found.base == 0.45


def test_rogan_and_gladen_with_the_errors_of_all_three_rates() -> None:
    rng = np.random.default_rng(5)
    held = naive = 0
    for _ in range(300):
        sides = []
        for rate in (0.7, 0.75):
            human = rng.random(400) < rate
            judge = np.where(human, rng.random(400) < 0.9, rng.random(400) < 0.4)
            known = np.where(rng.random(400) < 0.3, human.astype(float), np.nan)
            sides.append((judge, known))
        local, service = (pass_share(j, h, np.arange(400)) for j, h in sides)
        got = rogan_gladen(local, service, 0.025)
        assert got.low is not None
        assert got.high is not None
        held += got.low <= -5 <= got.high
        naive += abs(100 * (sides[0][0].mean() - sides[1][0].mean()) + 5) < 0.1
    assert held / 300 >= 0.93
    judge, human = np.array([True, True, False, False]), np.array([1.0, np.nan, 0.0, np.nan])
    one = pass_share(np.tile(judge, 30), np.tile(human, 30), np.arange(120))
    assert one is not None
    assert one.share == pytest.approx(0.5)
    # V_q .25/120, rates of 30 of 30: (31/32)(1/32)/30 each
    expected = 0.25 / 120 * 120 / 119 + 2 * 0.25 * (31 / 32) * (1 / 32) / 30
    assert one.error == pytest.approx(math.sqrt(expected), rel=1e-6)
    assert pass_share(~np.tile(judge, 30), np.tile(human, 30), np.arange(120)) is None


def test_curve_is_the_least_squares_monotone_one_and_keeps_the_mean() -> None:
    judge = np.array([1.0, 2, 2, 3, 4, 5])
    human = np.array([10.0, 40, 20, 20, 60, 50])
    fitted = curve(judge, human)
    # 30 (two at 2) and 20 are pooled to 26.67, 60 and 50 to 55.
    assert fitted.human == pytest.approx([10, 80 / 3, 80 / 3, 55, 55])
    assert fitted(judge).mean() == pytest.approx(human.mean())
    assert fitted(np.array([0.0, 9.0])) == pytest.approx([10, 55])


def test_a_cross_fitted_curve_is_never_told_its_own_label() -> None:
    rng = np.random.default_rng(6)
    judge, cluster = rng.uniform(0, 100, 80), np.arange(80)
    noise = rng.normal(0, 10, 80)
    human = np.where(np.arange(80) < 40, noise, np.nan)
    said = cross_fitted(judge, human, cluster)
    assert abs(correlation(said[:40], noise[:40], cluster[:40]).mean or 0.0) < 0.45
    own = curve(judge[:40], noise[:40])(judge[:40])
    assert (correlation(own, noise[:40], cluster[:40]).mean or 0.0) > 0.2


@pytest.mark.parametrize(("off", "holds"), [(0.0, True), (-12.0, False)])
def test_a_curve_is_refused_where_another_system_is_judged_otherwise(
    off: float, holds: bool
) -> None:
    rng = np.random.default_rng(7)
    human = rng.uniform(20, 100, 160)
    judge = 40 + 0.6 * human + rng.normal(0, 5, 160)
    human[80:] += off
    cluster = np.arange(80)
    found = transport(judge[:80], human[:80], cluster, judge[80:], human[80:], cluster)
    assert found.holds == holds
    assert found.within is not None
    assert found.within < abs(off) + 6
