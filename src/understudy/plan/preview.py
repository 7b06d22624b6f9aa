"""The first calls of a synthetic pool, made now: what is asked, what comes back, what it costs.

They are charged to the first block and stand in the call journal, so the run finds them there.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from understudy.config import Config, changed
from understudy.data.prepare import prepare
from understudy.errors import BadInput
from understudy.pipeline import run
from understudy.pipeline.flow import flow_of
from understudy.plan.inputs import Inputs
from understudy.prompts import synthesis as prompt
from understudy.records import Coverage
from understudy.services import money, providers
from understudy.services.account import account_of
from understudy.services.base import Reply
from understudy.services.client import ask
from understudy.store.artifacts import Job
from understudy.synthesis.acceptance import Acceptance, screen_of
from understudy.synthesis.calls import BlockCalls
from understudy.synthesis.filters import Filters


@dataclass(frozen=True)
class Sample:
    """One call; of each pair why it was refused, or None."""

    prompt: str
    reply: Reply
    pairs: list[tuple[str, str, str | None]]  # instruction, response, objection
    unread: dict[str, int]  # what of the reply is no pair, by reason
    usd: float | None  # list price of the call; None where no price is stated


@dataclass(frozen=True)
class Preview:
    """The samples, and what they cost now; calls that the journal knew are not paid again."""

    samples: list[Sample]
    paid_usd: float
    notices: list[str]

    @property
    def usd_per_row(self) -> float | None:
        """List price of an accepted row; None where nothing was accepted, or has no price."""
        rows = sum(why is None for sample in self.samples for *_, why in sample.pairs)
        usd = [sample.usd for sample in self.samples if sample.usd is not None]
        return sum(usd) / rows if rows and len(usd) == len(self.samples) else None


def preview(config: Config, count: int) -> Preview:
    """Make the first `count` calls of the pool; the batch API is not waited for."""
    if config.synthesis.kind != "service":
        raise BadInput(f"synthesis={config.synthesis.kind} asks nobody; choose a teacher")
    if config.inference.kind != "local":
        raise BadInput("ready-made answers need no synthetic rows; leave inference=local")
    config = changed(config, {"synthesis.service.mode": "online"})
    config, notices = prepare(config, Path(config.paths.root).expanduser() / "hub.json")
    assert config.synthesis.service is not None, "agreement.py lets no config without one here"
    with tempfile.TemporaryDirectory(prefix="understudy-preview-") as scratch:
        job = _job(config, Path(scratch))
        human = job.rows("split", Coverage)
        train = [row for row in human if row.split == "train"]
        calls = BlockCalls(job, train, [])
        acceptance = Acceptance(job, screen_of(human, [], config.synthesis.dedup), Filters(train))
        account = account_of(job)
        requests = [calls.request(number) for number in range(count)]
        replies = dict(ask(config.synthesis.service, requests, account))
        samples = [
            _sample(config, acceptance, calls, number, replies[number]) for number in range(count)
        ]
    paid = account.counts["microusd"] / money.MICRO
    return Preview(samples, paid, notices + providers.notices(config))


def _job(config: Config, scratch: Path) -> Job:
    """The job of the pool's first block; what it reads is taken where it is, or worked out."""
    root = run.run_root(config)
    block = flow_of(config).blocks(1)[0]
    if (inputs := Inputs(scratch / "inputs").above(root, block, config)) is None:
        raise BadInput(
            "synthesis.seeds=weak needs the verdicts of its probe, which are not there yet; start "
            "the run, or look at a preview with synthesis.seeds=uniform"
        )
    purse = f"run/{run.run_name(config)}"
    return Job(config, block.params, inputs, scratch / "out", scratch, root, block.path, purse)


def _sample(
    config: Config, acceptance: Acceptance, calls: BlockCalls, number: int, reply: Reply
) -> Sample:
    accepted, refused = len(acceptance.rows), len(acceptance.drops)
    before = acceptance.unread.copy()
    acceptance.add(number, calls.seed(number), reply)
    why = {drop.id: drop.reason for drop in acceptance.drops[refused:]}
    kept = {row.id for row in acceptance.rows[accepted:]}
    parsed = prompt.parse(reply.text).pairs if reply.finish == "stop" else []
    names = [acceptance.name(number, index) for index in range(len(parsed))]
    prices = config.synthesis.service.prices if config.synthesis.service else None
    microusd = money.cost(reply.usage, prices) if prices and reply.usage else None
    return Sample(
        prompt=calls.request(number).messages[-1]["content"],
        reply=reply,
        pairs=[
            (*pair, None if name in kept else why.get(name, "surplus"))
            for name, pair in zip(names, parsed, strict=True)
        ],
        unread=dict(acceptance.unread - before),
        usd=None if microusd is None else microusd / money.MICRO,
    )
