"""A circuit breaker: who fails again and again is left alone for a while, then tried by one call.

After M. Nygard, Release It! (2nd ed. 2018), chapter 5.
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
        """Whether a call should be tried now; of those after a rest only the first is."""
        if not self.is_open:
            return True
        if self._is_trying or self._clock() < self._until:
            return False
        self._is_trying = True
        return True

    def succeeded(self) -> None:
        """Close it."""
        self._in_row, self._is_trying = 0, False

    def failed(self) -> None:
        """Count a failure; it opens at the last one, and anew when a trial fails."""
        self._in_row += 1
        self._is_trying = False
        if self.is_open:
            self._until = self._clock() + self._rest_s

    def gave_up(self) -> None:
        """Forget a trial that ended for a reason of the client's."""
        self._is_trying = False
