"""This checkout beside another: `python tests/benchmarks/before.py CHECKOUT`.

Both are driven through their command lines by one interpreter, in turn, so that other load on the
machine meets both alike; printed are the medians of `--rounds` pairs and their ratio. Measured are
tokens per second of an inference stage and of `understudy serve` (8 and 32 in flight), the CPU that
the client adds to a paid call (each checkout's own `bench_client.py`, `--cpu-only`), and the
seconds of `plan sweep=full_grid`. `git worktree add CHECKOUT COMMIT` makes the other one.
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import bench_serve

HERE = Path(__file__).parents[2]


def environment(checkout: Path) -> dict[str, str]:
    """What makes the interpreter import the package from a checkout."""
    path = os.pathsep.join(str(checkout / part) for part in ("src", "tests"))
    return {**os.environ, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1"}


def understudy(checkout: Path, root: Path, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "understudy", *words, f"paths.root={root}"],
        **{"env": environment(checkout), "cwd": root, "capture_output": True, "text": True},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def inference(checkout: Path) -> float:
    """Tokens per second of the longest answers stage of a run of the untrained tiny model."""
    small = ("trainer=none", "data_size=0", "task=coding", "baseline=none", "judge=offline")
    rows = ("coverage.rows=700", "coverage.split.test=600", "inference.k=4", "evaluation.m=1")
    with tempfile.TemporaryDirectory() as root:
        understudy(checkout, Path(root), "run", *small, *rows, "inference.max_new_tokens=96")
        (stage,) = Path(root).glob("rehearsal/inference/*")
        seconds = json.loads((stage / "meta.json").read_text())["seconds"]
        lines = (stage / "out" / "rows.jsonl").read_text(encoding="utf-8").split("\n")[:-1]
        return float(sum(json.loads(line)["tokens"] for line in lines) / seconds)


def serving(in_flight: int) -> Callable[[Path], float]:
    """A measurement of a server's tokens per second."""

    def measure(checkout: Path) -> float:
        port = bench_serve.free_port()
        at = ("--host", "127.0.0.1", "--port", str(port))
        command = [sys.executable, "-m", "understudy", "serve", str(bench_serve.MODEL), *at]
        path = environment(checkout)["PYTHONPATH"]
        with bench_serve.server(["env", f"PYTHONPATH={path}", *command], port) as pid:
            url, name = f"http://127.0.0.1:{port}", bench_serve.MODEL.name
            return asyncio.run(bench_serve.play(url, name, in_flight, 96, pid)).rate

    return measure


def added_cpu(checkout: Path) -> float:
    """Milliseconds of CPU that the client adds to a call of the bare SDK."""
    script = checkout / "tests" / "benchmarks" / "bench_client.py"
    done = subprocess.run(
        [sys.executable, str(script), "--cpu-only"],
        **{"env": environment(checkout), "cwd": checkout, "capture_output": True, "text": True},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("CPU that we add"))
    return float(line.split(" ms,")[0].split()[-1])


def plan(checkout: Path) -> float:
    """Seconds of `plan sweep=full_grid` in an empty root."""
    with tempfile.TemporaryDirectory() as root:
        began = time.monotonic()
        understudy(checkout, Path(root), "plan", "sweep=full_grid")
        return time.monotonic() - began


MEASURED: dict[str, Callable[[Path], float]] = {
    "inference, tokens/s": inference,
    "serve, tokens/s at 8": serving(8),
    "serve, tokens/s at 32": serving(32),
    "client, ms of CPU added": added_cpu,
    "plan sweep=full_grid, s": plan,
}


def main(arguments: argparse.Namespace) -> None:
    print(f"{'median of pairs':<26}{'before':>10}{'here':>10}{'here / before':>15}")
    for name, measure in MEASURED.items():
        if arguments.only not in name:
            continue
        pairs = []
        for number in range(arguments.rounds):
            order = (arguments.before, HERE) if number % 2 == 0 else (HERE, arguments.before)
            found = {checkout: measure(checkout) for checkout in order}
            pairs.append((found[arguments.before], found[HERE]))
        before, here = (statistics.median(values) for values in zip(*pairs, strict=True))
        ratio = statistics.median(b / a for a, b in pairs)
        print(f"{name:<26}{before:>10.2f}{here:>10.2f}{ratio:>15.3f}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("before", type=lambda text: Path(text).resolve(), metavar="CHECKOUT")
    parser.add_argument("--rounds", type=int, default=5, help="pairs of each measurement")
    parser.add_argument("--only", default="", metavar="TEXT", help="measurements whose name has it")
    main(parser.parse_args())
