"""Training sets for others, and back: LlamaDuo's schema, HF messages, OpenAI, the hub."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from support import files, pools
from understudy.cli.main import main
from understudy.config import Config
from understudy.data import cleaning, coverage, publish
from understudy.records import Coverage, Synthetic, read_rows

RUN = [
    *("coverage.rows=40", "coverage.split.test=4", "coverage.split.validation=4", "data_size=50"),
    "run.name=small",
]


@pytest.fixture
def root(composed: Callable[..., Config]) -> Path:
    """A root with a training set of 32 human and 50 synthetic rows."""
    config = composed(*RUN)
    pools.training_set(config)
    return Path(config.paths.root)


def exported(root: Path, at: Path, kind: str) -> dict[str, list[dict[str, Any]]]:
    words = ["--format", kind, "--out", str(at), "--root", str(root)]
    assert main(["export-data", "small", *words]) == 0
    return {
        path.stem: [json.loads(line) for line in path.read_text().splitlines()]
        for path in at.glob("*.jsonl")
    }


def subset(root: Path) -> list[Coverage]:
    (path,) = root.glob("rehearsal/subset/*/out/rows.jsonl")
    return list(read_rows(path, Coverage))


@pytest.mark.slow
def test_llamaduos_schema_is_written_and_read_back(
    root: Path, tmp_path: Path, composed: Callable[..., Config]
) -> None:
    rows = exported(root, tmp_path / "out", "llamaduo")["train"]
    assert {tuple(row) for row in rows} == {
        ("generator", "prompt_id", "seed_prompt", "messages", "category", "prompt")
    }
    made = [row for row in rows if row["generator"] != "Human"]
    assert (len(rows), len(made)) == (82, 50)
    assert {row["seed_prompt"] for row in rows if row["generator"] == "Human"} == {"Unknown"}
    assert all("Write exactly 5 new pairs." in row["seed_prompt"] for row in made)
    path = tmp_path / "out" / "train.jsonl"

    human = files.job(composed("coverage=file", f"coverage.path={path}"), tmp_path / "c")
    coverage.run(human)
    back = {row.instruction for row in read_rows(human.out / "rows.jsonl", Coverage)}
    assert back == {row.instruction for row in subset(root) if row.source == "playground"}

    config = composed("synthesis=file", f"synthesis.path={path}", "data_size=50")
    (split,) = root.glob("rehearsal/split/*/out")
    pool = files.job(config, tmp_path / "s", split=split)
    cleaning.run(pool)
    cleaned = list(read_rows(pool.out / "rows.jsonl", Synthetic))
    taken = {row.instruction: row.response for row in cleaned}
    assert taken == {
        row.instruction: row.response for row in subset(root) if row.source != "playground"
    }
    assert {row.teacher for row in cleaned} == {"offline"}


@pytest.mark.slow
def test_messages_keep_where_a_row_comes_from_and_openai_gets_nothing_else(
    root: Path, tmp_path: Path, composed: Callable[..., Config]
) -> None:
    ours = subset(root)
    made = exported(root, tmp_path / "a", "messages")
    assert [row["id"] for row in made["train"]] == [row.id for row in ours]
    assert len(made["validation"]) == 4
    assert set(made["train"][0]) == {"messages", "id", "task", "source", "licence"}
    plain = exported(root, tmp_path / "b", "openai")["train"]
    assert [row["messages"] for row in plain] == [row.messages for row in ours]
    assert {tuple(row) for row in plain} == {("messages",)}
    for name in "ab":
        path = tmp_path / name / "train.jsonl"
        job = files.job(composed("coverage=file", f"coverage.path={path}"), tmp_path / f"{name}2")
        coverage.run(job)
        back = read_rows(job.out / "rows.jsonl", Coverage)
        assert sorted(str(row.messages) for row in back) == sorted(str(r.messages) for r in ours)


def test_the_card_says_how_the_rows_were_made(root: Path, tmp_path: Path) -> None:
    exported(root, tmp_path / "a", "messages")
    text = (tmp_path / "a" / "README.md").read_text()
    front = yaml.safe_load(text.split("---")[1])
    assert front["configs"][0]["data_files"] == [
        {"split": "train", "path": "train.jsonl"},
        {"split": "validation", "path": "validation.jsonl"},
    ]
    assert "32 human and 50 synthetic rows" in text
    assert "A rehearsal" in text
    assert "4 test, 4 validation rows" in text
    assert "words, lineage): 0." in text
    assert "Write exactly $count new pairs." in text
    assert "What they cost is not known." in text


def test_a_push_is_refused_in_one_sentence_before_anything_is_written(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["export-data", "small", "--out", str(tmp_path / "a"), "--root", str(root), "--push"]
    refused = {"me/rows": "the hub cannot be reached", "a/b/c": "no name of a data set"}
    for name, said in refused.items():
        assert main([*words, name]) == 2
        error = capsys.readouterr().err
        assert said in error
        assert error.count("\n") == 1
    assert not (tmp_path / "a").exists()


def test_a_round_that_is_not_there_is_refused_with_those_that_are(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "out")
    words = ["export-data", "small", "--out", out, "--root", str(root), "--round", "3"]
    assert main(words) == 2
    assert "it has one of 0" in capsys.readouterr().err


def test_every_format_has_a_converter() -> None:
    row = Coverage("i", "i", files.turns("q", "a"), "t", None, "s", "train")
    for kind in publish.FORMATS:
        assert publish.converter(kind, "c", {})(row)["messages"][1]["content"] == "a"


def test_a_directory_with_something_in_it_is_left_alone(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "raw.jsonl").write_text("mine\n")
    words = ["export-data", "small", "--out", str(tmp_path / "out"), "--root", str(root)]
    assert main(words) == 2
    assert "is not empty; give another directory, or --force" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["raw.jsonl"]
