"""Time what a sweep of thousands of cells costs its user: plan, submit, status, cancel.

    PYTHONPATH=tests python tests/benchmarks/bench_sweep.py [--seeds 4 48] [--slurm]

A grid of 108 cells a seed (9 sizes, 4 tasks, 3 judges), so 432 and 5,184 cells. Commands named
like Slurm's take the jobs and remember them, unless `--slurm` says that a real one is there
(`slurm/dev-cluster.sh up`), whose partitions are closed meanwhile. Prints a line per command, and
the exponent of growth of processor time between the first and the last size.
"""

import argparse
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from support.fake_slurm import fakes

GRID = [
    "data_size=0,250,1k,2k,4k,8k,16k,32k,64k",
    "task=classification,closed_qa,coding,summarization",
    "judge=offline,offline_lenient,offline_strict",
    "run.name=big",
]


def timed(*words: str, path: str) -> tuple[float, float, str]:
    """Seconds of a command by the wall and of processors, and its last line."""
    started, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-m", "understudy", *words],
        capture_output=True,
        text=True,
        env=os.environ | {"PATH": path},
    )
    seconds = time.monotonic() - started
    assert done.returncode == 0, done.stderr
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, used, (done.stdout + done.stderr).strip().splitlines()[-1]


def queued() -> int:
    """How many jobs the user has in the queue."""
    shown = subprocess.run(["squeue", "-h", "-r"], capture_output=True, text=True, check=True)
    return len(shown.stdout.splitlines())


def measure(seeds: int, is_real: bool) -> dict[str, float]:
    """Processor seconds of each command on a grid of 108 cells a seed."""
    grid = [*GRID, f"seed={','.join(map(str, range(seeds)))}"]
    with tempfile.TemporaryDirectory() as folder:
        path, root = os.environ["PATH"], f"{folder}/runs"
        if not is_real:
            path = f"{fakes(Path(folder) / 'bin')}:{path}"
            os.environ["PATH"] = path
        found = {}
        for name, words in {
            "plan": ["plan", *grid, f"paths.root={root}"],
            "submit": ["run", *grid, "cluster=slurm", f"paths.root={root}"],
            "status": ["status", "big", "--root", root],
            "cancel": ["cancel", "big", "--root", root],
        }.items():
            wall, found[name], last = timed(*words, path=path)
            more = f", {queued()} jobs queued" if name == "submit" else ""
            print(f"{108 * seeds:>5} cells, {name:<6} {wall:6.1f} s", end=" ")
            print(f"({found[name]:.1f} s of processors){more}   {last[:60]}", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[4, 48])
    parser.add_argument("--slurm", action="store_true", help="ask the Slurm that is there")
    arguments = parser.parse_args()
    if arguments.slurm:
        for partition in ("main", "low"):
            subprocess.run(["scontrol", "update", f"PartitionName={partition}", "State=DOWN"])
    found = [measure(seeds, arguments.slurm) for seeds in arguments.seeds]
    ratio = math.log(arguments.seeds[-1] / arguments.seeds[0]) if len(found) > 1 else math.inf
    for name in found[0]:
        growth = math.log(found[-1][name] / found[0][name]) / ratio
        print(f"{name}: n^{growth:.2f}")


if __name__ == "__main__":
    main()
