"""`understudy journal`: sums, JSON lines, and replies forgotten on request."""

import argparse
import asyncio
import json
import sqlite3
import stat
from pathlib import Path

import pytest

from understudy.cli import journal as cli_journal
from understudy.errors import BadInput
from understudy.services.base import Reply, Usage
from understudy.services.segment import PaidCall, Segment

DAY = 86400


def journal(*words: str) -> None:
    parser = argparse.ArgumentParser()
    cli_journal.register(parser.add_subparsers())
    arguments = parser.parse_args(["journal", *words])
    arguments.verb(arguments)


async def write(directory: Path) -> None:
    segment = Segment(directory)
    for number in range(4):
        model, stage = f"m{number % 2}", "evaluation/0" if number < 3 else "synthesis/1"
        key = bytes([number]) * 32
        call = PaidCall(key, stage, "run/x", f"service-{model}", model, "online", reserved=900)
        sent = await segment.sent(call)
        reply = Reply(f"text {number} é", usage=Usage(100, 0, 10 * number, 0))
        await segment.answered(sent, call, reply, 250, 0.5, 1)
    lost = PaidCall(b"lost" * 8, "synthesis/1", "run/x", "service-m0", "m0", "online", reserved=900)
    await segment.sent(lost)
    segment.close()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    asyncio.run(write(tmp_path / "runs" / "journal"))
    (path,) = (tmp_path / "runs" / "journal").glob("*.sqlite")
    with sqlite3.connect(path) as database:  # the first two calls were made ten days ago
        first = "SELECT call FROM sent ORDER BY call LIMIT 2"
        for name in ("sent", "replies"):
            database.execute(f"UPDATE {name} SET at = at - ? WHERE call IN ({first})", (10 * DAY,))
    database.close()
    return tmp_path / "runs"


def rows(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def test_totals_are_shown_by_model_stage_day_and_purse(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    journal("--root", str(root))
    tables = capsys.readouterr().out.split("\n\n")
    assert [rows(table)[0][0] for table in tables] == ["model", "stage", "day", "purse"]
    by_model = rows(tables[0])[2:]
    assert by_model[0] == ["m0", "2", "200", "0", "20", "0", "0.000500", "1", "0.000900", "0.50"]
    assert by_model[1] == ["m1", "2", "200", "0", "40", "0", "0.000500", "0", "0.000000", "0.50"]
    assert [row[1] for row in rows(tables[2])[2:]] == ["2", "2"]


def test_totals_can_be_grouped_and_narrowed_and_are_json(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    journal("--root", str(root), "--by", "stage,model", "--stage", "evaluation/0", "--json")
    found = json.loads(capsys.readouterr().out)
    assert [(t["stage"], t["model"], t["calls"]) for t in found] == [
        ("evaluation/0", "m0", 2),
        ("evaluation/0", "m1", 1),
    ]
    assert found[0]["microusd"] == 500
    assert found[0]["output"] == 20
    with pytest.raises(BadInput, match="no column colour"):
        journal("--root", str(root), "--by", "colour")


def test_export_writes_every_call_as_a_line(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    journal("export", "--root", str(root))
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["text"] for line in lines] == [f"text {n} é" for n in range(4)]
    journal("export", "--root", str(root), "--model", "m1", "--out", str(tmp_path / "out.jsonl"))
    kept = (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["key"] for line in kept] == ["01" * 32, "03" * 32]
    assert stat.S_IMODE((tmp_path / "out.jsonl").stat().st_mode) == 0o600


def test_purge_asks_before_it_forgets_and_keeps_the_sums(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(BadInput, match=r"would forget 3 replies.*--yes"):
        journal("purge", "--root", str(root), "--stage", "evaluation/0")
    journal("purge", "--root", str(root), "--stage", "evaluation/0", "--yes")
    assert "forgotten: 3 replies" in capsys.readouterr().err
    journal("export", "--root", str(root))
    assert [json.loads(line)["stage"] for line in capsys.readouterr().out.splitlines()] == [
        "synthesis/1"
    ]
    journal("--root", str(root), "--by", "purse", "--json")
    (total,) = json.loads(capsys.readouterr().out)
    assert (total["calls"], total["microusd"]) == (4, 1000)


def test_purge_by_day_forgets_what_is_older(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    journal("--root", str(root), "--by", "day", "--json")
    days = sorted(total["day"] for total in json.loads(capsys.readouterr().out))
    journal("purge", "--root", str(root), "--before", days[-1], "--yes")
    assert "forgotten: 2 replies" in capsys.readouterr().err
    journal("export", "--root", str(root))
    assert len(capsys.readouterr().out.splitlines()) == 2


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["purge", "--yes"], "at least one of --stage"),
        (["purge", "--before", "yesterday"], "--before=yesterday is no day"),
        (["--rehearsal"], "no call journal in .*rehearsal"),
    ],
)
def test_mistakes_are_told_in_one_sentence(root: Path, words: list[str], sentence: str) -> None:
    with pytest.raises(BadInput, match=sentence):
        journal(*words, "--root", str(root))
