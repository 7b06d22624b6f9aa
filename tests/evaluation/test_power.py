"""Power before money: what a holdout can exclude, and when it can never say MIGRATE."""

import math

import numpy as np
import pytest
from scipy import stats

from support.evaluations import config
from understudy.config import changed
from understudy.evaluation import looks, power
from understudy.evaluation.statistics import intervals

GATE = config().gate
SINGLE = [str(n) for n in range(200)]


def test_the_loss_is_the_margin_that_a_model_as_good_clears_with_power_80() -> None:
    found = power.of_holdout(SINGLE, GATE)
    assert found.loss is not None
    assert (found.prompts, found.clusters, found.objection) == (200, 200, None)
    level = looks.level(GATE.alpha, 1)
    rng = np.random.default_rng(0)
    means = rng.normal(0, 15, (4000, 200))
    error = means.std(-1, ddof=1) / math.sqrt(200)
    low = means.mean(-1) + stats.t.ppf(level, 199) * error
    assert (low > -found.loss).mean() == pytest.approx(0.8, abs=0.02)


def test_clusters_of_several_prompts_exclude_less() -> None:
    grouped = power.of_holdout([str(n // 10) for n in range(200)], GATE)
    single = power.of_holdout(SINGLE, GATE)
    assert grouped.loss is not None
    assert single.loss is not None
    # 1 + (10 - 1) / 2 of the variance, and a t with 19 degrees of freedom
    quantiles = [stats.t.ppf(0.9625, df) + stats.norm.ppf(0.8) for df in (19, 199)]
    ratio = math.sqrt(5.5) * quantiles[0] / quantiles[1]
    assert grouped.loss / single.loss == pytest.approx(ratio)


def test_the_design_effect_is_that_of_the_cluster_robust_error() -> None:
    rng = np.random.default_rng(1)
    sizes = [1, 2, 3, 30, 10, 4] * 20
    groups = [str(c) for c, size in enumerate(sizes) for _ in range(size)]
    shared = rng.normal(size=(500, len(sizes)))[:, [int(g) for g in groups]]
    values = 15 * (math.sqrt(0.5) * shared + math.sqrt(0.5) * rng.normal(size=shared.shape))
    error = float(np.mean([intervals.cluster_mean(one, groups).error for one in values]))
    loss = power.of_holdout(groups, GATE).loss
    wanted = power.smallest_loss(error, len(sizes), looks.level(GATE.alpha, 1))
    assert loss == pytest.approx(wanted, rel=0.1)


@pytest.mark.parametrize(
    ("groups", "why"),
    [
        ([], "the holdout is empty"),
        (SINGLE[:49], "49 prompts are below 50"),
        ([str(n % 19) for n in range(200)], "19 clusters are below 20"),
    ],
)
def test_a_run_that_can_never_say_migrate_is_warned_of(groups: list[str], why: str) -> None:
    of = changed(config(), {"gate.kind": "noninferiority", "baseline.kind": "service"})
    said = power.lines(of, groups)[-1]
    assert said == (
        f"warning: decide can never say MIGRATE here, because {why}: raise coverage.split.holdout"
    )
    enough = power.lines(of, SINGLE)
    assert len(enough) == 1
    assert "200 prompts in 200 clusters exclude a loss of 2.8 points with power 0.8" in enough[0]


def test_a_tail_that_few_clusters_cannot_show_is_warned_of() -> None:
    of = changed(config(), {"gate.kind": "noninferiority", "baseline.kind": "service"})
    of = changed(of, {"gate.tail": 3.0})
    # Without a single loss among n answers, 3 in 100 are excluded where .97^n < .0375.
    enough, few = (power.lines(of, [str(n) for n in range(size)]) for size in (108, 107))
    assert len(enough) == 1
    assert few[1].startswith("warning: gate.tail=3 needs 108 clusters")


def test_a_run_without_a_service_or_a_holdout_wants_no_decision() -> None:
    assert power.lines(config(), SINGLE) == []
    assert power.lines(changed(config(), {"baseline.kind": "service"}), []) == []
