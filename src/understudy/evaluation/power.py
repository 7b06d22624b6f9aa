"""Power before money: the smallest loss that a holdout can exclude, and whether it can decide.

    loss = (t_level + z_power) SE        SE = SD / sqrt(n) x sqrt(design effect)

is the smallest margin with which a local model that is truly as good as the service is told to
MIGRATE with probability `POWER` (statistics/design.py; t with one degree of freedom less than
there are clusters). The design effect is 1 + (sum m_c^2 / n - 1) ICC for clusters of m_c prompts
(Kish 1965, with the sizes' own spread). Before a run SD and ICC are assumed, `gate.sd` and
`gate.icc`; of a run that is judged the cluster-robust SE is measured.
"""

import math
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from understudy.config import Config, GateConfig
from understudy.evaluation import looks
from understudy.evaluation.decision import MIN_CLUSTERS, MIN_PROMPTS, POWER
from understudy.evaluation.statistics.design import smallest_loss


class Holdout(NamedTuple):
    """What a holdout of so many prompts can show at its first look."""

    prompts: int
    clusters: int
    loss: float | None  # points; None where there is no interval

    @property
    def objection(self) -> str | None:
        """Why it can never say MIGRATE; None where it can."""
        if not self.prompts:
            return "the holdout is empty"
        if self.prompts < MIN_PROMPTS:
            return f"{self.prompts} prompts are below {MIN_PROMPTS}"
        if self.clusters < MIN_CLUSTERS:
            return f"{self.clusters} clusters are below {MIN_CLUSTERS}"
        return None


def of_holdout(groups: Sequence[str], gate: GateConfig) -> Holdout:
    """What prompts of these clusters can show if SD and ICC are as the gate assumes."""
    sizes, prompts = Counter(groups).values(), len(groups)
    if len(sizes) < 2:
        return Holdout(prompts, len(sizes), None)
    effect = 1 + (sum(size**2 for size in sizes) / prompts - 1) * gate.icc
    error = gate.sd * math.sqrt(effect / prompts)
    level = looks.level(gate.alpha, 1)
    return Holdout(prompts, len(sizes), smallest_loss(error, len(sizes), level, POWER))


def lines(config: Config, groups: Sequence[str]) -> list[str]:
    """What `decide` can show on prompts of these clusters; empty where no decision is wanted.

    Ready-made answers are all holdout. A run has no decision without a service, and wants none
    where it has no holdout, unless its gate compares with the service.
    """
    gate, is_ready_made = config.gate, config.inference.kind != "local"
    has_service = config.baseline.kind != "none" or is_ready_made
    if not has_service or not (groups or gate.kind == "noninferiority"):
        return []
    found, said = of_holdout(groups, gate), []
    if found.loss is not None:
        said.append(
            f"holdout: {found.prompts} prompts in {found.clusters} clusters exclude a loss of "
            f"{found.loss:.1f} points with power {POWER:g}, if the local model is as good; "
            f"gate.margin={gate.margin:g} (first look, K={config.inference.k}, "
            f"M={config.evaluation.m}, assumed gate.sd={gate.sd:g}, gate.icc={gate.icc:g})"
        )
    if found.loss is not None and gate.tail is not None:
        level = looks.level(gate.alpha, 1)
        least = math.ceil(math.log(level) / math.log1p(-gate.tail / 100)) if gate.tail < 100 else 1
        if found.clusters < least:
            said.append(
                f"warning: gate.tail={gate.tail:g} needs {least} clusters where hardly an answer "
                f"falls below 70, and the holdout has {found.clusters}"
            )
    if found.objection is not None:
        remedy = "" if is_ready_made else ": raise coverage.split.holdout"
        said.append(
            f"warning: decide can never say MIGRATE here, because {found.objection}{remedy}"
        )
    return said
