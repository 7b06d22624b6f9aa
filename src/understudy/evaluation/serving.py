"""Beside quality: how long both sides take, how often they refuse, and from when the move pays.

All from what was measured: the rows of answers, the notes of their stages (`meta.json`), and of a
service's calls the journal. What was not measured is None, and meets no criterion.

latency    of a service's calls as the journal has them, retries within; of shadows as the gateway
           timed them; of our own inference the time of the batch that an answer was in
refusals   answers that the maker marks as such, and texts that begin as refusals do in English
pays from  rent per day / the service's price of a request: so many requests a day cost the same.
           It needs `gate.rent_usd`, and one machine must be able to answer as many.
"""

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from understudy.evaluation.statistics.intervals import Interval, cluster_rate
from understudy.records import Answer

_DAY_S = 86_400
_REFUSES = re.compile(
    r"\W*(?:(?:i'm |i am )?(?:very |so )?sorry,? (?:but )?)?"
    r"(?:(?:i|we) (?:can't|cannot|can not|won't|must decline)"
    r"|(?:i'm|i am|we're|we are) (?:not able|unable) to|as an ai\b)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Side:
    """How one generator answered."""

    generator: str
    answers: int
    refusals: Interval  # share from 0 to 1, over clusters
    p50_s: float | None
    p95_s: float | None
    timed: str | None  # what the seconds are of


class PaysFrom(NamedTuple):
    """Requests a day, and whether one machine at the measured speed answers as many."""

    requests: float
    most: float  # of one machine

    def __str__(self) -> str:
        if self.requests > self.most:
            return (
                "at no number of requests: its rent is the service's price of "
                f"{self.requests:,.0f} a day, and one machine answers {self.most:,.0f}"
            )
        return f"from {self.requests:,.0f} requests a day; one machine answers {self.most:,.0f}"


def refuses(answer: Answer) -> bool:
    """Whether an answer is a refusal; one that was never given is missing, not refused."""
    text = answer.text.replace("\u2019", "'")
    return answer.finish in ("refusal", "blocked") or _REFUSES.match(text) is not None


def side_of(answers: Sequence[Answer], seconds: Sequence[float], notes: dict[str, Any]) -> Side:
    """One side from its rows; `seconds` per answer, else what the stage has noted of them."""
    given = [answer for answer in answers if answer.finish != "error"]
    refused = [refuses(answer) for answer in given]
    noted = notes.get("latency_s") or {}
    p50, p95, timed = noted.get("p50"), noted.get("p95"), noted.get("of")
    if len(seconds):
        p50, p95 = quantiles(seconds)
        timed = f"{len(seconds)} calls"
    name = answers[0].generator if answers else "unknown"
    share = cluster_rate(refused, [answer.group_id for answer in given])
    return Side(name, len(answers), share, p50, p95, timed)


def quantiles(seconds: Sequence[float]) -> tuple[float, float]:
    """The median and the 95 % quantile."""
    import numpy as np

    p50, p95 = np.quantile(np.asarray(seconds, dtype=float), [0.5, 0.95])
    return round(float(p50), 3), round(float(p95), 3)


def pays_from(
    rent_usd: float, usd_per_request: float, tokens_per_second: float, tokens_per_answer: float
) -> PaysFrom:
    """From how many requests a day a machine at this rent (USD per hour) costs less."""
    most = tokens_per_second * _DAY_S / tokens_per_answer
    return PaysFrom(24 * rent_usd / usd_per_request, most)


@dataclass(frozen=True)
class Serving:
    """Both sides beside quality; a side is None where its answers are gone."""

    local: Side | None
    service: Side | None
    pays: PaysFrom | None

    def to_dict(self) -> dict[str, Any]:
        """As decision.json holds it; `read` reads it."""
        values = asdict(self)
        for name in ("local", "service"):
            if values[name] is not None:
                values[name]["refusals"] = values[name]["refusals"]._asdict()
        return values | {"pays": None if self.pays is None else self.pays._asdict()}

    @property
    def lines(self) -> list[str]:
        """What `decide` prints."""
        said = []
        for role, side in (("local", self.local), ("service", self.service)):
            if side is not None:
                said.append(f"{role} {side.generator}: {_latency(side)}; {_refusals(side)}")
        return said if self.pays is None else [*said, f"the local model pays {self.pays}"]

    def objections(self, p95_s: float | None, refusals: float | None) -> list[str]:
        """The second criteria that the local model does not meet; null asks for none.

        The share of refusals may not exceed its bound at the upper end of its interval.
        """
        found = []
        measured = None if self.local is None else self.local.p95_s
        if p95_s is not None and (measured is None or measured > p95_s):
            said = "was not measured" if measured is None else f"is {measured:g} s"
            found.append(f"The 95 % quantile of local latency {said}: gate.p95_s={p95_s:g}.")
        high = None if self.local is None else self.local.refusals.high
        if refusals is not None and (high is None or high > refusals):
            said = "has no limit" if high is None else f"may be {high:.1%}"
            found.append(f"The share of local refusals {said}: gate.refusals={refusals:g}.")
        return found


def read(values: dict[str, Any]) -> Serving:
    """The inverse of `Serving.to_dict`."""
    sides = [
        None if side is None else Side(**side | {"refusals": Interval(**side["refusals"])})
        for side in (values["local"], values["service"])
    ]
    pays = None if values["pays"] is None else PaysFrom(**values["pays"])
    return Serving(sides[0], sides[1], pays)


def _latency(side: Side) -> str:
    if side.p50_s is None or side.p95_s is None:
        return "latency was not measured"
    return f"latency p50 {side.p50_s:.2f} s, p95 {side.p95_s:.2f} s ({side.timed})"


def _refusals(side: Side) -> str:
    share = side.refusals
    if share.mean is None:
        return "no answers"
    ends = "" if share.low is None else f" [{share.low:.1%}, {share.high:.1%}]"
    held = f"{side.answers} answers in {share.clusters} clusters"
    return f"refusals {share.mean:.1%}{ends} of {held}"
