"""Scores for sampled answers: references and the service's own answers are asked for, then judges.

A judge compares with a reference. Live traffic has none, so the service that the local model
replaced writes it; with `watch.compare=service` it answers once more, and that answer is judged
beside the local one, as it was for the decision to migrate. Replies lie in the journal, so a watch
that is stopped pays for nothing twice.
"""

from collections.abc import Callable, Iterator, Sequence
from statistics import fmean
from typing import Any, NamedTuple

from understudy.config import Config, Service
from understudy.errors import BadInput, BudgetSpent
from understudy.evaluation import graders
from understudy.evaluation.graders import Case, Graded
from understudy.evaluation.judge import conversation, repair
from understudy.playground.sandbox import Sandbox
from understudy.prompts import judge as prompt
from understudy.records import Coverage
from understudy.services.account import Account
from understudy.services.base import Reply, Request
from understudy.services.client import ask
from understudy.watch.traffic import WatchedAnswer

_AT_ONCE = 20  # answers of one step: what is judged is written before the next


class WatchVerdict(NamedTuple):
    """An answer with what was asked about it; scores in points, None where nobody could score."""

    answer: WatchedAnswer
    reference: str | None
    score: float | None
    service_score: float | None  # of watch.compare=service
    why: str | None  # there is no score


class Judging:
    """Who judges; `account` pays for all of it."""

    def __init__(self, config: Config, train: Sequence[Coverage], account: Account) -> None:
        self._config, self._train, self._account = config, train, account
        self._service = config.baseline.service
        self._is_paired = config.watch.compare == "service"
        if self._service is None and (config.judges or self._is_paired):
            raise BadInput(
                "baseline=none: the run knows no service that could write references; a watch with "
                "judges, or with watch.compare=service, needs one"
            )

    def judge(self, answers: Sequence[WatchedAnswer]) -> Iterator[list[WatchVerdict]]:
        """Yield the answers as they are judged, some at a time, until the budget is spent."""
        with Sandbox(1) as sandbox:
            rules = [
                graders.made(one, self._train, sandbox) for one in self._config.graders.values()
            ]
            for first in range(0, len(answers), _AT_ONCE):
                try:
                    yield self._some(answers[first : first + _AT_ONCE], rules)
                except BudgetSpent:
                    return

    def _some(
        self, answers: Sequence[WatchedAnswer], rules: Sequence[graders.Rule]
    ) -> list[WatchVerdict]:
        references = self._said(answers, [one.reference for one in answers], 0)
        beside: list[str | None] = [None] * len(answers)
        if self._is_paired:
            beside = self._said(answers, [one.service for one in answers], 1)
        ours = self._scores(answers, references, [one.text for one in answers], rules)
        theirs = self._scores(answers, references, beside, rules)
        found = []
        for place, one in enumerate(answers):
            score = ours[place] if one.failure is None else 0.0
            service = theirs[place] if self._is_paired else None
            is_missing = score is None or (self._is_paired and service is None)
            why = "unscored" if is_missing else one.failure
            found.append(WatchVerdict(one, references[place], score, service, why))
        return found

    def _said(
        self, answers: Sequence[WatchedAnswer], known: Sequence[str | None], index: int
    ) -> list[str | None]:
        """What the service says to each prompt, asked where it is not known; None: it did not."""
        found = list(known)
        missing = [n for n, text in enumerate(known) if text is None]
        if self._service is None or not missing:
            return found
        requests = [Request(tuple(answers[n].prompt), index) for n in missing]
        for position, reply in ask(self._service, requests, self._account):
            found[missing[position]] = reply.text if reply.finish == "stop" else None
        return found

    def _scores(
        self,
        answers: Sequence[WatchedAnswer],
        references: Sequence[str | None],
        texts: Sequence[str | None],
        rules: Sequence[graders.Rule],
    ) -> list[float | None]:
        """The mean over all judges and graders; None where one of them has no score."""
        wanted = [n for n, text in enumerate(texts) if text is not None and text.strip()]
        scores: dict[int, list[float | None]] = {n: [] for n in wanted}
        for rule in rules:
            for n in wanted:
                one, reference = answers[n], references[n]
                outcome = rule(Case(one.prompt, reference or "", {}, texts[n] or ""))
                scores[n].append(outcome.precision if isinstance(outcome, Graded) else None)
        judged = [n for n in wanted if references[n] is not None]
        for judge in self._config.judges.values():
            texts_of = [(answers[n], references[n] or "", texts[n] or "") for n in judged]
            said = dict(zip(judged, self._asked(judge, texts_of), strict=True))
            for n in wanted:
                scores[n].append(said.get(n))
        known = {n: [s for s in mine if s is not None] for n, mine in scores.items()}
        return [
            fmean(known[n]) if known.get(n) and len(known[n]) == len(scores[n]) else None
            for n in range(len(answers))
        ]

    def _asked(
        self, judge: Service, texts: Sequence[tuple[WatchedAnswer, str, str]]
    ) -> list[float | None]:
        """One verdict of a judge on each text beside its reference."""
        variant, order = self._config.evaluation.prompt, self._config.evaluation.order
        requests = [
            Request(
                prompt.render(variant, order, conversation(one.prompt), reference, text),
                0,
                prompt.schema(variant),
            )
            for one, reference, text in texts
        ]
        found: list[float | None] = [None] * len(requests)
        again: Callable[[Request, Reply], Request | None] = repair(variant, judge.scale)
        for position, reply in ask(judge, requests, self._account, again):
            parsed: Any = prompt.parse(reply.text, variant, judge.scale)
            if reply.finish == "stop" and isinstance(parsed, prompt.Scores):
                found[position] = parsed.precision
        return found
