"""Whole runs of the real loop: real training, real judging, no stage twice."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

SMALL = [
    "coverage.rows=60",
    "coverage.split.test=10",
    "coverage.split.validation=8",
    "loop.sizes=[0,50]",
    "evaluation.m=2",
    "inference.k=2",
    "inference.max_new_tokens=40",
    "trainer.max_steps=6",
    "trainer.evaluations=2",
    "run.name=small",
]


def start(root: Path, *overrides: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "understudy", "run", *SMALL, *overrides, f"paths.root={root}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return out


def record(root: Path) -> dict[str, Any]:
    path = root / "rehearsal/run/small/run.json"
    loaded: dict[str, Any] = json.loads(path.read_text())
    return loaded


def contents(root: Path) -> dict[str, bytes]:
    """What stages hand on: everything in an out/ directory."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in root.glob("rehearsal/*/*/out/**/*")
        if path.is_file()
    }


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("straight")
    out = finish(start(root))
    assert "not passed" in out
    return root


@pytest.mark.slow
def test_a_run_climbs_the_ladder_and_leaves_every_stage_done(straight: Path) -> None:
    run = record(straight)
    assert [entry["data_size"] for entry in run["rounds"]] == [0, 50]
    paths = {p for entry in run["rounds"] for p in entry["stages"].values()} | set(
        run["stages"].values()
    )
    assert all((straight / "rehearsal" / path / "DONE").is_file() for path in paths)
    assert {path.partition("/")[0] for path in paths} == {
        *("coverage", "split", "baseline", "synthesis", "subset"),
        *("finetune", "inference", "evaluation", "gate"),
    }
    assert (straight / "rehearsal/run/small/report.html").is_file()


@pytest.mark.slow
def test_the_same_command_runs_no_stage_again(straight: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in straight.glob("rehearsal/*/*/out/*")}
    assert "stages run: 0" in finish(start(straight))
    assert {p: p.stat().st_mtime_ns for p in straight.glob("rehearsal/*/*/out/*")} == before


@pytest.mark.slow
def test_another_judge_retrains_and_resamples_nothing(straight: Path) -> None:
    finish(start(straight, "judge=offline_strict"))
    assert len(list(straight.glob("rehearsal/finetune/*"))) == 2
    assert len(list(straight.glob("rehearsal/inference/*"))) == 2


@pytest.mark.slow
def test_ctrl_c_ends_with_130_and_the_command_to_go_on_and_the_rest_gives_the_same_bytes(
    straight: Path, tmp_path: Path
) -> None:
    process = start(tmp_path)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("rehearsal/finetune/*/attempts/*/scratch/checkpoints/*")):
        assert time.monotonic() < deadline, "no checkpoint appeared"
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)  # what a terminal does
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "To go on: understudy run" in err or "to go on" in err.lower()
    finish(start(tmp_path))
    again = contents(tmp_path)
    assert again == {k: v for k, v in contents(straight).items() if k in again}
    assert len(again) > 20


@pytest.mark.slow
def test_lora_and_starting_from_the_previous_round_work(tmp_path: Path) -> None:
    finish(start(tmp_path, "trainer.kind=lora", "trainer.start=previous"))
    finished = list(tmp_path.glob("rehearsal/finetune/*/out/model/adapter_model.safetensors"))
    assert len(finished) == 2
