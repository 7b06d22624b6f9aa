"""Finding runs, and what the terminal shows of them."""

import json
import os
from pathlib import Path

import pytest

from support import fake_runs
from understudy.errors import BadInput
from understudy.pipeline.record import find_run
from understudy.pipeline.status import closing_table, show
from understudy.store import locks


def test_a_run_is_found_by_name_by_path_and_as_the_latest(tmp_path: Path) -> None:
    real = fake_runs.write_run(tmp_path, "real", rehearsal=False)
    demo = fake_runs.write_run(tmp_path / "rehearsal", "demo")
    os.utime(real, (1, 1))
    assert find_run(tmp_path, "real") == real
    assert find_run(tmp_path, "demo") == demo
    assert find_run(tmp_path, str(demo)) == demo
    assert find_run(tmp_path, str(demo.parent)) == demo
    assert find_run(tmp_path, None) == find_run(tmp_path, "latest") == demo
    os.utime(demo, (0, 0))
    assert find_run(tmp_path, None) == real


def test_a_relative_path_to_a_run_keeps_its_parents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = fake_runs.write_run(tmp_path)
    monkeypatch.chdir(run.parent)
    assert find_run(tmp_path / "elsewhere", "run.json") == run


def test_an_unknown_name_gets_a_suggestion_and_the_places(tmp_path: Path) -> None:
    fake_runs.write_run(tmp_path, "summary-tiny")
    with pytest.raises(BadInput, match=r"'sumary-tiny' in .*did you mean summary-tiny\?") as error:
        find_run(tmp_path, "sumary-tiny")
    assert str(tmp_path / "rehearsal" / "run") in str(error.value)


@pytest.mark.parametrize("name", [None, "latest", "demo"])
def test_an_empty_root_says_that_there_is_no_run(tmp_path: Path, name: str | None) -> None:
    with pytest.raises(BadInput, match="there is no run"):
        find_run(tmp_path, name)


def test_a_name_of_a_real_run_and_a_rehearsal_needs_the_path(tmp_path: Path) -> None:
    for root in (tmp_path, tmp_path / "rehearsal"):
        fake_runs.write_run(root)
    with pytest.raises(BadInput, match="demo is a real run and a rehearsal; give the path"):
        find_run(tmp_path, "demo")


def test_status_of_a_finished_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    show(fake_runs.write_run(tmp_path))
    shown = capsys.readouterr().out
    assert "demo · REHEARSAL, offline stand-ins" in shown
    assert "done: subset, finetune, inference" in shown
    assert "41.2 [33.5, 48.8]" in shown
    assert "did not pass: the ladder ends at 0 rows" in shown
    assert "to go on" not in shown


def test_status_of_an_unfinished_run_says_how_to_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = fake_runs.write_run(tmp_path, rehearsal=False, decision=None)
    for path in ("evaluation/e0", "gate/g0"):
        (tmp_path / path / "DONE").unlink()
    with locks.hold(tmp_path / "evaluation/e0/LOCK", give_up=lambda: False):
        show(run)
    shown = capsys.readouterr().out
    assert "REHEARSAL" not in shown
    assert "running: evaluation.offline" in shown
    assert "missing: gate" in shown
    assert "to go on: understudy run experiment=demo" in shown


def test_closing_table_shows_intervals_and_missing_scores(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_runs.gate(tmp_path, "gate/g", 2, "fail")
    closing_table(json.loads((tmp_path / "gate/g/out/summary.json").read_text()), rehearsal=True)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    shown = [" ".join(line) for line in lines]
    assert shown[0] == "round 2, 0 synthetic rows · REHEARSAL, offline stand-ins"
    assert "local offline similarity 41.2 [33.5, 48.8] 50 % 25 % 87.5 [81.2, 93.8]" in shown
    assert "local offline precision – – – –" in shown
    assert "rule, local: 1 of 3 answers pass, 33.3 [6.2, 79.2] %" in shown
    assert "unscored by offline, local: 1 verdicts, 0 answers missing" in shown
    assert "fail: precision 52.5 is below 70" in shown
