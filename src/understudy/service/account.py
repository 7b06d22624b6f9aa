"""Who pays for a stage's calls, where they are written down, and what they may cost."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from understudy.artifacts import Job


@dataclass
class Account:
    """One stage's account; `budget_usd` caps what its purse has spent, in all commands ever."""

    journal: Path  # directory of the call journal
    stage: str  # e.g. evaluation/0123456789abcdef
    purse: str  # the run or sweep that pays
    budget_usd: float | None = None
    rehearsal_url: str | None = None
    spent: int = 0  # micro-dollars of the purse so far, this stage's included
    counts: dict[str, Any] = field(default_factory=dict)  # filled by the client

    @property
    def note(self) -> str:
        """The running cost, for the progress bar; empty while nothing was paid."""
        return f"${self.spent / 1e6:.4f}" if self.spent else ""

    def summary(self) -> dict[str, Any]:
        """What the stage's calls took, for meta.json; empty where nothing was paid for."""
        return {"calls": self.counts} if self.counts else {}


def account_of(job: Job) -> Account:
    """The account that a stage's job charges."""
    return Account(
        journal=job.root / "journal",
        stage=job.stage,
        purse=job.purse,
        budget_usd=job.config.budget.usd,
        rehearsal_url=job.config.rehearsal.url,
    )
