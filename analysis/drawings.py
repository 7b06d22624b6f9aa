"""The figures of the report page, as inline elements in the page's own colours."""

from typing import NamedTuple

import pandas as pd

from understudy.pipeline.record import RunRecord

from . import draw, fig_cost, fig_kde, fig_scaling, frame
from .costs import Assumption
from .evaluations import Data

_LEDGER = "the ledger of"  # how costs.from_ledger begins a source


class Drawings(NamedTuple):
    """SVG elements; None, or left out, where the run has nothing to draw."""

    scores: str | None
    scaling: dict[str, str]  # by metric, precision first
    density: str | None
    training: str | None
    cost: str | None


def drawings(
    run: RunRecord, data: Data, scores: pd.DataFrame, found: dict[str, Assumption]
) -> Drawings:
    """Draw what the run has; `found` are the assumptions of the cost figure."""
    gate, is_rehearsal = run.config["gate"], run.rehearsal
    thresholds = {metric: gate[metric] for metric in ("similarity", "precision") if gate[metric]}
    overview = None
    if not run.is_ready_made:
        overview = draw.scores_figure(scores, thresholds, is_rehearsal)
    curves = fig_scaling.figures(data, fig_scaling.fitted(data), fig_scaling.goal(data))
    scaling = {metric: draw.svg(figure, f"scaling-{metric}") for _, metric, figure in curves}
    density = [draw.svg(figure, f"density-{task}") for task, figure in fig_kde.figures(data)]
    training = draw.training_figure(frame.training_frame(run), is_rehearsal)
    return Drawings(
        scores=None if overview is None else draw.svg(overview, "scores"),
        scaling=dict(sorted(scaling.items())),
        density="\n".join(density) or None,
        training=None if training is None else draw.svg(training, "training"),
        cost=draw.svg(fig_cost.figure(found, is_rehearsal), "cost") if data.evaluations else None,
    )


def measured(found: dict[str, Assumption]) -> list[str]:
    """Which assumptions of the cost figure the run's own ledger replaced."""
    return [name for name, one in found.items() if one.source.startswith(_LEDGER)]
