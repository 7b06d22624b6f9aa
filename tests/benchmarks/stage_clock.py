"""Time the steps of trainings from inside, and leave them before anything is saved."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback
from transformers.trainer import DEFAULT_CALLBACKS

from support import tiny_model
from understudy.config import Config
from understudy.records import Coverage
from understudy.training import finetune


class Enough(Exception):
    """All steps that were asked for are timed."""


class Clock(TrainerCallback):  # type: ignore[misc]
    """Wall and CPU seconds of each step of a training, its tokens and its loss.

    `pause` is called after each step; what it takes is not counted.
    """

    def __init__(self, steps: int, pause: Callable[[], None] = lambda: None) -> None:
        self.steps = steps
        self.wall: list[float] = []
        self.cpu: list[float] = []
        self.tokens: list[int] = []
        self.losses: list[float] = []
        self._pause = pause
        self._began = time.perf_counter(), time.process_time()

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any], **_: Any) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        wall, cpu = self._began
        self.wall.append(time.perf_counter() - wall)
        self.cpu.append(time.process_time() - cpu)
        self.tokens.append(int(logs["num_tokens"]))
        self.losses.append(logs["loss"])
        if len(self.wall) > self.steps:
            raise Enough
        self._pause()
        self._began = time.perf_counter(), time.process_time()

    @property
    def tokens_per_second(self) -> float:
        """Tokens trained on, without padding, after the first step, which warms up."""
        return (self.tokens[-1] - self.tokens[0]) / sum(self.wall[1:])


def timed(train: Callable[[], Any], clock: Clock) -> Clock:
    """Time a step that warms up and `clock.steps` more of whatever trainer `train` makes."""
    DEFAULT_CALLBACKS.append(clock)
    try:
        train()
    except Enough:
        return clock
    finally:
        DEFAULT_CALLBACKS.remove(clock)
    raise AssertionError(f"the training ended before step {clock.steps + 1}")


def stage(root: Path, config: Config, rows: list[Coverage]) -> Callable[[], None]:
    """Our finetune stage on these rows, without validation rows."""
    inputs = {
        "subset": tiny_model.upstream(root / "subset", rows),
        "split": tiny_model.upstream(root / "split", []),
    }
    return lambda: finetune.run(tiny_model.job(root, config, **inputs))
