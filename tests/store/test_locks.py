"""Waiting for a lock."""

import json
import time
from pathlib import Path

import pytest

from understudy.store import locks


@pytest.mark.slow
def test_who_waits_for_another_host_asks_slurm_rarely(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = tmp_path / "asked"
    squeue = tmp_path / "bin" / "squeue"
    squeue.parent.mkdir()
    squeue.write_text(f"#!/bin/sh\necho x >> {asked}\necho RUNNING\n")
    squeue.chmod(0o755)
    monkeypatch.setenv("PATH", f"{squeue.parent}:/usr/bin:/bin")
    lock = tmp_path / "LOCK"
    holder = {"host": "elsewhere", "boot": "", "pid": 1, "started": "1", "slurm_job": "77"}
    lock.write_text(json.dumps(holder | {"slurm_restarts": "0"}))
    ends = time.monotonic() + 0.9
    with locks.hold(lock, give_up=lambda: time.monotonic() > ends) as is_mine:
        assert not is_mine
    assert len(asked.read_text().splitlines()) == 1
