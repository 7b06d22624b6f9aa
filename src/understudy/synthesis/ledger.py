"""What a block has cost by the call journal."""

from understudy.services.journal import open_journal
from understudy.services.money import MICRO
from understudy.store.artifacts import Job


def of_stage(job: Job) -> float | None:
    """Dollars that the stage's calls cost, uncertain ones at most; None where none has a price."""
    service = job.config.synthesis.service
    if service is None or service.prices is None or service.provider == "offline":
        return None
    with open_journal(job.root / "journal") as journal:
        totals = journal.totals(stage=job.stage)
    return sum(total.microusd + total.uncertain_microusd for total in totals) / MICRO
