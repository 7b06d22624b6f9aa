"""What the judge report may claim: preference, position, length, judge by judge."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from support.panels import panel
from understudy.evaluation.panel import Panel
from understudy.evaluation.reliability import report

JUDGES, SYSTEMS = ["openai", "anthropic", "google"], ("openai", "meta", "anthropic")
TEACHERS = {"meta": "google"}
PREFERENCES = ("self_family", "teacher_family")


def world(
    rng: Any,
    use: Any = lambda quality, judge: quality,
    levels: tuple[float, ...] = (5.0, 0.0, 2.0),
    prompts: int = 100,
) -> Panel:
    """No judge prefers anybody: each sees an answer's quality through its own use of the scale."""
    count = 3 * prompts
    system, prompt = np.arange(count) % 3, np.arange(count) // 3
    quality = 75 + rng.normal(0, 8, prompts)[prompt] + np.array(levels)[system]
    quality += rng.normal(0, 3, count)
    noise = rng.normal(0, 4, (count, 3))
    columns = [use(quality + noise[:, number], judge) for number, judge in enumerate(JUDGES)]
    return panel(np.stack(columns, axis=1), JUDGES, per_cluster=6, systems=SYSTEMS)


def compressed(quality: Any, judge: str) -> Any:
    return 60 + 0.5 * (quality - 60) if judge == "google" else quality


def claims(of: Panel) -> set[str]:
    found = report(of, None, TEACHERS, draws=20)["bias"]
    return {
        one["claim"]
        for name in PREFERENCES
        for one in (found[name]["pooled"], *found[name]["judges"].values())
    }


@pytest.mark.xfail(strict=True, reason="family is confounded with quality under a bent scale")
def test_a_judge_that_only_compresses_the_scale_is_not_said_to_prefer_anybody() -> None:
    rng = np.random.default_rng(0)
    levels = (12.0, 0.0, -6.0)
    proved = sum("proved" in claims(world(rng, compressed, levels)) for _ in range(20))
    assert proved <= 4


@pytest.mark.xfail(strict=True, reason="position is pooled over judges")
def test_opposite_positions_of_two_judges_are_seen_beside_a_pooled_zero() -> None:
    rng = np.random.default_rng(1)
    first = world(rng)
    moved = first.scores + np.array([4.0, 0.0, -4.0])[:, None]
    swapped = replace(first, scores=moved + rng.normal(0, 1, moved.shape))
    found = report(first, swapped, draws=20)["bias"]["position"]
    assert found["pooled"]["value"]["mean"] == pytest.approx(0, abs=0.2)
    means = [one["value"]["mean"] for one in found["judges"].values()]
    assert means == pytest.approx([4, 0, -4], abs=0.3)
    assert "judges differ" in found["pooled"]["because"]


@pytest.mark.xfail(strict=True, reason="length is reported as bias")
def test_where_longer_answers_are_better_length_is_an_association_and_no_bias() -> None:
    rng = np.random.default_rng(2)
    of = world(rng)
    of = replace(of, length=np.tanh((of.means.mean(1) - of.means.mean()) / 8))
    found = report(of, draws=20)["bias"]["length"]
    assert found["pooled"]["value"]["low"] > 0
    assert found["pooled"]["claim"] == "association"
    assert {one["claim"] for one in found["judges"].values()} == {"association"}
