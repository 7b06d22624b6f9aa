"""How judges use the scale, by hand and against the offline judges' planted biases."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from support import configs
from support.panels import bend, judged, panel, truths
from support.planted_bias import true_effect
from understudy.config import Bias, build
from understudy.config.compose import compose
from understudy.evaluation.panel import Panel
from understudy.evaluation.statistics.bias import against_panel
from understudy.evaluation.statistics.leniency import MULTIPLES_OF_5, ScaleUse, scale_use
from understudy.services.providers.offline import judge as offline_judge

N = np.nan


def one_of(scores: Any, **changed: Any) -> ScaleUse:
    return scale_use(panel(scores, **changed), draws=99)[0]


def test_leniency_is_relative_to_the_panel_on_the_answers_that_all_scored() -> None:
    found = scale_use(panel([[90, 80, 70], [60, 50, 40], [0, N, 100]]), draws=99)
    assert [one.leniency.mean for one in found] == [10, 0, -10]
    assert [one.unscored for one in found] == [0, 1, 0]
    assert found[0].mean.mean == 50


def test_heaping_counts_multiples_of_5_among_single_verdicts() -> None:
    found = one_of([[[85, 90, 91]], [[40, 42, N]]])
    assert found.heaping.mean == pytest.approx(3 / 5)
    assert found.heaping_index == pytest.approx((3 / 5 - MULTIPLES_OF_5) / (1 - MULTIPLES_OF_5))
    assert (found.verdicts, found.distinct) == (5, 5)


def test_the_ceiling_is_100_and_the_top_is_what_the_judge_ever_gives() -> None:
    found = one_of([[94.0], [94.0], [30.0], [50.0]])
    assert (found.ceiling.mean, found.top, found.at_top.mean) == (0, 94, 0.5)


def test_the_retest_sd_pools_what_varies_within_answers() -> None:
    found = one_of([[[70, 74]], [[90, 90]], [[10, N]]])
    assert found.retest_sd.mean == pytest.approx(np.sqrt((8 + 0) / 2))
    single = one_of([[70.0], [80.0]])
    assert single.retest_sd.mean is None
    assert single.retest_alpha.mean is None


def test_a_judge_who_scored_nothing_has_no_numbers() -> None:
    found = scale_use(panel([[N, 80.0], [N, 90.0]]), draws=99)[0]
    assert (found.verdicts, found.top, found.mean.mean, found.heaping_index) == (
        0,
        None,
        None,
        None,
    )
    assert (found.spread.mean, found.leniency.mean) == (None, None)


def offline_panel() -> dict[str, Bias]:
    judges = build(compose(["judge=offline_panel"], None)).judges
    return {name: service.bias or configs.bias() for name, service in judges.items()}


def test_the_vectorised_transform_is_the_offline_judges() -> None:
    rng = np.random.default_rng(0)
    scores, lengths, noises = 100 * rng.random(300), rng.normal(size=300), rng.normal(size=300)
    for bias in offline_panel().values():
        ours = bend(scores, lengths, noises, bias)
        cases = zip(scores, lengths, noises, strict=True)
        assert list(ours) == [offline_judge.bend(s, z, e, bias) for s, z, e in cases]


EFFECTS: dict[str, Callable[[ScaleUse, Any], Any]] = {
    "offset": lambda use, _: use.leniency,
    "compression": lambda use, _: use.spread,
    "compression against the panel": lambda _, against: against.level,
    "ceiling": lambda use, _: use.at_top,
    "length": lambda _, against: against.length,
    "noise": lambda use, _: use.retest_sd,
}


def effects(of: Panel, draws: int) -> dict[tuple[str, str], Any]:
    both = zip(scale_use(of, draws), against_panel(of), strict=True)
    return {
        (use.judge, name): effect(use, against)
        for use, against in both
        for name, effect in EFFECTS.items()
    }


@pytest.mark.slow
def test_every_planted_bias_is_inside_its_interval_in_93_of_100_panels() -> None:
    """The estimand is the value of the same quantity on 400,000 answers: the transform's own."""
    planted, rng = offline_panel(), np.random.default_rng(3)
    names, biases = list(planted), list(planted.values())

    def draw(clusters: int) -> Panel:
        quality, length = truths(rng, clusters)
        scores = judged(rng, quality, length, biases)
        return panel(scores, names, per_cluster=4, length=np.tanh(length))

    clusters = 10_000
    parts = [effects(draw(clusters), draws=2) for _ in range(10)]
    truth = {key: np.mean([part[key].mean for part in parts]) for key in parts[0]}
    # The planted offset as the judge's own module states it, by Monte Carlo over its noise.
    quality, length = truths(rng, 500)
    shift = {n: true_effect(b, quality, length, 20).shift for n, b in planted.items()}
    for name in names:
        expected = shift[name] - np.mean(list(shift.values()))
        assert truth[name, "offset"] == pytest.approx(expected, abs=0.5)

    panels, hits = 500, dict.fromkeys(truth, 0)
    for _ in range(panels):
        for key, found in effects(draw(200), draws=999).items():
            hits[key] += bool(found.low <= truth[key] <= found.high)
    print()
    for (judge, effect), count in hits.items():
        said = f"{judge:<16} {effect:<30} {truth[judge, effect]:8.3f}"
        print(f"{said}  inside its interval {count / panels:.3f}")
    assert all(count / panels >= 0.93 for count in hits.values())
