"""Start a prepared stage directory as its config says: one plain worker, or a rank per device.

    python -m understudy.pipeline.start STAGE_DIR...

is what a Slurm job runs. With several ranks it becomes `accelerate launch`; else it becomes the
plain worker. Of several directories, it does one after the other.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from datetime import datetime
from pathlib import Path
from typing import NamedTuple, NoReturn

from understudy import config
from understudy.config import Config
from understudy.errors import BY_EXIT_CODE, BadInput, EnvironmentFailed, UnderstudyError
from understudy.models import ranks
from understudy.pipeline.stages import SPECS
from understudy.services import account
from understudy.store import locks
from understudy.store.artifacts import StageDir, write_atomically
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
    spec = SPECS[frozen["hashed"]["stage"]]
    made, takes_all = spec.view(config.build(frozen["config"])), spec.gpus == "all"
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


def idle_cores(made: Config) -> list[str]:
    """Say so where a local run leaves cores of this machine idle that a model could use.

    The tiny model is quickest with one thread, and cells of a sweep share the cores.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    spread, model = made.cluster, made.model
    is_meant = (
        spread.kind == "local"
        and spread.threads == spread.processes == 1
        and made.inference.kind == "local"
        and not (model.path or "").startswith("package:")
        and not accelerate.visible_gpus(os.environ)
        and not made.accelerate.is_distributed
    )
    if not is_meant or (cores or 1) < 2:
        return []
    return [
        f"model={model.name} computes with one of {cores} cores; cluster.threads={cores} uses all "
        "(bytes of results are equal at equal numbers of threads only)"
    ]


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
            # A worker on another node cannot see that the process is gone while its job lives.
            journal = stage_dir.parents[1] / "journal"
            for lock in (stage_dir / "LOCK", *account.leases(journal)):
                locks.clear(lock)
            why = ""
            if code == -signal.SIGKILL:
                why = ", most often for lack of memory (on a cluster, raise memory_gb)"
            raise EnvironmentFailed(
                f"the worker was ended by {signal.Signals(-code).name}{why} in {stage_dir}; "
                "run again to go on"
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


def work_off(stage_dirs: Sequence[Path], at_once: int = 1) -> int:
    """Do the stages whose inputs are done, some at a time; return the worst exit code.

    A stage that fails ends no other but those that need it.
    """
    workers, code = Workers(), 0
    left = [path for path in stage_dirs if not StageDir(path).is_done]
    busy = dict[Future[int], Path]()
    with ThreadPoolExecutor(at_once) as pool:
        try:
            while True:
                for path in left[:]:
                    if len(busy) < at_once and not missing_inputs(path):
                        left.remove(path)
                        _say(path)
                        busy[pool.submit(workers.run, path)] = path
                if not busy:
                    break
                for future in wait(busy, return_when=FIRST_COMPLETED).done:
                    path = busy.pop(future)
                    try:
                        future.result()
                    except UnderstudyError as error:
                        code = max(code, error.exit_code)
                        _fail(path, error)
                    _say(path, "ended")
        except BaseException:
            workers.stop()
            raise
    for path in left:
        _say(path, f"not begun: {missing_inputs(path)[0]} is not done")
    return code


def missing_inputs(stage_dir: Path) -> list[str]:
    """Return which of the stages that a prepared stage reads are not done."""
    root, inputs = stage_dir.parents[1], StageDir(stage_dir).read("inputs.json")["inputs"]
    return [path for path in inputs.values() if not StageDir(root / path).is_done]


def _fail(stage_dir: Path, error: UnderstudyError) -> None:
    """Say why a stage failed, unless its worker has."""
    if sentence := str(error):
        print(f"understudy: {sentence}", file=sys.stderr, flush=True)
        record = json.dumps({"exit_code": error.exit_code, "sentence": sentence})
        write_atomically(stage_dir / "failed.json", record)


def _say(stage_dir: Path, what: str = "begins") -> None:
    now = datetime.now().isoformat(timespec="milliseconds")
    print(f"{now} {what}: {stage_dir}", file=sys.stderr, flush=True)


def main(stage_dirs: Sequence[Path]) -> NoReturn:
    """Become the worker, or the launcher of the workers; of several stages stay to start each."""
    try:
        if len(stage_dirs) > 1:
            ranks.end_like_ctrl_c()
            ranks.die_with_parent()
            raise SystemExit(work_off(stage_dirs, _at_once(stage_dirs)))
        (stage_dir,) = stage_dirs
        if StageDir(stage_dir).is_done:
            raise SystemExit(0)
        if not StageDir(stage_dir).is_prepared:
            raise BadInput(f"{stage_dir} is no stage directory: it has no config.json")
        if missing := missing_inputs(stage_dir):
            raise BadInput(f"{stage_dir} reads {missing[0]}, which is not done")
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


def _at_once(stage_dirs: Sequence[Path]) -> int:
    """As many as the job has processors; those that ask a service ask it one at a time."""
    specs = (SPECS[StageDir(path).read("config.json")["hashed"]["stage"]] for path in stage_dirs)
    if any(spec.service is not None for spec in specs):
        return 1
    return int(os.environ.get("SLURM_CPUS_PER_TASK", "1"))


if __name__ == "__main__":
    main([Path(word) for word in sys.argv[1:]])
