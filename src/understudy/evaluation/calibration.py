"""Whether humans vouch for a judge, and what its scores are worth on their scale.

With labels, `decide` tests the difference local - service as humans would score it: judges say it
of all prompts, and the labels take off what judges get wrong (prediction_powered.py). A judge may
decide only where its agreement with humans, at the lower end of its interval, is at least
`gate.floor`: Spearman's rho of scores, Cohen's kappa of passes. It is measured on the verdicts at
hand, so it is of this judge, model version, wording and scale, and of no other.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np

from understudy.evaluation.labels import HumanScores
from understudy.evaluation.statistics.agreement import correlation
from understudy.evaluation.statistics.intervals import (
    BOOTSTRAP_DRAWS,
    DIFFERENCES,
    Floats,
    Interval,
    Scale,
    cluster_mean,
)
from understudy.evaluation.statistics.isotonic import cross_fitted, transport
from understudy.evaluation.statistics.misclassification import (
    Confusion,
    confusion,
    pass_share,
    rogan_gladen,
)
from understudy.evaluation.statistics.prediction_powered import powered_interval

PASS = 70.0  # points from which an answer counts as a pass, the paper's coverage@70
_BENT = 60  # labelled answers from which a curve is tried
_CLEARLY = 0.95  # of the error: a curve that says less more is left, as errors are estimates
_FEWEST = 3  # labelled prompts with which anything can be said
_Scores = Mapping[tuple[str, str, int], float]  # (prompt, generator, k) -> points


class Vouching(NamedTuple):
    """What decides where there are labels: prompt -> points, local - service."""

    scores: HumanScores
    judged: dict[str, float]  # by the judges, of all prompts
    shown: dict[str, float]  # by the judges, of the very answers that humans scored
    predictor: str  # why the judges' scores are as they are, or bent


def calibrated(
    humans: Vouching,
    groups: Mapping[str, str],
    level: float,
    is_worst: bool = False,
    scale: Scale = DIFFERENCES,
    draws: int = BOOTSTRAP_DRAWS,
) -> Interval:
    """The difference on the humans' scale; `clusters` of the result are those with labels.

    A prompt that no judge scored counts as the judges' mean, which biases nothing: the labels
    correct whatever stands there. At worst it is a loss of 100 points, as is a skipped label.
    """
    prompts = sorted(groups)
    usual = float(np.mean(list(humans.judged.values()))) if humans.judged else 0.0
    judged = {prompt: humans.judged.get(prompt, usual) for prompt in prompts}
    said, shown = dict(humans.scores.difference), dict(humans.shown)
    weights = dict(humans.scores.weight)
    if is_worst:
        unseen = groups.keys() - humans.judged.keys()
        lost = (humans.scores.skipped & groups.keys()) | unseen
        said |= dict.fromkeys(lost, -100.0)
        shown |= {prompt: judged[prompt] for prompt in lost}
        weights |= dict.fromkeys(unseen, 1.0)
    known = np.array([prompt in said and prompt in shown for prompt in prompts])
    if known.sum() < _FEWEST:
        return Interval(None, None, None)
    weight = np.array([weights.get(prompt, 0.0) for prompt in prompts]) * known
    judge, human = (np.array([one.get(p, 0.0) for p in prompts]) for one in (judged, said))
    of_shown = np.array([shown.get(prompt, usual) for prompt in prompts])
    cluster = np.unique([groups[prompt] for prompt in prompts], return_inverse=True)[1]
    found = powered_interval(judge, human, weight, cluster, level, of_shown, draws, scale)
    return found._replace(clusters=len(np.unique(cluster[weight > 0])))


def humans_of(
    scores: HumanScores, judges: Sequence[_Scores], local: str, groups: Mapping[str, str]
) -> Vouching:
    """Take the judges' scores as they are, or bent to the humans' where that says clearly more."""
    common = set(judges[0]).intersection(*judges[1:]) if judges else set()
    keys = sorted(key for key in common if key[0] in groups)
    panel = {key: float(np.mean([judge[key] for judge in judges])) for key in keys}
    plain = _of_answers(scores, panel, local, "the judges' scores as they are")
    labelled = [key for key in keys if key in scores.answers]
    if len(labelled) < _BENT:
        return plain
    cluster = np.unique([groups[key[0]] for key in keys], return_inverse=True)[1]
    said = np.array([panel[key] for key in keys])
    human = np.array([scores.answers.get(key, np.nan) for key in keys])
    curved = cross_fitted(said, human, cluster)
    bent = dict(zip(keys, curved.tolist(), strict=True))
    other = _of_answers(scores, bent, local, "")
    errors = [calibrated(one, groups, 0.05, draws=99).error for one in (plain, other)]
    if None in errors or errors[1] >= _CLEARLY * errors[0]:  # type: ignore[operator]
        return plain
    why = f"the judges' scores bent to the humans', as the error falls from {errors[0]:.2f}"
    return other._replace(predictor=f"{why} to {errors[1]:.2f}")


def _of_answers(scores: HumanScores, panel: _Scores, local: str, predictor: str) -> Vouching:
    """Differences of prompts from scores of answers."""

    def differences(keys: Collection[tuple[str, str, int]]) -> dict[str, float]:
        sides: dict[str, tuple[list[float], list[float]]] = {}
        for key in keys:
            sides.setdefault(key[0], ([], []))[key[1] != local].append(panel[key])
        return {p: fmean(ours) - fmean(theirs) for p, (ours, theirs) in sides.items()
                if ours and theirs}  # fmt: skip

    shown = differences([key for key in scores.answers if key in panel])
    whole = {key[0] for key in scores.answers if key not in panel}
    shown = {p: one for p, one in shown.items() if p in scores.difference and p not in whole}
    return Vouching(scores, differences(panel.keys()), shown, predictor)


class SideAgreement(NamedTuple):
    """A judge beside humans on the answers of one system."""

    rho: Interval
    off: Interval  # mean of judge - humans, points


class Agreement(NamedTuple):
    """A judge beside humans on the labelled answers."""

    answers: int
    rho: Interval
    passes: Confusion
    local: SideAgreement
    service: SideAgreement
    kinder: Interval  # human - the curve of the service's labels, on local answers, points
    holds: bool  # whether that curve holds for the local model
    counts: Interval  # rho, or kappa where humans passed or failed

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        rates = {name: getattr(self.passes, name) for name in self.passes._fields[2:]}
        plain = {name: one._asdict() for name, one in {"rho": self.rho, **rates}.items()}
        sides = {
            side: {name: one._asdict() for name, one in getattr(self, side)._asdict().items()}
            for side in ("local", "service")
        }
        return {
            "answers": self.answers, "base_rate": self.passes.base, **plain, **sides,
            "one_curve_for_both": {"off": self.kinder._asdict(), "holds": self.holds},
        }  # fmt: skip


def agreement(
    judge: _Scores, humans: HumanScores, local: str, groups: Mapping[str, str]
) -> Agreement | None:
    """Compare a judge with humans; None where too few answers have both."""
    keys = sorted(key for key in humans.answers if key in judge and key[0] in groups)
    if len(keys) < _FEWEST:
        return None
    said, human = (np.array([one[key] for key in keys]) for one in (judge, humans.answers))
    cluster = np.unique([groups[key[0]] for key in keys], return_inverse=True)[1]
    ours = np.array([key[1] == local for key in keys])
    of_local, of_service = [
        SideAgreement(
            correlation(said[side], human[side], cluster[side]),
            cluster_mean(said[side] - human[side], cluster[side]),
        )
        for side in (ours, ~ours)
    ]
    passes = confusion(said >= PASS, human >= PASS, cluster)
    rho = correlation(said, human, cluster)
    moved = transport(
        said[~ours], human[~ours], cluster[~ours], said[ours], human[ours], cluster[ours]
    ) if ours.any() and not ours.all() else None  # fmt: skip
    return Agreement(
        len(keys), rho, passes, of_local, of_service,
        Interval(None, None, None) if moved is None else moved.off, bool(moved and moved.holds),
        passes.kappa if humans.is_pass else rho,
    )  # fmt: skip


def objection(found: Agreement | None, floor: float | None, is_pass: bool) -> str | None:
    """Say why a judge may not decide, and how many more labels would settle it; None: it may."""
    if floor is None:
        return None
    what = "kappa" if is_pass else "Spearman"
    if found is None or found.counts.mean is None or found.counts.low is None:
        return f"its agreement with humans is unknown, and gate.floor={floor:g} asks for it"
    value, low = found.counts.mean, found.counts.low
    if low >= floor:
        return None
    said = f"{what} with humans is {value:.2f}, at least {low:.2f} < {floor:g} (gate.floor)"
    if value <= floor:
        return f"{said}; no number of labels would settle it, if that is its agreement"
    # The error of arctanh(r) falls with the root of the number of labels (Fisher 1921).
    wide, wanted = (math.atanh(min(value, 0.999)) - math.atanh(one) for one in (low, floor))
    more = math.ceil(found.answers / 2 * ((wide / wanted) ** 2 - 1))
    return f"{said}; about {max(more, 1):,} more labels would settle it"


def passes_by_rogan_gladen(
    judged: _Scores, humans: HumanScores, local: str, groups: Mapping[str, str], level: float
) -> Interval:
    """Passes of the local model - the service's, in points, from a judge's word on all answers."""
    shares = []
    for is_local in (True, False):
        keys = sorted(k for k in judged if k[0] in groups and (k[1] == local) == is_local)
        passed = np.array([judged[key] >= PASS for key in keys])
        truth: Floats = np.array([
            np.nan if key not in humans.answers else float(humans.answers[key] >= PASS)
            for key in keys
        ])  # fmt: skip
        cluster = np.unique([groups[key[0]] for key in keys], return_inverse=True)[1]
        shares.append(pass_share(passed, truth, cluster))
    return rogan_gladen(shares[0], shares[1], level)


def lines_of(
    agreements: Mapping[str, Agreement | None], objections: Mapping[str, str | None]
) -> Sequence[str]:
    """What `decide` prints of the judges beside humans."""
    lines = []
    for judge, found in agreements.items():
        if found is not None:
            passes = found.passes
            lines.append(
                f"  {judge} and humans, {found.answers} answers: Spearman {_said(found.rho)}; "
                f"from {PASS:g} points kappa {_said(passes.kappa)}, base rate {passes.base:.2f}, "
                f"sensitivity {_said(passes.sensitivity)}, "
                f"specificity {_said(passes.specificity)}"
            )
            lines += [
                f"    {name}: Spearman {_said(side.rho)}, judge - humans {_said(side.off, '+')}"
                for name, side in (("local", found.local), ("service", found.service))
            ]
            if found.kinder.low is not None and not found.holds:
                kind = "kinder" if (found.kinder.mean or 0) < 0 else "stricter"
                lines.append(
                    f"    it is {kind} to the local model than to the service: humans - its scores "
                    f"as the service's labels bend them {_said(found.kinder, '+')}"
                )
        if (why := objections[judge]) is not None:
            lines.append(f"  {judge}: this judge may not decide: {why}")
    return lines


def _said(found: Interval, sign: str = "") -> str:
    if found.mean is None:
        return "unknown"
    form = f"{sign}.2f"
    limits = "" if found.low is None else f" [{found.low:{form}}, {found.high:{form}}]"
    return f"{found.mean:{form}}{limits}"
