"""What the trainer logged, and what follows from it: stop, which step to ship, the loss curve.

Everything is read from the log history, which each checkpoint carries, so that a resumed run
decides exactly as one that was never interrupted.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from understudy.errors import EnvironmentFailed

History = list[dict[str, float]]  # {"step", "loss", "learning_rate"} and {"step", "eval_loss"}


class Evaluation(NamedTuple):
    """The validation loss after a step."""

    step: int
    loss: float


def evaluations(history: History) -> list[Evaluation]:
    """The validation losses so far."""
    return [Evaluation(int(e["step"]), e["eval_loss"]) for e in history if "eval_loss" in e]


def best(history: History) -> Evaluation | None:
    """The lowest validation loss, the earliest of equals; a loss that is no number is worst."""
    return min(
        evaluations(history),
        key=lambda one: (not math.isfinite(one.loss), one.loss, one.step),
        default=None,
    )


def last_step(history: History) -> int:
    """The newest step trained."""
    return max((int(entry["step"]) for entry in history), default=0)


def is_stale(history: History, patience: int | None) -> bool:
    """Whether the last `patience` evaluations brought nothing better."""
    lowest = best(history)
    if patience is None or lowest is None:
        return False
    return sum(one.step > lowest.step for one in evaluations(history)) >= patience


def is_over(history: History, total: int, patience: int | None) -> bool:
    """Whether nothing is left to train."""
    return last_step(history) >= total or is_stale(history, patience)


def chosen(history: History, keep: str) -> int:
    """The step whose model is shipped if training ends here."""
    lowest = best(history)
    return lowest.step if keep == "best" and lowest is not None else last_step(history)


def check_finite(entry: Mapping[str, float], lr: float, has_scaler: bool = False) -> None:
    """Stop a run whose losses or gradients are no longer numbers.

    With fp16's loss scaler, a gradient that is none only makes it skip a step.
    """
    for name in ("loss", "eval_loss", *(() if has_scaler else ("grad_norm",))):
        if not math.isfinite(entry.get(name, 0.0)):
            raise EnvironmentFailed(
                f"training diverged: {name} is {entry[name]} at step {entry['step']:.0f}; "
                f"lower trainer.lr={lr:g} (the last checkpoint before is kept)"
            )


def curve(history: History) -> list[dict[str, Any]]:
    """One line per step: losses and learning rate."""
    validation = dict(evaluations(history))
    return [
        {
            "step": int(entry["step"]),
            "train_loss": entry["loss"],
            "validation_loss": validation.get(int(entry["step"])),
            "lr": entry["learning_rate"],
        }
        for entry in history
        if "loss" in entry
    ]


def facts(history: History, keep: str) -> dict[str, Any]:
    """The part of the summary that the history tells."""
    trained = [entry for entry in history if "loss" in entry]
    measured, lowest = evaluations(history), best(history)
    return {
        "steps": last_step(history),
        "epochs": trained[-1]["epoch"],
        "shipped_step": chosen(history, keep),
        "best_step": lowest.step if lowest else None,
        "best_validation_loss": lowest.loss if lowest else None,
        "final_validation_loss": measured[-1].loss if measured else None,
        "final_train_loss": trained[-1]["loss"],
    }
