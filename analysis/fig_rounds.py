"""The rounds of a run: scores by judge against the round, the gate, and which round passed.

python -m analysis.fig_rounds RUN… --out DIR
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from understudy.evaluation.scores import METRICS
from understudy.pipeline.record import RunRecord

from . import command, draw, frame, labels
from .evaluations import Data


def build(data: Data, out: Path) -> list[Path]:
    """Write fig_rounds_RUN for every run that trained in more than one round."""
    paths = []
    for run in data.runs:
        scores = frame.scores_frame(run)
        local = scores[scores["role"] == "local"].dropna(subset=["round", "data_size"])
        if local["round"].nunique() > 1:
            figure = _figure(run, local, scores[scores["role"] == "baseline"])
            paths += draw.save_both(figure, out, f"fig_rounds_{run.name}")
    return paths


def _figure(run: RunRecord, local: Any, baseline: Any) -> Any:
    gate, passed = run.config["gate"], run.decision.round if run.decision else None
    looks = labels.looks(map(labels.canonical, local["judge"]))
    sizes = local.groupby("round")["data_size"].first()
    title = f"{run.name}: rounds on the test split"
    with draw.canvas(2, 2, title, run.rehearsal) as (figure, axes):
        for ax, metric in zip(axes, METRICS, strict=True):
            for judge, rows in local.groupby("judge", sort=False):
                look = looks[labels.canonical(str(judge))]
                mean, low, high = (rows[f"{metric}.{part}"] for part in ("mean", "low", "high"))
                bars = [(mean - low).clip(0).fillna(0), (high - mean).clip(0).fillna(0)]
                ax.errorbar(rows["round"], mean, yerr=bars, color=look.colour, marker=look.marker,
                            ms=5, capsize=3, lw=1.4, elinewidth=1, label=look.label)  # fmt: skip
                for level in baseline[baseline["judge"] == judge][f"{metric}.mean"].dropna():
                    ax.axhline(level, color=look.colour, ls=":", lw=1.2)
            if metric in gate:
                ax.axhline(gate[metric], color=labels.INK, ls="--", lw=1, zorder=1)
            if passed is not None:
                ax.axvline(passed, color=labels.JUDGES[3], lw=6, alpha=0.25, zorder=0)
            ticks = [f"{number:.0f}\n{labels.short(rows)}" for number, rows in sizes.items()]
            ax.set_xticks(list(sizes.index), ticks, fontsize=8)
            ax.set(title=labels.METRICS[metric].label, xlabel="round; below: synthetic rows")
            ax.set_ylim(-2, 102)
        ax.plot([], [], color=labels.INK, ls="--", lw=1, label="gate")
        ax.plot([], [], color=labels.INK, ls=":", lw=1.2, label="service")
        if passed is not None:
            ax.plot([], [], color=labels.JUDGES[3], lw=6, alpha=0.25, label="passed")
        draw.legend(
            figure, ax.get_legend_handles_labels()[0], "bars: 95 % over prompts, of one training"
        )
    return figure


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw the rounds of each run that has several."""
    return command.run(command.parser("fig_rounds", str(main.__doc__)), build, arguments)


if __name__ == "__main__":
    sys.exit(main())
