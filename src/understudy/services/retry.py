"""When a failed call is tried again, and when it is given up."""

import random
from collections import Counter

from understudy.config.service import Service
from understudy.errors import BadInput, BudgetSpent, EnvironmentFailed, UnderstudyError
from understudy.services.base import CallFailed, Fate

_FIRST_S = 0.5
_MOST_S = 60.0
_BUSY_FACTOR = 10  # a busy service is not a broken one: others are served meanwhile


def back_off(failures: int) -> float:
    """Seconds to wait after so many failures in a row: exponential, with full jitter.

    Uniform over [0, min(60, 0.5 * 2^(n-1))], so that callers who failed together do not come back
    together (Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015).
    """
    return random.uniform(0, min(_MOST_S, _FIRST_S * 2.0 ** min(failures - 1, 30)))


def gives_up(failed: CallFailed, failures: Counter[Fate], attempts: int, is_silent: bool) -> bool:
    """Whether a call has been tried often enough; `is_silent`: no other was answered meanwhile."""
    if failed.fate == "row":
        return True
    patience = attempts if failed.fate == "heal" or is_silent else attempts * _BUSY_FACTOR
    return failures[failed.fate] >= patience


def stopped(failed: CallFailed) -> UnderstudyError:
    """The error that ends a run whose every further call would fail in the same way."""
    text = str(failed)
    return BudgetSpent(text) if "quota" in text.lower() else BadInput(text)


def silent(service: Service, failed: CallFailed) -> EnvironmentFailed:
    """The error that ends a run when nobody answers."""
    return EnvironmentFailed(
        f"service {service.name} does not answer ({failed}); the same command goes on"
    )
