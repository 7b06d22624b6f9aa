"""Rows of a file: none is lost, cut or misread in silence, whatever wrote the file."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.files import turns, write
from understudy.config import Config, changed
from understudy.data import cleaning, coverage
from understudy.data.coverage import Found
from understudy.data.prepare import prepare
from understudy.errors import BadInput

Composed = Callable[..., Config]
Look = Callable[..., Found]
PAIRS = [{"prompt": f"What is {n}?", "response": f"It is {n}, voilà."} for n in range(6)]


@pytest.fixture
def found(composed: Composed, tmp_path: Path) -> Look:
    """A function: path and leaves of coverage → what a run would find in the file."""

    def look(path: Path, **leaves: Any) -> Found:
        config = composed("coverage=file", "coverage.path=x", "task=closed_qa")
        wanted = {f"coverage.{name.replace('__', '.')}": value for name, value in leaves.items()}
        config = changed(config, {"coverage.path": str(path)} | wanted)
        config = prepare(config, tmp_path / "hub.json").config
        return coverage.find(config.coverage, config.task.name)

    return look


# --- columns that carry meaning -------------------------------------------------------------------


def test_the_context_of_a_dolly_row_stands_in_its_prompt(found: Look, tmp_path: Path) -> None:
    row = {"instruction": "Who won?", "context": "Bern won in 1954.", "response": "Bern."}
    bare = {"instruction": "Say hi.", "context": "", "response": "Hi."}
    first, second = found(write(tmp_path / "dolly.jsonl", [row, bare])).pairs
    assert first.messages[0]["content"] == "Who won?\n\nBern won in 1954."
    assert second.messages[0]["content"] == "Say hi."


def test_a_system_column_beside_messages_is_the_system_turn(found: Look, tmp_path: Path) -> None:
    rows = [{"system": "Be brief.", "messages": turns("Hello?", "Hi.")}]
    (pair,) = found(write(tmp_path / "a.jsonl", rows)).pairs
    assert pair.messages == turns("Hello?", "Hi.", system="Be brief.")


def test_an_alpaca_history_comes_before_the_instruction(found: Look, tmp_path: Path) -> None:
    row = {"instruction": "And 3?", "input": "", "output": "6", "history": [["Twice 2?", "4"]]}
    (pair,) = found(write(tmp_path / "a.jsonl", [row])).pairs
    assert pair.messages == turns("Twice 2?", "4", "And 3?", "6")


def test_an_answer_of_weight_0_is_no_answer_to_learn(found: Look, tmp_path: Path) -> None:
    """As in OpenAI's fine-tuning files: weight is 0 or 1, of assistant turns."""
    last = turns("One?", "1", "Two?", "wrong")
    last[-1] |= {"weight": 0}  # type: ignore[dict-item]
    every = turns("Three?", "wrong as well")
    every[-1] |= {"weight": 0}  # type: ignore[dict-item]
    made = found(write(tmp_path / "a.jsonl", [{"messages": last}, {"messages": every}]))
    assert [pair.messages for pair in made.pairs] == [turns("One?", "1")]
    assert made.not_coverage.total() == 1


def test_a_column_that_nobody_knows_is_named_with_its_share(found: Look, tmp_path: Path) -> None:
    rows = [PAIRS[0] | {"tone": "kind", "id": "a"}, PAIRS[1] | {"id": "b"}]
    notices = found(write(tmp_path / "a.jsonl", rows)).notices("MIT")
    assert any("tone (50 % of rows)" in line for line in notices)
    assert not any("id (" in line for line in notices)


# --- files as they come ---------------------------------------------------------------------------

TEXT = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in PAIRS)


def zstandard(text: str) -> bytes:
    import pyarrow

    return pyarrow.compress(text.encode(), codec="zstd", asbytes=True)


LISTED = json.dumps(PAIRS)
CELLS = "prompt;response\n" + "".join(f'{p["prompt"]};"{p["response"]}"\n' for p in PAIRS)
FILES = {
    "UTF-16 with its mark": ("a.jsonl", TEXT.encode("utf-16")),
    "UTF-16 without": ("a.jsonl", TEXT.encode("utf-16-le")),
    "latin-1": ("a.jsonl", TEXT.encode("latin-1")),
    "gzip": ("a.jsonl", gzip.compress(TEXT.encode())),
    "no gzip": ("a.jsonl.gz", TEXT.encode()),
    "zstd": ("a.jsonl", zstandard(TEXT)),
    "zstd by name": ("a.jsonl.zst", zstandard(TEXT)),
    "CR": ("a.jsonl", TEXT.replace("\n", "\r").encode()),
    "CRLF": ("a.jsonl", TEXT.replace("\n", "\r\n").encode()),
    "a list": ("a.jsonl", LISTED.encode()),
    "a list over lines": ("a.jsonl", json.dumps(PAIRS, indent=2).encode()),
    "jq": ("a.jsonl", "\n".join(json.dumps(row, indent=2) for row in PAIRS).encode()),
    "semicolons": ("a.csv", CELLS.encode()),
    "CSV in UTF-16": ("a.csv", CELLS.replace(";", ",").encode("utf-16")),
    "tabs": ("a.csv", CELLS.replace(";", "\t").encode()),
}


@pytest.mark.parametrize("kind", FILES)
def test_a_file_is_read_by_what_it_holds(kind: str, found: Look, tmp_path: Path) -> None:
    name, content = FILES[kind]
    (tmp_path / name).write_bytes(content)
    made = found(tmp_path / name)
    assert [pair.messages[-1]["content"] for pair in made.pairs] == [p["response"] for p in PAIRS]


SHAPES: dict[str, dict[str, Any]] = {
    "sharegpt": {
        "conversations": [
            {"from": "system", "value": "Be brief."},
            {"from": "human", "value": "Hello?"},
            {"from": "gpt", "value": "Hi."},
        ]
    },
    "trl": {
        "prompt": turns("Hello?", system="Be brief."),
        "completion": [{"role": "assistant", "content": "Hi."}],
    },
    "question": {"system": "Be brief.", "question": "Hello?", "answer": "Hi."},
    "stringified": {"messages": repr(turns("Hello?", "Hi.", system="Be brief."))},
}


@pytest.mark.parametrize("name", SHAPES)
def test_a_known_shape_gives_the_conversation(name: str, found: Look, tmp_path: Path) -> None:
    (pair,) = found(write(tmp_path / "a.jsonl", [SHAPES[name]])).pairs
    assert pair.messages == turns("Hello?", "Hi.", system="Be brief.")


def test_any_other_shape_is_mapped_by_dotted_paths(found: Look, tmp_path: Path) -> None:
    row = {"ask": {"text": "Hello?"}, "say": [{"text": "Hi."}], "rules": "Be brief."}
    path = write(tmp_path / "a.jsonl", [row])
    names = {"columns__prompt": "ask.text", "columns__response": "say.0.text"}
    (pair,) = found(path, **names, columns__system="rules").pairs
    assert pair.messages == turns("Hello?", "Hi.", system="Be brief.")


# --- messages that name the cause -----------------------------------------------------------------


def test_a_file_without_a_row_says_what_is_wrong_with_its_rows(found: Look, tmp_path: Path) -> None:
    rows = [{"prompt": "Hello?", "response": None} for _ in range(24)]
    with pytest.raises(BadInput, match=r"among its 24: 24 bad .*has no text in response"):
        found(write(tmp_path / "a.jsonl", rows), tolerance=1.0)


def test_a_split_without_train_rows_names_the_groups() -> None:
    from understudy.config import Split
    from understudy.data.split import split
    from understudy.records import Coverage

    rows = [
        Coverage(str(n), "one", turns("Hello?", f"Hi {n}."), "x", None, "file", None)
        for n in range(16)
    ]
    with pytest.raises(BadInput, match=r"16 rows are 1 group.*near-duplicate"):
        split(rows, Split(validation=2, test=2, holdout=0), 0)


# --- ready-made pools and data sets of the hub ----------------------------------------------------


ODD = [row | {"context": f"Fact {n}.", "mood": "glad"} for n, row in enumerate(PAIRS)]
UNREAD = "columns that nobody reads: mood (100 % of rows)"


def test_a_ready_made_pool_is_read_as_a_file_of_pairs(composed: Composed, tmp_path: Path) -> None:
    path = write(tmp_path / "pool.jsonl", ODD)
    config = composed("synthesis=file", f"synthesis.path={path}", "data_size=1")
    config, notices = prepare(config, tmp_path / "hub.json")
    assert config.synthesis.columns.context == "context"
    taken, columns = cleaning.take(config.synthesis)
    assert taken.rows[0][1].messages[0]["content"] == "What is 0?\n\nFact 0."
    assert f"synthesis: {UNREAD}" in notices
    assert columns.warnings("synthesis", 6) == [f"synthesis: {UNREAD}"]


def test_a_pool_without_such_columns_keeps_its_stage(composed: Composed, tmp_path: Path) -> None:
    path = write(tmp_path / "pool.jsonl", PAIRS)
    config = composed("synthesis=file", f"synthesis.path={path}", "data_size=1")
    assert prepare(config, tmp_path / "hub.json").config.synthesis == config.synthesis


@pytest.mark.slow
def test_a_data_set_of_the_hub_is_read_as_a_file(
    composed: Composed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    home = tmp_path / "set"
    home.mkdir()
    write(home / "train.jsonl", ODD)
    config = composed("coverage=hub", f"coverage.repo={home}", "task=closed_qa")
    config = prepare(config, tmp_path / "hub.json").config
    assert config.coverage.columns.context == "context"
    found = coverage.find(config.coverage, config.task.name)
    assert found.pairs[0].messages[0]["content"] == "What is 0?\n\nFact 0."
    assert found.warnings() == [f"coverage: {UNREAD}"]
