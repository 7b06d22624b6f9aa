"""Whether the local model bears out a change of control: several failures undo it."""

import time
from collections import deque
from collections.abc import Callable

from understudy.gateway.control import Control, Router

_CALLS = 10  # the last ones of the local model
_FAILURES = 5  # among them, which undo the change


class Probation:
    """The first while after a change, and the control before it."""

    def __init__(
        self,
        before: Control,
        router: Router | None,
        seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.before, self.router, self._clock = before, router, clock
        self._until = clock() + seconds
        self._failed: deque[bool] = deque(maxlen=_CALLS)
        self._heard = clock()

    @property
    def failures(self) -> int:
        """How many of the last calls failed."""
        return sum(self._failed)

    @property
    def is_over(self) -> bool:
        """Whether the change stays."""
        return self._clock() >= self._until

    def is_silent(self, seconds: float) -> bool:
        """Return whether nothing was heard of the local model for so long."""
        return not self.is_over and self._clock() - self._heard >= seconds

    def ends_badly(self, has_failed: bool) -> bool:
        """Count a call of the local model, and return whether the change is to be undone."""
        if self.is_over:
            return False
        self._heard = self._clock()
        self._failed.append(has_failed)
        return has_failed and self.failures >= _FAILURES
