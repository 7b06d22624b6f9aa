"""The labels of a run at a look: which judges they vouch for, and what then decides."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from understudy.evaluation.calibration import (
    Agreement,
    Vouching,
    agreement,
    humans_of,
    lines_of,
    objection,
    passes_by_rogan_gladen,
)
from understudy.evaluation.decision import Decision
from understudy.evaluation.labels import HumanScores, LabelSet, human_scores, read_labels
from understudy.evaluation.scores import Metric, pool
from understudy.evaluation.statistics.design import prompts_needed
from understudy.evaluation.statistics.intervals import Interval
from understudy.pipeline.measured import answers_of
from understudy.pipeline.record import RunRecord
from understudy.records import Verdict

NO_LABELS = (
    "no labels: what judges say of local - service is taken for what humans would say "
    "(`understudy label` asks them)"
)
OTHER_LABELS = f"the run's labels are of other answers and are not used; {NO_LABELS}"
_METRIC: Metric = "precision"
_Judged = Mapping[str, Sequence[Verdict]]
_Scores = dict[tuple[str, str, int], float]


class LabelledLook(NamedTuple):
    """Labels beside the verdicts of a look."""

    labels: LabelSet
    scores: HumanScores
    judged: dict[str, _Scores]
    local: str  # generators
    service: str
    groups: Mapping[str, str]
    agreements: dict[str, Agreement | None]
    objections: dict[str, str | None]
    versions: dict[str, dict[str, Any]]  # judge -> what it is: another is not vouched for
    judging_usd: float  # of the run's judges, for these verdicts

    @property
    def vouched(self) -> list[str]:
        """The judges that may decide."""
        return [judge for judge, why in self.objections.items() if why is None]

    @property
    def deciding(self) -> list[str]:
        """The judges whose scores are used; all where none may decide, as nothing then decides."""
        return self.vouched or list(self.objections)

    @property
    def evidence(self) -> dict[str, Any]:
        """What makes it another look."""
        return {"labels": self.labels.digest, "deciding": self.deciding}

    def humans(self, cut: float | None = None) -> Vouching:
        """What decides; with a `cut`, of the share of answers from there, in points."""
        scores, judged = self.scores, [self.judged[judge] for judge in self.deciding]
        if cut is not None:
            names = (self.local, self.service)
            scores = human_scores(self.labels.rows, *names, self.groups, _METRIC, cut)
            judged = [{k: 100.0 if s >= cut else 0.0 for k, s in one.items()} for one in judged]
        return humans_of(scores, judged, self.local, self.groups)

    def checked(self, decided: Decision) -> Decision:
        """Take the word back where no judge is vouched for, or nobody knows how labels were drawn.

        Says how many more labels would decide, if the error falls with the root of their number.
        """
        found = decided.difference
        if found.mean is None:
            reason = f"{len(self.scores.difference)} prompts have a label of both sides: too few."
            return replace(decided, decision="INCONCLUSIVE", reason=reason)
        if not self.vouched:
            why = "; ".join(f"{judge}: {one}" for judge, one in self.objections.items())
            reason = f"No judge may decide. {why}."
            return replace(decided, decision="INCONCLUSIVE", reason=reason)
        if not self.scores.is_known and decided.decision == "MIGRATE":
            reason = f"{decided.reason} But labels without a weight or probability may be of other \
answers than those drawn at random: `understudy label` draws them."
            return replace(decided, decision="INCONCLUSIVE", reason=reason)
        if decided.decision == "INCONCLUSIVE" and found.error and found.mean != -decided.margin:
            distance = abs(found.mean + decided.margin)
            have = len(self.scores.difference)
            sd = found.error * math.sqrt(have)
            more = prompts_needed(sd, distance, alpha=decided.level, sides=1) - have
            if 0 < more <= len(self.groups) - have:
                reason = f"{decided.reason} About {more:,} more labels would decide it."
                return replace(decided, reason=reason)
        return decided

    @property
    def rogan_gladen(self) -> dict[str, Interval]:
        """Of passes and failures: the difference by each deciding judge's confusions."""
        if not self.scores.is_pass:
            return {}
        return {
            judge: passes_by_rogan_gladen(
                self.judged[judge], self.scores, self.local, self.groups, 0.025
            )
            for judge in self.deciding
        }

    def lines(self) -> list[str]:
        """What is printed: the estimator and its reason, then each judge beside humans."""
        scores = self.scores
        prompts = f"{len(scores.difference)} prompts labelled by {', '.join(scores.raters)}"
        why = "labels are a random sample of known probabilities, so no bias of a judge is left"
        if not scores.is_known:
            why = "as if labels were a random sample, which nobody knows"
        whose = "the humans'" if self.labels.asked is None else f"{self.labels.asked['judge']}'s"
        found = [
            f"{prompts}: local - service is on {whose} scale, prediction-powered; {why}",
            f"predicted by {', '.join(self.deciding)}: {self.humans().predictor}",
        ]
        if (asked := self.labels.asked) is not None:
            found.append(
                f"cascade: {asked['judge']} on {len(self.scores.difference)} of {len(self.groups)} "
                f"prompts for ${asked['usd']:.4f}, {', '.join(self.deciding)} on all for "
                f"${self.judging_usd:.4f}"
            )
        if scores.skipped:
            found.append(f"{len(scores.skipped)} prompts were skipped; at worst each loses 100")
        for judge, one in self.rogan_gladen.items():
            if one.low is not None:
                said = f"{one.mean:+.2f} [{one.low:+.2f}, {one.high:+.2f}] points of passes"
                found.append(f"beside it, by Rogan and Gladen from {judge}: {said}")
        return [*found, *lines_of(self.agreements, self.objections)]

    def to_dict(self) -> dict[str, Any]:
        """As decision.json holds it."""
        return {
            "labels": self.labels.digest,
            "prompts": len(self.scores.difference),
            "raters": list(self.scores.raters),
            "cascade": self.labels.asked and self.labels.asked | {"all_usd": self.judging_usd},
            "predictor": self.humans().predictor,
            "rogan_gladen": {name: one._asdict() for name, one in self.rogan_gladen.items()},
            "judges": {
                judge: {
                    **self.versions[judge],
                    "may_decide": self.objections[judge] is None,
                    "objection": self.objections[judge],
                    "agreement": None if found is None else found.to_dict(),
                }
                for judge, found in self.agreements.items()
            },
        }


def labelled(
    run: RunRecord,
    stages: Mapping[str, str],
    local: _Judged,
    service: _Judged,
    groups: Mapping[str, str],
) -> LabelledLook | str:
    """Return the run's labels of the answers that were judged, or what it means to have none."""
    labels = read_labels(run.path.parent)
    if labels is None:
        return NO_LABELS
    shown = [answers_of(run, stages, role) for role in ("evaluation", "baseline")]
    paths = [f"{one.path.parent.name}/{one.path.name}" for one in shown if one is not None]
    if paths != list(labels.answers.values()):
        return OTHER_LABELS
    ours, theirs = labels.answers
    judged = {
        judge: {
            (prompt, name, k): score
            for name, rows in ((ours, local[judge]), (theirs, service[judge]))
            for (prompt, k), score in pool(rows, _METRIC).answers.items()
        }
        for judge in local
    }
    scores = human_scores(labels.rows, ours, theirs, groups, _METRIC)
    floor = run.config["gate"].get("floor")
    agreements = {judge: agreement(judged[judge], scores, ours, groups) for judge in judged}
    objections = {
        judge: objection(found, floor, scores.is_pass) for judge, found in agreements.items()
    }
    services = run.config.get("judges", {})
    versions = {judge: _version(services.get(judge, {}), rows) for judge, rows in local.items()}
    return LabelledLook(
        labels, scores, judged, ours, theirs, groups, agreements, objections, versions,
        sum(_usd(run, path) for role, path in stages.items() if "." in role),
    )  # fmt: skip


def _usd(run: RunRecord, path: str) -> float:
    """What a stage's calls cost; 0 where nothing was paid or nobody has written it down."""
    stage = run.stage(path)
    meta = stage.read("meta.json") if (stage.path / "meta.json").is_file() else {}
    return float(meta.get("calls", {}).get("microusd", 0)) / 1e6


def _version(service: Mapping[str, Any], rows: Sequence[Verdict]) -> dict[str, Any]:
    """What the labels vouch for."""
    first = rows[0] if rows else None
    wording = {} if first is None else {
        "prompt": first.prompt_variant, "order": first.order, "scale": first.scale
    }  # fmt: skip
    return {"model": service.get("model"), **wording}
