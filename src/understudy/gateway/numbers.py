"""What the gateway counts: for Prometheus, and for the page that a person reads."""

import time
from collections import Counter, deque
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Gauge, Histogram
from prometheus_client import Counter as Total

from understudy.gateway.latency import Latencies
from understudy.gateway.pairs import ShadowPair, ShadowPairs

_MINUTES = 60  # that the page shows
_KINDS = 50  # of other paths that are told apart
_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


@dataclass(slots=True)
class Minute:
    """The requests that ended in one minute, by who answered."""

    number: int  # since the epoch
    by: Counter[str] = field(default_factory=Counter)


class Numbers:
    """Totals since the start."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        name = "understudy_gateway"
        self._requests = Total(
            f"{name}_requests", "answered requests", ["by", "mode", "status"], registry=registry
        )
        self._failovers = Total(
            f"{name}_failovers", "failed calls, of which the next in line took what it could",
            ["of", "why"], registry=registry,
        )  # fmt: skip
        self._first = Histogram(
            f"{name}_first_byte_seconds", "to the first byte for the client", ["by"],
            buckets=_SECONDS, registry=registry,
        )  # fmt: skip
        self._whole = Histogram(
            f"{name}_seconds", "to the last byte", ["by"], buckets=_SECONDS, registry=registry
        )
        self._tokens = Total(f"{name}_tokens", "as billed", ["by", "kind"], registry=registry)
        self._spent = Total(f"{name}_spent_usd", "on the service", registry=registry)
        self._bounded = Total(
            f"{name}_spent_bound_usd",
            "of it: no more than that",
            registry=registry,
        )
        self._callers = Total(
            f"{name}_caller_requests", "by whose key", ["caller", "status"], registry=registry
        )
        self._caller_spent = Total(
            f"{name}_caller_spent_usd", "on the service", ["caller"], registry=registry
        )
        self._unwritten = Total(
            f"{name}_unwritten_lines", "log lines that the disk did not take", registry=registry
        )
        self._shadows = Total(
            f"{name}_shadow_pairs", "of both models' answers", ["result"], registry=registry
        )
        self._agreement = Histogram(
            f"{name}_shadow_agreement", "ROUGE-L of the two answers",
            buckets=[n / 10 for n in range(1, 11)], registry=registry,
        )  # fmt: skip
        self._in_flight = Gauge(f"{name}_in_flight", "requests", registry=registry)
        self.latencies = Latencies(f"{name}_latency_seconds")
        registry.register(self.latencies)
        self.started = time.time()
        self.in_flight = 0
        self.by: Counter[str] = Counter()  # service, local, nobody
        self.statuses: Counter[int] = Counter()
        self.failovers: Counter[tuple[str, str]] = Counter()  # of whom, and why
        self.gone = 0  # clients that left
        self.broken = 0  # streams that broke off in the answer, with a good status
        self.refused_here = 0  # requests that nobody was asked about
        self.unwritten = 0
        self.shadows: Counter[str] = Counter()  # pairs, skipped and not text
        self.pairs = ShadowPairs()  # of shadows, by local model and topic
        self.others: Counter[str] = Counter()  # calls of other paths, by path
        self.unpriced = 0  # of them: those whose price is not known
        self.minutes: deque[Minute] = deque(maxlen=_MINUTES)

    def began(self) -> None:
        """Count a request in."""
        self.in_flight += 1
        self._in_flight.set(self.in_flight)

    @property
    def total(self) -> int:
        """Requests that have ended."""
        return self.by.total() + self.refused_here

    @property
    def errors(self) -> int:
        """Requests among them whose client got no whole answer; not those who left."""
        said = sum(n for status, n in self.statuses.items() if status >= 400 and status != 499)
        return said + self.broken

    def ended(
        self,
        by: str,
        mode: str,
        status: int,
        first_s: float | None,
        whole_s: float,
        is_broken: bool = False,
    ) -> None:
        """Count a request out; a broken one has a good status, and no end."""
        self.in_flight -= 1
        self._in_flight.set(self.in_flight)
        self._requests.labels(by, mode, "broken" if is_broken else str(status)).inc()
        self.broken += is_broken
        if first_s is not None:
            self._first.labels(by).observe(first_s)
            if status < 400 and not is_broken:  # errors come fast
                self.latencies.add(by, first_s, whole_s)
        self._whole.labels(by).observe(whole_s)
        self.by[by] += 1
        self.statuses[status] += 1
        self.gone += status == 499
        number = int(time.time() // 60)
        if not self.minutes or self.minutes[-1].number != number:
            self.minutes.append(Minute(number))
        self.minutes[-1].by[by] += 1

    def refused(self, status: int) -> None:
        """Count a request that nobody was asked about."""
        self._requests.labels("gateway", "none", str(status)).inc()
        self.statuses[status] += 1
        self.refused_here += 1

    def passed(self, kind: str, is_priced: bool) -> None:
        """Count a call that is no chat completion."""
        self.unpriced += not is_priced
        self.others[kind if kind in self.others or len(self.others) < _KINDS else "others"] += 1

    def failed(self, of: str, why: str) -> None:
        """Count somebody who could not answer."""
        self._failovers.labels(of, why).inc()
        self.failovers[of, why] += 1

    def billed(self, by: str, heard: int, said: int, microusd: int, is_bound: bool = False) -> None:
        """Count tokens and money."""
        self._bounded.inc(microusd / 1e6 if is_bound else 0)
        self._tokens.labels(by, "input").inc(heard)
        self._tokens.labels(by, "output").inc(said)
        self._spent.inc(microusd / 1e6)

    def called(self, caller: str, status: int, microusd: int) -> None:
        """Count a call of who has a key of its own."""
        if caller:
            self._callers.labels(caller, str(status)).inc()
            self._caller_spent.labels(caller).inc(microusd / 1e6)

    def lost_line(self) -> None:
        """Count a line that is in no log."""
        self.unwritten += 1
        self._unwritten.inc()

    def shadowed(self, result: str) -> None:
        """Count what became of a shadow."""
        self.shadows[result] += 1
        self._shadows.labels(result).inc()

    def paired(self, generator: str, about: str, pair: ShadowPair) -> None:
        """Count a local model's answer beside the service's."""
        self.pairs.add(generator, about, pair)
        self._agreement.observe(pair.agreement)
