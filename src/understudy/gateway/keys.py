"""Who calls: keys with names, and what each may ask in a minute and cost in a day.

`gateway.keys` names them; the keys themselves stand in environment variables. What a caller has
cost today is read from the log of requests, so a restart forgets nothing.
"""

import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from understudy.config.gateway import CallerKey
from understudy.errors import BadInput
from understudy.gateway.calls import RequestRefused
from understudy.services.callers import SHORTEST, WRONG_KEY, is_among, objection, shown_keys


@dataclass(slots=True)
class Caller:
    """One key, and what was asked with it lately."""

    name: str
    key: str = field(repr=False)
    limits: CallerKey
    clock: Callable[[], float] = time.monotonic
    requests: int = 0
    refused: int = 0  # of them: for its rate
    _room: float = 0.0  # requests that may come at once
    _filled: float = 0.0

    def __post_init__(self) -> None:
        self._room, self._filled = float(self.limits.requests_per_minute or 0), self.clock()

    def enter(self) -> None:
        """Count a request; raises RequestRefused when there were too many in the last minute.

        A bucket that holds a minute's requests and is filled evenly (a token bucket).
        """
        self.requests += 1
        rate = self.limits.requests_per_minute
        if rate is None:
            return
        now = self.clock()
        self._room = min(float(rate), self._room + (now - self._filled) * rate / 60)
        self._filled = now
        if self._room < 1:
            self.refused += 1
            wait = math.ceil((1 - self._room) * 60 / rate)
            message = f"{self.name} may ask {rate:,} times a minute: come again in {wait} s."
            raise RequestRefused(429, "rate_limit_exceeded", message, retry_s=wait)
        self._room -= 1


class Callers:
    """All that have a key of their own, and the gateway's `own` key."""

    def __init__(self, own: str | None, callers: Sequence[Caller] = ()) -> None:
        self.own, self.all = own, callers

    @property
    def keys(self) -> list[str]:
        """All keys; none goes into a log or to a service."""
        return [*([self.own] if self.own else []), *(one.key for one in self.all)]

    @property
    def limits(self) -> dict[str, float | None]:
        """USD a day by caller."""
        return {caller.name: caller.limits.usd_per_day for caller in self.all}

    def enter(self, headers: Mapping[str, str], query: str = "") -> str:
        """Count a request, and return its caller's name, "" for nobody's; raises RequestRefused."""
        shown = shown_keys(headers, query) if self.all else []
        for caller in self.all:
            if is_among(caller.key, shown):
                caller.enter()
                return caller.name
        if self.all and self.own is None:
            raise RequestRefused(*WRONG_KEY)
        self.check_own(headers, query)
        return ""

    def check_any(self, headers: Mapping[str, str], query: str = "") -> None:
        """Raise RequestRefused without a key; whose it is does not matter."""
        shown = shown_keys(headers, query)
        if not any(is_among(caller.key, shown) for caller in self.all):
            self.check_own(headers, query)

    def check_own(self, headers: Mapping[str, str], query: str = "") -> None:
        """Raise RequestRefused without the own key or, where is none, for a foreign name."""
        if (found := objection(headers, self.own, query)) is not None:
            raise RequestRefused(*found)


def callers_of(keys: Mapping[str, CallerKey], own: str | None) -> Callers:
    """Return the callers with their keys from the environment; BadInput says what is missing."""
    found: list[Caller] = []
    for name, limits in keys.items():
        key = os.environ.get(limits.key_env, "").strip()
        if len(key) < SHORTEST:
            raise BadInput(
                f"gateway.keys.{name}.key_env={limits.key_env}: that variable needs a key of "
                f"{SHORTEST} characters"
            )
        if twice := next((one for one in found if one.key == key), None):
            raise BadInput(f"gateway.keys.{name} and gateway.keys.{twice.name} have the same key")
        if key == own:
            raise BadInput(f"gateway.keys.{name} has the key of gateway.key_env")
        found.append(Caller(name, key, limits))
    return Callers(own, found)
