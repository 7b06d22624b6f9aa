"""A prepared finetune stage directory, started as `understudy run` and a Slurm job start it."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from support import tiny_model
from understudy.pipeline import stages
from understudy.pipeline.stages import Stage
from understudy.store.artifacts import StageDir


def prepare(
    root: Path, base: Path, rows: int = 10, held: int = 5, stage: str = "finetune", **changes: Any
) -> StageDir:
    """A stage that trains on `rows` rows and validates on `held`."""
    tiny_model.upstream(root / "subset" / "s" / "out", tiny_model.rows(rows))
    tiny_model.upstream(root / "split" / "s" / "out", tiny_model.rows(held, "validation"))
    for kind in ("subset", "split"):
        (root / kind / "s" / "DONE").touch()
    config = tiny_model.build(base, **changes)
    made = StageDir(root / stage / "0123456789abcdef")
    frozen = stages.frozen(Stage(stage, {}, {}, {}, {}), config)
    inputs = {"subset": "subset/s", "split": "split/s"}
    made.prepare(frozen, {"command": "test", "inputs": inputs, "purse": "run/test"})
    return made


def start(stage: StageDir, **env: str) -> "subprocess.Popen[str]":
    """Start the command of a Slurm job; what it says is on its stderr."""
    return subprocess.Popen(
        [sys.executable, "-m", "understudy.pipeline.start", str(stage.path)],
        env=os.environ | {"TORCH_EXTENSIONS_DIR": str(EXTENSIONS)} | env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(stage: StageDir, **env: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of the started command."""
    process = start(stage, **env)
    out, err = process.communicate(timeout=900)
    return process.returncode, out, err


# What DeepSpeed compiles takes a minute, so it is kept from one session to the next.
EXTENSIONS = Path.home() / ".cache" / "understudy-tests" / "torch_extensions"
