"""What the call journal of a root tells a plan: replies there are already, and what calls take."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from understudy.config import Service
from understudy.plan.learned import Fact
from understudy.services.base import Request
from understudy.services.journal import Journal, key_of, open_journal
from understudy.services.money import MICRO


class Paid:
    """A journal, read only."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._totals = journal.totals("model", "stage")
        self._is_empty = not self._totals

    def has_reply(self, service: Service, request: Request) -> bool:
        """Whether asking this would cost nothing."""
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
        """What a run or sweep has spent so far, at most."""
        return self._journal.purse_total(purse) / MICRO


@contextmanager
def opened(directory: Path) -> Iterator[Paid]:
    """The journal of a directory; a missing one is empty."""
    with open_journal(directory) as journal:
        yield Paid(journal)
