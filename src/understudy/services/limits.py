"""How many calls may be open, how fast they may leave, and when a failed one is tried again.

Concurrency: additive increase, multiplicative decrease (Chiu and Jain 1989) from the configured
value down; one cut per burst of "too busy". A cut is followed by a pause, and by no further cut
until a call that left after it was answered. Rates: a token bucket each for requests and tokens.
"""

import asyncio
import math
import random
import sys
import time
from collections import Counter, deque
from dataclasses import dataclass, field

from understudy.config.service import Service
from understudy.errors import BadInput, BudgetSpent, EnvironmentFailed, UnderstudyError
from understudy.services.base import CallFailed, Fate, Reply, Room

_CUT = 0.5
_TICK_S = 1e-6  # what rounding leaves over is no reason to wait
_LONG_PAUSE_S = 60.0  # worth a line on the terminal
_SHARE = 0.99  # of a limit is used: with a burst, no minute ever holds more than the limit
_BURST = 1 / 600  # of a minute's share may leave at once, a tenth of a second's worth
_BYTES_PER_TOKEN = 4.0  # the usual rule of thumb, until the service has told
_FIRST_S = 0.5
_MOST_S = 60.0
_BUSY_FACTOR = 10  # a busy service is not a broken one: others are served meanwhile


@dataclass(slots=True)
class Bucket:
    """A limit per minute, as evenly spread as its provider may count it; None = no limit."""

    per_minute: float | None
    level: float = 0.0
    _filled: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.level = self._capacity

    def wait(self, amount: float, now: float | None = None) -> float:
        """Seconds until an amount may be taken; more than the bucket holds may leave it in debt."""
        if self.per_minute is None:
            return 0.0
        now = time.monotonic() if now is None else now
        rate = self.per_minute * _SHARE / 60
        self.level = min(self._capacity, self.level + (now - self._filled) * rate)
        self._filled = now
        delay = (min(amount, self._capacity) - self.level) / rate
        return delay if delay > _TICK_S else 0.0

    def take(self, amount: float) -> None:
        """Use an amount; a negative one gives it back."""
        self.level -= amount

    def learn(self, per_minute: int | None, left: int | None) -> None:
        """Take over what a provider says, where it is stricter."""
        if per_minute is not None and per_minute < (self.per_minute or math.inf):
            if self.per_minute is None:
                self.level, self._filled = math.inf, time.monotonic()
            self.per_minute = max(1, per_minute)
            self.level = min(self.level, self._capacity)
        if left is not None:
            self.level = min(self.level, left)

    @property
    def _capacity(self) -> float:
        return max(1.0, (self.per_minute or 0.0) * _BURST)


class Limits:
    """The gate that every call passes; tickets are numbered in the order of leaving."""

    def __init__(self, concurrency: int, requests: int | None, tokens: int | None) -> None:
        self.allowed = float(concurrency)  # at once; a slow start would cost a run of minutes more
        self.cuts = 0
        self.paused_s = 0.0
        self._most = concurrency
        self._requests, self._tokens = Bucket(requests), Bucket(tokens)
        self._open = 0
        self._ticket = 0
        self._cut_at = 0  # tickets below are of bursts that were dealt with
        self._busy = 0  # bursts in a row without an answer between them
        self._paused_until = 0.0
        self._waiting: deque[tuple[float, asyncio.Future[int | None]]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._is_stopped = False

    async def enter(self, tokens: float, is_again: bool = False) -> int | None:
        """Wait for the turn of a call of about so many tokens; its ticket, or None once stopped."""
        place: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
        (self._waiting.appendleft if is_again else self._waiting.append)((tokens, place))
        self._pump()
        return await place

    def leave(self) -> None:
        """The call has ended, one way or another."""
        self._open -= 1
        self._pump()

    def answered(self, ticket: int) -> None:
        """A call succeeded: one more at once per round trip."""
        if ticket >= self._cut_at:
            self._busy = 0
        self.allowed = min(float(self._most), self.allowed + 1 / self.allowed)

    def busy(self, ticket: int, retry_after_s: float | None) -> None:
        """The provider is too busy for us: cut once per burst, and let nothing leave for now."""
        if ticket >= self._cut_at:
            if not self._busy:
                self.allowed = max(1.0, self.allowed * _CUT)
                self.cuts += 1
            self._busy += 1
            self._cut_at = self._ticket
            if retry_after_s is None:
                self._pause(back_off(self._busy))
        if retry_after_s is not None:
            self._pause(retry_after_s)

    def learn(self, room: Room | None) -> None:
        """What the headers of a response say."""
        if room is not None:
            self._requests.learn(room.requests_per_minute, room.requests_left)
            self._tokens.learn(room.tokens_per_minute, room.tokens_left)

    def correct(self, expected: float, used: float) -> None:
        """Book the tokens that a call really took."""
        self._tokens.take(used - expected)

    def stop(self) -> None:
        """Let nothing leave any more."""
        self._is_stopped = True
        self._pump()

    def _pause(self, seconds: float) -> None:
        now = time.monotonic()
        until = max(self._paused_until, now + seconds)
        self.paused_s += until - max(self._paused_until, now)
        if seconds >= _LONG_PAUSE_S and until > self._paused_until + 1:
            print(f"  the service asks to wait {seconds:.0f} s", file=sys.stderr, flush=True)
        self._paused_until = until

    def _pump(self) -> None:
        """Let everybody leave whose turn it is, and come back when it is the next one's."""
        while self._waiting and (self._is_stopped or self._open < int(self.allowed)):
            tokens, place = self._waiting[0]
            if place.done():  # cancelled
                self._waiting.popleft()
                continue
            if self._is_stopped:
                self._waiting.popleft()
                place.set_result(None)
                continue
            if (delay := self._delay(tokens)) > 0:
                self._come_back(delay)
                return
            self._waiting.popleft()
            self._requests.take(1)
            self._tokens.take(tokens)
            self._open += 1
            place.set_result(self._ticket)
            self._ticket += 1

    def _delay(self, tokens: float) -> float:
        pause = self._paused_until - time.monotonic()
        return max(pause, self._requests.wait(1), self._tokens.wait(tokens))

    def _come_back(self, delay: float) -> None:
        loop = asyncio.get_running_loop()
        if self._timer is not None:
            self._timer.cancel()
        self._timer = loop.call_later(delay, self._pump)


class Pace:
    """How many tokens a call will take, as learnt from those before; for tokens per minute."""

    def __init__(self, service: Service) -> None:
        self._heard = self._spoken = self._bytes = self._calls = 0
        self._most = service.max_output_tokens

    def expected(self, size: int) -> float:
        """Prompt and reply together, of a call whose prompt is so many bytes (`most_input`)."""
        per_byte = self._heard / self._bytes if self._bytes else 1 / _BYTES_PER_TOKEN
        spoken = self._spoken / self._calls if self._calls else self._most
        return size * per_byte + spoken

    def learn(self, size: int, reply: Reply) -> float:
        """Take a reply into account; how many tokens it took."""
        if reply.usage is None:
            return self.expected(size)
        self._bytes += size
        self._heard += reply.usage.input
        self._spoken += reply.usage.output
        self._calls += 1
        return reply.usage.input + reply.usage.output


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
