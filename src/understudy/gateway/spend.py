"""What the service has cost today, and whether another call fits under the cap.

Every call to the service counts, also one that another's failure has sent there, and one that was
given up: that one at the most it can have cost, as does an answer that does not say its usage.
What was in flight when the process was killed (`kill -9`) stands in no log and is forgotten.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard

from understudy.config.service import Service
from understudy.gateway import log
from understudy.gateway.calls import ChatCall
from understudy.records import read_objects
from understudy.services import money
from understudy.services.base import Usage
from understudy.services.money import MICRO, Purse
from understudy.services.providers.openai.chat import LIMITS


class CallCost(NamedTuple):
    """Micro-dollars of one call."""

    microusd: int
    is_bound: bool  # not known exactly: no usage came, or the model is another


class DayPurse(Purse):
    """The purse of a day, and how much of what it spent is no more than a bound."""

    bounded = 0


@dataclass(slots=True)
class Reservation:
    """Money set aside for a call, of the day on which it began."""

    purse: DayPurse
    amount: int
    is_priced: bool  # by the prices of its own model
    service: Service
    own: DayPurse | None  # of the caller


class Spend:
    """The purse of a day; a new day opens a new one."""

    def __init__(
        self,
        service: Service,
        usd_per_day: float | None,
        directory: Path,
        day: Callable[[], str] = log.today,
        callers: Mapping[str, float | None] | None = None,
    ) -> None:
        self._service, self._day_of = service, day
        self._cap = _microcap(usd_per_day)
        self._caps = {name: _microcap(usd) for name, usd in (callers or {}).items()}
        self._open(day())
        for path in log.files(directory, self._day):
            for line in read_objects(path):
                for purse in (self._purse, self._own.get(str(line.get("caller")))):
                    if purse is not None:
                        purse.spent += _microusd(line)
                        purse.bounded += _microusd(line) if line.get("is_bound") else 0

    @property
    def spent(self) -> int:
        """Micro-dollars today."""
        return self._today().spent

    @property
    def bounded(self) -> int:
        """Micro-dollars of `spent` that are at most that: the calls did not say what they took."""
        return self._today().bounded

    @property
    def cap(self) -> int | None:
        """Micro-dollars a day; None = none."""
        return self._cap

    def of(self, caller: str) -> Purse | None:
        """Return today's purse of a caller; None where it is none of ours."""
        self._today()
        return self._own.get(caller)

    def is_capped(self, caller: str) -> bool:
        """Return whether a cap holds for what a caller asks."""
        return self._cap is not None or self._caps.get(caller) is not None

    def bound(self, call: ChatCall, service: Service | None = None) -> int:
        """Return the most that a call can cost: no token is shorter than a byte.

        A request that sets no limit of its own is taken to have that of conf/service. What the
        request does not show is not in it: pictures that the service fetches from an address,
        dearer tiers (`service_tier`), longer answers where the service has no such limit.
        """
        service = service or self._service
        if service.prices is None:
            return 0
        wanted = (call.body.get(name) for name in (*LIMITS, "max_output_tokens"))
        limit = next((value for value in wanted if _is_count(value)), service.max_output_tokens)
        several = call.body.get("n")
        output = limit * (several if _is_count(several) else 1)
        is_dearer = (service.prices.written or 0.0) > service.prices.input
        heard = len(call.raw)
        most = Usage(heard, output=output, written=heard if is_dearer else 0)
        return money.cost(most, service.prices)

    def reserve(
        self, call: ChatCall, model: str | None = None, service: Service | None = None
    ) -> Reservation | None:
        """Set aside what a call can cost; None when it does not fit under a cap.

        `model` is asked in place of the one that the client names.
        """
        service = service or self._service
        purse, amount = self._today(), self.bound(call, service)
        own = self._own.get(call.caller)
        is_priced = (model or call.model) == service.model
        if not purse.take(amount):
            return None
        if own is not None and not own.take(amount):
            purse.settle(amount, 0)
            return None
        return Reservation(purse, amount, is_priced, service, own)

    def settle(self, reserved: Reservation, usage: Usage | None, is_billed: bool) -> CallCost:
        """Book a call: by its usage, at its bound where that is not known, or as free."""
        prices, amount = reserved.service.prices, reserved.amount
        if prices is None or not is_billed:
            cost = CallCost(0, False)
        elif usage is None:
            cost = CallCost(amount, True)
        else:
            cost = CallCost(money.cost(usage, prices), not reserved.is_priced)
        for purse in (reserved.purse, reserved.own):
            if purse is not None:
                purse.settle(amount, cost.microusd)
                purse.bounded += cost.microusd if cost.is_bound else 0
        return cost

    @property
    def warning(self) -> str | None:
        """What to tell who starts the gateway: that no usual call fits under the cap at all."""
        least = self.bound(ChatCall(b"", {}, {}))
        if self._cap is None or least <= self._cap:
            return None
        return (
            f"gateway.usd_per_day={self._cap / MICRO:g} is less than one call can cost "
            f"({_usd(least)} for {self._service.max_output_tokens:,} tokens): only calls with a "
            "lower max_tokens go to the service"
        )

    def why_not(self, call: ChatCall) -> str:
        """Return why a call does not fit under the cap, in a sentence for who has made it."""
        purse, bound = self._today(), self.bound(call)
        own = self._own.get(call.caller)
        if own is not None and own.cap is not None and not _fits(own, bound):
            purse = own
        parts = [f"{_usd(purse.spent)} spent"]
        if purse.bounded:
            parts.append(f"{_usd(purse.bounded)} of it at most")
        if purse.reserved:
            parts.append(f"{_usd(purse.reserved)} set aside for calls under way")
        cap = purse.cap or 0
        whose = f" of {call.caller}" if purse is own else ""
        left = max(0, cap - purse.spent - purse.reserved)
        sentence = f"This call can cost {_usd(bound)}, and of the cap{whose} of {_usd(cap)} a day "
        sentence += f"{_usd(left)} is left ({', '.join(parts)})."
        if bound > cap:
            sentence += " No day's cap is enough: send a lower max_tokens, or raise the cap."
        return sentence

    def _today(self) -> DayPurse:
        if (day := self._day_of()) != self._day:
            self._open(day)
        return self._purse

    def _open(self, day: str) -> None:
        self._day, self._purse = day, DayPurse(0, self._cap)
        self._own = {name: DayPurse(0, cap) for name, cap in self._caps.items()}


def _fits(purse: Purse, amount: int) -> bool:
    return purse.cap is None or purse.spent + purse.reserved + amount <= purse.cap


def _microcap(usd: float | None) -> int | None:
    return None if usd is None else round(usd * MICRO)


def _usd(microusd: int) -> str:
    return f"{microusd / MICRO:.4f} USD"


def _microusd(line: dict[str, Any]) -> int:
    amount = line.get("microusd")
    return amount if isinstance(amount, int) else 0


def _is_count(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**31


def seconds_to_midnight() -> int:
    """Return the seconds until the next purse opens."""
    return 86_400 - int(time.time()) % 86_400
