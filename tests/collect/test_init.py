"""`understudy init`: what a file holds, and a config that runs on it."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.files import REAL_FILE, llamaduo, needs_real_data, write
from understudy import config as configuration
from understudy.cli.main import main
from understudy.collect import guesses, init
from understudy.config import Config, changed
from understudy.config.compose import compose
from understudy.data import coverage
from understudy.data.prepare import prepare

Composed = Callable[..., Config]


def look(path: Path, config: Config) -> init.Proposal:
    # no tokenizer on this machine
    return init.propose(path, changed(config, {"model.path": None}))


def test_a_file_is_described(composed: Composed, tmp_path: Path) -> None:
    rows: list[dict[str, Any] | str] = [llamaduo(n) for n in range(50)]
    rows += [llamaduo(50, "gpt-4o"), '{"torn']
    proposal = look(write(tmp_path / "a.jsonl", rows), composed())
    assert (proposal.found.total, proposal.rows, len(proposal.found.bad)) == (52, 50, 1)
    assert proposal.found.not_coverage == {"by generator gpt-4o": 1}
    assert (proposal.task, proposal.category) == ("classification", None)
    assert (proposal.split.validation, proposal.split.test) == (5, 10)
    assert proposal.tokens is None


@pytest.mark.parametrize(
    ("categories", "task", "kept"),
    [
        ({"Classify": 9}, "classification", None),
        ({"Closed QA": 5, "Chat": 3}, "closed_qa", "Closed QA"),
        ({"Chat": 9, "Summarize": 2}, "summarization", "Summarize"),
        ({"Chat": 9}, "closed_qa", None),
        ({}, "closed_qa", None),
    ],
)
def test_the_task_is_guessed_from_the_categories(
    categories: dict[str, int], task: str, kept: str | None, composed: Composed
) -> None:
    assert guesses.guess_task(Counter(categories), composed()) == (task, kept)


def test_splits_that_the_file_has_are_not_drawn_again() -> None:
    assert guesses.propose_split(5000, {None}).test == 200
    given = guesses.propose_split(100, {"train", "test", "validation"})
    assert (given.test, given.validation) == (0, 0)


def test_a_histogram_has_a_line_per_doubling() -> None:
    lines = init.histogram([1, 2, 3, 9, 9, 9, 9])
    assert [line.split()[-1] for line in lines] == ["1", "2", "0", "4"]
    assert lines[-1].count("█") == 40


@pytest.mark.slow
def test_the_written_options_make_a_run_on_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [{**llamaduo(n), "category": "Chat" if n > 40 else "Closed QA"} for n in range(50)]
    write(tmp_path / "My Tickets.jsonl", rows)
    assert main(["init", "My Tickets.jsonl"]) == 0
    said = capsys.readouterr().out
    assert "next: understudy run experiment=my_tickets --config-dir understudy-conf" in said
    assert "41 Closed QA, 9 Chat" in said
    assert "0 rows over its context of 512 tokens" in said
    written = tmp_path / "understudy-conf"
    assert yaml.safe_load((written / "coverage/my_tickets.yaml").read_text())["split"]["test"] == 8
    values = compose(["experiment=my_tickets"], str(written))
    values["paths"]["root"] = str(tmp_path / "runs")
    config = configuration.build(values)
    assert (config.task.name, config.data_size, config.baseline.kind) == ("closed_qa", 0, "none")
    _, notices = prepare(config, tmp_path / "hub.json")
    assert notices[:2] == [
        "coverage: 41 rows, format llamaduo",
        "coverage: 9 rows are not coverage: 9 of category Chat",
    ]


@pytest.mark.slow
def test_nothing_is_overwritten_unless_forced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "file.jsonl", [llamaduo(n) for n in range(20)])
    command = ["init", str(path), "--out", str(tmp_path / "conf")]
    assert main(command) == 0
    option = tmp_path / "conf/coverage/my_file.yaml"  # `file` is an option of understudy's own
    option.write_text("# mine\n")
    assert main(command) == 2
    assert "--force" in capsys.readouterr().err
    assert option.read_text() == "# mine\n"
    assert main([*command, "--force"]) == 0
    assert "kind" not in option.read_text()
    assert "format: llamaduo" in option.read_text()


@pytest.mark.parametrize("name", ["missing.jsonl", "empty.jsonl"])
def test_a_file_that_cannot_be_read_gets_one_sentence(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if name == "empty.jsonl":
        (tmp_path / name).touch()
    assert main(["init", str(tmp_path / name), "--out", str(tmp_path / "conf")]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert not (tmp_path / "conf").exists()


@needs_real_data
def test_the_real_file_is_recognised(composed: Composed) -> None:
    proposal = look(REAL_FILE, composed())
    assert (proposal.found.total, proposal.rows, proposal.task) == (339, 334, "classification")
    assert proposal.near_duplicates == 2
    assert len(proposal.characters) == 334


@pytest.mark.slow
def test_what_init_proposes_reads_odd_columns_bad_rows_and_half_a_split(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows: list[dict[str, Any] | str] = [
        {"split": "test" if n % 5 == 0 else "train", "query_text": f"How is {n}?", "reply": f"{n}."}
        for n in range(60)
    ]
    rows += [{"split": "train", "query_text": "", "reply": "-"}] * 3 + ['{"torn']
    path, out = write(tmp_path / "odd.jsonl", rows), tmp_path / "conf"
    assert main(["init", str(path), "--out", str(out)]) == 0
    assert "odd" in capsys.readouterr().out
    config = configuration.build(compose(["experiment=odd"], str(out)))
    config = prepare(config, tmp_path / "hub.json").config
    found = coverage.find(config.coverage, config.task.name)
    assert (len(found.pairs), len(found.bad)) == (60, 4)
    assert Counter(pair.split for pair in found.pairs) == {"test": 12, None: 48}
    assert config.coverage.columns.prompt == "query_text"
    assert config.coverage.split.validation > 0 == config.coverage.split.test


def test_messages_that_hold_no_answer_are_the_prompt_of_a_response(
    composed: Composed, tmp_path: Path
) -> None:
    rows = [{"messages": [{"role": "user", "content": f"{n}?"}], "response": "4"} for n in range(9)]
    proposal = look(write(tmp_path / "a.jsonl", rows), composed())
    assert proposal.columns == {"prompt": "messages", "response": "response"}
    assert proposal.rows == 9
