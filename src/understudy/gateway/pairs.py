"""How the answers of shadows compare, by local model and by topic: for the page.

Agreement is ROUGE-L with what the client was answered, which no judge has seen: it says where to
look. Its intervals respect clusters (users, conversations), as all of ours do.
"""

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from understudy.evaluation.statistics.intervals import Interval

_LAST = 2000  # pairs of a topic that are remembered
_TOPICS = 40  # of a local model, that are told apart
_OTHERS = "other prompts"


class ShadowPair(NamedTuple):
    """Two answers to one prompt."""

    agreement: float  # ROUGE-L, 0 to 1
    group: str  # its cluster
    local_usd: float | None
    service_usd: float


class Compared(NamedTuple):
    """The pairs of one local model, of one topic or of all."""

    generator: str
    topic: str | None  # None = all
    pairs: int
    equal: int
    agreement: Interval
    local_usd: float | None  # of an answer
    service_usd: float


class ShadowPairs:
    """The last pairs of every local model, by topic."""

    def __init__(self) -> None:
        self._of: dict[str, dict[str, deque[ShadowPair]]] = {}

    def add(self, generator: str, topic: str, pair: ShadowPair) -> None:
        """Remember a pair."""
        topics = self._of.setdefault(generator, {})
        if topic not in topics and len(topics) >= _TOPICS:
            topic = _OTHERS
        topics.setdefault(topic, deque(maxlen=_LAST)).append(pair)

    def copy(self) -> dict[str, dict[str, list[ShadowPair]]]:
        """Return what is there now, for another thread to compute with."""
        return {
            generator: {topic: list(pairs) for topic, pairs in topics.items()}
            for generator, topics in self._of.items()
        }


def compared(of: dict[str, dict[str, list[ShadowPair]]], most: int = 8) -> list[Compared]:
    """Return every local model's pairs as a whole, then those of its largest topics, if several."""
    found = []
    for generator, topics in of.items():
        found.append(
            _compared(generator, None, [one for pairs in topics.values() for one in pairs])
        )
        if len(topics) > 1:
            largest = sorted(topics.items(), key=lambda item: -len(item[1]))[:most]
            found += [_compared(generator, topic, pairs) for topic, pairs in largest]
    return found


def _compared(generator: str, topic: str | None, pairs: Sequence[ShadowPair]) -> Compared:
    from understudy.evaluation.statistics.intervals import Scale, cluster_mean

    alike = [pair.agreement for pair in pairs]
    prices = [pair.local_usd for pair in pairs if pair.local_usd is not None]
    return Compared(
        generator,
        topic,
        len(pairs),
        alike.count(1.0),
        cluster_mean(alike, [pair.group for pair in pairs], scale=Scale(0.0, 1.0)),
        sum(prices) / len(prices) if prices else None,
        sum(pair.service_usd for pair in pairs) / len(pairs),
    )
