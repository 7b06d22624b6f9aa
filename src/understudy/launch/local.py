"""Start a worker on this machine and wait for it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from understudy.errors import BY_EXIT_CODE, EnvironmentFailed, UnderstudyError


class StageFailed(UnderstudyError):
    """The worker has said why already; only its exit code is passed on."""

    def __init__(self, exit_code: int) -> None:
        super().__init__("")
        self.exit_code = exit_code


def environment(threads: int) -> dict[str, str]:
    """The child's environment: more OpenMP threads than given only spin against each other."""
    return os.environ | {
        "OMP_NUM_THREADS": str(threads),
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }


def run_worker(stage_dir: Path, threads: int) -> None:
    """Raises StageFailed, EnvironmentFailed, or KeyboardInterrupt once the worker has ended."""
    command = [sys.executable, "-m", "understudy.worker", str(stage_dir)]
    with subprocess.Popen(command, env=environment(threads)) as worker:
        try:
            code = worker.wait()
        except KeyboardInterrupt:  # a terminal sends it to the worker too; a `kill` does not
            worker.send_signal(signal.SIGINT)
            worker.wait()
            raise
    if code == 130:
        raise KeyboardInterrupt
    if code < 0:
        name = signal.Signals(-code).name
        raise EnvironmentFailed(
            f"the worker was ended by {name} in {stage_dir}; run again to go on"
        )
    if code:
        raise StageFailed(code if code in BY_EXIT_CODE or code == 1 else 70)
