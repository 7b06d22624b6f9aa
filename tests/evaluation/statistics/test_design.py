"""The design calculator against worked numbers, statsmodels' normal power, and itself."""

import warnings
from typing import Any

import pytest

from understudy.evaluation.statistics.design import detectable, main, power_of, prompts_needed


def test_two_points_at_an_sd_of_15_need_442_prompts() -> None:
    assert prompts_needed(sd=15, distance=2) == 442


def test_clusters_that_double_the_variance_double_the_prompts() -> None:
    assert prompts_needed(sd=15, distance=2, design_effect=2) == 883


@pytest.mark.parametrize(("sides", "alternative"), [(1, "larger"), (2, "two-sided")])
def test_power_equals_statsmodels(sides: Any, alternative: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        power = pytest.importorskip("statsmodels.stats.power")
    expected = power.normal_power(5 / 20, 100, 0.05, alternative)
    assert power_of(20, 5, 100, sides=sides) == pytest.approx(expected, abs=1e-5)


def test_what_is_needed_and_what_is_detectable_agree() -> None:
    prompts = prompts_needed(sd=20, distance=5, power=0.9, sides=1)
    assert power_of(20, 5, prompts, sides=1) >= 0.9 > power_of(20, 5, prompts - 1, sides=1)
    assert detectable(20, prompts, power=0.9, sides=1) == pytest.approx(5, abs=0.02)


def test_the_calculator_answers_both_ways(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--sd", "15", "--distance", "2"])
    main(["--sd", "15", "--prompts", "442"])
    assert capsys.readouterr().out.splitlines() == [
        "442 prompts tell 2 points with power 0.8",
        "442 prompts tell 2.00 points with power 0.8",
    ]
