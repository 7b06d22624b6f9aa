"""The record of a run: what was written is read back, and what is none is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from support import decisions, fake_runs, records
from understudy.errors import BadInput
from understudy.pipeline.record import (
    VERSION,
    HoldoutRecord,
    RoundRecord,
    RunDecision,
    RunRecord,
)


def written(root: Path, **values: Any) -> Path:
    path = root / "run" / "demo" / "run.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(records.record(**values)))
    return path


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    run = RunRecord(
        path=tmp_path / "rehearsal/run/demo/run.json",
        **{"name": "demo", "command": "understudy run", "understudy": "0.1.0"},
        **{"created": "2026-11-21T08:00:00+00:00", "rehearsal": True},
        config={"seed": 0, "task": {"name": "coding"}},
        stages={"split": "split/p0"},
        rounds=[RoundRecord(0, None, {"gate": "gate/g0"}, "pass"), RoundRecord(1, 50, {})],
        holdout=HoldoutRecord(0, {"inference": "inference/h0", "again": "gate/g0"}),
        decision=RunDecision(True, 0, "as good"),
    )
    run.write()
    assert json.loads(run.path.read_text())["version"] == VERSION
    assert RunRecord.read(run.path) == run
    assert run.root == tmp_path / "rehearsal"
    assert run.stage_paths == ["split/p0", "gate/g0", "inference/h0"]


def test_a_record_without_a_version_is_read(tmp_path: Path) -> None:
    run = RunRecord.read(fake_runs.write_run(tmp_path))
    assert (run.name, run.holdout, run.rounds[0].decision) == ("demo", None, "fail")
    assert not run.is_ready_made


def test_a_command_in_words_is_joined(tmp_path: Path) -> None:
    run = RunRecord.read(written(tmp_path, command=["understudy", "run", "task.topic=a b"]))
    assert run.command == "understudy run 'task.topic=a b'"


def test_ready_made_answers_are_told_from_the_config(tmp_path: Path) -> None:
    assert RunRecord.read(written(tmp_path, config={"inference": {"kind": "hub"}})).is_ready_made


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "is no record of a run: EOF while parsing"),
        ("[1]", "is no record of a run"),
        ('{"name": "demo"}', "is no record of a run: command: Field required"),
        (json.dumps(records.record(rounds={"a": 1})), "is no record of a run: rounds: .*list"),
        (json.dumps(records.record(version=VERSION + 1)), r"version 2, and .* reads up to 1: use"),
        (json.dumps(records.record(version="new")), "is no record of a run"),
    ],
)
def test_what_is_no_record_is_refused_in_a_sentence(tmp_path: Path, text: str, why: str) -> None:
    path = tmp_path / "run.json"
    path.write_text(text)
    with pytest.raises(BadInput, match=f"{path}.*{why}"):
        RunRecord.read(path)


def test_what_was_decided_is_read_beside_the_run(tmp_path: Path) -> None:
    run = RunRecord.read(fake_runs.write_run(tmp_path))
    assert run.decided is None
    said = decisions.DECIDED | {"holdout": {"round": 0, "stages": {"gate": "gate/g0"}}, "look": 1}
    path = run.path.parent / "decision.json"
    path.write_text(json.dumps(said))
    found = run.decided
    assert found is not None
    assert (found.decision, found.warnings) == ("MIGRATE", ["family"])
    assert found.holdout == HoldoutRecord(0, {"gate": "gate/g0"})
    path.write_text("{}")
    with pytest.raises(BadInput, match=r"decision\.json is no record of a decision: "):
        _ = run.decided
