"""Hashed n-grams and their projection."""

import numpy as np

from understudy.routing.features import DIMENSIONS, bag, bags, fit_projection

TEXTS = ["send block to node 12", "send block to node 77", "a poem about the sea", ""]


def test_equal_texts_have_equal_bags_in_every_process() -> None:
    one = bag("send block ü")
    assert one.places.max() < DIMENSIONS
    assert int((one.places * one.counts).sum()) == 149811  # the artifact relies on these places
    assert bags(["x y", "x y"])[0] is not None
    np.testing.assert_array_equal(bag("x y").places, bags(["a", "x y"])[1].places)


def test_case_and_order_of_characters_matter() -> None:
    assert set(bag("Ab").places.tolist()) != set(bag("ab").places.tolist())
    assert set(bag("ab").places.tolist()) != set(bag("ba").places.tolist())


def test_an_empty_and_a_one_character_text_have_features() -> None:
    projection = fit_projection(bags(TEXTS))
    found = projection(bags(["", "q"]))
    assert found.shape == (2, 3)
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(found[0], 0)


def test_similar_texts_lie_closer_than_different_ones() -> None:
    projection = fit_projection(bags(TEXTS))
    known, alike, apart, _ = projection(bags(TEXTS)).astype(float)
    new = projection(bags(["send block to node 31"]))[0].astype(float)
    assert np.linalg.norm(known - alike) < np.linalg.norm(known - apart)
    assert np.linalg.norm(new - known) < np.linalg.norm(new - apart)


def test_a_batch_is_projected_as_one_by_one() -> None:
    projection = fit_projection(bags(TEXTS))
    batch = projection(bags(TEXTS * 2))
    single = np.concatenate([projection([bag(text)]) for text in TEXTS * 2])
    np.testing.assert_array_equal(batch, single)


def test_a_long_text_is_told_by_both_its_ends() -> None:
    filler = "x " * 20000
    assert bag("begin " + filler + "end").places.tolist() != bag("begin " + filler).places.tolist()
