"""10,000 generated lines of a log: none vanishes, no answer changes, every odd field is named."""

import json
import random
from collections import Counter
from pathlib import Path

import pytest

from support import generated
from support.files import write
from understudy.collect.collect import collect
from understudy.collect.work import CollectOptions

LINES = 10_000


@pytest.mark.slow
def test_every_line_is_kept_as_it_was_answered_or_has_a_reason(tmp_path: Path) -> None:
    dice = random.Random("lines of a log")
    calls = [generated.call(dice, n) for n in range(LINES)]
    log, out = write(tmp_path / "log.jsonl", [one.line for one in calls]), tmp_path / "out.jsonl"
    summary = collect([str(log)], out, CollectOptions(redact=()), max_broken=1.0)
    rows = [json.loads(line) for line in out.read_bytes().split(b"\n") if line]
    assert summary.lines == LINES
    gone = summary.duplicates + summary.broken + summary.skipped.total()
    assert summary.kept + gone == LINES
    assert summary.kept == len(rows)
    answers = {f"Question {n}?": one.answer for n, one in enumerate(calls)}
    wrong = [
        (row["messages"][-1]["content"], answers[row["messages"][0]["content"]])
        for row in rows
        if row["messages"][-1]["content"] != answers[row["messages"][0]["content"]]
    ]
    assert not wrong
    wanted = sum(one.answer is not None and bool(one.answer.strip()) for one in calls)
    assert summary.kept == wanted
    assert summary.unread == Counter(name for one in calls for name in one.unread)
