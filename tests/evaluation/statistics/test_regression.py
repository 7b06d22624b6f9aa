"""Absorbed least squares equals statsmodels with every dummy written out, errors included."""

import warnings
from typing import Any

import numpy as np
import pytest

from understudy.evaluation.statistics.regression import fit


def rows(seed: int, n: int = 240) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    item, judge = rng.integers(0, 40, n), rng.integers(0, 3, n)
    x, z = rng.normal(size=(2, n))
    y = rng.normal(0, 9, 40)[item] + 4.0 * judge + 2.5 * x - 1.0 * z + rng.normal(0, 3, n)
    return {"y": y, "x": x, "z": z, "item": item, "judge": judge, "cluster": item // 2}


@pytest.mark.parametrize("seed", range(3))
def test_coefficients_and_cluster_errors_equal_statsmodels(seed: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        api = pytest.importorskip("statsmodels.api")
    of = rows(seed)
    judges, items = np.eye(3)[of["judge"]], np.eye(40)[of["item"]]
    items = items[:, items.any(0)]
    full = np.column_stack([of["x"], of["z"], judges[:, 1:], items])
    options = {"groups": of["cluster"], "use_correction": False}
    theirs = api.OLS(of["y"], full).fit(cov_type="cluster", cov_kwds=options)
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
