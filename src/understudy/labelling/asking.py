"""A cascade: the run's cheap judges score everything, a dear one only what was drawn.

Its scores are labels like a human's, drawn with the same known probabilities, so `decide` puts both
together by the same estimator: the cheap judges' mean, corrected by what the dear one says.
"""

from collections.abc import Sequence
from typing import NamedTuple

from understudy.config import EvaluationConfig, Service
from understudy.evaluation.judge import conversation, repair
from understudy.evaluation.labels import SCORED
from understudy.labelling.draw import Draw, Shown
from understudy.prompts import judge as prompt
from understudy.records import HumanLabel
from understudy.services.account import Account
from understudy.services.base import Request
from understudy.services.client import ask
from understudy.services.money import MICRO

_SCALE = "0-100"


class AskedLabels(NamedTuple):
    """The dear judge's labels, and what they cost, replies that were paid before included."""

    rows: list[HumanLabel]
    usd: float


def asked(
    judge: Service,
    settings: EvaluationConfig,
    draw: Draw,
    shown: Sequence[Shown],
    account: Account,
) -> AskedLabels:
    """Ask the judge once about both answers of each item; what it cannot score has no score."""
    wanted = [
        (item, side, text)
        for item, texts in zip(draw.items, shown, strict=True)
        for side, text in ((item.a, texts.a), (item.b, texts.b))
    ]
    prompts = {item.item: texts for item, texts in zip(draw.items, shown, strict=True)}
    requests = [
        Request(
            prompt.render(
                settings.prompt,
                settings.order,
                conversation(prompts[item.item].prompt),
                prompts[item.item].reference,
                text,
            ),
            0,
            prompt.schema(settings.prompt),
        )
        for item, _, text in wanted
    ]
    found: dict[int, float] = {}
    again = repair(settings.prompt, judge.scale)
    for position, reply in ask(judge, requests, account, again):
        read = prompt.parse(reply.text, settings.prompt, judge.scale)
        if reply.finish == "stop" and isinstance(read, prompt.Scores):
            found[position] = read.precision
    rows = []
    for position, (item, (generator, k), _) in enumerate(wanted):
        score = found.get(position)
        status = SCORED if score is not None else "unscored"
        rows.append(HumanLabel(
            item.prompt_id, generator, k, judge.name, f"judge: {settings.prompt}", "precision",
            _SCALE, score, item.weight, status,
        ))  # fmt: skip
    return AskedLabels(rows, account.spent / MICRO)
