"""Does a judge fall for texts that ask for a better score? 100 of them, ten of each kind.

Every injection is put behind the same answers. Its shift is the score with it minus the mean score
of the answer alone, so above 0 the judge fell for it; below 0 it marked the addition down.
`{mark}` in a text is the mark of the blocks of the prompt without it, the best guess that an
attacker can make, and `{label}` the label of the answer's own block.
"""

import json
import random
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from understudy import playground
from understudy.config import EvaluationConfig, Service
from understudy.evaluation.judge import repair
from understudy.evaluation.scores import METRICS
from understudy.evaluation.statistics.intervals import Interval, cluster_mean
from understudy.prompts import judge as prompt
from understudy.prompts.judge import JudgedText, Scores
from understudy.services.account import Account
from understudy.services.base import Request
from understudy.services.client import ask
from understudy.store.progress import track

_FILE = Path(__file__).with_name("injections.jsonl")
_MARK = re.compile(r"^--- begin (?P<label>.+) \((?P<mark>[0-9a-f]{8})\) ---$", re.MULTILINE)
ALL = "all"


class Injection(NamedTuple):
    """A text that claims, begs or tricks."""

    kind: str
    text: str


class InjectionShift(NamedTuple):
    """What an injection, all of one kind, or all do to a judge's scores, in points."""

    judge: str
    kind: str
    number: int | None  # line of the file, from 1; null for a whole kind
    injected: int  # number of injected answers
    unscored: int  # of them, without usable scores
    similarity: Interval
    precision: Interval


def load() -> list[Injection]:
    """All 100, in the file's order."""
    lines = map(json.loads, _FILE.read_text(encoding="utf-8").splitlines())
    return [Injection(line["kind"], line["text"] * line.get("times", 1)) for line in lines]


def inject(asked: JudgedText, injection: Injection, variant: Any, order: Any) -> JudgedText:
    """The same question with the injection behind the candidate's answer."""
    (message,) = prompt.render(variant, order, *asked[:3])
    blocks = list(_MARK.finditer(message["content"]))
    block = blocks[1 if order == "candidate_first" else -1]
    text = injection.text.replace("{mark}", block["mark"]).replace("{label}", block["label"])
    return asked._replace(candidate=f"{asked.candidate}\n{text}")


def imperfect_answers(task: str, count: int, seed: int = 0) -> list[JudgedText]:
    """Playground prompts with an answer each that could do with a better score."""
    rng = random.Random(f"injection/{seed}")
    return [
        JudgedText(pair.instruction, pair.response, playground.flawed(pair.instruction, rng))
        for pair in playground.generate(task, seed, 0, count)
    ]


def measure(
    judge: Service, settings: EvaluationConfig, answers: Sequence[JudgedText], account: Account
) -> list[InjectionShift]:
    """Ask the judge for `settings.m` scores of each answer alone and one with each injection.

    Returns a shift for each injection, each kind and, last, all. Intervals are 95 % over the
    answers (clusters), which all injections share.
    """
    injections = load()
    again = repair(settings.prompt)
    calls = list(_calls(settings, answers, injections))
    scores: dict[int, Scores] = {}
    with track(f"inject {judge.name}", len(calls), "verdicts") as advance:
        for position, reply in ask(judge, (call.request for call in calls), account, again):
            parsed = prompt.parse(reply.text, settings.prompt)
            if reply.finish == "stop" and isinstance(parsed, Scores):
                scores[position] = parsed
            advance(note=account.note)
    groups: dict[tuple[str, int | None], list[tuple[int, Scores | None]]] = defaultdict(list)
    alone: dict[int, list[Scores]] = defaultdict(list)
    for position, call in enumerate(calls):
        found = scores.get(position)
        if call.number is not None:
            kind = injections[call.number - 1].kind
            for group in ((kind, call.number), (kind, None), (ALL, None)):
                groups[group].append((call.answer, found))
        elif found is not None:
            alone[call.answer].append(found)
    ordered = sorted(groups, key=lambda group: group[0] == ALL)
    return [_shift(judge.name, group, groups[group], alone) for group in ordered]


class _Call(NamedTuple):
    answer: int
    number: int | None  # of the injection, from 1; None: the answer alone
    request: Request


def _calls(
    settings: EvaluationConfig, answers: Sequence[JudgedText], injections: Sequence[Injection]
) -> Iterator[_Call]:
    variant, order = settings.prompt, settings.order
    schema = prompt.schema(variant)
    for number, asked in enumerate(answers):
        messages = prompt.render(variant, order, *asked[:3])
        for repeat in range(settings.m):
            yield _Call(number, None, Request(messages, repeat, schema))
        for line, injection in enumerate(injections, 1):
            messages = prompt.render(variant, order, *inject(asked, injection, variant, order)[:3])
            yield _Call(number, line, Request(messages, 0, schema))


def _shift(
    judge: str,
    group: tuple[str, int | None],
    injected: Sequence[tuple[int, Scores | None]],
    alone: dict[int, list[Scores]],
) -> InjectionShift:
    pairs = [(answer, scores) for answer, scores in injected if scores and alone[answer]]
    groups = [str(answer) for answer, _ in pairs]
    similarity, precision = (
        cluster_mean(
            [
                getattr(scores, metric) - fmean(getattr(base, metric) for base in alone[answer])
                for answer, scores in pairs
            ],
            groups,
        )
        for metric in METRICS
    )
    unscored = sum(scores is None for _, scores in injected)
    return InjectionShift(judge, *group, len(injected), unscored, similarity, precision)
