"""What the judge report may claim: preference, position, length, judge by judge."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from support.panels import panel
from understudy.evaluation.panel import Panel
from understudy.evaluation.reliability import report
from understudy.evaluation.statistics.bias import length
from understudy.evaluation.statistics.preference import preferences

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


@pytest.mark.slow
def test_a_judge_that_only_compresses_the_scale_is_not_said_to_prefer_anybody() -> None:
    rng = np.random.default_rng(0)
    levels = (12.0, 0.0, -6.0)
    proved = sum("proved" in claims(world(rng, compressed, levels)) for _ in range(20))
    assert proved <= 1


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


def test_where_longer_answers_are_better_length_is_an_association_and_no_bias() -> None:
    rng = np.random.default_rng(2)
    of = world(rng)
    of = replace(of, length=np.tanh((of.means.mean(1) - of.means.mean()) / 8))
    found = report(of, draws=20)["bias"]["length"]
    assert found["pooled"]["value"]["low"] > 0
    assert found["pooled"]["claim"] == "association"
    assert {one["claim"] for one in found["judges"].values()} == {"association"}


def test_a_planted_length_is_found_within_prompts_and_systems() -> None:
    rng = np.random.default_rng(10)
    of = world(rng, prompts=400)
    z = np.tanh(rng.normal(size=len(of.system)))
    scores = of.scores + np.array([0.0, 2.0, 4.0])[:, None] * z[:, None, None]
    found = length(replace(of, scores=scores, length=z))
    for truth, one in zip(
        [2.0, 0.0, 2.0, 4.0], [found.pooled, *found.judges.values()], strict=True
    ):
        assert one.value.low is not None
        assert one.value.low < truth < one.value.high
        assert one.value.high - one.value.low < 3
    assert length(of).pooled.because == "the lengths are unknown"


def planted(rng: Any, own: float = 4.0, taught: float = 3.0, prompts: int = 100) -> Panel:
    """The world above with a preference of each judge, in points of its own scale."""
    of = world(rng, compressed, prompts=prompts)
    families = np.array(SYSTEMS)[of.system][:, None]
    shift = own * (families == np.array(JUDGES))
    shift = shift + taught * ((families == "meta") & (np.array(JUDGES) == "google"))
    return replace(of, scores=of.scores + shift[:, :, None])


PLANTED = {("self_family", "openai"): 4.0, ("self_family", "anthropic"): 4.0}
PLANTED |= {("teacher_family", "google"): 3.0}


def test_a_planted_preference_is_found_judge_by_judge_and_proved() -> None:
    found = preferences(planted(np.random.default_rng(3), prompts=600), TEACHERS)
    assert {(name, judge) for name in found for judge in found[name].judges} == set(PLANTED)
    for (name, judge), truth in PLANTED.items():
        value, claim, _ = found[name].judges[judge]
        assert value.low < truth < value.high
        assert value.high - value.low < 2.5
        assert claim == "proved"
    assert found["self_family"].pooled.value.mean == pytest.approx(4, abs=0.6)


def test_judges_that_prefer_and_shun_their_own_are_not_pooled_in_silence() -> None:
    of = planted(np.random.default_rng(4), taught=0.0, prompts=300)
    shunned = (np.array(SYSTEMS)[of.system] == "anthropic")[:, None] & (
        np.array(JUDGES) == "anthropic"
    )
    found = preferences(replace(of, scores=of.scores - 8 * shunned[:, :, None]), TEACHERS)
    pooled = found["self_family"].pooled
    assert pooled.claim == "not proved"
    assert pooled.because is not None
    assert pooled.because.startswith("judges differ: from -")


def test_two_judges_cannot_tell_a_scale_from_a_preference() -> None:
    of = planted(np.random.default_rng(5)).of(["openai", "google"])
    found = preferences(of, TEACHERS)["self_family"]
    assert found.pooled.claim == "not identified"
    reason = "a scale and a preference cannot be told apart by 2 judges"
    assert found.judges["openai"].because == found.pooled.because == reason


def test_where_every_system_is_related_to_the_judge_nothing_is_told() -> None:
    of = planted(np.random.default_rng(6))
    keep = of.system != 2
    arrays = ("scores", "system", "prompt", "cluster", "length", "truth")
    of = replace(
        of, **{name: getattr(of, name)[keep] for name in arrays}, systems=list(SYSTEMS[:2]),
        system_families=list(SYSTEMS[:2]),
    )  # fmt: skip
    found = preferences(of, {"meta": "openai"})
    reason = "no system is left that none of the judges compared is related to"
    assert found["self_family"].judges["openai"].because == reason
    assert found["teacher_family"].judges["openai"].because == reason


def test_judges_that_agree_on_nothing_correct_nobodys_scale() -> None:
    rng = np.random.default_rng(7)
    of = world(rng)
    found = preferences(replace(of, scores=rng.permuted(of.scores, axis=0)), TEACHERS)
    said = found["self_family"].judges["openai"].because
    assert said == "the other judges do not agree on what is good"


BENT: dict[str, Any] = {
    "half": compressed,
    "concave": lambda q, j: 10 * np.sqrt(np.clip(q, 0, 100)) if j == "openai" else q,
    "saturating": lambda q, j: 100 - 40 * np.exp(-(q - 60) / 15) if j == "openai" else q,
    "ceiling": lambda q, j: np.minimum(q, 85) if j == "anthropic" else q,
    "heaped": lambda q, j: 5 * np.rint(np.clip(q, 0, 95) / 5) if j == "google" else q,
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "levels",
    [pytest.param((5.0, 0.0, 2.0), marks=pytest.mark.soak), (12.0, 0.0, -6.0)],
    ids=str,
)
@pytest.mark.parametrize("name", BENT)
def test_a_bent_scale_is_called_a_preference_in_7_of_100_panels(name: str, levels: Any) -> None:
    rng, panels = np.random.default_rng(8), 500
    proved = 0
    for _ in range(panels):
        found = preferences(world(rng, BENT[name], levels), TEACHERS).values()
        proved += any(
            one.claim == "proved" for e in found for one in (e.pooled, *e.judges.values())
        )
    print(name, levels, proved / panels)
    assert proved / panels <= 0.07


@pytest.mark.slow
def test_planted_preferences_are_inside_their_intervals_in_93_of_100_panels() -> None:
    rng, panels = np.random.default_rng(9), 500
    told, hits, proved = (dict.fromkeys(PLANTED, 0) for _ in range(3))
    for _ in range(panels):
        found = preferences(planted(rng), TEACHERS)
        for name, judge in PLANTED:
            value, claim, _ = found[name].judges[judge]
            if value.low is not None and value.high is not None:
                told[name, judge] += 1
                hits[name, judge] += value.low <= PLANTED[name, judge] <= value.high
                proved[name, judge] += claim == "proved"
    for one in PLANTED:
        print(one, told[one], hits[one] / told[one], proved[one] / panels)
        assert told[one] / panels >= 0.99
        assert hits[one] / told[one] >= 0.93
        assert proved[one] / panels >= 0.95
