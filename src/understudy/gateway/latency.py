"""How long the last calls took, by who answered: quantiles for the page and for Prometheus.

Prometheus can add the histograms of `numbers` up; these are exact, and of the recent past alone.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

QUANTILES = (0.5, 0.9, 0.99)
LAST = 1000  # calls of a side that are remembered


class Took(NamedTuple):
    """Seconds of one side's last calls at each of QUANTILES; () where there is no such call."""

    calls: int
    first: tuple[float, ...]  # to the first byte
    whole: tuple[float, ...]  # to the last


class Latencies(Collector):
    """The last calls of each side that were answered."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._first: dict[str, deque[float]] = {}
        self._whole: dict[str, deque[float]] = {}

    def add(self, by: str, first_s: float, whole_s: float) -> None:
        """Remember a call."""
        if by not in self._first:
            self._first[by], self._whole[by] = deque(maxlen=LAST), deque(maxlen=LAST)
        self._first[by].append(first_s)
        self._whole[by].append(whole_s)

    def took(self) -> dict[str, Took]:
        """Return the quantiles by side."""
        return {
            by: Took(len(firsts), quantiles(firsts), quantiles(self._whole[by]))
            for by, firsts in self._first.items()
        }

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the gauge that Prometheus reads."""
        gauge = GaugeMetricFamily(
            self._name, f"of a side's last {LAST} calls", labels=["by", "of", "quantile"]
        )
        for by, took in self.took().items():
            for of, values in (("first_byte", took.first), ("whole", took.whole)):
                for quantile, value in zip(QUANTILES, values, strict=True):
                    gauge.add_metric([by, of, f"{quantile:g}"], value)
        yield gauge


def quantiles(seconds: Sequence[float]) -> tuple[float, ...]:
    """Return the values at QUANTILES: each the least that so large a share does not exceed."""
    ordered = sorted(seconds)
    # -(-a // b) rounds up; the rank of quantile q among n values is ceil(q n), from 1.
    ranks = [max(1, -int(-quantile * len(ordered) // 1)) for quantile in QUANTILES]
    return tuple(ordered[rank - 1] for rank in ranks) if ordered else ()
