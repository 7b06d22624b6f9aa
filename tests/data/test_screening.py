"""Near-duplicates and leaks: found, explained, and nothing else."""

import json
import random
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score.tokenize import tokenize

from support import planted
from support.files import REAL_FILE, needs_real_data, turns
from support.measures import prose, rouge, word_jaccard
from understudy.config.source import Dedup
from understudy.data.duplicates import rule_of
from understudy.data.screening import Drop, NewPair, Screen, audit, contamination, write_report
from understudy.records import Coverage


def row(name: str, instruction: str, response: str = "Yes.", split: str = "train") -> Coverage:
    messages = turns(instruction, response)
    return Coverage(name, f"g-{name}", messages, "t", None, "test", split)  # type: ignore[arg-type]


def sifted(human: list[Coverage], *pairs: NewPair) -> list[Drop | None]:
    return [drop for _, drop in Screen(human).sift(pairs)]


# --- the rule of pairs ---------------------------------------------------------------------------


def test_the_older_row_stays_and_human_rows_are_older() -> None:
    first, second = prose(40, 1), prose(40, 2)
    drops = sifted(
        [row("h", first)],
        NewPair("a", first.upper(), "No."),
        NewPair("b", second, "No."),
        NewPair("c", f"{second} and so on", "Other."),
    )
    assert drops == [
        Drop("a", "duplicate_instruction", "jaccard", 1.0, "h"),
        None,
        Drop("c", "duplicate_instruction", "jaccard", 0.9302, "b"),
    ]


def test_a_response_alone_counts_from_thirty_words() -> None:
    def drops(words: int) -> list[Drop | None]:
        answer = prose(words, 3)
        return sifted([], NewPair("a", prose(9, 1), answer), NewPair("b", prose(9, 2), answer))

    assert drops(29) == [None, None]
    assert drops(30)[1] == Drop("b", "duplicate_response", "jaccard", 1.0, "a")


def test_lineage_is_a_leak_whatever_the_words() -> None:
    human = [row("t", "one", split="test"), row("h", "two")]
    pairs = [
        NewPair("a", prose(20, 1), "x", seed_id="t"),
        NewPair("b", prose(20, 2), "x", seed_id="h", group_id="g-t"),
        NewPair("c", prose(20, 3), "x", seed_id="h", group_id="g-h"),
    ]
    found = [drop and (drop.reason, drop.against) for drop in sifted(human, *pairs)]
    assert found == [("held_out_lineage", "t"), ("held_out_lineage", "t"), None]


@pytest.mark.parametrize("split", ["validation", "test", "holdout"])
@pytest.mark.parametrize("edit", planted.LEAKS)
@pytest.mark.parametrize("words", [12, 25, 80])
def test_every_kind_of_leak_is_found_from_every_held_out_split(
    split: str, edit: planted.Edit, words: int
) -> None:
    secret = prose(words, 7).replace(" ", ". ", 1)
    [drop] = sifted(
        [row("s", secret, split=split)], NewPair("a", edit(secret, random.Random(1)), "No.")
    )
    assert drop is not None
    assert (drop.against, drop.reason[:9]) == ("s", "held_out_")


def test_a_question_taken_from_a_held_out_text_is_contained() -> None:
    secret = prose(200, 1)
    part = " ".join(secret.split()[50:70])
    [drop] = sifted([row("s", secret, split="test")], NewPair("a", part, "No."))
    assert drop == Drop("a", "held_out_containment", "containment", 1.0, "s")


def test_fifty_words_in_a_row_are_a_leak_unless_the_task_says_them_to_everybody() -> None:
    shared = prose(52, 1)
    secret = row("s", f"{shared} {prose(200, 2)}", split="test")
    pair = NewPair("a", f"{prose(150, 3)} {shared} {prose(150, 4)}", "No.")
    assert sifted([secret], pair) == [Drop("a", "held_out_run", "run", 52.0, "s")]
    assert sifted([secret, row("h", f"{shared} {prose(200, 5)}")], pair) == [None]


def test_short_labels_of_held_out_rows_leak_nothing() -> None:
    human = [row("s", prose(30, 1), "Positive.", split="test")]
    assert sifted(human, NewPair("a", prose(30, 2), "positive")) == [None]


def test_under_the_papers_preset_short_responses_alone_count_but_leaks_are_leaks() -> None:
    human = [row("h", "one", "Yes, it is."), row("s", prose(20, 1), "No.", split="test")]
    pairs = [NewPair("a", prose(20, 2), "yes it is"), NewPair("b", prose(20, 1), "Maybe.")]
    pairs += [
        NewPair("c", prose(20, 3), "Who knows?"),
        NewPair("d", prose(20, 3), "Nobody."),
    ]
    found = [
        drop and drop.reason for _, drop in Screen(human, rule_of(Dedup(kind="paper"))).sift(pairs)
    ]
    assert found == ["duplicate_response", "held_out_instruction", None, None]


# --- batches and the report ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def small() -> tuple[list[Coverage], planted.Planted]:
    human = planted.human(120, 1, test=20, validation=10, holdout=10)
    return human, planted.plant(3000, [r for r in human if r.split == "test"], 2)


def cut(pairs: list[NewPair], size: int) -> Iterable[list[NewPair]]:
    return (pairs[at : at + size] for at in range(0, len(pairs), size))


@pytest.mark.slow
@pytest.mark.parametrize("size", [20, 700, 1500])
def test_batches_change_nothing(size: int, small: tuple[list[Coverage], planted.Planted]) -> None:
    human, made = small
    whole = list(Screen(human).sift(made.pairs))
    screen = Screen(human)
    assert [item for part in cut(made.pairs, size) for item in screen.sift(part)] == whole


def test_a_pair_that_nobody_comes_to_is_not_known() -> None:
    screen = Screen([])
    pairs = [NewPair(name, prose(20, seed), "x") for seed, name in enumerate("ab")]
    next(screen.sift(pairs))
    assert [drop and drop.against for _, drop in screen.sift(pairs)] == ["a", None]


def test_rows_of_earlier_blocks_are_known_without_being_judged() -> None:
    screen = Screen([])
    screen.add([row("s00", prose(20, 1)), row("s01", prose(20, 1))])
    [(_, drop)] = screen.sift([NewPair("a", prose(20, 1), "x")])
    assert drop is not None
    assert drop.against == "s00"


def test_the_report_has_a_line_per_drop_and_the_counts(tmp_path: Path) -> None:
    drops = [
        Drop("a", "held_out_run", "run", 60.0, "s"),
        Drop("b", "duplicate_response", "x", 1, "h"),
    ]
    counts = write_report(tmp_path / "dropped.jsonl", drops)
    lines = (tmp_path / "dropped.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [asdict(drop) for drop in drops]
    assert counts == {"held_out_run": 1, "duplicate_response": 1}
    assert contamination(counts) == 1


def check_planted(human: list[Coverage], made: planted.Planted) -> None:
    """What the acceptance line asks, by the measures of `rouge_score` and of Python's sets."""
    held_out = {r.id: r.instruction for r in human if r.split != "train"}
    known = {r.id: r.instruction for r in human} | {p.id: p.instruction for p in made.pairs}
    drops = {pair.id: drop for pair, drop in Screen(human).sift(made.pairs)}

    def is_positive(first: str, second: str) -> bool:
        inside = " ".join(tokenize(first, None)) in " ".join(tokenize(second, None))
        return inside or word_jaccard(first, second) >= 0.92 or rouge(first, second) >= 0.75

    wanted = {n for n, of in made.leak_of.items() if is_positive(held_out[of], known[n])}
    clusters = defaultdict(list)
    for name in sorted(made.cluster_of, key=lambda n: int(n[1:])):
        clusters[made.cluster_of[name]].append(name)
    for members in clusters.values():
        assert sum(drops[name] is None for name in members) == 1, "one survivor"
        assert drops[members[0]] is None, "the oldest one"
        wanted |= {n for n in members[1:] if is_positive(known[members[0]], known[n])}
    found = {name: drop for name, drop in drops.items() if drop is not None}
    assert len(wanted) >= 0.95 * (len(made.leak_of) + len(made.cluster_of) - len(clusters))
    assert len(wanted & found.keys()) >= 0.99 * len(wanted)
    assert all(drops[name].reason.startswith("held_out") for name in wanted & made.leak_of.keys())  # type: ignore[union-attr]
    wrong = [
        name
        for name, drop in found.items()
        if (drop.rule != "containment" or name not in made.leak_of)
        and word_jaccard(known[name], known[drop.against]) <= 0.8
        and rouge(known[name], known[drop.against]) <= 0.6
    ]
    assert len(wrong) <= 0.05 * len(found)
    print(f"positives {len(wanted)}, found {len(wanted & found.keys())}, wrong {len(wrong)}")
    for name, drop in found.items():
        measure = {"jaccard": word_jaccard, "rouge_l": rouge}.get(drop.rule)
        if measure:
            assert drop.value == pytest.approx(measure(known[name], known[drop.against]), abs=1e-4)
    # Nothing held out, nor anything near to it, is in what a training file would hold.
    kept = [row(n, known[n]) for n, drop in drops.items() if drop is None]
    assert audit(kept, human) == []


@pytest.mark.slow
def test_planted_leaks_and_clusters_are_found(
    small: tuple[list[Coverage], planted.Planted],
) -> None:
    check_planted(*small)


@pytest.mark.slow  # 9 s, most of them the oracles
def test_planted_leaks_and_clusters_are_found_among_twenty_thousand() -> None:
    human = planted.human(500, 1, test=100, validation=50, holdout=50)
    check_planted(human, planted.plant(20_000, [r for r in human if r.split == "test"], 5))


EDITS = st.lists(
    st.tuples(st.integers(0, 9), st.sampled_from([*planted.LEAKS, *planted.COPIES])), max_size=12
)


@settings(deadline=None, max_examples=50)
@given(EDITS, st.integers(0, 99))
def test_no_accepted_row_is_near_a_held_out_one(
    edits: list[tuple[int, planted.Edit]], seed: int
) -> None:
    rng = random.Random(seed)
    secrets = [prose(rng.randint(10, 70), n).replace(" ", ". ", 1) for n in range(10)]
    human = [
        row(f"s{n}", text, split=rng.choice(["test", "holdout"])) for n, text in enumerate(secrets)
    ]
    pairs = [NewPair(f"{n}", edit(secrets[of], rng), "x") for n, (of, edit) in enumerate(edits)]
    for pair, drop in Screen(human).sift(pairs):
        if drop is None:
            for secret in secrets:
                assert word_jaccard(pair.instruction, secret) < 0.9
                assert min(len(secret.split()), len(pair.instruction.split())) < 30 or (
                    rouge(pair.instruction, secret) < 0.7
                )


# --- real data -----------------------------------------------------------------------------------


@needs_real_data
def test_of_the_real_rows_two_prompts_are_near_to_another() -> None:
    rows = [json.loads(line) for line in REAL_FILE.read_text().splitlines()]
    pairs = [
        NewPair(f"line {n}", *(message["content"] for message in values["messages"]))
        for n, values in enumerate(rows, 1)
    ]
    drops = [drop for drop in sifted([], *pairs) if drop]
    print(*drops, sep="\n")
    assert [(drop.id, drop.against) for drop in drops] == [
        ("line 133", "line 77"),
        ("line 226", "line 197"),
    ]
    counts = Counter(len(re.findall(r"\w+", pair.response)) < 30 for pair in pairs)
    assert counts[True] > 100, "most answers are too short to be compared alone"
