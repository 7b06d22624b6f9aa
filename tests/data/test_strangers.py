"""Files of people who did not read our manual: nothing is misread, and what is wrong is named."""

import bz2
import json
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.files import turns, write
from understudy.config import Config, changed
from understudy.data import coverage, formats
from understudy.data.coverage import Found
from understudy.data.prepare import prepare
from understudy.data.rejects import BadRow, NotWanted
from understudy.errors import BadInput

Composed = Callable[..., Config]
Look = Callable[..., Found]
NAN = float("nan")
PAIR = {"prompt": "Who won?", "response": "Bern."}


@pytest.fixture
def found(composed: Composed, tmp_path: Path) -> Look:
    """A function: a file → what a run would find in it."""

    def look(path: Path, tolerance: float = 1.0) -> Found:
        config = composed("coverage=file", "coverage.path=x", "task=closed_qa")
        leaves = {"coverage.path": str(path), "coverage.tolerance": tolerance}
        config = prepare(changed(config, leaves), tmp_path / "hub.json").config
        return coverage.find(config.coverage, config.task.name)

    return look


def read(row: dict[str, Any]) -> list[dict[str, str]]:
    kind = formats.detect(list(row), "here")
    given = formats.meaningful([formats.Raw("here", row)], kind)
    return formats.conversation(row, kind, formats.Columns(**given))


# --- cells --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["context", "input", "history", "system"])
@pytest.mark.parametrize("nothing", [NAN, None, "", []])
def test_a_cell_without_a_value_adds_nothing(name: str, nothing: Any) -> None:
    assert read(PAIR | {name: nothing}) == turns("Who won?", "Bern.")


@pytest.mark.parametrize("name", ["system", "tools"])
def test_a_column_without_a_value_beside_messages_adds_nothing(name: str) -> None:
    assert read({"messages": turns("a", "b"), name: NAN}) == turns("a", "b")


def test_a_side_that_is_nan_is_looked_for_under_the_next_name() -> None:
    assert read({"prompt": NAN, "question": "a", "answer": "b"}) == turns("a", "b")


@pytest.mark.parametrize(
    ("context", "text"),
    [
        (["Bern won.", "Basel lost."], "Who won?\n\nBern won.\n\nBasel lost."),
        ({"title": ["Cup"], "year": 1954}, 'Who won?\n\n{"title":["Cup"],"year":1954}'),
        (1954, "Who won?\n\n1954"),
    ],
)
def test_a_context_of_passages_is_text(context: Any, text: str) -> None:
    assert read(PAIR | {"context": context}) == turns(text, "Bern.")


def test_a_mapped_input_does_not_stand_in_the_prompt_twice() -> None:
    row = {"input": "Who won?", "output": "Bern."}
    given = formats.Columns(prompt="input", response="output")
    assert formats.conversation(row, "pairs", given) == turns("Who won?", "Bern.")
    nested = {"input": {"text": "Who won?"}, "output": "Bern."}
    given = formats.Columns(prompt="input.text", response="output")
    assert formats.conversation(nested, "pairs", given) == turns("Who won?", "Bern.")


def test_roles_are_known_whatever_their_letters_and_text_may_come_in_parts() -> None:
    parts = [{"type": "text", "text": "Who "}, {"type": "text", "text": "won?"}]
    row = {
        "messages": [
            {"role": "developer", "content": "Be brief."},
            {"role": "User", "content": parts},
            {"role": "ASSISTANT", "content": "Bern."},
        ]
    }
    assert read(row) == turns("Who won?", "Bern.", system="Be brief.")


@pytest.mark.parametrize("field", ["weight", "train", "loss"])
def test_an_answer_that_is_not_to_be_learnt_is_left_out_whatever_the_field_is_called(
    field: str,
) -> None:
    messages = [
        *turns("a", "b", "c"),
        {"role": "assistant", "content": "wrong", field: 0 if field == "weight" else False},
    ]
    assert read({"messages": messages}) == turns("a", "b")


@pytest.mark.parametrize(
    "turn",
    [
        {"role": "assistant", "content": "Let me look.", "tool_calls": [{"id": "1"}]},
        {"role": "tool", "content": "[1]", "tool_call_id": "1"},
        {"from": "function_call", "value": "{}"},
        {"from": "observation", "value": "[1]"},
    ],
)
def test_half_a_tool_call_says_so(turn: dict[str, Any]) -> None:
    with pytest.raises((BadRow, NotWanted), match=r"tool call|tool's result"):
        read({"messages": [*turns("a"), turn, *turns("", "b")[1:]]})


def test_an_image_in_a_turn_says_so() -> None:
    parts = [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {}}]
    with pytest.raises(BadRow, match="not text alone: image_url"):
        read({"messages": [{"role": "user", "content": parts}, turns("", "b")[1]]})


def test_fields_of_turns_that_nobody_reads_are_named(found: Look, tmp_path: Path) -> None:
    said = turns("a", "b")
    rows = [
        {"messages": [said[0] | {"name": "ann"}, said[1] | {"reasoning_content": "Hm."}]},
        {"messages": said},
    ]
    made = found(write(tmp_path / "a.jsonl", rows))
    assert made.columns.unread == {"messages[].name": 1, "messages[].reasoning_content": 1}


def test_each_row_may_call_its_turns_otherwise(found: Look, tmp_path: Path) -> None:
    rows = [
        {"messages": turns("a", "b"), "conversations": None},
        {"messages": None, "conversations": [{"from": "human", "value": "c"},
                                             {"from": "gpt", "value": "d"}]},
    ]  # fmt: skip
    made = found(write(tmp_path / "a.jsonl", rows))
    assert [pair.messages for pair in made.pairs] == [turns("a", "b"), turns("c", "d")]
    assert made.columns.unread == {}


def test_nan_is_no_id_no_group_and_no_split(found: Look, tmp_path: Path) -> None:
    rows = [PAIR | {"id": NAN, "user_id": NAN, "split": NAN, "license": NAN} for _ in range(2)]
    pairs = found(write(tmp_path / "a.jsonl", rows)).pairs
    assert {(pair.id, pair.group, pair.split, pair.licence) for pair in pairs} == {(None,) * 4}


def test_ids_that_repeat_are_told(found: Look, tmp_path: Path) -> None:
    made = found(write(tmp_path / "a.jsonl", [PAIR | {"id": "x"}, PAIR | {"id": "x"}]))
    assert any("ids repeat" in line for line in made.notices(None))


# --- names that stand twice ---------------------------------------------------------------------


def test_a_name_with_two_values_makes_a_bad_row(found: Look, tmp_path: Path) -> None:
    twice = '{"prompt": "a", "response": "b", "response": "c"}'
    same = '{"prompt": "a", "response": "b", "response": "b"}'
    below = '{"messages": [{"role": "user", "role": "assistant", "content": "b"}]}'
    made = found(write(tmp_path / "a.jsonl", [PAIR, twice, same]))
    assert len(made.pairs) == 2
    assert made.bad == [f"{tmp_path / 'a.jsonl'}:2 has two values of the name 'response'"]
    with pytest.raises(BadInput, match="two values of the name 'role'"):
        found(write(tmp_path / "b.jsonl", [below]))


def test_a_column_that_stands_twice_in_a_header_is_named(found: Look, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("prompt,response,response,\nWho?,Bern.,Basel.,x\n")
    made = found(path)
    assert made.pairs[0].messages == turns("Who?", "Bern.")
    assert made.columns.unread == {"response 3": 1, "column 4": 1}


# --- tables -------------------------------------------------------------------------------------

TABLES = {
    "the empty rows of a sheet": "prompt,response\nWho?,Bern.\n,\n,\n",
    "Excel's own sign": "sep=;\nprompt;response\nWho?;Bern.\n",
    "bars": "prompt|response\nWho?|Bern.\n",
    "spaces in the header": " prompt , response \nWho?,Bern.\n",
    "a byte order mark": "\ufeffprompt,response\nWho?,Bern.\n",
    "CR": "prompt,response\rWho?,Bern.\r",
    "another order": "note,response,prompt\n,Bern.,Who?\n",
}


@pytest.mark.parametrize("kind", TABLES)
def test_a_table_is_read_as_it_is_meant(kind: str, found: Look, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(TABLES[kind].encode())
    made = found(tmp_path / "a.csv")
    assert [pair.messages for pair in made.pairs] == [turns("Who?", "Bern.")]
    assert not made.bad


def test_a_header_within_a_table_is_no_row(found: Look, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("prompt,response\nWho?,Bern.\nprompt,response\nWhy?,So.\n")
    made = found(tmp_path / "a.csv")
    assert len(made.pairs) == 2
    assert made.bad == [f"{tmp_path / 'a.csv'}:3 repeats the header"]


def test_a_very_long_cell_comes_through(found: Look, tmp_path: Path) -> None:
    text = "Bern, “again”; " * 200_000
    write(tmp_path / "a.jsonl", [PAIR | {"response": text}])
    (tmp_path / "a.csv").write_text(f'prompt,response\nWho?,"{text}"\n')
    for name in ("a.jsonl", "a.csv"):
        assert found(tmp_path / name).pairs[0].messages[-1]["content"] == text


# --- files --------------------------------------------------------------------------------------

ROWS = [{"prompt": f"{n} は何ですか。", "response": f"それは {n} です。"} for n in range(40)]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)
FILES = {
    "bzip2": ("a.jsonl", bz2.compress(LINES.encode())),
    "xz by name": ("a.jsonl.xz", lzma.compress(LINES.encode())),
    "Japanese in UTF-16 without a mark": ("a.jsonl", LINES.encode("utf-16-le")),
    "the same, the other way": ("a.jsonl", LINES.encode("utf-16-be")),
    "UTF-32": ("a.jsonl", LINES.encode("utf-32")),
    "one object in one line": ("a.json", json.dumps({"version": 1, "data": ROWS}).encode()),
    "one object over lines": ("a.json", json.dumps({"rows": ROWS}, indent=1).encode()),
    "blank lines": ("a.jsonl", ("\n\n" + LINES.replace("\n", "\n \n")).encode()),
    "marks within": ("a.jsonl", ("\ufeff" + LINES.replace("\n", "\n\ufeff", 5)).encode()),
}


@pytest.mark.parametrize("kind", FILES)
def test_a_file_is_read_whatever_packs_it(kind: str, found: Look, tmp_path: Path) -> None:
    name, content = FILES[kind]
    (tmp_path / name).write_bytes(content)
    made = found(tmp_path / name, tolerance=0.0)
    assert [pair.messages[-1]["content"] for pair in made.pairs] == [r["response"] for r in ROWS]


def test_lines_that_were_cut_out_of_a_list_are_rows(found: Look, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(",\n".join(json.dumps(row) for row in ROWS))
    assert len(found(tmp_path / "a.jsonl", tolerance=0.0).pairs) == len(ROWS)


def test_a_first_line_that_is_torn_is_one_bad_row(found: Look, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"prompt": "a", "resp\n' + LINES)
    made = found(tmp_path / "a.json")
    assert (len(made.pairs), len(made.bad)) == (len(ROWS), 1)


def test_what_stands_beside_a_path_is_named(composed: Composed, tmp_path: Path) -> None:
    rows = [{"ask": {"text": "a", "tone": "kind"}, "say": [{"text": "b"}, {"text": "c"}]}] * 2
    config = composed("coverage=file", "coverage.path=x", "task=closed_qa")
    leaves = {"path": str(write(tmp_path / "a.jsonl", rows)), "columns.prompt": "ask.text"}
    leaves |= {"columns.response": "say.0.text"}
    config = changed(config, {f"coverage.{name}": value for name, value in leaves.items()})
    made = coverage.find(config.coverage, config.task.name)
    assert made.columns.unread == {"ask.tone": 2, "say.1": 2}


def test_lists_by_split_keep_their_split(found: Look, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"train": ROWS[:3], "dev": ROWS[3:4], "test": ROWS[4:6]}))
    splits = [pair.split for pair in found(path).pairs]
    assert splits == ["train"] * 3 + ["validation"] + ["test"] * 2


def test_one_conversation_alone_in_its_file_is_one_row(found: Look, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"messages": turns("a", "b"), "data": [{"x": 1}]}, indent=1))
    assert [pair.messages for pair in found(path).pairs] == [turns("a", "b")]


FOREIGN = {
    "zip": (b"PK\x03\x04\x14\x00", "zip archive"),
    "xls": (b"\xd0\xcf\x11\xe0\xa1\xb1", "old Excel"),
    "pdf": (b"%PDF-1.7", "PDF"),
    "sqlite": (b"SQLite format 3\x00", "SQLite"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
    "page": (b"\n<!DOCTYPE html><html><body>Sign in</body></html>", "web page"),
}


@pytest.mark.parametrize("kind", FOREIGN)
@pytest.mark.parametrize("name", ["a.jsonl", "a.csv"])
def test_a_file_of_another_kind_is_called_what_it_is(
    kind: str, name: str, found: Look, tmp_path: Path
) -> None:
    content, word = FOREIGN[kind]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadInput, match=word) as caught:
        found(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)
    assert "\n" not in str(caught.value)


BROKEN = {
    "half a bzip2": ("a.jsonl", bz2.compress(LINES.encode())[:-9], "bzip2"),
    "half an xz": ("a.jsonl", lzma.compress(LINES.encode())[:-9], "xz"),
    "a bad bzip2": ("a.jsonl", b"BZh9" + bytes(99), "bzip2"),
    "a bad xz": ("a.jsonl", b"\xfd7zXZ" + bytes(99), "xz"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_file_that_ends_early_says_so(kind: str, found: Look, tmp_path: Path) -> None:
    name, content, word = BROKEN[kind]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadInput, match=word):
        found(tmp_path / name)
