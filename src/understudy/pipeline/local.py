"""Start workers on this machine and wait for them."""

import signal
import subprocess
import sys
import threading
from pathlib import Path

from understudy.errors import BY_EXIT_CODE, EnvironmentFailed, UnderstudyError
from understudy.training import accelerate


class StageFailed(UnderstudyError):
    """The worker has said why already; only its exit code is passed on."""

    def __init__(self, exit_code: int) -> None:
        super().__init__("")
        self.exit_code = exit_code


class Workers:
    """The workers of this process; `stop` ends them all, and no other starts."""

    def __init__(self) -> None:
        self._live: set[subprocess.Popen[str]] = set()
        self._is_stopped = False
        self._lock = threading.Lock()

    def run(self, stage_dir: Path, prefix: str = "") -> int:
        """Run a stage and return the pid of what was started; with a prefix, before each line.

        Raises StageFailed, EnvironmentFailed, or KeyboardInterrupt once the worker has ended;
        BadInput when it cannot be started as `accelerate=` asks for.
        """
        how = accelerate.start(stage_dir)
        with self._lock:
            if self._is_stopped:
                raise KeyboardInterrupt
            worker = subprocess.Popen(
                how.argv,
                env=how.env,
                text=True,
                stdout=subprocess.PIPE if prefix else None,
                stderr=subprocess.STDOUT if prefix else None,
                process_group=0,  # Ctrl-C reaches it through `stop` alone, once each time
            )
            self._live.add(worker)
        try:
            for line in worker.stdout or ():
                print(f"{prefix}{line}", end="", file=sys.stderr, flush=True)
            code = worker.wait()
        except KeyboardInterrupt:
            self.stop()
            raise
        finally:
            if worker.stdout is not None:
                worker.stdout.close()
            with self._lock:
                self._live.discard(worker)
        _raise_for(code, stage_dir)
        return worker.pid

    def stop(self) -> None:
        """Interrupt every worker and wait; they keep what is paid for. Ctrl-C again aborts them."""
        with self._lock:
            self._is_stopped = True
            live = list(self._live)
        for worker in live:
            worker.send_signal(signal.SIGINT)
        try:
            for worker in live:
                worker.wait()
        except KeyboardInterrupt:
            for worker in live:
                worker.send_signal(signal.SIGINT)
            for worker in live:
                worker.wait()


def _raise_for(code: int, stage_dir: Path) -> None:
    if code in (130, -signal.SIGINT):
        raise KeyboardInterrupt
    if code < 0:
        name = signal.Signals(-code).name
        raise EnvironmentFailed(
            f"the worker was ended by {name} in {stage_dir}; run again to go on"
        )
    if code:
        raise StageFailed(code if code in BY_EXIT_CODE or code == 1 else 70)
