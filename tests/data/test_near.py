"""Texts as hashed words, and which of them are near-duplicates."""

import random
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score.tokenize import tokenize

from support.measures import prose, rouge, word_jaccard
from understudy.config.source import Dedup
from understudy.data.duplicates import near_pairs, paper_drops, paper_pairs
from understudy.data.near import Rule, jaccard, rouge_l
from understudy.data.words import encode, shingles

WORDS = st.lists(st.sampled_from("abcdefgh"), max_size=12).map(" ".join)


# --- words ---------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.lists(st.text(st.characters(max_codepoint=127)), max_size=8))
def test_words_of_ascii_texts_are_those_of_rouge(texts: list[str]) -> None:
    words = encode(texts)
    names: dict[int, str] = {}
    for number, text in enumerate(texts):
        expected = tokenize(text, None)
        if expected:
            found = words.of(number).tolist()
            assert [
                names.setdefault(h, w) for h, w in zip(found, expected, strict=True)
            ] == expected
        else:
            assert len(words.of(number)) == (1 if text.strip() else 0)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("“Naïve” — said\u00a0he", "naïve said he"),
        ("STRASSE Ⅳ", "straße iv"),
        ("東京都", "東 京 都"),
        ("🙂 🙂", "🙂🙂"),
    ],
)
def test_spelling_does_not_count(first: str, second: str) -> None:
    words = encode([first, second])
    assert words.of(0).tolist() == words.of(1).tolist() != []


def test_a_text_has_the_same_words_in_any_company() -> None:
    long = prose(100_000, 1)  # fills a block, and more
    texts = ["a b", "", "ab a?", "\ud800 x", "...", long, "a b", f"{long} {long}", long, "", "b a"]
    together = encode(texts)
    for number, text in enumerate(texts):
        assert together.of(number).tolist() == encode([text]).of(0).tolist()


@given(st.lists(WORDS, max_size=6), st.integers(1, 4))
def test_shingles_never_straddle_texts(texts: list[str], size: int) -> None:
    runs = shingles(encode(texts), size)
    for number, text in enumerate(texts):
        words = text.split()
        expected = [tuple(words[at : at + size]) for at in range(len(words) - size + 1)]
        found = runs.of(number).tolist()
        assert len(found) == len(expected)
        assert len(set(found)) == len(set(expected))


# --- near pairs ----------------------------------------------------------------------------------


@pytest.mark.slow
@settings(deadline=None)  # the first example imports theirs
@given(WORDS, WORDS, st.sampled_from([0.0, 0.5, 0.7]))
def test_rouge_l_is_that_of_rouge_score(first: str, second: str, least: float) -> None:
    ours = rouge_l(*(encode([text]).hashes.tolist() for text in (first, second)), least=least)
    theirs = rouge(first, second)
    assert ours == pytest.approx(theirs) if theirs >= least else ours < max(least, 1e-9)


@settings(deadline=None)
@given(st.lists(WORDS, max_size=10))
def test_short_texts_are_near_when_their_words_are_the_same_set(texts: list[str]) -> None:
    found = {(near.row, number) for number, near in near_pairs(texts)}
    assert found == {
        (i, j)
        for i, j in combinations(range(len(texts)), 2)
        if texts[i] and set(texts[i].split()) == set(texts[j].split())
    }


@pytest.mark.slow
@pytest.mark.parametrize(("share", "least"), [(0.0, 1.0), (0.1, 0.995), (0.2, 0.98)])
def test_exchanged_words_do_not_hide_a_pair(share: float, least: float) -> None:
    rng = random.Random(0)
    texts = []
    for seed in range(400):
        words = prose(60, seed).split()
        other = [
            prose(1, -n - 1000 * seed) if rng.random() < share else w for n, w in enumerate(words)
        ]
        texts += [" ".join(words), " ".join(other)]
    wanted = {(i, i + 1) for i in range(0, 800, 2) if rouge(texts[i], texts[i + 1]) >= 0.75}
    found = near_pairs(texts)
    assert len(wanted) > 300
    assert len({(near.row, number) for number, near in found} & wanted) >= least * len(wanted)
    for number, near in found:
        measure = {"jaccard": word_jaccard, "rouge_l": rouge}[near.rule]
        assert near.value == pytest.approx(measure(texts[number], texts[near.row]))


def test_one_exchanged_word_of_a_short_question_is_another_question() -> None:
    texts = ["Is a table a noun or a verb?", "Is a chair a noun or a verb?"]
    assert rouge(*texts) > 0.8
    assert not near_pairs(texts)
    assert near_pairs(texts, Rule(rouge_words=5))


def test_jaccard_of_nothing_is_nothing() -> None:
    assert jaccard(set(), set()) == 0
    assert not near_pairs(["", " ", "?!", "?!"])[:0]
    assert [(n, near.row) for n, near in near_pairs(["", "", "?!", "? !"])] == [(3, 2)]


def test_a_crowded_key_is_cut_but_copies_are_found() -> None:
    """A pool of one template: every text shares most of its words with every other."""
    template = prose(24, 1)
    texts = [f"{template} {prose(12, 100 + n)}" for n in range(600)]
    found = near_pairs([*texts, *texts[:50]])
    copies = {(n, near.row) for n, near in found if n >= 600}
    assert copies >= {(600 + n, n) for n in range(50)}
    assert np.mean([near.value for _, near in found]) == 1.0


# --- the paper's rule ----------------------------------------------------------------------------


def test_the_papers_rule_may_delete_both_copies() -> None:
    texts = ["Yes, it is.", "No.", "Yes, it is.", prose(30, 1), f"{prose(30, 1)} x"]
    assert [(n, near.row) for n, near in paper_pairs(texts)] == [(2, 0), (4, 3)]
    drops = paper_drops(texts, Dedup(kind="paper"))
    assert {number: near.row for number, near in drops.items()} == {0: 2, 2: 0, 3: 4, 4: 3}


def test_the_papers_rule_sees_case_and_order() -> None:
    assert not paper_pairs(["Yes it is", "yes it is"])
    words = prose(20, 1).split()
    assert not paper_pairs([" ".join(words), " ".join(reversed(words))])  # ROUGE-L 1/20
