"""Metrics for a tracker beside our own files; `tracking=none` keeps nothing.

What a tracker shows is read from finished stages, each once: `wandb/understudy.json` in the run's
directory holds the W&B run's id and the stages that it has. So a command that goes on continues
the same W&B run. Offline that is one more offline-run-* of the same id, and
`wandb sync RUN/wandb/offline-run-*` uploads those of one id in order of their start.

The losses of a fine-tuning on this machine are sent while it goes on, those of a job on a cluster
when it is done. A curve stands on the optimiser's steps of its round, scores on the data size.
"""

import json
import logging
import os
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from understudy import config
from understudy.errors import BadInput
from understudy.store.artifacts import StageDir, write_atomically
from understudy.store.progress import Loss, noted_losses

_SCORES = ("similarity", "precision")
_ENDS = {"": "mean", " low": "low", " high": "high"}
_LOSSES = ("train_loss", "validation_loss")
_POLL_S = 5.0
_COLUMNS = ("judge", "role", "generator", "n_prompts", "n_unscored")


class Tracker:
    """Takes what finished stages say; without a way to open a W&B run it drops it."""

    def __init__(self, state: Path | None = None, open_run: Callable[[str], Any] | None = None):
        self._state = state
        self._open_run = open_run
        self._run: Any | None = None
        self._seen: set[str] = set()
        self._sent: dict[str, dict[str, int]] = {}  # stage -> loss -> last step
        if state is not None:
            known = _read(state)
            self._id, self._seen = known["id"], set(known["stages"])
            self._sent = known.get("sent", {})

    @contextmanager
    def following(self, directory: StageDir, name: str) -> Iterator[None]:
        """Record the losses of a fine-tuning under `name` as they come, while the block runs."""
        stage = f"{directory.path.parent.name}/{directory.path.name}"
        if self._open_run is None or stage in self._seen or directory.is_done:
            yield
            return
        is_over = threading.Event()

        def follow() -> None:
            while not is_over.wait(_POLL_S):
                for loss in noted_losses(directory):
                    self._log_loss(stage, name, loss)

        thread = threading.Thread(target=follow, daemon=True)
        thread.start()
        try:
            yield
        finally:
            is_over.set()
            thread.join()

    def log_curve(self, stage: str, path: Path, name: str) -> None:
        """Record what of a fine-tuning's loss curve (curve.jsonl) is not yet under `name`."""
        if self._open_run is None or stage in self._seen:
            return
        for line in path.read_text(encoding="utf-8").splitlines():
            point = json.loads(line)
            for key in _LOSSES:
                if point[key] is not None:
                    loss = Loss(point["step"], 0, key, point[key])
                    self._log_loss(stage, name, loss, lr=point.get("lr"))
        self._seen.add(stage)

    def _log_loss(self, stage: str, name: str, loss: Loss, lr: float | None = None) -> None:
        """Record a loss, once; steps come again where a training resumes."""
        sent = self._sent.setdefault(stage, {})
        if loss.step <= sent.get(loss.name, -1):
            return
        sent[loss.name] = loss.step
        more = {f"{name}/lr": lr} if lr is not None and loss.name == "train_loss" else {}
        run = self._opened()
        for metric in (*_LOSSES, "lr"):
            run.define_metric(f"{name}/{metric}", step_metric=f"{name}/step")
        # wandb drops a step below the last one, so ours is a metric like the others
        run.log({f"{name}/{loss.name}": loss.value, f"{name}/step": loss.step, **more})

    def log_round(self, number: int, stages: dict[str, str], summary: dict[str, Any]) -> None:
        """Record a round's fingerprints, its scores (a gate's summary) and its decision."""
        if (run := self._run_for(stages["gate"])) is None:
            return
        import wandb

        run.config.update({f"round {number}": stages}, allow_val_change=True)
        table = wandb.Table(
            columns=[*_COLUMNS, *(f"{score}{end}" for score in _SCORES for end in _ENDS)],
            data=[_cells(line) for line in summary["table"]],
        )
        run.log({**_metrics(summary), f"round {number}/scores": table, "round": number})
        run.summary.update({name: summary[name] for name in ("decision", "reason")})

    def _run_for(self, stage: str) -> Any | None:
        """The W&B run, opened when first needed; None when it has this stage already."""
        if self._open_run is None or stage in self._seen:
            return None
        self._seen.add(stage)
        return self._opened()

    def _opened(self) -> Any:
        assert self._open_run is not None, "without a way to open a run nothing is recorded"
        if self._run is None:
            self._run = self._open_run(self._id)
        return self._run

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._run is not None:
            self._run.finish(exit_code=0 if kind is None else 1)
            assert self._state is not None
            sent = {stage: last for stage, last in self._sent.items() if stage not in self._seen}
            state = {"id": self._id, "stages": sorted(self._seen), "sent": sent}
            write_atomically(self._state, json.dumps(state, indent=1))


def _cells(line: dict[str, Any]) -> list[Any]:
    scores = [line[score] for score in _SCORES]
    return [line[column] for column in _COLUMNS] + [
        None if score is None else score[key] for score in scores for key in _ENDS.values()
    ]


def _metrics(summary: dict[str, Any]) -> dict[str, float]:
    return {
        f"{row['role']}/{row['judge']}/{score}": row[score]["mean"]
        for row in summary["table"]
        for score in _SCORES
        if row[score] is not None and row[score]["mean"] is not None
    } | ({} if summary["data_size"] is None else {"data_size": float(summary["data_size"])})


def _read(state: Path) -> dict[str, Any]:
    """The W&B run of this directory, a new one if there is none."""
    if not state.is_file():
        state.parent.mkdir(parents=True, exist_ok=True)
        fresh = {"id": secrets.token_hex(8), "stages": []}
        write_atomically(state, json.dumps(fresh, indent=1))
    known: dict[str, Any] = json.loads(state.read_text(encoding="utf-8"))
    return known


def _tags(values: dict[str, Any]) -> list[str]:
    """What W&B's users filter by: task, model, recipe, and whether it is a rehearsal."""
    leaves = (("task", "name"), ("model", "name"), ("trainer", "kind"))
    found = [str(values[group][leaf]) for group, leaf in leaves if leaf in values.get(group, {})]
    return [tag[:64] for tag in found] + (["rehearsal"] if values.get("rehearsal") else [])


def open_tracker(
    tracking: config.TrackingConfig,
    directory: Path,
    name: str,
    values: dict[str, Any],
    group: str | None = None,
) -> Tracker:
    """Return the tracker of a run, one of a `group`; what wandb writes stays below `directory`."""
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

    def open_run(run_id: str) -> Any:
        run = wandb.init(
            project=tracking.project,
            group=group,
            name=name,
            job_type="run" if group is None else "cell",
            tags=_tags(values),
            id=run_id,
            resume="allow",
            dir=str(directory),
            mode=tracking.mode,
            config=values,
            settings=settings,
        )
        is_ready_made = values.get("inference", {}).get("kind", "local") != "local"
        for role in ("local", "baseline"):
            run.define_metric(f"{role}/*", step_metric="round" if is_ready_made else "data_size")
        return run

    return Tracker(directory / "wandb" / "understudy.json", open_run)
