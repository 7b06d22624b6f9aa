"""Who fails again and again is left alone for a while, then tried by one call.

A circuit breaker, after M. Nygard, Release It!, 2nd ed. 2018, chapter 5.
"""

import time
from collections.abc import Callable


class Breaker:
    """Closed while calls succeed; open for `rest_s` after `failures` in a row."""

    def __init__(
        self, failures: int, rest_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._most, self._rest_s, self._clock = failures, rest_s, clock
        self._in_row = 0
        self._until = 0.0
        self._is_trying = False

    @property
    def is_open(self) -> bool:
        """Whether calls should go elsewhere if they can."""
        return self._in_row >= self._most

    def lets_in(self) -> bool:
        """Return whether to try a call now; of those after a rest only the first is."""
        if not self.is_open:
            return True
        if self._is_trying or self._clock() < self._until:
            return False
        self._is_trying = True
        return True

    def succeeded(self) -> None:
        """Close it."""
        self._in_row, self._is_trying = 0, False

    def failed(self, is_trial: bool = False) -> None:
        """Count a failure; it opens at the last one, and anew when the trial fails.

        A call of before that fails late neither ends the trial nor makes the rest longer.
        """
        was_open = self.is_open
        self._in_row += 1
        self.gave_up(is_trial)
        if self.is_open and (is_trial or not was_open):
            self._until = self._clock() + self._rest_s

    def gave_up(self, is_trial: bool) -> None:
        """Forget a trial that ended for a reason of the client's."""
        if is_trial:
            self._is_trying = False
