"""Metrics for a tracker beside our own files; `tracking=none` keeps nothing."""

import json
import logging
import os
from pathlib import Path
from typing import Any, Self

from understudy import config
from understudy.errors import BadInput


class Tracker:
    """Takes metrics; without a wandb run it drops them."""

    def __init__(self, run: Any | None = None) -> None:
        self._run = run

    def log(self, metrics: dict[str, float], step: int) -> None:
        """Record the metrics of one step; steps may start again in every round."""
        if self._run is not None:
            # wandb drops a step below the last one, so ours is a metric like the others
            self._run.log({**metrics, "step": step})

    def log_curve(self, path: Path, name: str) -> None:
        """Record a fine-tuning's loss curve (curve.jsonl) under `name`."""
        for line in path.read_text(encoding="utf-8").splitlines():
            point = json.loads(line)
            step = point.pop("step")
            known = {key: value for key, value in point.items() if value is not None}
            self.log({f"{name}/{key}": value for key, value in known.items()}, step)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._run is not None:
            self._run.finish(exit_code=0 if kind is None else 1)


def open_tracker(
    tracking: config.Tracking, directory: Path, name: str, values: dict[str, Any]
) -> Tracker:
    """The tracker of a run; what wandb writes stays below `directory`."""
    if tracking.kind == "none":
        return Tracker()
    directory.mkdir(parents=True, exist_ok=True)
    for purpose in ("CACHE", "CONFIG", "DATA"):  # else wandb writes into the home directory
        os.environ[f"WANDB_{purpose}_DIR"] = str(directory / "wandb" / purpose.lower())
    try:
        import wandb
    except ImportError:
        raise BadInput(
            "tracking=wandb needs the wandb package: pip install 'understudy[wandb]'"
        ) from None
    if tracking.mode == "online" and not wandb.login(prompt=False, verify=False):
        raise BadInput(
            "tracking.mode=online needs a key: set WANDB_API_KEY or run `wandb login`, "
            "or choose tracking.mode=offline"
        )
    logging.getLogger("wandb").setLevel(logging.ERROR)
    settings = wandb.Settings(
        reinit="create_new",  # cells of a sweep are open side by side
        silent=True,
        console="off",
        disable_git=True,
        disable_code=True,
        disable_job_creation=True,
    )
    run = wandb.init(
        project=tracking.project,
        name=name,
        dir=str(directory),
        mode=tracking.mode,
        config=values,
        settings=settings,
    )
    run.define_metric("*", step_metric="step")
    return Tracker(run)
