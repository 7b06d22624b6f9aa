"""Splits, folds and the leak warning."""

import numpy as np
import pytest

from understudy.errors import BadInput
from understudy.routing.splits import Cut, codes, draw, duplicates, folds, halves, leak

GROUPS = [f"g{number // 3}" for number in range(60)]


def test_a_random_split_labels_the_share_and_tests_the_rest() -> None:
    cut = draw(200, 0.1, seed=1)
    assert len(cut.labelled) == 20
    assert sorted([*cut.labelled, *cut.test]) == list(range(200))
    np.testing.assert_array_equal(cut.labelled, draw(200, 0.1, seed=1).labelled)
    assert cut.labelled.tolist() != draw(200, 0.1, seed=2).labelled.tolist()


def test_no_group_of_a_grouped_split_is_on_both_sides() -> None:
    cut = draw(60, 0.1, 0, GROUPS)
    assert not {GROUPS[row] for row in cut.labelled} & {GROUPS[row] for row in cut.test}


def test_withheld_groups_are_never_labelled() -> None:
    cut = draw(60, 0.4, 0, GROUPS, withheld=0.5)
    assert len({GROUPS[row] for row in cut.test}) >= 10
    assert not {GROUPS[row] for row in cut.labelled} & {GROUPS[row] for row in cut.test}


def test_a_split_that_leaves_nothing_to_test_is_refused() -> None:
    with pytest.raises(BadInput, match="all 2 groups got a label"):
        draw(10, 0.9, 0, ["a"] * 5 + ["b"] * 5)
    with pytest.raises(BadInput, match="not between 0 and 1"):
        draw(10, 1.5, 0)


def test_halves_and_folds_keep_groups_whole_and_cover_every_row() -> None:
    number = codes(GROUPS)
    cut = halves(60, 0.5, 0, GROUPS)
    assert sorted([*cut.labelled, *cut.test]) == list(range(60))
    assert not set(number[cut.labelled]) & set(number[cut.test])
    assert 24 <= len(cut.test) <= 36
    tested = [row for part in folds(number, 5, 0) for row in part.test]
    assert sorted(tested) == list(range(60))
    for part in folds(number, 5, 0):
        assert not set(number[part.labelled]) & set(number[part.test])


def test_a_single_group_has_no_folds() -> None:
    assert list(folds(np.zeros(9, np.int64), 5, 0)) == []


def test_a_leak_is_told_whatever_case_and_white_space() -> None:
    texts = ["Hello  world", "hello world", "other", "another"]
    cut = Cut(np.array([0]), np.array([1, 2, 3]))
    warning = leak(texts, cut)
    assert warning is not None
    assert warning.startswith("1 of the 3 queries repeat a labelled query")
    assert leak(texts, Cut(np.array([2]), np.array([0, 1, 3]))) is None
    assert leak(None, cut) is None
    assert duplicates(texts)[0] == duplicates(texts)[1]
