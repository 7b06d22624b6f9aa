"""A disk that fills up: exit code 4, nothing torn, and the same command goes on."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

CELL = [
    "coverage.rows=60",
    "coverage.split.test=10",
    "coverage.split.validation=8",
    "data_size=0",
    "evaluation.m=2",
    "inference.k=1",
    "inference.max_new_tokens=20",
    "trainer.max_steps=8",
    "trainer.evaluations=4",
    "run.name=full",
]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=9m", "tmpfs", str(disk)]
    done = subprocess.run(mount, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"this test may not mount a tmpfs: {done.stderr.strip()}")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def run(root: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "understudy", "run", *CELL, f"paths.root={root}"]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
def test_a_full_disk_ends_with_4_and_the_same_command_goes_on_when_there_is_room(
    small_disk: Path,
) -> None:
    done = run(small_disk)
    assert done.returncode == 4, done.stderr
    assert "no room left on the disk" in done.stderr
    assert "Traceback" not in done.stderr
    for rows in small_disk.glob("rehearsal/*/*/out/rows.jsonl"):
        assert (rows.parents[1] / "DONE").exists()
        assert all(json.loads(line) for line in rows.read_text().split("\n")[:-1])
    filled = small_disk / "filler"  # not a byte is free: even the record of the run cannot be kept
    subprocess.run(["dd", "if=/dev/zero", f"of={filled}", "bs=4k"], capture_output=True)
    assert run(small_disk).returncode == 4
    filled.unlink()
    subprocess.run(["mount", "-o", "remount,size=200m", str(small_disk)], check=True)
    assert run(small_disk).returncode == 0
