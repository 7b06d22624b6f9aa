"""Start a prepared stage directory as its config says: one plain worker, or a rank per device.

    python -m understudy.pipeline.start STAGE_DIR

is what a Slurm job runs. With several ranks it becomes `accelerate launch`; else it becomes the
plain worker.
"""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import NamedTuple, NoReturn

from understudy import config
from understudy.errors import BY_EXIT_CODE, BadInput, EnvironmentFailed, UnderstudyError
from understudy.models import ranks
from understudy.pipeline.stages import SPECS
from understudy.store.artifacts import StageDir
from understudy.training import accelerate

_ME = "understudy.pipeline.start"


class Start(NamedTuple):
    """A command, and the environment to start it in."""

    argv: list[str]
    env: dict[str, str]


def start(stage_dir: Path) -> Start:
    """Return how to start the stage; files that the launch needs are written into its directory.

    Raises BadInput or EnvironmentFailed when this machine cannot do what the config asks for.
    """
    frozen = StageDir(stage_dir).read("config.json")
    made, takes_all = config.build(frozen["config"]), SPECS[frozen["hashed"]["stage"]].gpus == "all"
    spread, gpus = made.accelerate, accelerate.visible_gpus(os.environ)
    env = os.environ | {
        "OMP_NUM_THREADS": str(made.cluster.threads),  # more would spin against each other
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    if takes_all and spread.is_distributed:
        env |= accelerate.prepare(stage_dir, made)
        return Start([sys.executable, "-m", _ME, str(stage_dir)], env)
    if spread.kind == "cpu":
        env["CUDA_VISIBLE_DEVICES"] = ""
    elif takes_all and len(gpus) > 1:  # else the trainer takes them all
        env["CUDA_VISIBLE_DEVICES"] = gpus[0]
    return Start([sys.executable, "-m", "understudy.pipeline.worker", str(stage_dir)], env)


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
        how = start(stage_dir)
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
        if code in (130, -signal.SIGINT):
            raise KeyboardInterrupt
        if code < 0:
            name = signal.Signals(-code).name
            raise EnvironmentFailed(
                f"the worker was ended by {name} in {stage_dir}; run again to go on"
            )
        if code:
            raise StageFailed(code if code in BY_EXIT_CODE or code == 1 else 70)
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


def main(stage_dir: Path) -> NoReturn:
    """Become the worker, or the launcher of the workers."""
    try:
        if StageDir(stage_dir).is_done:
            raise SystemExit(0)
        if not StageDir(stage_dir).is_prepared:
            raise BadInput(f"{stage_dir} is no stage directory: it has no config.json")
        how = start(stage_dir)
        if how.argv[2] != _ME:
            os.execve(how.argv[0], how.argv, how.env)
        os.environ.update(how.env)
        ranks.die_with_parent()
        spread = config.build(StageDir(stage_dir).read("config.json")["config"]).accelerate
        given = accelerate.arguments(stage_dir, spread, os.environ)
        code, why = accelerate.launch(given, accelerate.builders(spread))
    except UnderstudyError as error:
        code, why = error.exit_code, str(error)
    except KeyboardInterrupt:
        code, why = 130, ""
    if why:
        print(f"understudy: {why}", file=sys.stderr)
    raise SystemExit(code)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
