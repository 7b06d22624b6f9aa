"""The verdicts of several judges on the same answers, as arrays: what a judge report is made of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from understudy.evaluation.scores import Metric
from understudy.evaluation.statistics.intervals import Codes, Floats
from understudy.records import Answer, Key, Verdict


@dataclass(frozen=True)
class Panel:
    """A answers, J judges, at most M verdicts of each judge on each answer, on one metric."""

    scores: Floats  # (A, J, M), 0 to 100; NaN where there is no valid verdict
    judges: list[str]
    judge_families: list[str]
    systems: list[str]  # who answered
    system_families: list[str]
    system: Codes  # (A,) into `systems`
    prompt: Codes  # (A,)
    cluster: Codes  # (A,)
    length: Floats  # (A,) tanh of the standardised log length over the reference's, or NaN
    truth: Floats  # (A,) the score by a rule or a human, or NaN

    @property
    def means(self) -> Floats:
        """(A, J): every judge's mean over its verdicts on an answer."""
        return nan_mean(self.scores)

    def of(self, judges: Sequence[str]) -> "Panel":
        """The same answers under these judges, in this order."""
        columns = [self.judges.index(judge) for judge in judges]
        families = [self.judge_families[column] for column in columns]
        scores = self.scores[:, columns]
        return replace(self, scores=scores, judges=list(judges), judge_families=families)


def nan_mean(values: Floats) -> Floats:
    """The mean over the last axis without NaN; NaN where there is nothing else."""
    known = ~np.isnan(values)
    count = known.sum(-1)
    total = np.where(known, values, 0.0).sum(-1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def build(
    verdicts: Sequence[Verdict],
    answers: Sequence[Answer],
    references: Mapping[str, str],
    metric: Metric,
    truth: Mapping[Key, float] | None = None,
) -> Panel:
    """The panel of these verdicts; `references` has the wanted answer of every prompt.

    An answer without any score is in it, all NaN. Keys of `truth` are (prompt_id, generator, k).
    """
    ordered = sorted(answers, key=lambda answer: answer.key)
    row = {answer.key: number for number, answer in enumerate(ordered)}
    judge_families = {verdict.judge: verdict.judge_family for verdict in verdicts}
    judges = sorted(judge_families)
    column = {judge: number for number, judge in enumerate(judges)}
    repeats = 1 + max((verdict.m or 0 for verdict in verdicts), default=0)
    scores = np.full((len(row), len(judges), repeats), np.nan)
    for verdict in verdicts:
        score = getattr(verdict, metric)
        if verdict.status == "scored" and score is not None:
            answer = row[verdict.prompt_id, verdict.generator, verdict.k]
            scores[answer, column[verdict.judge], verdict.m or 0] = score
    known = truth or {}
    families = {answer.generator: answer.family for answer in ordered}
    systems = sorted(families)
    return Panel(
        scores=scores,
        judges=judges,
        judge_families=[judge_families[judge] for judge in judges],
        systems=systems,
        system_families=[families[system] for system in systems],
        system=np.array([systems.index(answer.generator) for answer in ordered], dtype=np.intp),
        prompt=_codes([answer.prompt_id for answer in ordered]),
        cluster=_codes([answer.group_id for answer in ordered]),
        length=_lengths([(answer.said, references[answer.prompt_id]) for answer in ordered]),
        truth=np.array([known.get(answer.key, np.nan) for answer in ordered], dtype=np.float64),
    )


def _codes(names: Sequence[str]) -> Codes:
    return np.unique(np.asarray(names), return_inverse=True)[1]


def _lengths(texts: Sequence[tuple[str, str]]) -> Floats:
    """Length-controlled AlpacaEval's term: tanh of the log ratio of words over its SD."""
    words = np.array([[len(text.split()) for text in pair] for pair in texts], dtype=float)
    ratio = np.diff(np.log1p(words.reshape(-1, 2)[:, ::-1]))[:, 0]
    spread = float(ratio.std()) if len(ratio) else 0.0
    return np.tanh(ratio / spread) if spread > 0 else np.full(len(ratio), np.nan)
