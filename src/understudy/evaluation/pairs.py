"""Local minus service, prompt by prompt, as a panel of judges sees it.

    d_i = mean over the judges of (local - service) on prompt i, each over samples and repeats

Leniency that a judge has for both sides cancels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from understudy.evaluation.scores import Metric, pool, scored
from understudy.records import Verdict

Panel = Mapping[str, Sequence[Verdict]]  # judge -> verdicts on one generator
Scores = dict[str, dict[str, float]]  # judge -> prompt -> mean


@dataclass(frozen=True)
class Pairs:
    """Local minus service per prompt on one metric, in points."""

    panel: dict[str, float]  # prompt -> mean over the judges that scored both
    judges: dict[str, dict[str, float]]  # judge -> prompt -> difference
    worst: dict[str, float]  # every prompt; a missing local score is 0, a service's 100
    noise: float | None  # variance of the panel's mean that more verdicts would shrink
    repeats: float | None  # verdicts per answer


def pair(local: Panel, service: Panel, prompts: Sequence[str], metric: Metric) -> Pairs:
    """The differences on these prompts; a prompt without a score of both sides is left out."""
    ours: Scores = {judge: pool(found, metric).prompts for judge, found in local.items()}
    theirs: Scores = {judge: pool(service[judge], metric).prompts for judge in local}
    judges = {
        judge: {
            prompt: ours[judge][prompt] - theirs[judge][prompt]
            for prompt in prompts
            if prompt in ours[judge] and prompt in theirs[judge]
        }
        for judge in local
    }
    panel, worst = dict[str, float](), dict[str, float]()
    for prompt in prompts:
        if found := [one[prompt] for one in judges.values() if prompt in one]:
            panel[prompt] = worst[prompt] = fmean(found)
        else:
            worst[prompt] = _mean(ours, prompt, 0.0) - _mean(theirs, prompt, 100.0)
    sides = [side[judge] for side in (local, service) for judge in local]
    repeats = [len(scores) for side in sides for scores in scored(side, metric).values()]
    noise = [_noise(side, metric, panel) for side in sides]
    known = [one for one in noise if one is not None]
    return Pairs(
        panel,
        judges,
        worst,
        sum(known) / len(judges) ** 2 if panel and len(known) == len(noise) else None,
        fmean(repeats) if repeats else None,
    )


def _mean(scores: Scores, prompt: str, missing: float) -> float:
    """Over the judges that scored the prompt, else `missing`."""
    return fmean([one[prompt] for one in scores.values() if prompt in one] or [missing])


def _noise(
    verdicts: Sequence[Verdict], metric: Metric, prompts: Mapping[str, float]
) -> float | None:
    """Variance of the mean over these prompts from the judge's repeats; None without repeats."""
    repeats = {key: scores for key, scores in scored(verdicts, metric).items() if key[0] in prompts}
    spare = sum(len(scores) - 1 for scores in repeats.values())
    if not spare:
        return None
    within = sum(float(np.var(scores)) * len(scores) for scores in repeats.values()) / spare
    samples: dict[str, list[float]] = {}
    for (prompt, _), scores in repeats.items():
        samples.setdefault(prompt, []).append(within / len(scores))
    return sum(sum(one) / len(one) ** 2 for one in samples.values()) / len(prompts) ** 2
