"""A cluster whose queue is full: what does not fit follows by itself, and nobody waits for it."""

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import slurm_cluster as slurm
from support.slurm_cluster import understudy

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    with slurm.running(more="MaxJobCount=6\nMinJobAge=2"):
        yield


def words(root: Path) -> list[str]:
    given = ["run", *slurm.SMALL, *slurm.TINY, "data_size=0", "trainer=none", "run.name=night"]
    return [*given, f"paths.root={root}"]


def test_what_does_not_fit_into_the_queue_follows_by_itself(tmp_path: Path) -> None:
    began = time.monotonic()
    told = understudy(*words(tmp_path))
    assert time.monotonic() - began < 60
    assert "Slurm takes no further job now" in told
    assert "goes on" in told
    place = tmp_path / "rehearsal/run/night/run.json"
    slurm.wait_until(lambda: json.loads(place.read_text())["decision"] is not None, "it stands")


def test_a_queue_without_any_room_is_said_at_once(tmp_path: Path) -> None:
    slurm.wait_for_all()
    time.sleep(4)  # until the ended ones are forgotten
    holds = ["sbatch", "--hold", "--array=1-5", "--wrap=true", "-o/dev/null"]
    slurm.ask(*holds)
    try:
        for _ in range(2):
            began = time.monotonic()
            told = understudy(*words(tmp_path), code=4)
            assert time.monotonic() - began < 60
            assert "Slurm takes no further job now" in told
            assert "the same command" in told
    finally:
        subprocess.run(["scancel", *slurm.jobs("%F")])
        slurm.wait_for_all()
