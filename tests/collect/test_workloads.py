"""`init` on what people have: what it prints composes, and its stages lose nothing unsaid."""

import gzip
import json
import shlex
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from support import files, workloads
from support.files import REAL, needs_real_data
from understudy import config as configuration
from understudy.cli.main import main, parser
from understudy.config import Config, changed
from understudy.config.compose import compose
from understudy.data import coverage, split
from understudy.data.prepare import prepare
from understudy.records import Coverage, read_rows

Capture = pytest.CaptureFixture[str]
WORKLOADS = Path(REAL or ".") / "workloads"
REAL_NAMES = {  # file -> the parts that its split column lacks
    **{"support_tickets": "", "geography_sql": "", "banking77": "validation"},
    **{"slots_json": "validation", "gsm8k": "validation", "pii_spans_json": "validation"},
    **{"bfcl_tool_calls": "train and no validation", "humaneval": "train and no validation"},
    **{
        "json_mode_teacher": "validation and no test",
        "self_instruct_seeds": "validation and no test",
    },
}
MADE_NAMES = {
    **{"tickets": "", "sql": "", "intents": "validation", "slots": "validation"},
    **{"maths": "validation", "spans": "validation", "calls": "train and no validation"},
    **{"code": "train and no validation", "json_mode": "validation and no test"},
    **{"seeds": "validation and no test"},
}


def proposed(path: Path, at: Path, capsys: Capture) -> tuple[str, SimpleNamespace]:
    """What `init` says of a file, and the words of the command that it prints."""
    assert main(["init", str(path), "--out", str(at / "conf")]) == 0
    said = capsys.readouterr().out
    (line,) = (line for line in said.splitlines() if line.startswith("next: "))
    program, *words = shlex.split(line.removeprefix("next: "))
    assert program == "understudy"
    return " ".join(said.split()), SimpleNamespace(words=words, **vars(parser().parse_args(words)))


def config_of(command: SimpleNamespace, at: Path) -> tuple[Config, list[str]]:
    """The config that a printed command composes, and what a run says before its first stage."""
    config = configuration.build(compose(command.overrides, command.config_dir))
    return prepare(changed(config, {"paths.root": str(at / "runs")}), at / "hub.json")


def staged(config: Config, at: Path) -> list[Coverage]:
    """The rows of the stages coverage and split."""
    first = files.job(config, at / "coverage")
    coverage.run(first)
    second = files.job(config, at / "split", coverage=first.out)
    split.run(second)
    return list(read_rows(second.out / "rows.jsonl", Coverage))


def rows_of(path: Path) -> list[dict[str, str]]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def check(path: Path, lacks: str, at: Path, capsys: Capture) -> None:
    said, command = proposed(path, at, capsys)
    told = f"the file's split column names no {lacks}"
    assert (told in said) == bool(lacks), said
    config, _ = config_of(command, at)
    rows, given = staged(config, at), rows_of(path)
    assert len(rows) == len(given)
    assert Counter(row.response for row in rows) == Counter(row["response"] for row in given)
    parts = Counter(row.split for row in rows)
    assert min(parts[name] for name in ("train", "validation", "test")) > 0, parts
    own = Counter(row["split"] for row in given)
    if "train" not in lacks and "test" not in lacks:
        assert parts["test"] >= own["test"]  # and what is near-duplicate to it


# A composition takes longer than all the rest, so most are for the slow suite.
_FAST = {"intents", "calls", "alpaca.json", "fine_tuning.jsonl", "nested.jsonl.zst"}


def some_slow(names: Iterable[str]) -> list[Any]:
    return [pytest.param(n, marks=[] if n in _FAST else [pytest.mark.slow]) for n in names]


@pytest.mark.slow
@pytest.mark.parametrize("name", some_slow(MADE_NAMES))
def test_what_init_proposes_for_a_workload_composes_and_splits(
    name: str, tmp_path: Path, capsys: Capture
) -> None:
    path = workloads.write(tmp_path / f"{name}.jsonl.gz", workloads.SHAPES[name])
    check(path, MADE_NAMES[name], tmp_path, capsys)


@pytest.mark.slow
@needs_real_data
@pytest.mark.parametrize("name", REAL_NAMES)
def test_what_init_proposes_for_a_real_workload_composes_and_splits(
    name: str, tmp_path: Path, capsys: Capture
) -> None:
    check(WORKLOADS / f"{name}.jsonl.gz", REAL_NAMES[name], tmp_path, capsys)


def check_format(name: str, pairs: list[tuple[str, str]], at: Path, capsys: Capture) -> None:
    write, unread = workloads.FORMATS[name]
    (at / name).write_bytes(write(pairs))
    said, command = proposed(at / name, at, capsys)
    config, notices = config_of(command, at)
    rows = staged(config, at)
    assert len(rows) == len(pairs)
    assert Counter(row.response for row in rows) == Counter(response for _, response in pairs)
    asked = [row.messages[-2]["content"].removeprefix("Which?\n\n") for row in rows]
    assert Counter(asked) == Counter(prompt for prompt, _ in pairs)
    named = " ".join(line for line in notices if "nobody reads" in line)
    for column in unread:
        assert f"{column} (100 % of rows)" in named
        assert f"{column} (100 % of rows)" in said
    assert named.count("% of rows") == len(unread)


@pytest.mark.parametrize("name", some_slow(workloads.FORMATS))
def test_rows_in_other_formats_come_through_init_and_its_command(
    name: str, tmp_path: Path, capsys: Capture
) -> None:
    pairs = [(workloads.asked(n), f"It is “{n % 9}”; yes.") for n in range(30)]
    check_format(name, pairs, tmp_path, capsys)


@pytest.mark.slow
@needs_real_data
@pytest.mark.parametrize("name", workloads.FORMATS)
def test_300_real_rows_in_other_formats_come_through_init_and_its_command(
    name: str, tmp_path: Path, capsys: Capture
) -> None:
    given = rows_of(WORKLOADS / "support_tickets.jsonl.gz")[::27]
    pairs = [(row["prompt"], row["response"]) for row in given]
    assert len(pairs) == 300
    check_format(name, pairs, tmp_path, capsys)


CHEAP = ("trainer.max_steps=2", "trainer.evaluations=1", "inference.max_new_tokens=8")


def whole_run(path: Path, at: Path, capsys: Capture) -> None:
    _, command = proposed(path, at, capsys)
    more = [*CHEAP, f"paths.root={at / 'runs'}"]
    assert main([*command.words, *more]) == 0
    assert "stages run" in capsys.readouterr().out
    assert main([*command.words, *more]) == 0
    assert "stages run: 0" in capsys.readouterr().out


@pytest.mark.slow
def test_what_init_prints_is_a_whole_run(tmp_path: Path, capsys: Capture) -> None:
    path = workloads.write(tmp_path / "intents.jsonl.gz", workloads.SHAPES["intents"])
    whole_run(path, tmp_path, capsys)


@pytest.mark.slow
@needs_real_data
def test_what_init_prints_for_a_real_workload_is_a_whole_run(
    tmp_path: Path, capsys: Capture
) -> None:
    whole_run(WORKLOADS / "self_instruct_seeds.jsonl.gz", tmp_path, capsys)
