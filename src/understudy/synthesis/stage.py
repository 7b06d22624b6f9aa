"""A block of the synthetic pool: ask a teacher for pairs like a train row, accept the clean ones.

Seeds and call numbers run on from block to block. Replies are on disk before they are read, and
are accepted in call order whatever the order of arrival, so an interrupted block and an
uninterrupted one hold the same rows.

reads   `split`, the earlier `block.N` and, with synthesis.seeds=weak, the evaluations `probe.*`
writes  rows.jsonl of records.Synthetic, dropped.jsonl (every refused pair and why), summary.json
"""

import logging
from collections.abc import Generator, Iterator
from contextlib import closing
from pathlib import Path

from understudy.data.screening import contamination, write_report
from understudy.data.subset import price_of
from understudy.errors import BadInput, BudgetSpent
from understudy.prompts.chat import has_tools
from understudy.records import Coverage, Synthetic, dumps
from understudy.services.account import Account, account_of
from understudy.services.base import Reply, Request
from understudy.services.client import ask
from understudy.services.journal import open_journal
from understudy.services.money import MICRO
from understudy.store.artifacts import Job, RowLog, whole_lines
from understudy.store.progress import track
from understudy.synthesis.acceptance import Acceptance, screen_of
from understudy.synthesis.calls import BlockCalls
from understudy.synthesis.filters import Filters


def run(job: Job) -> None:
    """Write `params.rows` accepted rows of block `params.block`."""
    human = job.rows("split", Coverage)
    blocks = [job.rows(role, Synthetic) for role in job.inputs if role.startswith("block.")]
    train = [row for row in human if row.split == "train"]
    if any(has_tools(row.messages, row.tools) for row in train):
        raise BadInput(
            "a teacher cannot invent rows with tools yet; choose synthesis=none, or synthesis=file "
            "with rows that have them"
        )
    acceptance = Acceptance(
        job, screen_of(human, blocks, job.config.synthesis.dedup), Filters(train)
    )
    calls = BlockCalls(job, train, blocks)
    _fill(job, acceptance, calls)
    log = RowLog(job.out, Synthetic)
    log.append(row for row in acceptance.rows if row.key not in log.rows)
    log.finish()
    write_report(job.out / "dropped.jsonl", acceptance.drops)
    rows, dropped, spent = len(acceptance.rows), acceptance.dropped, _spent(job)
    summary = {
        "rows": rows,
        "ended": acceptance.sentence(),  # the wanted number was reached; else there is an error
        "calls": acceptance.calls,
        "next_call": calls.first + acceptance.calls,
        "dropped": dict(sorted(dropped.items())),
        "contaminated": contamination(dropped),
        **calls.counts(row.call_id for row in acceptance.rows),
        "usd": spent,  # this stage's in the journal; null where nothing is paid
        "usd_per_row": None if spent is None else spent / rows,
    }
    job.write_summary(summary)
    logging.info("%s", summary["ended"])


def _fill(job: Job, acceptance: Acceptance, calls: BlockCalls) -> None:
    """Ask and accept until the block is full; BadInput or BudgetSpent, one sentence, before."""
    account = account_of(job)
    replies = ReplyLog(job.scratch / "replies.jsonl")
    following = calls.first
    with track(f"synthesis block {job.params['block']}", acceptance.wanted) as advance:

        def accept() -> None:
            while acceptance.missing and (number := calls.first + acceptance.calls) in replies:
                advance(acceptance.add(number, calls.seed(number), replies[number]), account.note)
                _check_yield(job, acceptance)

        def requests() -> Iterator[Request]:
            nonlocal following
            while acceptance.expected(following - calls.first - acceptance.calls) < (
                acceptance.missing
            ):
                following += 1
                if following - 1 not in replies:
                    asked.append(following - 1)
                    yield calls.request(following - 1)

        accept()
        while acceptance.missing:
            asked: list[int] = []
            following = calls.first + acceptance.calls
            try:
                with closing(_ask(job, requests(), account)) as arrivals:
                    for position, reply in arrivals:
                        replies.add(asked[position], reply)
                        accept()
            except BudgetSpent as error:
                raise BudgetSpent(f"{_short(job, acceptance)}: {error}") from None
            accept()
    job.notes.update(account.summary())


def _ask(
    job: Job, requests: Iterator[Request], account: Account
) -> Generator[tuple[int, Reply], None, None]:
    """`ask` as a generator: closing it lets what is in flight be finished and kept."""
    service = job.config.synthesis.service
    assert service is not None, "synthesis.kind=service has a service"
    yield from ask(service, requests, account)


def _check_yield(job: Job, acceptance: Acceptance) -> None:
    floor, found = job.config.synthesis.min_yield, acceptance.recent_yield
    if acceptance.missing and found is not None and (found < floor or not found):
        raise BadInput(
            f"{_short(job, acceptance)}; of the pairs asked for lately {found:.1%} were new, under "
            f"synthesis.min_yield={floor:g}, so nothing more is asked"
        )


def _short(job: Job, acceptance: Acceptance) -> str:
    """How far the block is, what is missing, and what that would cost."""
    spent = _spent(job)
    price = price_of(acceptance.missing, spent, len(acceptance.rows))
    return f"{acceptance.sentence()}; {acceptance.missing} are missing, {price}"


def _spent(job: Job) -> float | None:
    """Dollars that the stage's calls cost, uncertain ones at most; None where none has a price."""
    service = job.config.synthesis.service
    if service is None or service.prices is None or service.provider == "offline":
        return None
    with open_journal(job.root / "journal") as journal:
        totals = journal.totals(stage=job.stage)
    return sum(total.microusd + total.uncertain_microusd for total in totals) / MICRO


class ReplyLog:
    """Raw replies by call number; each is on disk before anything reads it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._replies: dict[int, Reply] = {}
        for values in whole_lines(path):
            call = values.pop("call")
            self._replies[call] = Reply(**values)

    def __contains__(self, call: int) -> bool:
        return call in self._replies

    def __getitem__(self, call: int) -> Reply:
        return self._replies[call]

    def add(self, call: int, reply: Reply) -> None:
        """Write, then remember."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(dumps({"call": call, "text": reply.text, "finish": reply.finish}) + "\n")
        self._replies[call] = reply
