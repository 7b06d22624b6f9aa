"""SIGTERM and SIGUSR1 during training: preemption, or a time limit that comes near."""

import signal
from typing import Any, Self

from understudy.models import ranks

_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


class Signals:
    """Remembers, inside its block, that one came; outside it they end the worker at once.

    One that came before and ended nothing counts as well.
    """

    def __init__(self) -> None:
        self._is_mine = False
        self._before: list[Any] = []

    def __enter__(self) -> Self:
        self._before = [signal.signal(number, self._note) for number in _SIGNALS]
        self._is_mine |= ranks.was_told_to_end()
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in zip(_SIGNALS, self._before, strict=True):
            signal.signal(number, handler)

    def have_come(self) -> bool:
        """Whether one has reached any rank; every rank must ask, and all get the same answer."""
        return ranks.any_of(self._is_mine)

    def _note(self, *_: object) -> None:
        self._is_mine = True
