"""`understudy collect`: what is read, kept, named and written, from the command line."""

import gzip
import json
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support import files
from understudy.cli import collect as cli_collect
from understudy.cli.main import main
from understudy.collect import collect as collecting
from understudy.collect import formats, redact
from understudy.collect.collect import collect
from understudy.collect.work import CollectOptions
from understudy.config import Config
from understudy.data import coverage, naming
from understudy.errors import BadInput
from understudy.records import Coverage, read_rows

Composed = Callable[..., Config]


def called(number: int, **more: Any) -> dict[str, Any]:
    """A call of a chat service, as a proxy logs it."""
    turns = files.turns(f"What is {number} times {number + 1}?", system=f"Be {number % 3} brief.")
    message = {"role": "assistant", "content": f"It is {number * (number + 1)}."}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    answer = {"id": f"chatcmpl-{number}", "object": "chat.completion", "choices": [choice]}
    request = {"model": "gpt-4o", "messages": turns, "user": f"ann{number % 5}@example.org"}
    return {"request": request, "response": {"model": "gpt-4o-2024-08-06", **answer}, **more}


def rows_of(path: Path) -> list[Coverage]:
    return list(read_rows(path, Coverage))


def test_the_coverage_stage_takes_the_file_as_it_is(tmp_path: Path, composed: Composed) -> None:
    log = files.write(tmp_path / "log.jsonl", map(called, range(30)))
    out = tmp_path / "coverage.jsonl"
    assert main(["collect", str(log), "--out", str(out)]) == 0
    made = rows_of(out)
    assert [row.response for row in made] == [f"It is {n * (n + 1)}." for n in range(30)]
    assert [row.id for row in made] == naming.row_ids(row.messages for row in made)
    job = files.job(composed("coverage=file", f"coverage.path={out}"), tmp_path / "stage")
    coverage.run(job)
    taken = {row.id: row for row in read_rows(job.out / "rows.jsonl", Coverage)}
    assert job.notes["bad"] == 0
    for row in made:
        assert taken[row.id].messages == row.messages
        assert taken[row.id].group_id == row.group_id
        assert taken[row.id].licence == "terms of use of OpenAI"


def test_a_task_of_several_can_be_chosen_as_the_summary_says(
    tmp_path: Path, composed: Composed, capsys: pytest.CaptureFixture[str]
) -> None:
    log = files.write(tmp_path / "log.jsonl", map(called, range(12)))
    out = tmp_path / "c.jsonl"
    rule = ["--task-rule", "even=What is [0-9]*[02468] "]
    assert main(["collect", str(log), "--out", str(out), *rule]) == 0
    hint = capsys.readouterr().out.splitlines()[-1]
    words = shlex.split(hint.partition(": ")[2].replace("NAME", "coding"))
    assert words[:2] == ["understudy", "run"]
    config = composed(*words[2:])
    job = files.job(config, tmp_path / "stage")
    coverage.run(job)
    assert len(rows_of(job.out / "rows.jsonl")) == 6


def test_each_conversation_is_kept_once_and_what_was_read_is_summed_up(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [*map(called, range(10)), *map(called, range(5)), "{", "[1]"]
    log = files.write(tmp_path / "log.jsonl", lines)
    out = tmp_path / "c.jsonl"
    words = ["collect", str(log), "--out", str(out)]
    assert main([*words, "--max-broken", "20%"]) == 0
    said = capsys.readouterr()
    counts = {
        line.rsplit(None, 1)[0].strip(): line.rsplit(None, 1)[1]
        for line in said.out.splitlines()[2:]
    }
    assert counts["lines read"] == "17"
    assert counts["rows kept"] == "10"
    assert counts["duplicates"] == "5"
    assert counts["broken lines"] == "2"
    assert counts["distinct ones"] == "3"
    assert counts["groups (users or conversations)"] == "5"
    assert f"skipped: {log}:16 is not JSON" in said.err
    assert f"skipped: {log}:17 is a list, not an object" in said.err
    assert "coverage=file coverage.path=" in said.out


def test_rows_that_redaction_makes_equal_are_one(tmp_path: Path) -> None:
    rows = [{"prompt": f"Mail a{n}@b.org", "response": "Done.", "user_id": n} for n in range(3)]
    log, out = files.write(tmp_path / "log.jsonl", rows), tmp_path / "c.jsonl"
    summary = collect([str(log)], out, CollectOptions())
    assert (summary.kept, summary.duplicates) == (1, 2)
    assert summary.redacted == {"email": 1}
    assert rows_of(out)[0].instruction == "Mail <EMAIL_1>"
    assert collect([str(log)], out, CollectOptions(redact=())).kept == 3


def test_the_group_is_the_users_hashed_unless_nothing_is_redacted(tmp_path: Path) -> None:
    log = files.write(tmp_path / "log.jsonl", [called(n, team=f"t{n % 2}") for n in range(10)])
    out = tmp_path / "c.jsonl"
    collect([str(log)], out, CollectOptions())
    groups = {row.group_id for row in rows_of(out)}
    assert len(groups) == 5
    assert not any("@" in group for group in groups)
    collect([str(log)], out, CollectOptions(redact=()))
    assert rows_of(out)[0].group_id == "ann0@example.org"
    collect([str(log)], out, CollectOptions(redact=(), group="team"))
    assert {row.group_id for row in rows_of(out)} == {"t0", "t1"}


def test_too_many_broken_lines_leave_everything_as_it_was(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = files.write(tmp_path / "log.jsonl", [*map(called, range(50)), "{"])
    out = files.write(tmp_path / "c.jsonl", ["earlier"])
    assert main(["collect", str(log), "--out", str(out), "--force"]) == 2
    assert f"{log}:51 is not JSON" in capsys.readouterr().err
    assert out.read_text() == "earlier\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.jsonl", "log.jsonl"]
    assert main(["collect", str(log), "--out", str(out), "--force", "--max-broken", "0.02"]) == 0
    assert len(rows_of(out)) == 50


@pytest.mark.slow
def test_the_number_of_processes_changes_no_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    padding = {"note": "x" * 400}
    lines: list[dict[str, Any]] = []
    for number in range(3000):
        whole = called(number % 2500, **padding)
        if number % 10:
            lines.append(whole)
        else:  # its answer comes last in the file
            lines.append({"request_id": f"r{number}", "request": whole["request"]})
    lines += [
        {"request_id": f"r{number}", "response": called(number % 2500)["response"], **padding}
        for number in range(0, 3000, 10)
    ]
    log = files.write(tmp_path / "log.jsonl", lines)
    monkeypatch.setattr(collecting, "_ALONE_UP_TO", 0)
    alone = collect([str(log)], tmp_path / "a.jsonl", CollectOptions(), jobs=1)
    both = collect([str(log)], tmp_path / "b.jsonl", CollectOptions(), jobs=2)
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()
    assert alone == both
    assert (alone.kept, alone.duplicates, alone.joined) == (2500, 500, 600)


@pytest.mark.slow
def test_packed_piped_and_listed_logs_give_the_same_rows(tmp_path: Path) -> None:
    calls = [called(number) for number in range(200)]
    plain = files.write(tmp_path / "log.jsonl", calls)
    (tmp_path / "log.jsonl.gz").write_bytes(gzip.compress(plain.read_bytes()))
    (tmp_path / "list.json").write_text(json.dumps(calls * 20, indent=2))  # several blocks
    (tmp_path / "page.json").write_text(json.dumps({"object": "list", "data": calls}, indent=2))
    made = []
    for name in ("log.jsonl", "log.jsonl.gz", "list.json", "page.json"):
        collect([str(tmp_path / name)], tmp_path / "c.jsonl", CollectOptions())
        made.append((tmp_path / "c.jsonl").read_bytes())
    out = tmp_path / "piped.jsonl.gz"
    command = [sys.executable, "-m", "understudy", "collect", "-", "--out", str(out)]
    piped = subprocess.run(command, input=plain.read_bytes(), capture_output=True, check=True)
    assert piped.stderr == b""
    made.append(gzip.decompress(out.read_bytes()))
    assert len(set(made)) == 1


def test_a_table_of_parquet_is_read(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    rows = [
        {"trace_id": f"t{n}", "type": "GENERATION", "input": f"Q{n}?", "output": f"A{n}."}
        for n in range(3)
    ]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "o.parquet")
    collect([str(tmp_path / "o.parquet")], tmp_path / "c.jsonl", CollectOptions())
    assert [row.response for row in rows_of(tmp_path / "c.jsonl")] == ["A0.", "A1.", "A2."]


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("log.jsonl", '{"a": 1}\n', "its first row has a; give --format=openai-chat|"),
        ("log.jsonl", "hello\n", "no JSON object in its first lines"),
        ("log.jsonl", "", "is empty"),
        ("log.jsonl.gz", "not packed", "log.jsonl.gz:1 is not JSON"),
        ("log.json", '[{"prompt": "a", "response": "b"}, {', "row 2 is not JSON"),
        ("log.json", '{\n"a": ', "is not JSON"),
        ("log.csv", 'prompt,response\n"a', "is not CSV"),
        ("log.csv", "prompt,response\n\xff,b\n\xc3\xa9,e\n", "no row"),
        ("log.parquet", "PAR1", "is no parquet file"),
        ("log.jsonl", '{"prompt": "a", "response": ""}\n', "no row is left of 1 lines"),
    ],
)
def test_a_log_that_cannot_be_used_gets_one_sentence_and_no_file(
    name: str, content: str, sentence: str, tmp_path: Path
) -> None:
    if sentence == "no row":
        (tmp_path / name).write_bytes(content.encode("latin-1"))
        sentence = "is not UTF-8"
    else:
        (tmp_path / name).write_text(content)
    with pytest.raises(BadInput, match=sentence.replace("|", r"\|")):
        collect([str(tmp_path / name)], tmp_path / "c.jsonl", CollectOptions())
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--out", "c.txt"], "give a name that ends in .jsonl"),
        (["--out", "log.jsonl/c.jsonl"], "cannot be written: "),
        (["--out", "folder.jsonl"], "is a directory"),
        (["--redact", "email,face"], "'face' is none of all, none, key"),
        (["--max-broken", "150%"], "give a share"),
        (["--rating", "stars"], "give FIELD>=NUMBER"),
        (["--match", "("], "is no regular expression"),
        (["--jobs", "0"], "give 1 to 64"),
        (["--jobs", "-1"], "give 1 to 64"),
        (["log.jsonl"], "is given twice"),
        (["other.jsonl"], "other.jsonl does not exist"),
        (["."], "is no file"),
    ],
)
def test_a_wrong_word_gets_one_sentence(
    words: list[str],
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    files.write(tmp_path / "log.jsonl", [called(1)])
    (tmp_path / "folder.jsonl").mkdir()
    assert main(["collect", "--out", "c.jsonl", *words, "log.jsonl"]) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("\n") == 1


def test_a_file_that_is_there_is_kept_without_force(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = files.write(tmp_path / "log.jsonl", [called(1)])
    assert main(["collect", str(log), "--out", str(log)]) == 2
    assert "is there already" in capsys.readouterr().err


def test_the_command_offers_what_the_package_can() -> None:
    assert set(cli_collect._FORMATS) == set(formats.FORMATS)  # named twice: help must start fast
    assert set(cli_collect._REDACT) == set(redact.CHOICES)


def test_a_log_is_never_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text('{"prompt": "a", "response": "b"}\n')
    assert main(["collect", str(log), "--out", str(log), "--force"]) == 2
    assert "is one of the logs" in capsys.readouterr().err
    assert log.read_text() == '{"prompt": "a", "response": "b"}\n'
