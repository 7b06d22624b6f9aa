"""The judge report: how far the judges of a panel can be trusted, as one JSON document."""

import itertools
from collections.abc import Mapping
from typing import Any

from understudy.evaluation.panel import Panel
from understudy.evaluation.statistics import bias
from understudy.evaluation.statistics.agreement import (
    bland_altman,
    icc,
    krippendorff_alpha,
    lin_ccc,
)
from understudy.evaluation.statistics.intervals import DRAWS
from understudy.evaluation.statistics.leniency import scale_use
from understudy.evaluation.statistics.preference import preferences
from understudy.evaluation.statistics.ranking import effective_judges, ranking


def report(
    panel: Panel,
    swapped: Panel | None = None,
    teachers: Mapping[str, str] | None = None,
    draws: int = DRAWS,
) -> dict[str, Any]:
    """Everything about these judges on one metric; None, never 0, for what the panel cannot tell.

    `swapped` is the same answers judged in the other order, `teachers` the family of the teacher of
    each system that had one.
    """
    scores, cluster = panel.means, panel.cluster
    pairs = {
        f"{panel.judges[a]} / {panel.judges[b]}": {
            "ccc": lin_ccc(scores[:, a], scores[:, b], cluster, draws),
            "bland_altman": bland_altman(scores[:, a], scores[:, b], cluster),
        }
        for a, b in itertools.combinations(range(len(panel.judges)), 2)
    }
    found = {
        "judges": dict(zip(panel.judges, scale_use(panel, draws), strict=True)),
        "alpha": krippendorff_alpha(scores, cluster, draws=draws),
        "alpha_ordinal": krippendorff_alpha(scores, cluster, "ordinal", draws),
        "icc": icc(scores, cluster, draws),
        "pairs": pairs,
        "ranking": ranking(panel, draws),
        "effective_judges": effective_judges(panel, draws),
        "bias": {
            **preferences(panel, teachers),
            "length": bias.length(panel),
            "position": bias.position(panel, swapped),
        },
        "against_panel": {one.judge: one for one in bias.against_panel(panel)},
        "missing": bias.missing(panel),
        "answers": len(scores),
        "clusters": int(cluster.max()) + 1 if len(cluster) else 0,
        "draws": draws,
    }
    document: dict[str, Any] = _plain(found)
    return document


def _plain(value: Any) -> Any:
    """Named tuples as dictionaries, all the way down."""
    if hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value
