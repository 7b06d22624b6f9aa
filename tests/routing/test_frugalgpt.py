"""FrugalGPT's released database, made here in its schema, becomes a table of ours."""

import csv
import pickle
import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from understudy.cli.main import main
from understudy.errors import BadInput
from understudy.routing import data, frugalgpt
from understudy.routing.benchmarks import BENCHMARKS

PREFIX = "Is the price up or down?\n\nQ: gold rises\nA: up\n\n"
USUAL = {"max_tokens": 50, "temperature": 0.1, "stop": ["\n"], "date": "20230301"}
GOLD = [(f"Q: gold {way} {n}\nA:", way) for n in range(3) for way in ("up", "down")]
Row = tuple[Any, Any]


def row(service: str, query: str, said: str, usd: float = 0.01, **other: Any) -> Row:
    settings = USUAL | other.pop("settings", {})
    key = repr(settings | {"service_id": service, "query": PREFIX + query})
    value = {"raw": {"choices": [said]}, "completion": said, "cost": usd, "latency": 0.2}
    return key, pickle.dumps(value | other)


def database(path: Path, rows: Iterable[Row], name: str = "unnamed") -> Path:
    link = sqlite3.connect(path)
    link.execute(f'CREATE TABLE "{name}" (key TEXT PRIMARY KEY, value BLOB)')
    link.executemany(f'INSERT INTO "{name}" VALUES (?, ?)', rows)
    link.commit()
    link.close()
    return path


def references(path: Path, rows: Iterable[Iterable[Any]]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return path


def whole() -> list[Row]:
    """Three LLMs on six queries: one always right, one always wrong, one that shouts."""
    answers = {"2000": lambda way: way, "1": lambda way: "none", "30000": lambda w: f" The {w}. "}
    return [row(llm, query, say(way)) for llm, say in answers.items() for query, way in GOLD]


@pytest.fixture
def released(tmp_path: Path) -> tuple[Path, Path]:
    lines = [[query, way, n] for n, (query, way) in enumerate(GOLD)]
    return database(tmp_path / "HEADLINES.sqlite", whole()), references(tmp_path / "a.csv", lines)


def test_answers_are_compared_as_frugalgpt_does(released: tuple[Path, Path]) -> None:
    made, right = released
    found = frugalgpt.read(made, [right])
    assert found.llms == ["cohere/xlarge", "openai/text-curie-001", "openaichat/gpt-4"]
    np.testing.assert_array_equal(found.success, [[1, 0, 1]] * 6)
    np.testing.assert_array_equal(found.cost, np.full((6, 3), 0.01))
    assert found.ids == [str(n) for n in range(6)]
    assert found.text == [query for query, _ in GOLD]
    assert found.notes == ("18 of 18 answers kept: 3 LLMs on 6 queries",)


def test_every_row_is_kept_or_left_out_with_a_reason(tmp_path: Path) -> None:
    first = GOLD[0][0]
    odd = [
        row("2000", "Q: silver up\nA:", "up"),
        row("2000", first, "up", settings={"temperature": 0.9}),
        ("2000_" + first, pickle.dumps({"completion": "up", "cost": 1.0})),
        (row("7", first, "up")[0], b"no pickle"),
        (row("8", first, "up")[0], pickle.dumps(["up"])),
        (row("9", first, "up")[0], pickle.dumps({"completion": None, "cost": 1.0})),
        (row("10", first, "up")[0], pickle.dumps({"completion": "up"})),
        row("11", first, "up", usd=-1.0),
        row("anthropic/claude-1", first, "up", seed=3),
    ]
    made = database(tmp_path / "H.sqlite", whole()[:-1] + odd)
    link = sqlite3.connect(made)
    link.execute('ALTER TABLE "unnamed" ADD COLUMN asked TEXT')
    link.execute("CREATE TABLE notes (text TEXT)")
    link.commit()
    link.close()
    right = references(
        tmp_path / "HEADLINES_train.csv",
        [
            ["query", "ref_answer", "query_id", "split"],
            *([query, way, n, "train"] for n, (query, way) in enumerate(GOLD)),
            [first, "up", 0, "train"],
            ["no answer"],
        ],
    )
    found = frugalgpt.read(made, [right])
    assert found.success.shape == (5, 3)  # an LLM did not answer the last query
    assert set(found.notes) == {
        "15 of 26 answers kept: 3 LLMs on 5 queries",
        "2 left out: some LLM did not answer the same query",
        "1 left out: no reference has its query",
        "1 left out: its LLM has more answers of other settings",
        "1 left out: its key is no dictionary with service_id and query",
        "1 left out: its value is no pickle",
        "1 left out: its value is no dictionary",
        "1 left out: it has no completion",
        "1 left out: it has no cost",
        "1 left out: its cost is no number of dollars",
        "1 left out: anthropic/claude-1 answered fewer than half of the queries and is left out",
        "1 left out: a reference of HEADLINES_train.csv that was known",
        "1 left out: a reference that not every LLM answered",
        "1 left out: a line of HEADLINES_train.csv without query or answer",
        "not read: the column asked of the table unnamed (1 times)",
        "not read: the table notes, which has no columns key and value (1 times)",
        "not read: the field seed of answers (1 times)",
        "not read: the column split of HEADLINES_train.csv (8 times)",
    }


class Program:
    """What a pickle can do, and must not."""

    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("a program ran",)


def test_a_value_that_is_a_program_is_not_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = row("2000", "Q: gold up 9\nA:", "up")[0]
    made = database(tmp_path / "H.sqlite", [*whole(), (key, pickle.dumps(Program()))])
    right = references(tmp_path / "a.csv", [[query, way, 1] for query, way in GOLD])
    notes = frugalgpt.read(made, [right]).notes
    assert "1 left out: its value holds a builtins.print, which is no plain data" in notes
    assert "a program ran" not in capsys.readouterr().out


def test_equal_questions_are_told_by_what_stands_before_them(tmp_path: Path) -> None:
    asked = [
        (f"{story}\n\nQ: how many?\nA:", answer) for story, answer in (("ten", "10"), ("two", "2"))
    ]
    rows = [row("2000", query, answer) for query, answer in asked]
    right = references(tmp_path / "a.csv", [[query, answer, 1] for query, answer in asked])
    found = frugalgpt.read(database(tmp_path / "C.sqlite", rows), [right])
    np.testing.assert_array_equal(found.success, [[1], [1]])
    bare = references(
        tmp_path / "b.csv", [["Q: how many?\nA:", "10", 1], ["Q: how many?\nA:", "2", 2]]
    )
    with pytest.raises(BadInput, match="references of its query have different answers"):
        frugalgpt.read(tmp_path / "C.sqlite", [bare])


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"a,b\n1,2\n", "is no SQLite database"), (b"SQLite format 3\x00 torn", "cannot be read")],
)
def test_another_file_is_refused(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "x.sqlite").write_bytes(content)
    with pytest.raises(BadInput, match=said):
        frugalgpt.read(tmp_path / "x.sqlite", [references(tmp_path / "a.csv", [["q", "a", 1]])])


def test_a_database_without_its_table_is_refused(tmp_path: Path) -> None:
    made = database(tmp_path / "x.sqlite", [], "other")
    sqlite3.connect(made).execute('ALTER TABLE "other" RENAME COLUMN value TO text')
    with pytest.raises(BadInput, match="no table with columns key and value: other"):
        frugalgpt.read(made, [references(tmp_path / "a.csv", [["q", "a", 1]])])


def test_the_command_writes_a_table_that_it_reads(
    released: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made, right = released
    out = tmp_path / "table.csv"
    assert main(["route", str(made), "--references", str(right), "--table", str(out)]) == 0
    assert "18 of 18 answers kept: 3 LLMs on 6 queries" in capsys.readouterr().out
    again, first = data.read(out), frugalgpt.read(made, [right])
    assert (again.llms, again.text, again.ids) == (first.llms, first.text, first.ids)
    np.testing.assert_array_equal(again.success, first.success)
    np.testing.assert_array_equal(again.cost, first.cost)


def test_the_command_says_what_a_database_lacks(
    released: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["route", str(released[0])]) == 2
    assert "give --references NAME_train.csv" in capsys.readouterr().err
    assert main(["route", str(released[1]), "--table", "t.csv"]) == 2
    assert "is no SQLite database" in capsys.readouterr().err


def test_a_study_finds_the_database_beside_its_references(tmp_path: Path) -> None:
    database(tmp_path / "HEADLINES.sqlite", whole())
    for part, rows in (("train", GOLD[:4]), ("test", GOLD[4:])):
        lines = [[query, way, n] for n, (query, way) in enumerate(rows)]
        references(tmp_path / f"HEADLINES_{part}.csv", lines)
    assert BENCHMARKS["headlines"](tmp_path).success.shape == (6, 3)
