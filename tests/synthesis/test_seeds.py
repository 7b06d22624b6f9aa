"""Which seed a call starts from, and what else it asks for."""

import random
from collections import Counter

import pytest

from support import tiny_model
from understudy.records import Coverage
from understudy.synthesis.calls import Cycle, Later, Seeds, Wishes

ROWS = tiny_model.rows(13)
LATER = tiny_model.rows(5, split="validation")


@pytest.mark.parametrize("key", [str(seed) for seed in range(10)])
def test_seeds_are_without_replacement_until_all_were_used(key: str) -> None:
    seeds = Seeds(ROWS, [], key)
    calls = random.Random(key).sample(range(130), 130)  # asked for in any order
    drawn = {call: seeds[call].id for call in calls}
    for epoch in range(10):
        ids = [drawn[call] for call in range(13 * epoch, 13 * (epoch + 1))]
        assert len(set(ids)) == 13
    assert [drawn[n] for n in range(13)] != [drawn[n] for n in range(13, 26)]


def test_rows_of_a_finished_block_seed_from_the_next_epoch_on() -> None:
    seeds = Seeds(ROWS, [Later(20, LATER)], "0")

    def ids(rows: list[Coverage]) -> set[str]:
        return {row.id for row in rows}

    assert ids([seeds[n] for n in range(13)]) == ids([seeds[n] for n in range(13, 26)]) == ids(ROWS)
    assert ids([seeds[n] for n in range(26, 44)]) == ids([*ROWS, *LATER])


def test_a_later_block_changes_no_call_before_it() -> None:
    alone, grown = Seeds(ROWS, [], "0"), Seeds(ROWS, [Later(30, LATER)], "0")
    assert [alone[n].id for n in range(39)] == [grown[n].id for n in range(39)]


def test_every_topic_and_every_length_is_asked_for_equally_often() -> None:
    wishes = Wishes(["refunds", "parcels", "opening hours"], [0.5, 1.0, 2.0], "0")
    asked = [wishes(call, ROWS[0]) for call in range(90)]
    assert set(Counter(wish.subject for wish in asked).values()) == {30}
    words = len(ROWS[0].instruction.split())
    assert set(Counter(wish.words for wish in asked).items()) == {
        (round(words * factor), 30) for factor in (0.5, 1.0, 2.0)
    }
    assert len({(wish.subject, wish.words) for wish in asked}) == 9


def test_without_topics_none_is_asked_for() -> None:
    assert Wishes([], [1.0], "0")(3, ROWS[0]).subject is None


def test_a_cycle_is_the_same_in_whatever_order_it_is_read() -> None:
    forwards, backwards = Cycle(list("abcde"), "0"), Cycle(list("abcde"), "0")
    assert [forwards[n] for n in range(20)] == [backwards[n] for n in reversed(range(20))][::-1]
