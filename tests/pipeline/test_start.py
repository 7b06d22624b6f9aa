"""How a stage is started: which command, and which devices it sees."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from support import launched
from understudy.errors import EnvironmentFailed
from understudy.pipeline import start
from understudy.store import locks


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


def made(path: Path, kind: str, stage: str = "finetune", **changes: Any) -> start.Start:
    changes |= {"accelerate__kind": kind}
    return start.start(launched.prepare(path, path, stage=stage, **changes).path)


@pytest.mark.parametrize("kind", ["cpu", "single"])
def test_one_process_is_the_plain_worker(tmp_path: Path, kind: str) -> None:
    how = made(tmp_path, kind)
    assert how.argv[1:3] == ["-m", "understudy.pipeline.worker"]
    stage = tmp_path / "finetune" / "0123456789abcdef"
    assert {path.name for path in stage.iterdir()} == {"config.json", "inputs.json"}


def test_only_fine_tuning_is_distributed(tmp_path: Path) -> None:
    assert made(tmp_path, "ddp", "inference").argv[2] == "understudy.pipeline.worker"
    assert made(tmp_path, "ddp").argv[2] == "understudy.pipeline.start"


def test_cpu_hides_the_gpus_and_single_shows_the_trainer_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    assert made(tmp_path, "cpu").env["CUDA_VISIBLE_DEVICES"] == ""
    assert made(tmp_path, "single").env["CUDA_VISIBLE_DEVICES"] == "4"
    assert made(tmp_path, "single", "inference").env["CUDA_VISIBLE_DEVICES"] == "4,7"


def test_a_worker_that_is_alone_where_two_were_asked_for_says_so(tmp_path: Path) -> None:
    stage = launched.prepare(tmp_path, tmp_path, accelerate__kind="ddp")
    done = subprocess.run(
        [sys.executable, "-m", "understudy.pipeline.worker", str(stage.path)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr == (
        "understudy: accelerate=ddp asks for 2 processes and this is one of 1; "
        f"start it with python -m understudy.pipeline.start {stage.path}\n"
    )


@pytest.mark.slow
def test_a_stage_whose_worker_is_killed_leaves_no_lock_to_other_nodes(tmp_path: Path) -> None:
    stage = launched.prepare(tmp_path, tmp_path, accelerate__kind="cpu")
    lock = stage.path / "LOCK"

    def kill() -> None:
        while (holder := locks.read(lock)) is None:
            time.sleep(0.02)
        os.kill(holder["pid"], signal.SIGKILL)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    with pytest.raises(EnvironmentFailed, match="ended by SIGKILL"):
        start.Workers().run(stage.path)
    killer.join()
    assert not lock.exists()
