"""Somebody's own rows: every format, every way a file can be wrong, near-duplicates, licences."""

import csv
import gzip
import json
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.files import REAL_FILE, job, llamaduo, needs_real_data, turns, write
from understudy import playground
from understudy.cli.main import main
from understudy.config import Config
from understudy.data import coverage, formats, sources
from understudy.data.duplicates import clusters
from understudy.data.rejects import BadRow
from understudy.data.split import split
from understudy.errors import BadInput
from understudy.records import Coverage, read_rows

Composed = Callable[..., Config]


@pytest.fixture
def found(composed: Composed, tmp_path: Path) -> Callable[..., list[Coverage]]:
    """A function: path and overrides → the rows that the coverage stage writes."""

    def make(path: Path, *overrides: str) -> list[Coverage]:
        config = composed("coverage=file", f"coverage.path={path}", *overrides)
        made = job(config, tmp_path / f"stage-{len(list(tmp_path.iterdir()))}")
        coverage.run(made)
        rows = list(read_rows(made.out / "rows.jsonl", Coverage))
        assert made.notes["rows"] == len(rows)
        return rows

    return make


PAIRS = [
    {"prompt": "Name a colour.", "response": "Red."},
    {"prompt": "Name a shape, “any”.", "response": "Square,\nround."},
]


def as_parquet(path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(PAIRS), path)


def as_csv(path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["prompt", "response"])
        writer.writeheader()
        writer.writerows(PAIRS)


def as_json_lines(path: Path) -> None:
    write(path, PAIRS)


WRITERS: dict[str, Callable[[Path], Any]] = {
    "a.jsonl": as_json_lines,
    "lines.json": as_json_lines,
    "a.json": lambda path: path.write_text(json.dumps(PAIRS), encoding="utf-8"),
    "a.csv": as_csv,
    "a.parquet": as_parquet,
    "a.jsonl.gz": lambda path: path.write_bytes(
        gzip.compress("".join(json.dumps(row) + "\n" for row in PAIRS).encode())
    ),
}


@pytest.mark.parametrize("name", WRITERS)
def test_the_same_rows_are_read_from_every_kind_of_file(
    name: str, found: Callable[..., list[Coverage]], tmp_path: Path
) -> None:
    WRITERS[name](tmp_path / name)
    rows = found(tmp_path / name)
    assert sorted((r.instruction, r.response) for r in rows) == sorted(
        (pair["prompt"], pair["response"]) for pair in PAIRS
    )


@pytest.mark.parametrize(
    ("row", "messages"),
    [
        ({"messages": turns("a", "b")}, turns("a", "b")),
        (
            {"messages": turns("a", "b", "c", "d", system="s")},
            turns("a", "b", "c", "d", system="s"),
        ),
        ({"prompt": "a", "response": "b"}, turns("a", "b")),
        ({"instruction": "a", "output": "b", "input": "c"}, turns("a\n\nc", "b")),
        ({"prompt": "a", "completion": "b", "system": "s"}, turns("a", "b", system="s")),
        (llamaduo(3), llamaduo(3)["messages"]),
    ],
)
def test_a_row_becomes_a_conversation(row: dict[str, Any], messages: list[dict[str, str]]) -> None:
    assert formats.conversation(row, formats.detect(list(row), "here")) == messages


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"messages": turns("a")}, "ends with the turn of user"),
        ({"messages": turns("a", " ")}, "empty assistant turn"),
        ({"messages": [{"role": "assistant", "content": "b"}]}, "no user turn"),
        (
            {"messages": [*turns("a"), {"role": "system", "content": "s"}, *turns("a", "b")]},
            "first",
        ),
        ({"messages": [{"role": "bot", "content": "b"}]}, "role 'bot'"),
        ({"messages": [{"role": "user", "content": None}]}, "user turn without text"),
        ({"messages": "hello"}, "neither a list nor JSON"),
        ({"messages": None}, "no list"),
        ({"prompt": "a", "response": None}, "no text in response"),
        ({"prompt": 3, "response": "b"}, "no text, but prompt=3"),
    ],
)
def test_a_bad_row_says_what_is_wrong_with_it(row: dict[str, Any], words: str) -> None:
    with pytest.raises(BadRow, match=words):
        formats.conversation(row, formats.detect(list(row), "here"))


def test_rows_that_a_model_wrote_are_no_coverage_and_are_counted(
    composed: Composed, tmp_path: Path
) -> None:
    rows = [llamaduo(n, "gpt-4o" if n < 2 else "Human") for n in range(6)]
    path = write(tmp_path / "a.jsonl", rows)
    config = composed("coverage=file", f"coverage.path={path}", "coverage.licence=CC-BY-NC-4.0")
    made = job(config, tmp_path / "stage")
    coverage.run(made)
    assert made.notes["rows"] == 4
    assert made.notes["not_coverage"] == {"by generator gpt-4o": 2}
    assert "coverage: licence CC-BY-NC-4.0 (4 rows)" in made.notes["notices"]


def test_the_users_columns_for_id_lineage_split_and_licence_are_taken(
    found: Callable[..., list[Coverage]], tmp_path: Path
) -> None:
    rows = [
        {**pair, "key": n, "conversation_id": "c", "part": "test_sft", "license": "MIT"}
        for n, pair in enumerate(PAIRS)
    ]
    path = write(tmp_path / "a.jsonl", rows)
    made = found(path, "coverage.columns.id=key", "coverage.columns.split=part")
    assert [(r.id, r.group_id, r.split, r.licence) for r in made] == [
        ("0", "c", "test", "MIT"),
        ("1", "c", "test", "MIT"),
    ]


def test_ids_that_are_not_unique_are_replaced_but_refused_where_the_user_points_at_them(
    found: Callable[..., list[Coverage]], tmp_path: Path
) -> None:
    path = write(tmp_path / "a.jsonl", [{**pair, "id": 7} for pair in PAIRS])
    assert {r.id for r in found(path)}.isdisjoint({"7"})
    with pytest.raises(BadInput, match=r"value 7 in 2 rows.*columns.id=id"):
        found(path, "coverage.columns.id=id")


def test_one_category_can_be_taken_for_a_task(
    found: Callable[..., list[Coverage]], tmp_path: Path
) -> None:
    rows = [{**pair, "category": f"c{n}"} for n, pair in enumerate(PAIRS)]
    path = write(tmp_path / "a.jsonl", rows)
    made = found(path, "task=coding", "++coverage.categories.coding=c1")
    assert [r.instruction for r in made] == [PAIRS[1]["prompt"]]


def test_bad_rows_are_skipped_up_to_the_tolerance(
    found: Callable[..., list[Coverage]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows: list[dict[str, Any] | str] = [llamaduo(n) for n in range(200)]
    rows[16] = '{"generator": "Human", '
    path = write(tmp_path / "a.jsonl", rows)
    assert len(found(path)) == 199
    assert f"{path}:17 is not JSON" in caplog.text
    with pytest.raises(BadInput, match=r"a\.jsonl:17 is not JSON.*1 of 200 rows"):
        found(path, "coverage.tolerance=0")


def broken_at_17(path: Path) -> Path:
    rows: list[dict[str, Any] | str] = [llamaduo(n) for n in range(30)]
    rows[16] = '{"generator": '
    return write(path, rows)


WRONG: dict[str, tuple[Callable[[Path], Any], list[str]]] = {
    "missing.jsonl": (lambda path: None, ["does not exist"]),
    "empty.jsonl": (lambda path: path.touch(), ["is empty"]),
    "blank.jsonl": (lambda path: path.write_text("\n\n"), ["holds no row"]),
    "broken.jsonl": (broken_at_17, ["broken.jsonl:17", "is not JSON"]),
    "schema.jsonl": (lambda path: write(path, [{"a": 1, "b": 2}]), ["columns a, b", "messages"]),
    "list.jsonl": (lambda path: write(path, ["[1]"]), ["list.jsonl row 1", "not an object"]),
    "bad.json": (lambda path: path.write_text('[\n{"a": 1},\n{"b"]'), ["bad.json:3"]),
    "bytes.jsonl": (
        lambda path: path.write_bytes(
            b'{"prompt": "\xff"}\n{"prompt": "\xc3\xa9", "response": "e"}\n'
        ),
        ["bytes.jsonl:1", "UTF-8"],
    ),
    "torn.jsonl.gz": (lambda path: path.write_bytes(gzip.compress(b"{}" * 99)[:-9]), ["gzip"]),
    "text.parquet": (lambda path: path.write_text("no"), ["parquet"]),
    "short.csv": (
        lambda path: path.write_text("prompt,response\na,b\nc\n"),
        ["short.csv:3", "fewer fields"],
    ),
    "notes.docx": (lambda path: path.write_text("no"), [".jsonl", ".parquet"]),
    "robots.jsonl": (
        lambda path: write(path, [llamaduo(1, "gpt-4o")]),
        ["no coverage row", "gpt-4o"],
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_bad_file_gets_one_sentence_with_the_place_before_any_stage(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make, words = WRONG[name]
    make(tmp_path / name)
    root = tmp_path / "runs"
    command = ["run", "coverage=file", f"coverage.path={tmp_path / name}", f"paths.root={root}"]
    assert main(command) == 2
    said = capsys.readouterr().err.strip()
    assert len(said.splitlines()) == 1
    assert all(word in said for word in [name, *words]), said
    assert not root.exists()


@pytest.mark.slow
def test_an_unknown_hub_name_offline_is_told_within_five_seconds(tmp_path: Path) -> None:
    started = time.monotonic()
    done = subprocess.run(
        [
            *(sys.executable, "-m", "understudy", "run", "coverage=hub"),
            *("coverage.repo=nobody/nothing", f"paths.root={tmp_path}"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert "nobody/nothing" in done.stderr
    assert "cannot be reached" in done.stderr
    assert time.monotonic() - started < 5


@pytest.mark.slow
def test_a_data_set_is_read_through_the_hub_library_and_its_parts_give_splits(
    composed: Composed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    home = tmp_path / "set"
    home.mkdir()
    write(home / "train.jsonl", [llamaduo(n) for n in range(5)])
    write(home / "test.jsonl", [llamaduo(n) for n in range(5, 7)])
    overrides = [
        f"coverage.repo={home}",
        "++coverage.parts.train=null",
        "++coverage.parts.test=test",
    ]
    made = job(composed("coverage=hub", *overrides), tmp_path / "stage")
    coverage.run(made)
    rows = list(read_rows(made.out / "rows.jsonl", Coverage))
    assert sorted(str(r.split) for r in rows) == ["None"] * 5 + ["test"] * 2


def test_a_name_without_a_revision_is_resolved_once_and_recorded(
    composed: Composed, tmp_path: Path
) -> None:
    config = composed("coverage=hub", "coverage.repo=some/set")
    record = tmp_path / "hub.json"
    record.write_text(json.dumps({"some/set": "a" * 40}))
    assert sources.pinned(config.coverage, record) == "a" * 40


def test_no_robots_is_pinned_and_says_its_licence(composed: Composed) -> None:
    source = composed("coverage=no_robots").coverage
    assert (source.licence, len(source.revision or "")) == ("CC-BY-NC-4.0", 40)


# --- near-duplicates -----------------------------------------------------------------------------


WORDS = st.lists(st.sampled_from("abcd"), min_size=1, max_size=9).map(" ".join)


@settings(deadline=None)
@given(st.lists(WORDS, max_size=12))
def test_clusters_are_those_of_comparing_every_pair(texts: list[str]) -> None:
    expected = list(range(len(texts)))
    for i, j in combinations(range(len(texts)), 2):
        if set(texts[i].split()) == set(texts[j].split()):
            low, high = sorted((expected[i], expected[j]))
            expected = [low if label == high else label for label in expected]
    assert clusters(texts) == expected


def test_a_chain_of_near_duplicates_is_one_cluster() -> None:
    words = [f"word{n}" for n in range(60)]
    texts = [" ".join(words[start : start + 40]) for start in (0, 10, 20, 60)]
    assert clusters(texts[:3]) == [0, 0, 0]
    assert clusters([texts[0], texts[2]]) == [0, 1]


def test_case_spacing_and_one_word_in_many_make_no_new_cluster() -> None:
    long = " ".join(f"word{n}" for n in range(40))
    assert clusters([long, f"  {long.upper()}", f"{long} more", "word1 word2", ""]) == [
        0,
        0,
        0,
        3,
        4,
    ]


@pytest.mark.slow
def test_ten_thousand_rows_are_clustered_in_seconds() -> None:
    texts = [
        pair.instruction
        for task in playground.TASKS
        for pair in playground.generate(task, 0, 0, 2500)
    ]
    started = time.process_time()
    assert len(clusters(texts)) == 10_000
    assert time.process_time() - started < 60  # all pairs would take a quarter of an hour


def test_near_duplicates_never_straddle_a_split(
    found: Callable[..., list[Coverage]], composed: Composed, tmp_path: Path
) -> None:
    rows = [llamaduo(n) for n in range(40)]
    for row in rows[1::2]:  # says what the row before says, a little louder
        twin = rows[rows.index(row) - 1]["prompt"]
        row["messages"] = turns(f"{twin.upper()}", "Other answer.")
    made = found(write(tmp_path / "a.jsonl", rows))
    assert len({r.group_id for r in made}) == 20
    drawn = split(made, composed("coverage=file", "coverage.path=x").coverage.split, 0)
    assert len({(r.group_id, r.split) for r in drawn}) == 20


def test_rows_follow_the_given_split_of_their_group(composed: Composed) -> None:
    rows = [
        Coverage(str(n), f"g{n // 2}", turns("a", "b"), "t", None, "s", "test" if n == 0 else None)
        for n in range(20)
    ]
    drawn = split(rows, composed("coverage=no_robots").coverage.split, 0)
    assert [r.split for r in drawn[:2]] == ["test", "test"]
    assert sum(r.split == "test" for r in drawn) == 2


@needs_real_data
def test_the_real_file_has_334_human_rows_and_two_near_duplicate_pairs(
    found: Callable[..., list[Coverage]], composed: Composed
) -> None:
    rows = found(REAL_FILE, "task=classification")
    assert len(rows) == len({r.id for r in rows}) == 334
    groups: dict[str, int] = {}
    for row in rows:
        groups[row.group_id] = groups.get(row.group_id, 0) + 1
    assert sorted(groups.values())[-3:] == [1, 2, 2]


@needs_real_data
@pytest.mark.slow
def test_the_loop_runs_on_the_real_rows_alone(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    command = ["run", "task=classification", "coverage=file", f"coverage.path={REAL_FILE}"]
    command += ["data_size=0", "model=tiny", "judge=offline", "baseline=none"]
    command += ["coverage.tolerance=0.6"]  # over half of them are too long for the tiny model
    small = ["trainer.max_steps=8", "trainer.evaluations=2", "inference.k=1", "evaluation.m=1"]
    assert main([*command, *small, f"paths.root={tmp_path}", "run.name=real"]) == 0
    said = capfd.readouterr()
    assert "coverage: 5 rows are not coverage: 5 by generator gpt-4o" in said.err
    assert "stages run: 7" in said.out
    run = json.loads((tmp_path / "rehearsal/run/real/run.json").read_text())
    assert [entry["data_size"] for entry in run["rounds"]] == [0]
    assert not any("synthesis" in role for role in run["rounds"][0]["stages"])
    files = list((tmp_path / "rehearsal").glob("*/*/out/rows.jsonl"))
    lines = [json.loads(line) for path in files for line in path.read_text().splitlines()]
    messages = [row["messages"] for row in lines if "messages" in row]
    assert len(messages) > 334
    assert not any(playground.identify(turn[-2]["content"]) for turn in messages)
    ids = {row.get("id") or row.get("prompt_id") for row in lines}
    real = map(json.loads, REAL_FILE.read_text(encoding="utf-8").splitlines())
    assert ids == {row["prompt_id"] for row in real if row["generator"] == "Human"}
