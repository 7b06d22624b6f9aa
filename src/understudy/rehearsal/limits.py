"""Requests and tokens per minute: a sliding window each, per API key and model."""

import time
from collections import deque

from understudy.services.base import Room


class Meter:
    """Holds the last `seconds` to their share of a limit per minute; None = no limit."""

    def __init__(self, per_minute: int | None, seconds: float) -> None:
        self.per_minute, self._seconds = per_minute, seconds
        self._most = None if per_minute is None else max(1, round(per_minute * seconds / 60))
        self._events: deque[tuple[float, int]] = deque()  # (when, amount)
        self._total = 0

    def wait(self, amount: int) -> float:
        """Seconds until there is room; what is larger than the limit fits an empty window."""
        if self._most is None:
            return 0.0
        now, left = self._now(), 0.0
        excess = self._total + amount - self._most
        for when, used in self._events:
            if excess <= 0:
                break
            excess -= used
            left = when + self._seconds - now
        return left

    def add(self, amount: int) -> None:
        """Count something now."""
        if self._most is not None:
            self._events.append((self._now(), amount))
            self._total += amount

    @property
    def left(self) -> int | None:
        """What is left of the window's share."""
        self._now()
        return None if self._most is None else max(0, self._most - self._total)

    @property
    def reset_s(self) -> float | None:
        """Seconds until all of it is there again."""
        now = self._now()
        if self._most is None:
            return None
        return self._events[-1][0] + self._seconds - now if self._events else 0.0

    def _now(self) -> float:
        """The time, with everything forgotten that has left the window."""
        now = time.monotonic()
        while self._events and self._events[0][0] + self._seconds <= now:
            self._total -= self._events.popleft()[1]
        return now


class RateMeters:
    """The two meters of an API key and model."""

    def __init__(
        self, requests_per_minute: int | None, tokens_per_minute: int | None, seconds: float
    ) -> None:
        self._requests = Meter(requests_per_minute, seconds)
        self._tokens = Meter(tokens_per_minute, seconds)

    def admit(self, tokens: int) -> float:
        """Count a call of so many prompt tokens and return 0, or the seconds until it has room."""
        if wait := max(self._requests.wait(1), self._tokens.wait(tokens)):
            return wait
        self._requests.add(1)
        self._tokens.add(tokens)
        return 0.0

    def spoken(self, tokens: int) -> None:
        """Count the tokens of an answer."""
        self._tokens.add(tokens)

    @property
    def room(self) -> Room:
        """What is left, as headers tell it."""
        requests, tokens = self._requests, self._tokens
        return Room(
            *(requests.per_minute, requests.left, requests.reset_s),
            *(tokens.per_minute, tokens.left, tokens.reset_s),
        )
