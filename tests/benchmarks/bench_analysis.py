"""All tables and figures from 1,000,000 verdict rows.

    OMP_NUM_THREADS=1 PYTHONPATH=.:src:tests python tests/benchmarks/bench_analysis.py

Seconds and peak memory of a process that starts with nothing loaded; the wish is at most 20 s and
2 GiB on two cores. Three judges read 834 prompts x 4 answers x 10 repeats of a service and nine
sizes of one model: 1,000,800 verdicts. Best of three; the rows are written once, before.
"""

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from support import judged_runs

PROMPTS, ANSWERS, REPEATS = 834, 4, 10
SIZES = [1000 * 2**power for power in range(9)]
_WISH_S = 20


def main() -> None:
    """Write the rows, then time three fresh processes."""
    with tempfile.TemporaryDirectory() as folder:
        root, taken, busy = Path(folder), [], []
        print(f"{judged_runs.write(root, SIZES, PROMPTS, ANSWERS, REPEATS):,} verdicts")
        command = [sys.executable, "-m", "analysis.reproduce", "big", "--root", str(root)]
        for _ in range(3):
            start, used = time.perf_counter(), _cpu_seconds()
            subprocess.run([*command, "--out", str(root / "out")], check=True, capture_output=True)
            taken.append(time.perf_counter() - start)
            busy.append(_cpu_seconds() - used)
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
        files = len(list((root / "out").iterdir()))
    said = f"{files} files: {min(taken):.1f} s, {min(busy):.1f} s of processor time"
    print(f"{said} (wish: {_WISH_S} s); {peak:.2f} GiB at most (wish: 2 GiB)")


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
