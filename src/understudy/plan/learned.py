"""What the call journal of a root tells a plan: replies there are already, and what calls take.

How long and how dear a call is, is learnt from the journal's calls, else a stated prior. What is
learnt of the same model in the same role comes first, then in a role of the same kind, then the
same of any model, then anything.
"""

from dataclasses import dataclass
from typing import NamedTuple

from understudy.config import Service
from understudy.plan.ranges import Range
from understudy.services.base import Request
from understudy.services.journal import Journal, key_of
from understudy.services.money import MICRO

TOKENS_PER_BYTE = Range(0.15, 0.25, 0.5)  # of the size; 4 bytes a token, as makers say of English
FIRST_TOKEN_S = Range(0.2, 0.7, 3.0)  # until a hosted model begins, and
TOKENS_PER_S = 60.0  # how fast it goes on
OFFLINE_S = Range(0.0003, 0.002, 0.02)  # an offline stand-in, one call after the other
# A judge has that much more to say about the local model's answers than about the service's, whose
# role has a name of its own (measured with the offline judges: 1.01 to 1.08 on flawed answers, 1.4
# on nonsense)
_WEAKER = 1.1
_SURE = 1.08  # what is learnt of the same model and role is right within this factor,
_RELATED = 1.4  # of a kind of role within this,
_VAGUE = 2.0  # and of anything else within this


class Fact(NamedTuple):
    """Answered calls of one model in one role, summed up."""

    model: str
    role: str  # evaluation, evaluation.baseline (of the service's answers), baseline, synthesis
    calls: int
    size: float  # bytes of all messages
    input: int  # tokens
    output: int  # tokens
    latency_s: float


class Paid:
    """A journal, read only."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._totals = journal.totals("model", "stage")
        self._is_empty = not self._totals

    def has_reply(self, service: Service, request: Request) -> bool:
        """Return whether asking this would cost nothing."""
        if self._is_empty or service.provider == "offline":
            return False
        return self._journal.find(key_of(service, request)) is not None

    def facts(self, seen: dict[str, tuple[str, float]]) -> list[Fact]:
        """Sums per model and stage; `seen` has role and mean bytes of a request by stage path."""
        facts = []
        for total in self._totals:
            model, stage = total.by
            role, size = seen.get(stage, (stage.partition("/")[0], 0.0))
            tokens = total.usage.input, total.usage.output
            if total.calls:
                whole = size * total.calls
                facts.append(Fact(model, role, total.calls, whole, *tokens, total.latency_s))
        return facts

    def spent_usd(self, purse: str) -> float:
        """Return what a run or sweep has spent so far, at most."""
        return self._journal.purse_total(purse) / MICRO


@dataclass
class Learned:
    """Estimates of calls not made yet."""

    facts: list[Fact]

    def tokens_per_byte(self, service: Service, role: str) -> Range:
        """Input tokens of a call by its size."""
        sized = [fact for fact in self.facts if fact.size > 0 and fact.input > 0]
        if (known := _nearest(sized, service, role)) is None:
            return TOKENS_PER_BYTE
        facts, factor = known
        return Range.around(sum(f.input for f in facts) / sum(f.size for f in facts), factor)

    def reply_tokens(self, service: Service, role: str, prior: Range) -> Range:
        """Output tokens of a call, hidden reasoning included."""
        if (known := _nearest(self._akin(role), service, role)) is None:
            return prior
        facts, factor = known
        mean = sum(f.output for f in facts) / sum(f.calls for f in facts)
        if role == _kind(role) and all(fact.role != role for fact in facts):
            mean *= _WEAKER
        return Range.around(mean, factor)

    def basis(self, service: Service, role: str) -> str:
        """Return what estimates of these calls rest on."""
        akin = self._akin(role)
        if any(fact.model == service.model and fact.role == role for fact in akin):
            return "its calls"
        return "similar calls" if akin else "priors"

    def latency_s(self, service: Service, role: str, reply: Range) -> Range:
        """Seconds until a reply is there."""
        if service.provider == "offline":
            return OFFLINE_S
        if (known := _nearest(self._akin(role), service, role)) is None:
            return FIRST_TOKEN_S + reply * (1 / TOKENS_PER_S)
        facts, factor = known
        return Range.around(sum(f.latency_s for f in facts) / sum(f.calls for f in facts), factor)

    def _akin(self, role: str) -> list[Fact]:
        return [fact for fact in self.facts if _kind(fact.role) == _kind(role)]


def _nearest(facts: list[Fact], service: Service, role: str) -> tuple[list[Fact], float] | None:
    """The facts nearest to a model in a role, and the factor they are right within."""
    akin = [fact for fact in facts if _kind(fact.role) == _kind(role)]
    same = [fact for fact in akin if fact.model == service.model]
    tiers = (
        ([fact for fact in same if fact.role == role], _SURE),
        (same, _RELATED),
        ([fact for fact in akin if fact.role == role], _RELATED),
        (akin, _RELATED),
        (facts, _VAGUE),
    )
    return next((tier for tier in tiers if tier[0]), None)


def _kind(role: str) -> str:
    return role.partition(".")[0]
