"""Killed at any moment, the same command ends with the same bytes; nothing torn, nothing astray."""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

CELL = [
    "task=classification",
    "coverage.rows=70",
    "coverage.split.test=20",
    "coverage.split.validation=8",
    "data_size=60",
    "evaluation.m=60",
    "inference.k=4",
    "inference.max_new_tokens=30",
    "inference.batch_size=2",
    "trainer.max_steps=60",
    "trainer.evaluations=12",
    "trainer.patience=null",
    "run.name=killed",
]
KILLS = int(os.environ.get("UNDERSTUDY_KILLS", "5"))  # of each kind; `make soak` raises it


def start(root: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "understudy", "run", *CELL, f"paths.root={root}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def finish(root: Path) -> None:
    process = start(root)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err.decode()


def contents(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in root.glob("rehearsal/*/*/out/**/*")
        if path.is_file()
    }


def workers(root: Path) -> list[int]:
    """Living worker processes on stages below `root`."""
    found = []
    for cmdline in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = cmdline.read_bytes().decode(errors="replace").split("\0")
            state = (cmdline.parent / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if (
            "understudy.pipeline.worker" in words
            and any(str(root) in w for w in words)
            and state != "Z"
        ):
            found.append(int(cmdline.parent.name))
    return found


def children(pid: int) -> list[int]:
    """The workers of a command, found faster than a stage is published."""
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def kill_when(root: Path, moment: Callable[[], bool], how: str) -> bool:
    """Run until `moment()`, then SIGKILL; False when the run ended before."""
    process = start(root)
    try:
        while True:
            if process.poll() is not None:
                return False
            pids = children(process.pid)  # known before the moment, which may last a millisecond
            if moment():
                break
            time.sleep(0.0005)
        if how == "parent":  # the worker must follow by itself
            pids = [process.pid]
        elif how == "both":
            pids.append(process.pid)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait(timeout=60)
    finally:
        assert process.stderr is not None
        process.stderr.close()
    deadline = time.monotonic() + 10
    while workers(root):
        assert time.monotonic() < deadline, "a worker outlived its parent"
        time.sleep(0.02)
    return True


def training(root: Path, after: int, delay: float) -> Callable[[], bool]:
    """True `delay` seconds after the checkpoint of step `after` or a later one appeared."""
    seen: list[float] = []

    def moment() -> bool:
        if not seen:
            pattern = "rehearsal/finetune/*/attempts/*/scratch/checkpoints/checkpoint-*"
            steps = [int(path.name.partition("-")[2]) for path in root.glob(pattern)]
            if max(steps, default=0) >= after:
                seen.append(time.monotonic())
        return bool(seen) and time.monotonic() - seen[0] >= delay

    return moment


def writing_rows(root: Path, stage: str, share: float) -> Callable[[], bool]:
    """True once an unfinished stage of this name has written a further share of its rows."""
    rows = f"rehearsal/{stage}/*/attempts/*/out/rows.jsonl"
    further = share * {"evaluation": 20 * 4 * 60 * 300, "inference": 20 * 4 * 130}[stage]

    def written() -> int:
        sizes = []
        for path in root.glob(rows):
            with contextlib.suppress(FileNotFoundError):  # renamed by its worker
                sizes.append(path.stat().st_size)
        return max(sizes, default=0)

    before = written()
    return lambda: written() >= before + further


def publishing(root: Path) -> Callable[[], bool]:
    """True between a stage's last row (its meta.json is written) and DONE."""
    before = {path.parent for path in root.glob("rehearsal/*/*/meta.json")}

    def moment() -> bool:
        fresh = {path.parent for path in root.glob("rehearsal/*/*/meta.json")} - before
        return any(not (stage / "DONE").exists() for stage in fresh)

    return moment


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    root = tmp_path_factory.mktemp("whole")
    finish(root)
    return contents(root)


def kill_often(root: Path, stages: str, moments: Callable[[int], Callable[[], bool]]) -> None:
    """KILLS kills that each left a stage of that name unfinished; a finished one begins again."""
    hits = 0
    for number in range(6 * KILLS):
        how = ("both", "parent", "worker")[number % 3]
        found = kill_when(root, moments(number), how)
        left = [path for path in root.glob(f"rehearsal/{stages}/*") if not (path / "DONE").exists()]
        hits += bool(found and left)
        if hits == KILLS:
            return
        if not left:
            for path in root.glob(f"rehearsal/{stages}/*"):
                shutil.rmtree(path)
    pytest.fail(f"{hits} of {KILLS} kills hit {stages}")


@pytest.mark.slow
def test_kills_inside_optimiser_steps_change_no_byte(
    whole: dict[str, bytes], tmp_path: Path
) -> None:
    rng = random.Random(0)
    kill_often(
        tmp_path,
        "finetune",
        lambda number: training(tmp_path, 5 * (number % 9), rng.uniform(0.02, 0.2)),
    )
    finish(tmp_path)
    assert contents(tmp_path) == whole


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["evaluation", "inference"])
def test_kills_inside_row_stages_change_no_byte(
    stage: str, whole: dict[str, bytes], tmp_path: Path
) -> None:
    rng = random.Random(1)
    kill_often(
        tmp_path, stage, lambda number: writing_rows(tmp_path, stage, rng.uniform(0.02, 0.15))
    )
    finish(tmp_path)
    assert contents(tmp_path) == whole


@pytest.mark.slow
def test_kills_between_the_last_row_and_done_change_no_byte(
    whole: dict[str, bytes], tmp_path: Path
) -> None:
    kill_often(tmp_path, "[!r]*", lambda _: publishing(tmp_path))
    finish(tmp_path)
    assert contents(tmp_path) == whole


@pytest.mark.slow
def test_every_stage_left_is_done_or_was_never_published(
    whole: dict[str, bytes], tmp_path: Path
) -> None:
    kill_when(tmp_path, training(tmp_path, 10, 0.1), "both")
    for out in tmp_path.glob("rehearsal/*/*/out"):
        assert (out.parent / "DONE").exists()
        rows = out / "rows.jsonl"
        if rows.exists():
            assert all(json.loads(line) for line in rows.read_text().split("\n")[:-1])
