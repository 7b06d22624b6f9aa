"""The two plain routers beside ours."""

from collections.abc import Callable

import numpy as np
import pytest

from support.routing_worlds import workload
from understudy.routing import baselines, study


def halves(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features of two distant groups, on each of which another LLM is right."""
    rng = np.random.default_rng(seed)
    side = np.arange(n) % 2
    return rng.normal(size=(n, 3)) + 20 * side[:, None], np.eye(2)[side]


@pytest.mark.slow
@pytest.mark.parametrize("predict", [baselines.knn, baselines.clusters])
def test_what_lies_together_has_the_scores_of_its_place(
    predict: Callable[..., np.ndarray],
) -> None:
    known, right = halves(80)
    asked, wanted = halves(30, seed=1)
    found = predict(known, right, asked, [str(n) for n in range(80)], 0)
    assert found.shape == (30, 2)
    # four clusters at least, two a side, but the four nearest may be of both sides
    assert (found.argmax(axis=1) == wanted.argmax(axis=1)).mean() >= 0.9


def test_neighbours_are_those_of_scikit_learn() -> None:
    from sklearn.neighbors import KNeighborsRegressor

    rng = np.random.default_rng(0)
    known, labels, asked = (
        rng.normal(size=(60, 4)),
        rng.integers(0, 2, (60, 3)),
        rng.normal(size=(9, 4)),
    )
    found = baselines.knn(known, labels.astype(float), asked, [str(n) for n in range(60)], 0)
    tried = [KNeighborsRegressor(k).fit(known, labels).predict(asked) for k in (5, 10, 20, 40)]
    assert any(np.allclose(found, one) for one in tried)


def test_a_cluster_has_the_mean_success_of_its_queries() -> None:
    corners = np.array([[0.0, 0], [0, 100], [100, 0], [100, 100]])
    known = (
        np.repeat(corners, 5, axis=0) + np.linspace(0, 1, 5).repeat(2).reshape(5, 2).tolist() * 4
    )
    labels = np.repeat(np.array([[0.2], [0.4], [0.6], [1.0]]), 5, axis=0)
    found = baselines.clusters(known, labels, corners, ["one"] * 20, 0)
    np.testing.assert_allclose(found, 0.55)  # of four clusters, the four nearest


@pytest.mark.parametrize("n", [1, 2, 6])
@pytest.mark.parametrize("predict", [baselines.knn, baselines.clusters])
def test_a_handful_of_equal_labels_is_enough(predict: Callable[..., np.ndarray], n: int) -> None:
    found = predict(np.zeros((n, 3)), np.ones((n, 2)), np.ones((4, 3)), ["a"] * n, 0)
    np.testing.assert_array_equal(found, np.ones((4, 2)))


@pytest.mark.slow
def test_baselines_stand_in_the_table_and_the_figure_on_the_same_splits() -> None:
    made = workload(240)
    rows = list(study.run(made, ["random"], {"ours": 2, "knn": 2, "clusters": 2}, 0.3, "logistic"))
    names = ["ours", study.KNN, study.CLUSTERS]
    assert list(dict.fromkeys(row.router for row in rows)) == names
    for seed in (0, 1):
        same = [row for row in rows if row.seed == seed]
        assert (
            len({(row.best_cost, row.best_accuracy, row.labels, row.tested) for row in same}) == 1
        )
    lines = {line["router"]: line for line in study.summarise(rows)}
    ours = [row.gain for row in rows if row.router == "ours"]
    knn = [row.gain for row in rows if row.router == study.KNN]
    assert lines[study.KNN]["ahead"] == pytest.approx(np.mean(np.subtract(ours, knn)))
    assert (
        lines[study.KNN]["ahead_low"] < lines[study.KNN]["ahead"] < lines[study.KNN]["ahead_high"]
    )
    assert lines["ours"]["ahead"] is None
    assert set(study._picture(made, rows)["curves"]) == set(names)
