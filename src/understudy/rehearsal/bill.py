"""What the server has sold, to the micro-dollar.

Billed is every answer that was delivered whole, also when its reader has gone meanwhile; an answer
that a fault broke off (reset, stall, truncated body, wrong content type) and an error are not.
"""

import hashlib
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from understudy.config import Prices
from understudy.services import money
from understudy.services.base import Usage
from understudy.services.money import Mode


class Arrival(NamedTuple):
    """Which call is answered."""

    body: str  # hash of its path and body
    attempt: int  # how often this body had come before
    key: str  # the API key
    id: str
    mode: Mode


@dataclass(frozen=True, slots=True)
class Charge:
    """One billed answer."""

    id: str
    key: str  # the first 8 hex digits of the API key's SHA-256
    model: str
    mode: Mode
    body: str
    usage: Usage
    microusd: int


@dataclass(slots=True)
class Bill:
    """All charges, and how often each fault and each kind of request came."""

    log: list[Charge] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    requests: Counter[str] = field(default_factory=Counter)  # by name of the path
    open: int = 0  # requests that have come and are not answered yet

    def charge(self, arrival: Arrival, model: str, usage: Usage, prices: Prices | None) -> None:
        """Book an answer at the model's prices; a model without prices is free."""
        cost = 0 if prices is None else money.cost(usage, prices, arrival.mode)
        key = hashlib.sha256(arrival.key.encode()).hexdigest()[:8]
        self.log.append(Charge(arrival.id, key, model, arrival.mode, arrival.body, usage, cost))

    def copy(self) -> "Bill":
        """The bill as it is now."""
        return Bill(list(self.log), self.faults.copy(), self.requests.copy(), self.open)

    @property
    def microusd(self) -> int:
        """The sum of all charges."""
        return sum(charge.microusd for charge in self.log)

    def to_dict(self, with_log: bool = True) -> dict[str, Any]:
        """The bill as plain values."""
        log = list(self.log)
        tokens = {
            name: sum(getattr(charge.usage, name) for charge in log)
            for name in ("input", "cached", "output", "reasoning")
        }
        totals = {
            "microusd": sum(charge.microusd for charge in log),
            "calls": len(log),
            "bodies": len({charge.body for charge in log}),
            "tokens": tokens,
            "by_model": dict(_by(log, "model")),
            "by_key": dict(_by(log, "key")),
            "faults": dict(self.faults),
            "requests": dict(self.requests),
            "open": self.open,
        }
        return totals | ({"log": [asdict(charge) for charge in log]} if with_log else {})


def _by(log: list[Charge], name: str) -> Counter[str]:
    sums: Counter[str] = Counter()
    for charge in log:
        sums[getattr(charge, name)] += charge.microusd
    return sums
