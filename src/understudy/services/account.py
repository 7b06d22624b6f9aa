"""Who pays for a stage's calls, where they are written down, and what they may cost."""

from collections import Counter
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from understudy.config.service import Service
from understudy.errors import BadInput
from understudy.services.base import Reply
from understudy.services.journal import Journal
from understudy.services.money import MICRO, Purse
from understudy.store.artifacts import Job


@dataclass
class Account:
    """One stage's account; `budget_usd` caps what its purse has spent, in all commands ever."""

    journal: Path  # directory of the call journal
    stage: str  # e.g. evaluation/0123456789abcdef
    purse: str  # the run or sweep that pays
    budget_usd: float | None = None
    rehearsal_url: str | None = None
    spent: int = 0  # micro-dollars of the purse so far, this stage's included
    counts: Counter[str] = field(default_factory=Counter)  # of this stage's calls

    @property
    def note(self) -> str:
        """The running cost, for the progress bar; empty while nothing was paid."""
        return f"${self.spent / MICRO:.4f}" if self.spent else ""

    def summary(self) -> dict[str, Any]:
        """What the stage's calls took, for meta.json; empty where nothing was paid for."""
        return {"calls": dict(sorted(self.counts.items()))} if self.counts else {}

    def open_purse(self, service: Service, journal: Journal) -> Purse:
        """The purse with what it has spent so far; BadInput where its cap cannot be kept."""
        self.spent = journal.purse_total(self.purse)
        if self.budget_usd is None:
            return Purse(self.spent, None)
        if service.prices is None:
            raise BadInput(
                f"budget.usd={self.budget_usd:g} cannot be kept: service {service.name} has no "
                "prices; give it prices (of 0 where it is free), or budget.usd=null"
            )
        return Purse(self.spent, int(Fraction(str(self.budget_usd)) * MICRO))

    def count(self, reply: Reply, microusd: int) -> None:
        """Take a bought reply into the sums."""
        self.counts["calls"] += 1
        self.counts["microusd"] += microusd
        if reply.usage is not None:
            for name in reply.usage.__slots__:
                self.counts[f"{name}_tokens"] += getattr(reply.usage, name)

    def spent_sentence(self) -> str:
        """Why nothing more is bought, and how to go on."""
        return (
            f"{self.purse} has spent ${self.spent / MICRO:.6f} and the next call does not fit into "
            f"budget.usd={self.budget_usd:g}; the same command with a higher budget.usd goes on"
        )


def account_of(job: Job) -> Account:
    """The account that a stage's job charges."""
    return Account(
        journal=job.root / "journal",
        stage=job.stage,
        purse=job.purse,
        budget_usd=job.config.budget.usd,
        rehearsal_url=job.config.rehearsal.url,
    )
