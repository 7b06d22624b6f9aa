"""Examples before a prompt: whose, how many, in which order, and what is never among them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support import tiny_model
from support.tiny_model import row
from understudy.data import shots
from understudy.errors import BadInput
from understudy.records import Coverage, Message

TEXTS = ("lost my card", "card lost abroad", "change my pin", "pin is blocked", "rate of today")
ROWS = [row(str(n), text, f"label {n}") for n, text in enumerate(TEXTS)]


def count(messages: list[Message]) -> int:
    return sum(len(str(turn["content"]).split()) for turn in messages)


def made(rows: list[Coverage] = ROWS, **changes: Any) -> shots.Shots:
    config = tiny_model.build(None, **{f"inference__{name}": it for name, it in changes.items()})
    found = shots.of(config, rows)
    assert found is not None
    return found


def labels(messages: list[Message]) -> list[str]:
    return [str(m["content"]) for m in messages if m["role"] == "assistant"]


def asked(text: str) -> list[Message]:
    return [{"role": "user", "content": text}]


def test_the_likest_stands_last_before_the_prompt() -> None:
    found = made(shots=2).before(asked("my pin is lost"), count)
    assert labels(found) == ["label 0", "label 3"]
    assert found[-1]["content"] == "my pin is lost"


def test_without_shots_and_system_there_is_nothing_to_show() -> None:
    assert shots.of(tiny_model.build(None), ROWS) is None


@pytest.mark.parametrize("choice", ["random", "diverse"])
def test_the_fixed_choices_show_every_prompt_the_same(choice: str) -> None:
    first = made(shots=2, shot_choice=choice)
    one, other = (labels(first.before(asked(text), count)) for text in ("a pin", "the rate"))
    assert one == other
    assert len(one) == 2
    assert first == made(shots=2, shot_choice=choice)


def test_diverse_rows_share_no_word_where_that_can_be() -> None:
    chosen = labels(made(shots=3, shot_choice="diverse").before(asked("x"), count))
    assert "label 4" in chosen
    assert len({"label 0", "label 1"} & {*chosen}) == len({"label 2", "label 3"} & {*chosen}) == 1


@given(
    splits=st.lists(st.sampled_from(["train", "validation", "test", "holdout"]), min_size=5),
    groups=st.lists(st.sampled_from("abcd"), min_size=40, max_size=40),
    choice=st.sampled_from(["nearest", "random", "diverse"]),
    k=st.integers(1, 4),
)
def test_neither_a_held_out_row_nor_one_of_the_same_group_is_ever_shown(
    splits: list[str], groups: list[str], choice: str, k: int
) -> None:
    rows = [
        row(f"{n}", f"{TEXTS[n % 5]} {n}", f"{groups[n % 40]} {split} {n}", split)
        for n, split in enumerate(splits)
    ]
    rows = [Coverage(**one.to_dict() | {"group_id": groups[int(one.id) % 40]}) for one in rows]
    if splits.count("train") < k:
        with pytest.raises(BadInput, match=f"inference.shots={k} needs as many train rows"):
            made(rows, shots=k, shot_choice=choice)
        return
    first = made(rows, shots=k, shot_choice=choice)
    for one in rows:
        for label in labels(first.around(one, count, 99).prompt):
            group, split, number = label.split()
            assert split == "train"
            assert group != one.group_id
            assert number != one.id


def test_examples_are_left_out_until_the_prompt_fits() -> None:
    first = made(shots=3)
    lengths = []
    for longest in (99, 14, 9, 1):
        fitted = replace(first, longest=longest)
        lengths.append(len(labels(fitted.before(asked("my pin is lost"), count))))
    assert lengths == [3, 2, 1, 0]


def test_a_system_prompt_goes_before_that_of_the_row(tmp_path: Path) -> None:
    (tmp_path / "system.txt").write_text("Answer with a label.\n")
    first = made(shots=1, system=str(tmp_path / "system.txt"))
    found = first.before([{"role": "system", "content": "Be short."}, *asked("lost")], count)
    assert found[0] == {"role": "system", "content": "Answer with a label.\n\nBe short."}
    assert [turn["role"] for turn in found] == ["system", "user", "assistant", "user"]
    (tmp_path / "system.txt").write_text(" \n")
    with pytest.raises(BadInput, match=r"system\.txt is empty"):
        made(system=str(tmp_path / "system.txt"))


def test_examples_weigh_nothing_in_a_row_to_train_on() -> None:
    found = made(shots=2).around(ROWS[2], count, 99)
    assert [turn.get("weight") for turn in found.messages] == [0, 0, 0, 0, None, None]
    assert all("weight" not in turn for turn in found.prompt)


def test_what_is_left_beside_a_model_is_read_back(tmp_path: Path) -> None:
    assert shots.Shots.read(tmp_path) is None
    first = made(shots=2)
    first.write(tmp_path)
    assert shots.Shots.read(tmp_path) == first
    (tmp_path / shots.FILE).write_text("{}")
    with pytest.raises(BadInput, match="is not what understudy writes there"):
        shots.Shots.read(tmp_path)


def test_a_prompt_of_unknown_words_or_none_is_shown_examples_too() -> None:
    assert len(labels(made(shots=2).before(asked("???"), count))) == 2
