"""Both arms of a migration, by what prompts are about: quality, dollars, and the price of judging.

Dollars of an answer are as the rows of the answers tell (a gateway's shadows do): the service's by
its bill, the local model's by what its tokens are said to cost. What was not told is None.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from understudy.evaluation.statistics.intervals import Interval, Scale, cluster_mean

_MOST = 10  # topics that are shown
_THOUSAND = 1000
Paid = Mapping[str, tuple[int, float]]  # topic -> answers that tell, and USD of them together


@dataclass(frozen=True)
class Arm:
    """One topic, or all of them: both sides."""

    topic: str | None  # None = all
    prompts: int
    difference: Interval  # local minus service, points
    local_usd: float | None  # of an answer
    service_usd: float | None

    @property
    def saved_usd(self) -> float | None:
        """What an answer costs less; below 0, more."""
        if self.local_usd is None or self.service_usd is None:
            return None
        return self.service_usd - self.local_usd


@dataclass(frozen=True)
class Arms:
    """All prompts, then the topics with the most of them, and what judging them has cost."""

    whole: Arm
    topics: tuple[Arm, ...]
    judging_usd: float

    @property
    def lines(self) -> list[str]:
        """What `decide` prints; nothing where no answer tells its price and there is one topic."""
        whole, said = self.whole, list[str]()
        if whole.local_usd is not None or whole.service_usd is not None:
            said.append(f"dollars: {self._dollars(whole)}")
        said += [
            f"  of {arm.topic!r}, {arm.prompts} prompts: {_points(arm.difference)}"
            + (f"; {_prices(arm)}" if arm.service_usd is not None else "")
            for arm in self.topics
        ]
        return said

    def to_dict(self) -> dict[str, Any]:
        """As decision.json holds it."""
        arms = [
            asdict(arm) | {"difference": arm.difference._asdict()}
            for arm in (self.whole, *self.topics)
        ]
        return {"arms": arms, "judging_usd": self.judging_usd, "lines": self.lines}

    def _dollars(self, whole: Arm) -> str:
        said, saved = _prices(whole), whole.saved_usd
        said += f"; judging has cost ${self.judging_usd:,.4f}"
        if saved is None:
            missing = "local model" if whole.local_usd is None else "service"
            return f"{said}; what the {missing} costs was not told (gateway.local_prices)"
        if saved <= 0:
            return f"{said}; moving saves nothing"
        return f"{said}, which is saved after {self.judging_usd / saved:,.0f} answers"


def arms(
    differences: Mapping[str, float],
    groups: Mapping[str, str],
    topics: Mapping[str, str],
    local: Paid,
    service: Paid,
    judging_usd: float,
) -> Arms:
    """Return both arms; `differences`, `groups` and `topics` are by prompt."""

    def arm(name: str | None) -> Arm:
        chosen = [prompt for prompt in differences if name in (None, topics[prompt])]
        found = cluster_mean(
            [differences[prompt] for prompt in chosen],
            [groups[prompt] for prompt in chosen],
            scale=Scale(-100.0, 100.0),
        )
        paid = (_mean(side, name) for side in (local, service))
        return Arm(name, len(chosen), found, *paid)

    names = list(dict.fromkeys(topics[prompt] for prompt in differences))
    found = sorted(map(arm, names), key=lambda one: -one.prompts) if len(names) > 1 else []
    return Arms(arm(None), tuple(found[:_MOST]), judging_usd)


def _mean(paid: Paid, topic: str | None) -> float | None:
    chosen = [one for name, one in paid.items() if topic in (None, name)]
    count = sum(answers for answers, _ in chosen)
    return sum(usd for _, usd in chosen) / count if count else None


def _points(found: Interval) -> str:
    if found.mean is None:
        return "no scores"
    limits = "" if found.low is None else f" [{found.low:+.2f}, {found.high:+.2f}]"
    return f"{found.mean:+.2f}{limits} points"


def _prices(arm: Arm) -> str:
    said = ", ".join(
        f"{name} {'not told' if usd is None else f'${_THOUSAND * usd:,.4f}'}"
        for name, usd in (("local", arm.local_usd), ("service", arm.service_usd))
    )
    return f"{said} per {_THOUSAND:,} answers"
