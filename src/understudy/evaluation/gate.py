"""The gate stage: is the local model good enough? The decision and its reason are a record.

A round whose judges left more than `gate.max_unscored` of their verdicts without a score passes
only if it would also pass with these at their worst: 0 for the local model, 100 for the service.
`gate.tail` is a second criterion of either kind of gate: coverage@70 may fall below the service's
by less than so many points, which the lower limit must show.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from decimal import ROUND_DOWN, Decimal
from typing import Any, Literal, NamedTuple

from understudy.config import GateConfig
from understudy.evaluation import decision, scale
from understudy.evaluation.scores import METRICS, Metric, measured, pool, worst_mean
from understudy.evaluation.statistics.intervals import ratio_of_means
from understudy.records import Coverage, Verdict
from understudy.store.artifacts import Job

Summary = dict[str, Any]  # an evaluation's summary.json


@dataclass(frozen=True, slots=True)
class GateLine:
    """One judge on one generator, as the closing table of a round shows it."""

    judge: str
    role: Literal["local", "baseline"]
    generator: str
    similarity: Summary  # mean, low, high, coverage@50, coverage@70
    precision: Summary
    rule: Summary | None
    n_prompts: int
    n_unscored: int
    n_missing_answers: int
    p_match: dict[str, Summary] | None  # per metric: value, low, high, form
    n_groups: int | None = None  # clusters of the prompts
    measures: tuple[Metric, ...] = METRICS  # the other metric is no miss

    def to_dict(self) -> Summary:
        """As the gate's summary holds it; what a judge measures only where that is not both."""
        values = asdict(self)
        measures = list(values.pop("measures"))
        return values if measures == list(METRICS) else values | {"measures": measures}


class Gap(NamedTuple):
    """What a judge left without a score of one generator's answers."""

    judge: str
    generator: str
    verdicts: int  # with those that have no score
    unscored: dict[str, int]  # reason -> verdicts

    @property
    def share(self) -> float:
        """Of the verdicts that have no score."""
        return sum(self.unscored.values()) / self.verdicts if self.verdicts else 0.0

    def __str__(self) -> str:
        reasons = ", ".join(f"{count} {reason}" for reason, count in self.unscored.items())
        missing = f"{sum(self.unscored.values())} of {self.verdicts} verdicts"
        return f"{self.judge} left {missing} on {self.generator} unscored ({reasons})"


class RoundDecision(NamedTuple):
    """Whether the round passes, and one sentence why."""

    decision: Literal["pass", "fail"]
    reason: str


def decide(gate: GateConfig, table: Sequence[GateLine]) -> RoundDecision:
    """Pass when every judge's mean similarity and precision of the local model reach the gate's.

    A missing mean fails. What a judge does not measure is not asked of it.
    """
    local = [line for line in table if line.role == "local"]
    assert local, "the gate needs the verdicts of at least one judge on the local model"
    reached, short = [], []
    for line in local:
        for metric in line.measures:
            threshold: float = getattr(gate, metric)
            mean = getattr(line, metric)["mean"]
            said = f"{line.judge} {metric}"
            if mean is None:
                short.append(f"{said} is missing: no verdict could be scored")
            elif mean < threshold:
                short.append(f"{said} {_cut(mean)} < {threshold:g}")
            else:
                reached.append(f"{said} {_cut(mean)} >= {threshold:g}")
    if short:
        return RoundDecision("fail", f"Short of the thresholds: {'; '.join(short)}.")
    return RoundDecision("pass", f"All means reach their thresholds: {'; '.join(reached)}.")


def _cut(score: float) -> str:
    """Two decimals, cut: rounding would show 84.999 as 85.00, which is not short of 85."""
    return str(Decimal(repr(score)).quantize(Decimal("0.01"), ROUND_DOWN))


def p_match(
    local: Sequence[Verdict],
    baseline: Sequence[Verdict],
    groups: dict[str, str],
    metrics: Sequence[Metric] = METRICS,
) -> dict[str, Summary]:
    """Local over baseline in %, per metric, over the prompts that have a score of both."""
    found: dict[str, Summary] = {}
    for metric in metrics:
        ours, theirs = pool(local, metric).prompts, pool(baseline, metric).prompts
        both = sorted(ours.keys() & theirs.keys())
        ratio = ratio_of_means(
            [ours[p] for p in both], [theirs[p] for p in both], [groups[p] for p in both]
        )
        limits = {"low": ratio.low, "high": ratio.high, "form": ratio.form}
        found[metric] = {"value": ratio.mean, **limits}
    return found


def run(job: Job) -> None:
    """Read the gate judges' evaluations, decide, write; params: `round` and `data_size`."""
    gate = job.config.gate
    groups = {row.id: row.group_id for row in job.rows("split", Coverage)}
    table, doubts = list[GateLine](), list[str]()
    for judge in _judges(job):
        local, baseline = f"evaluation.{judge}", f"baseline.{judge}"
        match = None
        if baseline in job.inputs:
            verdicts = job.rows(local, Verdict), job.rows(baseline, Verdict)
            match = p_match(*verdicts, groups, measured(job.summary(local)))
            asked = job.config.judges.get(judge)
            is_given = judge in job.config.graders or (
                asked is not None and asked.scale is not None
            )
            doubts += scale.doubts(judge, *verdicts, is_given)
        table.append(_line(judge, "local", job.summary(local), match))
        if baseline in job.inputs:
            table.append(_line(judge, "baseline", job.summary(baseline), None))
    screened = _screen(job, groups) if _is_paired(job) else None
    if gate.kind == "paper":
        decided, worst = decide(gate, table), decide(gate, _at_worst(job, table))
    else:
        assert screened is not None, "gate=noninferiority has a baseline"
        decided, worst = screen(screened), screen_at_worst(screened)
    if screened is not None and (tail := screened.tail) is not None:
        decided = with_tail(decided, tail, tail.low)
        worst = with_tail(worst, tail, tail.worst_low)
    gaps = [gap for gap in _gaps(job) if gap.share > gate.max_unscored]
    word, reason = with_gaps(decided, worst, gaps, gate.max_unscored)
    if doubts:
        job.notes["warnings"] = [f"gate: {doubt}" for doubt in doubts]
    if doubts and screened is not None and word == "pass":  # which compares both sides
        word, reason = "fail", f"{reason} But {'; '.join(doubts)}."
    job.write_summary(
        {
            "kind": gate.kind,
            "decision": word,
            "reason": reason,
            "thresholds": {"similarity": gate.similarity, "precision": gate.precision},
            "round": job.params["round"],
            "data_size": job.params["data_size"],
            "table": [line.to_dict() for line in table],
            **({} if screened is None else {"screen": screened.to_dict()}),
        }
    )


def screen(found: decision.Decision) -> RoundDecision:
    """Pass when the lower limit on the test split is above the margin; the holdout decides."""
    low = found.difference.low
    passed = low is not None and low > -found.margin
    return RoundDecision("pass" if passed else "fail", f"On the test split, {found.reason}")


def screen_at_worst(found: decision.Decision) -> RoundDecision:
    """The same of the limit that takes what is unscored at its worst."""
    low = found.worst_low
    passed = low is not None and low > -found.margin
    least = "has no limit" if low is None else f"is at least {low:+.2f}"
    return RoundDecision("pass" if passed else "fail", f"local - service {least} points.")


def with_tail(decided: RoundDecision, tail: decision.Tail, low: float | None) -> RoundDecision:
    """Fail a round whose coverage@70 is not shown to fall by less than `gate.tail`."""
    if low is not None and low > -tail.margin:
        return decided
    if str(tail) in decided.reason:
        return RoundDecision("fail", decided.reason)
    mean = "is missing" if tail.mean is None else f"is {tail.mean:+.2f} points"
    least = "has no limit" if low is None else f"at least {low:+.2f} <= {-tail.margin:g}"
    said = f"Coverage@{decision.TAIL_CUT:g}, local - service, {mean}, {least} (gate.tail)."
    return RoundDecision("fail", f"{decided.reason} {said}")


def with_gaps(
    decided: RoundDecision, worst: RoundDecision, gaps: Sequence[Gap], most: float
) -> RoundDecision:
    """Fail a round that passes only because too many verdicts, those in `gaps`, have no score."""
    if decided.decision == "fail" or not gaps:
        return decided
    left = "; ".join(map(str, gaps))
    if worst.decision == "pass":
        return RoundDecision("pass", f"{decided.reason} {left}: it passes at their worst, too.")
    return RoundDecision(
        "fail",
        f"Too few scores: {left}, more than gate.max_unscored={most:g}. With these at their worst: "
        f"{worst.reason}",
    )


def _gaps(job: Job) -> list[Gap]:
    """What the gate's judges left unscored, of the sides that the gate reads."""
    gaps = []
    for judge in _judges(job):
        for side in ("evaluation", "baseline") if _is_paired(job) else ("evaluation",):
            of = job.summary(f"{side}.{judge}")
            gaps.append(Gap(judge, of["generator"], of["n_verdicts"], of["unscored"]))
    return gaps


def _is_paired(job: Job) -> bool:
    """Whether the gate compares with the service; ready-made answers have none beside them."""
    gate = job.config.gate
    has_service = any(role.startswith("baseline.") for role in job.inputs)
    return gate.kind == "noninferiority" or (gate.tail is not None and has_service)


def _at_worst(job: Job, table: Sequence[GateLine]) -> list[GateLine]:
    """The lines of the local model with a score of 0 where there is none."""
    lines = []
    for line in table:
        if line.role == "local":
            rows = job.rows(f"evaluation.{line.judge}", Verdict)
            similarity, precision = ({"mean": worst_mean(rows, metric)} for metric in METRICS)
            lines.append(replace(line, similarity=similarity, precision=precision))
    return lines


def _screen(job: Job, groups: dict[str, str]) -> decision.Decision:
    """The comparison with the service by the gate's judges, on the prompts that were judged."""
    gate, judges = job.config.gate, _judges(job)
    local, service = (
        {judge: job.rows(f"{role}.{judge}", Verdict) for judge in judges}
        for role in ("evaluation", "baseline")
    )
    prompts = sorted({one.prompt_id for rows in local.values() for one in rows})
    measures = {judge: measured(job.summary(f"evaluation.{judge}")) for judge in judges}
    pairs = decision.pairs_of(local, service, prompts, measures)
    tail = None
    if gate.tail is not None:
        tail = (gate.tail, decision.tail_pairs(local, service, prompts))
    return decision.decide(
        pairs, groups, margin=gate.margin, alpha=gate.alpha, tail=tail, scale=None
    )


def _judges(job: Job) -> list[str]:
    """The gate's judges; when none are named, the evaluators of ready-made verdicts too."""
    here = [role.partition(".")[2] for role in job.inputs if role.startswith("evaluation.")]
    ours = [judge for judge in job.config.gate_judges if judge in here]
    return ours + sorted(set(here) - set(ours)) if job.config.gate.judges is None else ours


def _line(
    judge: str,
    role: Literal["local", "baseline"],
    summary: Summary,
    match: dict[str, Summary] | None,
) -> GateLine:
    counts = ("n_prompts", "n_groups", "n_unscored", "n_missing_answers")
    shared = ("generator", *METRICS, "rule", *counts)
    values = {name: summary[name] for name in shared}
    return GateLine(judge=judge, role=role, p_match=match, measures=measured(summary), **values)
