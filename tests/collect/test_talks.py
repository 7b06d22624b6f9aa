"""Turns of conversations that no user and no id names: grouped by the prefix that they share."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from support.files import write
from understudy.collect.collect import collect
from understudy.collect.work import CollectOptions

Turns = list[dict[str, str]]


def call(messages: Turns, **more: Any) -> dict[str, Any]:
    """A logged exchange whose last turn is the answer."""
    *prompt, answer = messages
    choice = {"index": 0, "message": answer, "finish_reason": "stop"}
    response = {"object": "chat.completion", "model": "gpt-4o", "choices": [choice]}
    return {"request": {"model": "gpt-4o", "messages": prompt} | more, "response": response}


def said(*texts: str, system: str | None = None) -> Turns:
    roles = ("user", "assistant") * len(texts)
    first = [] if system is None else [{"role": "system", "content": system}]
    return first + [{"role": r, "content": t} for r, t in zip(roles, texts, strict=False)]


def groups(tmp_path: Path, calls: list[dict[str, Any]], name: str = "o.jsonl") -> dict[str, Any]:
    """The group of each row, by its answer."""
    import gzip

    out = tmp_path / name
    collect([str(write(tmp_path / "log.jsonl", calls))], out, CollectOptions(redact=()))
    data = gzip.decompress(out.read_bytes()) if name.endswith(".gz") else out.read_bytes()
    rows = [json.loads(line) for line in data.splitlines()]
    return {row["messages"][-1]["content"]: row["group_id"] for row in rows}


def test_turns_that_begin_alike_are_one_conversation(tmp_path: Path) -> None:
    """Whatever the order, with turns missing, another clock in the system turn, an edited turn."""
    dice = random.Random(0)
    calls, wanted = [], {}
    for talk in range(60):
        texts = [f"{talk} says {n}" for n in range(2 * dice.randint(2, 6))]
        ends = sorted(dice.sample(range(2, len(texts) + 1, 2), k=min(2, len(texts) // 2)))
        if dice.random() < 0.5:
            ends = list(range(2, len(texts) + 1, 2))
        for end in ends:
            system = f"It is {dice.random()} o'clock." if talk % 3 else None
            calls.append(call(said(*texts[:end], system=system)))
            wanted[texts[end - 1]] = talk
        if talk % 4 == 0:  # asked again in other words
            calls.append(call(said(*texts[: ends[-1] - 2], f"{talk} edits", f"{talk} again")))
            wanted[f"{talk} again"] = talk
    alone = [call(said(f"single {n}", f"answer {n}")) for n in range(30)]
    dice.shuffle(calls)
    found = groups(tmp_path, calls + alone)
    assert all(found.pop(f"answer {n}") is None for n in range(30))
    by_talk: dict[int, set[str | None]] = {}
    for answer, talk in wanted.items():
        by_talk.setdefault(talk, set()).add(found[answer])
    assert all(len(names) == 1 for names in by_talk.values())
    assert None not in set.union(*by_talk.values())
    assert len(set.union(*by_talk.values())) == len(by_talk)


@pytest.mark.parametrize("examples", [1, 3])
def test_a_beginning_that_many_share_joins_nothing(examples: int, tmp_path: Path) -> None:
    """As a greeting, or examples that a program sends with every question."""
    opening = ["Hi", "Hello! What can I do for you?"] * examples
    calls = [call(said(*opening))]
    for n in range(40):
        calls.append(call(said(*opening, f"Question {n}?", f"Answer {n}")))
        calls.append(call(said(*opening, f"Question {n}?", f"Answer {n}", "And?", f"More {n}")))
    found = groups(tmp_path, calls)
    assert found[opening[1]] is None
    assert [found[f"Answer {n}"] for n in range(40)] == [found[f"More {n}"] for n in range(40)]
    assert len(set(found.values()) - {None}) == 40


def test_thoughts_and_white_space_that_a_client_leaves_out_do_not_matter(tmp_path: Path) -> None:
    calls = [
        call(said("One?", "<think>Hm.</think>\n\n1  is it. ")),
        call(said("One?", "1 is it.", "Two?", "2")),
        call(said("One?", "It is 1.")),  # the same question, answered otherwise
    ]
    found = groups(tmp_path, calls)
    assert len(set(found.values())) == 1
    assert None not in found.values()


def test_rows_whose_users_are_named_keep_them_and_packed_files_are_grouped_too(
    tmp_path: Path,
) -> None:
    calls = [
        call(said("One?", "1"), user="ann"),
        call(said("One?", "1", "Two?", "2"), user="ann"),
        call(said("Three?", "3")),
        call(said("Three?", "3", "Four?", "4")),
    ]
    plain, packed = groups(tmp_path, calls), groups(tmp_path, calls, "o.jsonl.gz")
    assert plain == packed
    assert plain["1"] == plain["2"] == "ann"
    assert plain["3"] == plain["4"] not in (None, "ann")


def test_a_log_of_single_questions_is_as_it_was(tmp_path: Path) -> None:
    calls = [call(said("One?", str(n))) for n in range(12)]
    assert set(groups(tmp_path, calls).values()) == {None}
