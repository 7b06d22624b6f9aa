"""The bias model finds what was planted, and says nothing where the panel cannot tell.

Its absorbed least squares equals statsmodels with every dummy written out, errors included.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from statsmodels.regression.linear_model import OLS

from support.panels import panel
from understudy.evaluation.panel import Panel
from understudy.evaluation.statistics.bias import against_panel, bias_model, fit, missing, shifts

N = np.nan
JUDGES, SYSTEMS = ["openai", "anthropic", "google"], ("openai", "meta", "anthropic")


def planted(
    rng: Any,
    self_family: float = 4.0,
    teacher: float = 3.0,
    length: float = 2.0,
    prompts: int = 100,
) -> Panel:
    """Systems, judges and prompts add up; meta was taught by google."""
    count = 3 * prompts
    system, prompt = np.arange(count) % 3, np.arange(count) // 3
    z = np.tanh(rng.normal(size=count))
    score = 75 + rng.normal(0, 8, prompts)[prompt] + np.array([5.0, 0.0, 2.0])[system] + length * z
    scores = score[:, None] + np.array([3.0, 0.0, -4.0]) + rng.normal(0, 4, size=(count, 3))
    scores += rng.normal(0, 3, size=count)[:, None]  # what all judges see in one answer
    same = np.array(SYSTEMS)[system][:, None] == np.array(JUDGES)
    taught = (system == 1)[:, None] & (np.array(JUDGES) == "google")
    scores += self_family * same + teacher * taught
    return panel(scores, JUDGES, per_cluster=6, systems=SYSTEMS, length=z)


def test_planted_family_and_length_effects_are_found() -> None:
    found = bias_model(planted(np.random.default_rng(0), prompts=600), teachers={"meta": "google"})
    for name, expected in (("self_family", 4), ("teacher_family", 3), ("length", 2)):
        effect = found.terms[name]
        assert effect.low is not None
        assert effect.high is not None
        assert effect.low < expected < effect.high
        assert effect.high - effect.low < 2.5
    assert found.terms["position"].mean is None
    assert found.rows == 5400


def test_the_position_is_found_by_swapping_and_per_judge() -> None:
    rng = np.random.default_rng(1)
    first = planted(rng)
    moved = (
        first.scores + np.array([6.0, 0.0, -3.0])[:, None] + rng.normal(0, 1, first.scores.shape)
    )
    swapped = replace(first, scores=moved)
    assert bias_model(first, swapped).terms["position"].mean == pytest.approx(1, abs=0.2)
    found = shifts(first, swapped)
    assert [one.judge for one in found] == JUDGES
    assert [one.mean.mean for one in found] == pytest.approx([6, 0, -3], abs=0.3)
    assert found[1].absolute.mean == pytest.approx(0.8, abs=0.1)  # E|e| of a standard Gaussian
    assert found[0].answers == 300


def test_a_successor_is_bridged_to_the_judge_it_follows() -> None:
    scores = [[[70, 72, 60], [90, 96, N], [50, 52, 50]]] * 2
    of = panel(np.concatenate(scores), ["old", "new", "other"])
    (found,) = shifts(of.of(["old"]), of.of(["new"]))
    assert (found.judge, found.mean.mean, found.answers) == ("new", pytest.approx(10 / 3), 6)


def test_with_one_judge_or_one_system_self_preference_cannot_be_told() -> None:
    of = planted(np.random.default_rng(2))
    alone = replace(of, scores=of.scores[:, :1], judges=["openai"], judge_families=["openai"])
    assert bias_model(alone).terms["self_family"].mean is None
    rows = of.system == 0
    single = replace(
        of,
        **{name: getattr(of, name)[rows] for name in ("scores", "system", "prompt", "cluster")},
        length=of.length[rows],
        truth=of.truth[rows],
        systems=["openai"],
        system_families=["openai"],
    )
    assert bias_model(single).terms["self_family"].mean is None


def test_unknown_lengths_cost_the_length_term_and_nothing_else() -> None:
    of = planted(np.random.default_rng(3))
    found = bias_model(replace(of, length=of.length * N))
    assert found.terms["length"].mean is None
    assert found.terms["self_family"].mean is not None
    assert found.rows == 900


def test_what_a_judge_adds_beyond_the_panel() -> None:
    rng = np.random.default_rng(4)
    true, length = rng.normal(60, 15, 500), np.tanh(rng.normal(size=500))
    fond = true + 6 * length
    narrow = 60 + 0.4 * (true - 60)
    found = against_panel(panel(np.stack([fond, true, narrow], axis=1), length=length))
    # The panel's mean is 0.8 true + 2 length + 12, so the narrow judge is 0.5 level - length + ...
    assert [one.length.mean for one in found] == pytest.approx([3.5, -2.5, -1.0])
    assert [one.level.mean for one in found] == pytest.approx([0.25, 0.25, -0.5])


def test_missing_verdicts_are_counted_by_system_with_what_they_could_be() -> None:
    of = panel([[80, N], [N, N], [60, 90], [40, N]], systems=("local", "service"))
    found = {(one.system, one.judge): one for one in missing(of)}
    local = found["local", "j0"]
    assert (local.answers, local.missing) == (2, 0)
    assert (local.low, local.mean, local.high) == (70, 70, 70)
    service = found["service", "j0"]
    assert (service.missing, service.low, service.mean, service.high) == (1, 20, 40, 70)
    assert found["service", "j1"].mean is None


@pytest.mark.slow
def test_planted_preferences_are_inside_their_interval_in_93_of_100_panels() -> None:
    rng, panels = np.random.default_rng(5), 500
    truth = {"self_family": 4.0, "teacher_family": 3.0, "length": 2.0}
    hits = dict.fromkeys(truth, 0)
    for _ in range(panels):
        found = bias_model(planted(rng), teachers={"meta": "google"}).terms
        for name, value in truth.items():
            low, high = found[name][1:3]
            assert low is not None
            assert high is not None
            hits[name] += low <= value <= high
    print({name: count / panels for name, count in hits.items()})
    assert all(count / panels >= 0.93 for count in hits.values())


def rows(seed: int, n: int = 240) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    item, judge = rng.integers(0, 40, n), rng.integers(0, 3, n)
    x, z = rng.normal(size=(2, n))
    y = rng.normal(0, 9, 40)[item] + 4.0 * judge + 2.5 * x - 1.0 * z + rng.normal(0, 3, n)
    return {"y": y, "x": x, "z": z, "item": item, "judge": judge, "cluster": item // 2}


@pytest.mark.parametrize("seed", range(3))
def test_coefficients_and_cluster_errors_equal_those_of_every_dummy_written_out(seed: int) -> None:
    of = rows(seed)
    judges, items = np.eye(3)[of["judge"]], np.eye(40)[of["item"]]
    items = items[:, items.any(0)]
    full = np.column_stack([of["x"], of["z"], judges[:, 1:], items])
    options = {"groups": of["cluster"], "use_correction": False}
    theirs = OLS(of["y"], full).fit(cov_type="cluster", cov_kwds=options)
    clusters = len(np.unique(of["cluster"]))
    found = fit(of["y"], {"x": of["x"], "z": of["z"]}, judges, of["item"], of["cluster"])
    for number, name in enumerate("xz"):
        ours = found.terms[name]
        error = theirs.bse[number] * np.sqrt(clusters / (clusters - 1))
        assert ours.mean == pytest.approx(theirs.params[number], abs=1e-9)
        assert ours.error == pytest.approx(error, abs=1e-9)


def test_terms_that_explain_one_another_are_missing_and_leave_the_others_alone() -> None:
    of = rows(4)
    nothing = np.empty((len(of["y"]), 0))
    alone = fit(of["y"], {"x": of["x"], "z": of["z"]}, nothing, of["item"], of["cluster"])
    twice = {"x": of["x"], "again": 2 * of["x"], "z": of["z"], "flat": np.ones(len(of["y"]))}
    found = fit(of["y"], twice, nothing, of["item"], of["cluster"]).terms
    assert found["x"].mean is found["again"].mean is found["flat"].mean is None
    assert found["z"].mean == pytest.approx(alone.terms["z"].mean)


def test_rows_with_a_gap_are_left_out() -> None:
    of = rows(5)
    nothing = np.empty((len(of["y"]), 0))
    holes = np.where(np.arange(len(of["y"])) < 40, np.nan, of["x"])
    some = fit(of["y"], {"x": holes}, nothing, None, of["cluster"])
    rest = slice(40, None)
    less = fit(of["y"][rest], {"x": of["x"][rest]}, nothing[rest], None, of["cluster"][rest])
    assert some.rows == less.rows == 200
    assert some.terms["x"][:4] == pytest.approx(less.terms["x"][:4])
    assert fit(of["y"] * np.nan, {"x": of["x"]}, nothing, None, of["cluster"]).rows == 0
