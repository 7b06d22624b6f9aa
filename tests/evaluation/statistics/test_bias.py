"""What a judge adds beyond the panel, shifts between conditions, and what is missing.

The absorbed least squares equals statsmodels with every dummy written out, errors included.
"""

from typing import Any

import numpy as np
import pytest
from statsmodels.regression.linear_model import OLS

from support.panels import panel
from understudy.evaluation.statistics.bias import against_panel, fit, missing, shifts

N = np.nan


def test_a_successor_is_bridged_to_the_judge_it_follows() -> None:
    scores = [[[70, 72, 60], [90, 96, N], [50, 52, 50]]] * 2
    of = panel(np.concatenate(scores), ["old", "new", "other"])
    (found,) = shifts(of.of(["old"]), of.of(["new"]))
    assert (found.judge, found.mean.mean, found.answers) == ("new", pytest.approx(10 / 3), 6)


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
