"""How long a sweep takes on a real Slurm, beside the best that its stages allow."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import partial
from pathlib import Path
from statistics import fmean

import pytest

from support import slurm_cluster as slurm
from support import stand_in_server
from support.makespan import Done, lower_bound, schedule

# A time, so it wants the machine alone: `make soak` runs it.
pytestmark = pytest.mark.soak
CORES = 4  # of the two nodes; each job asks for one
PAIRS = 2


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    with slurm.running():
        yield


def test_a_sweep_takes_hardly_longer_than_its_critical_path(tmp_path: Path) -> None:
    """Synthesis, training and judging, the teacher and the judge being one endpoint."""
    with stand_in_server.serving(seconds=1.2) as server:
        own = ["model=stand-in", f"base_url={server.url}", "concurrency=1"]
        words = ["synthesis=openai_compatible", "judge=openai_compatible", "baseline=none"]
        words += [f"synthesis.service.{one}" for one in own]
        words += [f"judges.openai_compatible.{one}" for one in own]
        words += ["data_size=0,50", "seed=0,1", "run.name=timed", f"paths.root={tmp_path}"]
        words += ["coverage.rows=24", "coverage.split.test=4", "coverage.split.validation=4"]
        words += ["inference.k=1", "inference.max_new_tokens=8", "evaluation.m=1"]
        words += ["trainer.max_steps=120", "trainer.evaluations=2"]
        command = [sys.executable, "-m", "understudy", "run", *slurm.SMALL, *words]
        told = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert told.returncode == 0, told.stderr
        started = time.time()
        slurm.wait_until(
            lambda: len([*tmp_path.glob("gate/*/DONE")]) == 4, "it does not end", seconds=900
        )
        assert server.most == 1, "two stages asked the endpoint at a time"
    slurm.cancel_all()
    stages = measured(tmp_path)
    started = min(started, *(stage.start for stage in stages.values()))
    ended = max(path.stat().st_mtime for path in tmp_path.glob("gate/*/DONE"))
    bound, best = lower_bound(stages, CORES), schedule(stages, CORES)
    for name, stage in sorted(stages.items(), key=lambda item: item[1].start):
        print(f"{stage.start - started:7.1f} {stage.seconds:6.1f} s  {name}")
    took = ended - started
    print(f"makespan {took:.1f} s; no schedule is shorter than {bound:.1f} s", end="; ")
    print(f"critical path first takes {best:.1f} s: ratio {took / best:.3f}")
    assert took <= 1.15 * best


def test_a_starving_job_of_one_run_hardly_delays_another(tmp_path: Path) -> None:
    """Both ask one endpoint; the jobs of one run that would do so can never start."""
    delays = []
    with stand_in_server.serving(seconds=0.3) as server:
        own = ["model=stand-in", f"base_url={server.url}", "concurrency=1"]
        words = ["judge=openai_compatible", "baseline=none", "trainer=none", "data_size=0"]
        words += [f"judges.openai_compatible.{one}" for one in own]
        for number in range(PAIRS):
            alone = decided(tmp_path / f"alone-{number}", words)
            root = tmp_path / f"beside-{number}"
            slurm.ask("scontrol", "update", "PartitionName=low", "State=DOWN")
            try:
                stuck = ["run.name=stuck", "coverage.seed=1", "cluster.api.partition=low"]
                slurm.understudy("run", *slurm.SMALL, *slurm.TINY, *words, *stuck, *at(root))
                slurm.wait_until(partial(at_rest, root), "the other stages of the stuck run go on")
                beside = decided(root, words)
            finally:
                slurm.cancel_all()
                slurm.ask("scontrol", "update", "PartitionName=low", "State=UP")
            print(f"decided after {alone:.1f} s alone, {beside:.1f} s beside a starving job")
            delays.append(beside - alone)
    assert fmean(delays) <= 5


def at(root: Path) -> list[str]:
    return [f"paths.root={root}"]


def at_rest(root: Path) -> bool:
    """Whether all that is left waits for the partition that is down."""
    is_answered = bool([*root.glob("rehearsal/inference/*/DONE")])
    return is_answered and {*slurm.jobs("%T")} == {"PENDING"}


def decided(root: Path, words: list[str]) -> float:
    """Seconds from the command of a run to its gate."""
    began = time.time()
    slurm.understudy("run", *slurm.SMALL, *slurm.TINY, *words, "run.name=free", *at(root))
    slurm.wait_until(lambda: bool([*root.glob("rehearsal/gate/*/DONE")]), "it does not end")
    (gate,) = root.glob("rehearsal/gate/*/DONE")
    slurm.wait_until(
        lambda: not [job for job in slurm.jobs("%j") if job.startswith("free")], "left", seconds=60
    )
    return gate.stat().st_mtime - began


def measured(root: Path) -> dict[str, Done]:
    """Every stage with its measured seconds, from its worker's start to its end.

    Without those in which it waited for the endpoint: a better schedule would start it later.
    """
    found = {}
    times = _times(root)
    for path in root.glob("*/*/inputs.json"):
        name = f"{path.parent.parent.name}/{path.parent.name}"
        service = json.loads((path.parent / "config.json").read_text())["hashed"]["stage"]
        inputs = json.loads(path.read_text())["inputs"].values()
        begun, ended = times[str(path.parent)]
        asks = service in ("synthesis", "evaluation")
        waited = json.loads((path.parent / "meta.json").read_text()).get("waited_seconds", 0.0)
        found[name] = Done(begun, ended - begun - waited, tuple(inputs), asks)
    return found


def _times(root: Path) -> Mapping[str, tuple[float, float]]:
    """When the job of each stage began and ended it, from the jobs' logs."""
    begun, ended = dict[str, float](), dict[str, float]()
    for log in root.glob("slurm/sweep/timed/*_*.log"):
        (at, stages), (end,) = (
            re.search(words, log.read_text(), re.MULTILINE).groups()  # type: ignore[union-attr]
            for words in (r"^(\S+) \S+, attempt 1: (.*)$", r"^(\S+) ended with exit code 0$")
        )
        of_pack = re.findall(r"^(\S+) (begins|ended): (\S+)$", log.read_text(), re.MULTILINE)
        for when, what, path in of_pack or [(at, "begins", stages), (end, "ended", stages)]:
            times = begun if what == "begins" else ended
            times[path] = datetime.fromisoformat(when).timestamp()
    return {path: (begun[path], ended[path]) for path in ended}
