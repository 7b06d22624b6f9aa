"""Learners, their shrinkage and choice, on made workloads and on next to no labels."""

import numpy as np
import pytest

from support.routing_worlds import chances, workload
from understudy.errors import BadInput
from understudy.routing.fitting import _Slope, _slope, _smoothest, fit, shrunk_means
from understudy.routing.predict import FITS, Estimate, Neighbours, Trust, candidates, shrink


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(FITS))
def test_each_learner_finds_which_llm_can_answer(kind: str) -> None:
    made, new = workload(120), workload(60, seed=1)
    assert made.text is not None
    assert new.text is not None
    predictor, quality = fit(made.text, made.success, made.cost, kind=kind)
    truth = np.array([chances(text) for text in new.text])
    p = predictor(new.text)
    assert ((p[:, 0] > 0.6) == (truth[:, 0] > 0.6)).mean() > 0.9
    assert quality.brier < quality.brier_of_means
    assert predictor.trust.contrast > 0.5
    assert np.abs(p - truth).mean() < 0.15


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["auto", *FITS])
@pytest.mark.parametrize("label", [0.0, 1.0])
def test_labels_of_a_single_class_predict_that_class(kind: str, label: float) -> None:
    texts = [f"query {number}" for number in range(12)]
    success = np.full((12, 3), label)
    predictor, quality = fit(texts, success, np.ones((12, 3)), kind=kind)
    np.testing.assert_allclose(predictor(["something new"]), label, atol=1e-9)
    assert quality.brier == 0


@pytest.mark.slow
@pytest.mark.parametrize("n", [1, 2, 3])
def test_a_handful_of_labels_leaves_the_means(n: int) -> None:
    texts, success = ["a b", "c d", "e f"][:n], np.array([[0.0, 1.0], [1.0, 1.0], [0.0, 1.0]])[:n]
    predictor, _ = fit(texts, success, np.ones((n, 2)))
    p = predictor(["new", "a b"])
    assert np.isfinite(p).all()
    if n == 1:
        np.testing.assert_allclose(p, [[0, 1], [0, 1]])
        assert predictor.trust == Trust(0, 0)


@pytest.mark.slow
def test_labels_without_a_pattern_are_not_trusted() -> None:
    rng = np.random.default_rng(0)
    texts = [f"word{rng.integers(50)} word{rng.integers(50)}" for _ in range(60)]
    success = (rng.random((60, 3)) < [0.3, 0.6, 0.9]).astype(float)
    predictor, _ = fit(texts, success, np.ones((60, 3)))
    assert predictor.trust.contrast < 0.3
    assert predictor(["word1 word2", "word3"]).argmax(axis=1).tolist() == [2, 2]
    assert predictor.alpha == 0


@pytest.mark.slow
def test_graded_success_and_given_features_are_learnt_from() -> None:
    rng = np.random.default_rng(1)
    features = rng.standard_normal((80, 3))
    success = np.clip(0.5 + 0.4 * np.tanh(features[:, :2]), 0, 1)
    predictor, quality = fit(features, success, np.ones((80, 2)))
    assert quality.brier < 0.5 * quality.brier_of_means
    assert predictor(np.array([[3.0, -3.0, 0.0]]))[0].argmax() == 0


@pytest.mark.slow
def test_one_llm_is_predicted_too() -> None:
    predictor, _ = fit(["a", "b", "c", "d"], np.array([[1.0], [0], [1], [0]]), np.ones((4, 1)))
    assert predictor(["a"]).shape == (1, 1)


@pytest.mark.slow
def test_fitting_is_repeatable_and_refuses_what_it_cannot_do() -> None:
    made = workload(40)
    assert made.text is not None
    one, other = (fit(made.text, made.success, made.cost, seed=3)[0] for _ in range(2))
    np.testing.assert_array_equal(one(made.text), other(made.text))
    with pytest.raises(BadInput, match="tree is no learner; choose auto, forest"):
        fit(made.text, made.success, made.cost, kind="tree")
    with pytest.raises(BadInput, match="nothing to learn from"):
        fit([], np.empty((0, 2)), np.empty((0, 2)))


def test_the_numpy_forest_predicts_as_scikit_learn_does() -> None:
    from sklearn.ensemble import RandomForestRegressor

    rng = np.random.default_rng(0)
    features, success = rng.standard_normal((50, 4)).astype(np.float32), rng.random((50, 2))
    ours = FITS["forest"](features.astype(float), success, 7)
    theirs = RandomForestRegressor(100, max_features=1 / 3, random_state=7).fit(features, success)
    asked = rng.standard_normal((200, 4)).astype(np.float32)
    np.testing.assert_allclose(ours(asked.astype(float)).mean, theirs.predict(asked), atol=1e-6)
    each = np.stack([tree.predict(asked) for tree in theirs.estimators_])
    np.testing.assert_allclose(ours(asked.astype(float)).sigma, each.std(axis=0), atol=1e-6)


def test_what_all_llms_share_is_shrunk_apart_from_what_sets_them_off() -> None:
    raw = Estimate(np.array([[0.9, 0.5]]), np.array([[0.1, 0.1]]))
    means = np.array([0.4, 0.6])
    only_common = shrink(raw, means, Trust(common=1, contrast=0))
    np.testing.assert_allclose(only_common.mean, [means + 0.2])
    np.testing.assert_array_equal(only_common.sigma, 0)
    np.testing.assert_allclose(shrink(raw, means, Trust(1, 1)).mean, raw.mean)


def test_means_are_shrunk_as_far_as_noise_explains_their_spread() -> None:
    rng = np.random.default_rng(0)
    same = (rng.random((20, 8)) < 0.5).astype(float)
    apart = (rng.random((2000, 2)) < [0.2, 0.8]).astype(float)
    assert np.ptp(shrunk_means(same)) < 0.7 * np.ptp(same.mean(axis=0))
    np.testing.assert_allclose(shrunk_means(apart), apart.mean(axis=0), atol=1e-3)


def test_smoother_learners_are_tried_where_labels_allow() -> None:
    assert [len(candidates(kind, 22)) for kind in FITS] == [1, 1, 1]
    assert [len(candidates(kind, 320)) for kind in FITS] == [1, 4, 1]
    assert len(candidates("auto", 80)) == 4


def test_of_learners_that_cannot_be_told_apart_the_smoothest_that_is_not_noisier_is_taken() -> None:
    rng = np.random.default_rng(0)
    noise = rng.random(400)
    errors = [noise + 0.5, noise + 0.01 * rng.normal(size=400), noise]  # the first is worse
    large, near, small = _Slope(0.9, 0.1), _Slope(0.85, 0.1), _Slope(0.6, 0.1)
    assert _smoothest(errors, [large, large, large]) == 1
    assert _smoothest(errors, [large, near, large]) == 1
    assert _smoothest(errors, [large, small, large]) == 2
    assert _smoothest(errors, [large, large, small]) == 1
    assert _smoothest([noise + 0.5, noise + 0.4, noise], [large, large, small]) == 2
    assert _smoothest([noise, noise], [_Slope(0, 0), _Slope(0, 0)]) == 0


def test_a_small_difference_between_llms_is_told_by_many_neighbours() -> None:
    rng = np.random.default_rng(0)

    def halves(n: int) -> tuple[np.ndarray, np.ndarray]:
        """Two LLMs, each right 20 points more often on one half of the queries."""
        side = rng.integers(0, 2, n)
        better = np.stack([side, 1 - side], axis=1)
        return rng.normal(size=(n, 8)) + 4 * side[:, None], (
            rng.random((n, 2)) < 0.4 + 0.2 * better
        ).astype(float)

    known, success = halves(600)
    predictor, _ = fit(known, success, np.ones((600, 2)), kind="neighbours")
    assert isinstance(predictor.learner, Neighbours)
    assert predictor.learner.count >= 40
    asked, _ = halves(400)
    wanted = (asked.mean(axis=1) < 2).astype(int)  # the first LLM is better around 4
    assert (predictor(asked).argmax(axis=1) == wanted).mean() > 0.95


def test_a_slope_is_trusted_unless_it_may_be_chance() -> None:
    rng = np.random.default_rng(0)
    deviation = rng.normal(size=(400, 3))
    certain = _slope(deviation, 0.8 * deviation + 0.5 * rng.normal(size=(400, 3))).trust
    assert certain == pytest.approx(0.8, abs=0.05)
    chance = [_slope(deviation, rng.normal(size=(400, 3))).trust for _ in range(200)]
    assert np.mean(np.array(chance) == 0) >= 0.9
    assert max(chance) < 0.1
    assert _slope(deviation, -deviation).trust == 0
    assert _slope(np.zeros((4, 2)), np.ones((4, 2))).trust == 0
    assert _slope(deviation, 2 * deviation).trust == 1
