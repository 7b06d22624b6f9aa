"""Run one prepared stage: `python -m understudy.pipeline.worker runs/<stage>/<fingerprint>`.

Reads the frozen config, so every rank and every node sees the same values; no Hydra here. Of
several ranks, the first holds the lock, opens the attempt, and publishes; the others follow.
"""

import contextlib
import importlib.metadata
import json
import logging
import os
import platform
import re
import subprocess
import sys
import time
import traceback
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from understudy import __version__, config
from understudy.errors import BadInput, Internal, UnderstudyError, from_system
from understudy.models import gguf, hardware, ranks
from understudy.pipeline.stages import SPECS, Spec, named
from understudy.store import local, locks
from understudy.store.artifacts import Job, StageDir, write_atomically
from understudy.store.sharing import share
from understudy.training.accelerate import processes, visible_gpus

_PACKAGES = ["torch", "transformers", "peft", "trl", "accelerate", "deepspeed", "datasets", "numpy"]
_FAILED = "failed.json"
_MODELS = r"transformers/models/|transformers_modules|transformers/integrations/"
_NO_NUMBERS = "device-side assert|probability tensor contains"  # said late, or far from the model


def main(argv: list[str] | None = None) -> int:
    """Exit code of one stage; the sentence of an error goes to stderr and to log.txt."""
    arguments = sys.argv[1:] if argv is None else argv
    if len(arguments) != 1:
        print("usage: python -m understudy.pipeline.worker STAGE_DIR", file=sys.stderr)
        return 2
    stage = StageDir(Path(arguments[0]))
    if not stage.is_prepared:
        print(
            f"understudy: {stage.path} is no stage directory: it has no config.json",
            file=sys.stderr,
        )
        return 2
    share(stage.path.absolute().parents[1])
    ranks.die_with_parent()
    whose = f"[{ranks.rank()}] " if ranks.count() > 1 else ""
    logging.basicConfig(
        filename=stage.path / "log.txt",
        level=logging.INFO,
        format=f"%(asctime)s {whose}%(levelname)s %(name)s: %(message)s",
    )
    logging.captureWarnings(True)
    logging.raiseExceptions = False  # a full disk is reported once, by us
    if ranks.count() > 1:  # Gloo and DeepSpeed talk on stdout, past Python
        os.dup2(os.open(stage.path / "log.txt", os.O_WRONLY | os.O_APPEND), 1)
    try:
        ranks.end_like_ctrl_c()  # preemption, a time limit
        return _exit_code(stage)
    except KeyboardInterrupt:
        return 130


def _exit_code(stage: StageDir) -> int:
    try:
        run(stage)
    except Exception as error:
        logging.exception("stage failed")
        if ranks.was_told_to_end():  # which may be all that has failed
            return 130
        known = _as_known(error, stage)
        if isinstance(known, Internal):  # which may only echo the death of another rank
            ranks.await_cause()
        if ranks.is_first_to_fail():
            record = {"exit_code": known.exit_code, "sentence": str(known)}
            with contextlib.suppress(OSError):  # no room for it, perhaps
                write_atomically(stage.path / _FAILED, json.dumps(record))  # for `status`
            print(f"understudy: {known}", file=sys.stderr)
        return known.exit_code
    return 0


def run(stage: StageDir) -> None:
    """Do the stage, unless it is done or somebody else does it meanwhile."""
    spec = SPECS[stage.read("config.json")["hashed"]["stage"]]
    _check_count(stage, spec)
    if ranks.rank() > 0:
        if attempt := ranks.hear():
            named(spec.run)(_job(stage, Path(attempt)))
        return
    with locks.hold(stage.path / "LOCK", give_up=lambda: stage.is_done) as is_mine:
        if is_mine and stage.out.is_dir():  # a crash between the rename and DONE
            stage.finish()
            is_mine = False
        if not is_mine:
            ranks.tell("")
            return
        (stage.path / _FAILED).unlink(missing_ok=True)
        attempt_dir = stage.open_attempt()
        started, is_done = time.monotonic(), False
        work_dir = local.borrow(attempt_dir, _place(stage, spec))
        try:
            ranks.tell(str(work_dir))
            job = _job(stage, work_dir)
            named(spec.run)(job)
            is_done = True
        finally:
            attempt_dir = local.give_back(work_dir, attempt_dir, is_done)
        stage.publish(attempt_dir, _meta(stage, job.notes, time.monotonic() - started))


def _place(stage: StageDir, spec: Spec) -> str | None:
    """Where on this node to work; None = below the root, as ranks on several nodes must."""
    made = config.build(stage.read("config.json")["config"])
    is_spread = spec.gpus == "all" and made.accelerate.is_distributed and made.accelerate.nodes > 1
    return None if is_spread else made.cluster.scratch


def _check_count(stage: StageDir, spec: Spec) -> None:
    """Refuse to train alone what several should: `accelerate launch --cpu` starts one process."""
    accelerate = config.build(stage.read("config.json")["config"]).accelerate
    asked = processes(accelerate) if spec.gpus == "all" else 1
    if ranks.count() != asked:
        raise BadInput(
            f"accelerate={accelerate.kind} asks for {asked} processes and this is one of "
            f"{ranks.count()}; start it with python -m understudy.pipeline.start {stage.path}"
        )
    ranks.use_own_device()


def _job(stage: StageDir, attempt: Path) -> Job:
    frozen, inputs = stage.read("config.json"), stage.read("inputs.json")
    spec = SPECS[frozen["hashed"]["stage"]]
    root, made = stage.path.parents[1], spec.view(config.build(frozen["config"]))
    if spec.gpus != "none":  # it computes with the model
        made = gguf.dequantized(made, root)
    return Job(
        config=made,
        params=frozen["hashed"]["params"],
        inputs={role: root / path / "out" for role, path in inputs["inputs"].items()},
        out=attempt / "out",
        scratch=attempt / "scratch",
        root=root,
        stage=f"{stage.path.parent.name}/{stage.path.name}",
        purse=inputs["purse"],
    )


def _meta(stage: StageDir, notes: dict[str, Any], seconds: float) -> dict[str, Any]:
    versions = {"understudy": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        if package in sys.modules:
            versions[package] = importlib.metadata.version(package)
    return {
        "command": stage.read("inputs.json")["command"],
        "git": commit(),
        "versions": versions,
        "host": platform.node(),
        # What was started: tells the command whose worker did it from one that waited for it
        "pid": os.getppid() if ranks.is_launched() else os.getpid(),
        "cpus": os.cpu_count(),
        "hardware": hardware.name(_is_on_gpu(stage)),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(seconds, 2),
        **notes,  # the seconds of the work alone, where a stage tells
        "stage_seconds": round(seconds, 2),
    }


def _is_on_gpu(stage: StageDir) -> bool:
    frozen = stage.read("config.json")
    takes_gpu = SPECS[frozen["hashed"]["stage"]].gpus != "none"
    return takes_gpu and bool(visible_gpus(os.environ))


def commit() -> dict[str, Any] | None:
    """Return commit and dirtiness of the checkout that this package runs from, if it is one.

    A copy made for the jobs of a cluster says of which it is one.
    """
    here = Path(__file__).parent
    told = here.parents[2] / "commit.json"
    if told.is_file():
        known: dict[str, Any] | None = json.loads(told.read_text(encoding="utf-8"))
        return known

    def ask(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=here, capture_output=True, text=True)
        return done.stdout.strip() if done.returncode == 0 else ""

    try:
        commit = ask("rev-parse", "HEAD")
        return {"commit": commit, "dirty": bool(ask("status", "--porcelain"))} if commit else None
    except FileNotFoundError:  # no git on this machine
        return None


def _as_known(error: Exception, stage: StageDir) -> UnderstudyError:
    """The error in our tree; what is not ours keeps its traceback in log.txt."""
    if isinstance(error, UnderstudyError):
        return error
    if machine := from_system(error, stage.path):
        return machine
    last = traceback.format_exception_only(error)[-1].strip()
    if name := _model_at_fault(error, stage):
        return BadInput(
            f"{name} failed while it computed: {last}; its weights, config.json and tokenizer may "
            f"not belong together (the traceback is in {stage.path}/log.txt)"
        )
    return Internal(f"{last} (a bug of understudy's; the traceback is in {stage.path}/log.txt)")


def _model_at_fault(error: Exception, stage: StageDir) -> str | None:
    """The model that somebody brought, if the error came out of its own computation."""
    model = config.build(stage.read("config.json")["config"]).model
    if (model.path or "").startswith("package:"):
        return None
    places = {frame.filename for frame in traceback.extract_tb(error.__traceback__)}
    is_inside = any(re.search(_MODELS, place) for place in places)
    if not is_inside and not re.search(_NO_NUMBERS, str(error)):
        return None
    return f"model={model.name} ({model.path or model.repo})"


if __name__ == "__main__":
    code = main()
    ranks.end_undisturbed()
    sys.exit(code)
