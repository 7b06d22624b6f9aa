"""Figures 2 to 4 of LlamaDuo as far as its printed cells carry them, with rows beside where given.

The paper prints no point of Figures 2 and 3: what is known of them is what Table 1 says of the same
models. Every printed point has its least interval (`published.least_interval`). Released rows and
one's own runs are drawn beside it, as in `beside`; rehearsals never are.
"""

from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns

from understudy.evaluation.scores import METRICS

from . import cells, costs, draw, labels, published, scores, tables
from .beside import Sides
from .costs import Cost
from .evaluations import Evaluation
from .fig_kde import BINS, density, levels
from .tables import Row

MODEL, TASK, TEACHER = "gemma-7b", "summarization", "gpt-4o"  # of Figure 2
SIZE = 128_000  # synthetic rows behind Table 1
SIZES = [1000 * 2**power for power in range(9)]
PAIR = ("gemma-2b", "gemma-7b")  # of Figure 3
_INSIDE = 0.6  # of the answers, in a contour
_STRIP = 3.0  # points, the width of a strip of shares
_ORIGINS = {"released": ("s", "released rows"), "ours": ("o", "ours")}
Rows = dict[tuple[str, str], Row]  # by metric and statistic
_HEADS = {"mean": "mean score", "coverage@50": "share ≥ 50 (%)", "coverage@70": "share ≥ 70 (%)"}


def build(
    out: Path,
    sides: Sides,
    printed: pd.DataFrame | None = None,
    ours: Mapping[str, Cost] | None = None,
) -> list[Path]:
    """Write `fig_published_scaling_METRIC`, `fig_published_density` and `fig_published_cost`."""
    found = cells.published() if printed is None else printed
    table = published.table_1(found)
    figures = [*scaling(table, sides), ("fig_published_density", densities(table, sides))]
    figures.append(("fig_published_cost", money(found, ours)))
    return [path for name, figure in figures for path in draw.save_both(figure, out, name)]


def scaling(table: pd.DataFrame, sides: Sides) -> Iterator[tuple[str, Any]]:
    """Figure 2: Gemma 7B on summarization against the rows it was trained on, by judge."""
    judges, teachers = list(labels.SERVICES), labels.looks(labels.SERVICES)
    part = table[table["task"] == TASK]
    for metric in METRICS:
        title = f"Figure 2: {labels.label(MODEL)}, {TASK}, {metric}"
        with draw.canvas(len(_HEADS) * len(judges), len(judges), title, False, 2.7) as (
            drawn,
            axes,
        ):
            for place, ax in enumerate(axes):
                statistic, judge = list(_HEADS)[place // len(judges)], judges[place % len(judges)]
                here = part[
                    (part["judge"] == judge)
                    & (part["metric"] == metric)
                    & (part["statistic"] == statistic)
                ]
                _levels(ax, here, teachers)
                for row in tables.rows_of(here[here["model"] == MODEL]):
                    _point(ax, SIZE, row, teachers[TEACHER].colour)
                _curves(ax, sides, (judge, metric, statistic), teachers)
                ax.set_xscale("log", base=2)
                ax.set_xticks(SIZES, [labels.short(size) for size in SIZES], fontsize=7)
                ax.minorticks_off()
                ax.set(xlim=(SIZES[0] / 1.5, SIZES[-1] * 1.5), ylim=(-2, 102))
                ax.set_title(f"judge {labels.label(judge)}" if place < len(judges) else "")
                ax.set_ylabel(_HEADS[statistic] if place % len(judges) == 0 else "")
                ax.set_xlabel("synthetic rows" if place >= len(axes) - len(judges) else "")
            draw.legend(drawn, _keys(teachers, sides), _NOTE)
        yield f"fig_published_scaling_{metric}", drawn


_NOTE = (
    "bars of printed points: the least 95 % interval that their coverages allow; of rows: 95 % "
    "over prompts. The paper prints no other point of this figure"
)


def _levels(ax: Any, here: pd.DataFrame, teachers: Mapping[str, labels.Look]) -> None:
    """The services themselves, dotted."""
    for service, look in teachers.items():
        for value in here[here["model"] == service]["printed"]:
            ax.axhline(value, color=look.colour, ls=":", lw=1.2, zorder=1)


def _point(ax: Any, at: float, row: Row, colour: str) -> None:
    """A printed value with its least interval; hollow where the paper forbids it."""
    low, high = row["low"], row["high"]
    bars = [[row["printed"] - low], [high - row["printed"]]] if low == low else None
    face = "white" if row["impossible"] else colour
    ax.errorbar([at], [row["printed"]], yerr=bars, fmt="D", ms=6, color=colour, mfc=face,
                capsize=3, lw=1.4, zorder=4)  # fmt: skip


def _curves(
    ax: Any, sides: Sides, column: tuple[str, str, str], teachers: Mapping[str, labels.Look]
) -> None:
    """Released rows and ours at every size, joined by teacher."""
    judge, metric, statistic = column
    for origin, side in sides.items():
        rows = [
            {"rows": one.system.data_size, "teacher": one.system.teacher}
            | scores.statistic(one, metric, statistic)._asdict()
            for one in side.evaluations
            if (one.system.task, one.system.model) == (TASK, MODEL)
            and labels.canonical(one.judge) == judge
            and one.system.teacher in teachers
            and one.system.data_size > 0
        ]
        for teacher, line in pd.DataFrame(rows).groupby("teacher") if rows else ():
            line = line.sort_values("rows")
            look, marker = teachers[str(teacher)], _ORIGINS[origin][0]
            sns.lineplot(line, x="rows", y="mean", ax=ax, color=look.colour, marker=marker,
                         errorbar=None, legend=False)  # fmt: skip
            ax.vlines(line["rows"], line["low"], line["high"], color=look.colour, lw=1)


def _keys(teachers: Mapping[str, labels.Look], sides: Sides) -> list[Any]:
    from matplotlib.lines import Line2D

    ink = labels.INK
    keys = [Line2D([], [], color=look.colour, lw=2, label=f"taught by {look.label}")
            for look in teachers.values()]  # fmt: skip
    keys.append(Line2D([], [], color=ink, ls=":", label="the service itself (paper)"))
    keys.append(Line2D([], [], color=ink, marker="D", ls="none", label="paper, Table 1"))
    return keys + _given(sides)


def _given(sides: Sides) -> list[Any]:
    from matplotlib.lines import Line2D

    return [
        Line2D([], [], color=labels.INK, marker=_ORIGINS[origin][0], label=_ORIGINS[origin][1])
        for origin, side in sides.items()
        if side.evaluations
    ]


def densities(table: pd.DataFrame, sides: Sides) -> Any:
    """Figure 3: where the answers of Gemma 2B and 7B lie, by task and judge.

    Crosses are the printed means with their least intervals. The strips along both axes are all
    that coverages say of a density: the shares below 50, from 50 and from 70, darker for more.
    """
    from matplotlib.lines import Line2D

    judges, tasks = list(labels.SERVICES), list(labels.TASKS)
    looks = labels.looks([*PAIR, TEACHER])
    title = "Figure 3: precision × similarity, by judge"
    panels = [(task, judge) for task in tasks for judge in judges]
    with draw.canvas(len(panels), len(judges), title, False, 3.4) as (drawn, axes):
        for ax, (task, judge) in zip(axes, panels, strict=True):
            here = table[(table["task"] == task) & (table["judge"] == judge)]
            for cut in published.CUTS:
                ax.axhline(cut, color=labels.FAINT, lw=0.8)
                ax.axvline(cut, color=labels.FAINT, lw=0.8)
            for place, (model, look) in enumerate(looks.items()):
                part = tables.rows_of(here[here["model"] == model])
                rows = {(row["metric"], row["statistic"]): row for row in part}
                _cross(ax, rows, look)
                _strips(ax, rows, look.colour, -_STRIP * (place + 1))
            for origin, side in sides.items():
                for one in side.final:
                    names = one.system.task, labels.canonical(one.judge)
                    if names == (task, judge) and one.system.model in looks:
                        _contour(ax, one, looks[one.system.model].colour, origin)
            edge = -_STRIP * (len(looks) + 0.5)
            ax.set(xlim=(edge, 100), ylim=(edge, 100), aspect="equal")
            ax.set_xticks(range(0, 101, 20))
            ax.set_yticks(range(0, 101, 20))
            ax.grid(False)
            ax.set_title(f"{labels.label(task)}, judge {labels.label(judge)}", fontsize=8)
            ax.set_xlabel("similarity" if task == tasks[-1] else "")
            ax.set_ylabel("precision" if judge == judges[0] else "")
        keys = [
            Line2D([], [], color=look.colour, marker=look.marker, ls="none", label=look.label)
            for look in looks.values()
        ]
        note = (
            "bars: the least 95 % interval of a printed mean; strips: shares below 50, from 50 and "
            f"from 70; contours, where rows were given, hold {100 * _INSIDE:g} % of the answers"
        )
        draw.legend(drawn, keys + _given(sides), note)
    return drawn


def _cross(ax: Any, rows: Rows, look: labels.Look) -> None:
    x, y = (rows[metric, "mean"] for metric in ("similarity", "precision"))
    forbidden = bool(x["impossible"] or y["impossible"])
    bars = [
        np.nan_to_num([[one["printed"] - one["low"]], [one["high"] - one["printed"]]])
        for one in (x, y)
    ]
    ax.errorbar([x["printed"]], [y["printed"]], xerr=bars[0], yerr=bars[1], fmt=look.marker, ms=5,
                color=look.colour, mfc="white" if forbidden else look.colour, capsize=2, lw=1.2,
                zorder=4)  # fmt: skip


def _strips(ax: Any, rows: Rows, colour: str, at: float) -> None:
    """The shares of answers in the three ranges of each scale, beside the scale."""
    from matplotlib.patches import Rectangle

    ends = (0, *published.CUTS, 100)
    for metric in ("similarity", "precision"):
        above = [
            100.0,
            *(rows[metric, f"coverage@{cut}"]["printed"] for cut in published.CUTS),
            0,
        ]
        shares = -np.diff(above) / 100
        for (low, high), share in zip(pairwise(ends), shares, strict=True):
            place = (low, at) if metric == "similarity" else (at, low)
            size = (high - low, _STRIP) if metric == "similarity" else (_STRIP, high - low)
            face = draw.shaded(colour, float(np.clip(share, 0, 1)))
            ax.add_patch(Rectangle(place, *size, facecolor=face, edgecolor=colour, lw=0.4))


def _contour(ax: Any, one: Evaluation, colour: str, origin: str) -> None:
    """The densest part of the answers of real rows."""
    similarity, precision = (scores.answer_means(one, m) for m in ("similarity", "precision"))
    known = ~np.isnan(similarity + precision)
    if not known.any():
        return
    centres = (np.arange(BINS) + 0.5) * 100 / BINS
    values = density(similarity[known], precision[known])
    ax.contour(centres, centres, values.T, levels=levels(values, [_INSIDE]), colors=colour,
               linewidths=1.2, linestyles="-" if origin == "ours" else "--")  # fmt: skip


def money(printed: pd.DataFrame, ours: Mapping[str, Cost] | None = None) -> Any:
    """Figure 4: what the local model and the service cost month by month."""
    from matplotlib.lines import Line2D

    table = published.table_2(printed)
    sides = {"local model": labels.JUDGES[0], "service": labels.JUDGES[1]}
    theirs = {w: costs.cost(costs.assumptions(), w) for w in costs.WORKLOADS}
    with draw.canvas(2, 2, "Figure 4: cumulative cost", False) as (drawn, axes):
        for ax, workload in zip(axes, costs.WORKLOADS, strict=True):
            for model, colour in sides.items():
                for found, dashes in ((theirs, "-"), (ours, "--")):
                    if found is not None:
                        one = found[workload]
                        line = one.service if model == "service" else one.local
                        ax.plot(one.month, line, color=colour, ls=dashes, lw=1.6)
                here = table[(table["workload"] == workload) & (table["model"] == model)]
                points = here[here["months"] > 0]
                right = (points["printed"] - points["computed"]).abs() < 1
                for mask, face in ((right, colour), (~right, "white")):
                    ax.plot(points["months"][mask], points["printed"][mask], "D", ms=6,
                            color=colour, mfc=face, zorder=4)  # fmt: skip
            even = theirs[workload].break_even
            ax.axvline(even, color=labels.INK, ls=":", lw=1.2)
            ax.set(title=f"{workload}: even in month {even:.2f}", xlabel="month", xlim=(0, 12.3))
            ax.set_ylabel("USD so far" if ax is axes[0] else "")
            ax.set_ylim(bottom=0)
            ax.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        keys = [Line2D([], [], color=colour, label=model) for model, colour in sides.items()]
        keys.append(Line2D([], [], color=labels.INK, marker="D", ls="none", label="paper, Table 2"))
        if ours is not None:
            keys.append(Line2D([], [], color=labels.INK, ls="--", label="ours"))
        draw.legend(
            drawn, keys, "lines: from the parts of Table 2; hollow: not what its parts make"
        )
    return drawn
