"""Figure 2: score and coverage against data size, by judge and teacher.

python -m analysis.fig_scaling RUN… --out DIR [--bar 90] [--usd-per-row 0.002]
"""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from understudy.errors import BadInput
from understudy.evaluation.scores import METRICS

from . import command, draw, labels, scaling, scores, setups, shapes, tables
from .evaluations import Data, Setup
from .frame import ledger, usd_per_row
from .scaling import Curve, Fit, Series
from .tables import Column, Table

MOST = len(labels.JUDGES) * len(draw.DASHES)  # curves of one figure
PAPER_BAR = 90.0  # LlamaDuo's thresholds, in its code and all its configs
_LINES = 6  # above a panel
_STATISTICS = {
    **{"mean": "mean score", "coverage@50": "share ≥ 50 (%)", "coverage@70": "share ≥ 70 (%)"}
}


Pairs = list[tuple[Curve, Fit | None]]


class Goal(NamedTuple):
    """What the next doubling is to reach, and what it costs."""

    bars: dict[str, float]  # by metric
    row_usd: float  # NaN = no priced call is on record


def build(
    data: Data, out: Path, bar: float | None = None, row_usd: float | None = None
) -> list[Path]:
    """Write a figure per task and metric, and the table of all fits."""
    check(data)
    aim, found = goal(data, bar, row_usd), fitted(data)
    paths = [
        path
        for task, metric, figure in figures(data, found, aim)
        for path in draw.save_both(figure, out, f"fig_scaling_{task}_{metric}")
    ]
    rows = [
        _row(curve, fit, aim)
        for pairs in found.values()
        for curve, fit in pairs
        if curve.statistic == "mean" and len(curve.sizes) > 1
    ]
    if not rows:
        return []
    return paths + tables.write(_table(data, pd.DataFrame(rows), aim.bars), out)


def check(data: Data) -> None:
    """Raise BadInput where a task has more curves than a figure can tell apart."""
    lines: dict[str, dict[str, Setup]] = {}
    for one in scaling.series(data):
        if len({point.system.data_size for point in one.points}) > 1:
            lines.setdefault(one.task, {})[_hue(one)] = one.setup
    for here in lines.values():
        if len(here) > MOST:
            raise BadInput(setups.sentence(list(here.values()), "curves", MOST))


def goal(data: Data, bar: float | None = None, row_usd: float | None = None) -> Goal:
    """As given, else the runs' own gate and ledger."""
    bars: dict[str, float] = {
        metric: _bar(data, metric) if bar is None else bar for metric in METRICS
    }
    return Goal(bars, usd_per_row(ledger(data.runs)) if row_usd is None else row_usd)


def fitted(data: Data) -> dict[str, Pairs]:
    """Every curve with its fit, by metric."""
    return {
        metric: [(curve, scaling.fit(curve)) for curve in scaling.curves(data, metric)]
        for metric in METRICS
    }


def figures(data: Data, found: dict[str, Pairs], aim: Goal) -> Iterator[tuple[str, str, Any]]:
    """Task, metric and figure; a task with one size only has no curve and none of them.

    Raises BadInput where a task has more curves than a figure can tell apart.
    """
    check(data)
    for metric, pairs in found.items():
        for task in dict.fromkeys(curve.task for curve, _ in pairs):
            here = [pair for pair in pairs if pair[0].task == task]
            if any(len(curve.sizes) > 1 for curve, _ in here):
                price = aim.row_usd
                yield task, metric, _figure(data, task, metric, here, aim.bars[metric], price)


def _bar(data: Data, metric: str) -> float:
    """The gate of the runs; the highest where they differ."""
    known = [run.config["gate"].get(metric) for run in data.runs]
    return max([float(one) for one in known if one], default=PAPER_BAR)  # 0 is no bar


def _row(curve: Curve, fit: Fit | None, aim: Goal) -> dict[str, Any]:
    bar, price = aim.bars[curve.metric], aim.row_usd
    head = {name: getattr(curve, name) for name in ("task", "model", "teacher", "judge")}
    head |= {f"leaf.{one.name}": one.value for one in curve.setup}
    if curve.is_repeated:
        head["seeds"] = ", ".join(map(str, curve.seeds))
    head |= {"metric": curve.metric, "sizes": len(curve.sizes)}
    head |= {"largest": curve.sizes[-1], "score": curve.values[-1], "doubling": 2 * curve.sizes[-1]}
    head |= {"chance": fit.chance(bar) if fit else None, "usd": price * float(curve.sizes[-1])}
    ends = fit.expected if fit else (None, None, None)
    head |= {f"expected.{part}": end for part, end in zip(scores.PARTS, ends, strict=True)}
    head |= {family: fit.odds[family] if fit else None for family in shapes.FAMILIES}
    return head | curve.contamination._asdict()


def _table(data: Data, frame: pd.DataFrame, bars: dict[str, float]) -> Table:
    columns = [
        *(tables.words(name, name.capitalize()) for name in ("task", "model", "teacher")),
        *tables.settings(frame),
        tables.words("judge", "Judge"),
        Column("Metric", lambda row: str(row["metric"]), is_number=False),
        Column("Rows", lambda row: labels.count(row["largest"])),
        tables.value("score", "Score"),
        Column("Next", lambda row: labels.count(row["doubling"])),
        tables.value("expected", "Expected"),
        Column("P(reaches bar)", lambda row: _chance(row["chance"])),
        tables.value("usd", "Its rows, $", 2),
        Column("Odds of the families", _odds, is_number=False),
        tables.CONTAMINATED,
    ]
    caption = (
        "Mean score against data size, averaged over four families of curves with their odds; "
        "prompts resampled jointly over sizes. The interval at the next doubling holds what each "
        "plausible family expects to be measured there. Bar: "
        f"similarity {bars['similarity']:g}, precision {bars['precision']:g}. Fewer than four "
        "sizes fit no curve. No P while the last step per doubling is the largest, or may be. "
        "A dash under $ means that no priced call is on record. "
        f"{labels.CONTAMINATED}"
    )
    return Table("table_scaling", caption, frame, columns, data.is_rehearsal)


def _odds(row: dict[str, Any]) -> str:
    known = [(name, row[name]) for name in shapes.FAMILIES if not tables.missing(row[name])]
    return ", ".join(f"{name} {labels.number(odds, 2)}" for name, odds in known) or labels.MISSING


def _chance(value: float | None) -> str:
    if value is None or value != value:
        return labels.MISSING
    return "> 0.99" if value > 0.99 else "< 0.01" if value < 0.01 else labels.number(value, 2)


def _figure(
    data: Data,
    task: str,
    metric: str,
    pairs: Sequence[tuple[Curve, Fit | None]],
    bar: float,
    price: float,
) -> Any:
    """Rows: mean and coverages, columns: judges (one judge: one row); colours: who learned."""
    judges = sorted({curve.judge for curve, _ in pairs}, key=labels.rank)
    styles = {hue: draw.style(n) for n, hue in enumerate(dict.fromkeys(_hue(c) for c, _ in pairs))}
    title = f"{labels.label(task)}: {metric} against data size"
    panels = len(_STATISTICS) * len(judges)
    columns = len(judges) if len(judges) > 1 else panels
    with draw.canvas(panels, columns, title, data.is_rehearsal) as (figure, axes):
        for place, ax in enumerate(axes):
            statistic = list(_STATISTICS)[place // len(judges)]
            judge = judges[place % len(judges)]
            here = [p for p in pairs if (p[0].judge, p[0].statistic) == (judge, statistic)]
            for curve, fit in here:
                _draw(ax, curve, fit, styles[_hue(curve)])
            if statistic == "mean":
                ax.axhline(bar, color=labels.INK, ls="--", lw=1, zorder=1)
                ax.annotate(f"bar {bar:g}", (1.01, bar), xycoords=ax.get_yaxis_transform(),
                            va="center", fontsize=7, annotation_clip=False)  # fmt: skip
                lines = _chances(here, list(styles), bar, price)
                ax.set_title("\n".join([f"judge {labels.label(judge)}", *lines]))
                ax.title.set_fontsize(10 if not lines else 8)
            _axis(ax, [curve for curve, _ in here])
            ax.set_ylim(-2, 102)
            ax.set_ylabel(_STATISTICS[statistic] if place % len(judges) == 0 else "")
        names = [f"{n}. {hue}" if len(styles) > 1 else hue for n, hue in enumerate(styles, 1)]
        handles = [draw.handle(*one) for one in zip(styles.values(), names, strict=True)]
        note = "bars: 95 % over prompts, of one training"
        if any(curve.is_repeated for curve, _ in pairs):
            note = "bars: 95 % between seeds (t); thin: single seeds"
        draw.legend(figure, handles, title=note)
        for ax in axes[-columns:]:
            ax.set_xlabel("synthetic rows; below: optimiser steps")
    return figure


def _hue(curve: Curve | Series) -> str:
    taught = [f"rows by {labels.label(curve.teacher)}"] if curve.teacher else []
    setup = [setups.words(curve.setup)] if curve.setup else []
    return ", ".join([labels.label(curve.model), *taught, *setup])


def _draw(ax: Any, curve: Curve, fit: Fit | None, style: draw.Style) -> None:
    if curve.is_repeated:
        for seed in curve.of_seeds:
            known = seed == seed
            ax.plot(curve.sizes[known], seed[known], color=style.colour, lw=0.7, alpha=0.6,
                    ls=style.dashes, marker=".", ms=3, zorder=2)  # fmt: skip
    bars = [np.nan_to_num((curve.values - curve.low).clip(0)),
            np.nan_to_num((curve.high - curve.values).clip(0))]  # fmt: skip
    ax.errorbar(
        curve.sizes, curve.values, yerr=bars, color=style.colour, marker=style.marker, ms=5,
        capsize=3, ls="none" if fit else style.dashes, lw=1.6, elinewidth=1, zorder=3,
    )  # fmt: skip
    if fit:
        ax.plot(fit.at, fit.centre, color=style.colour, lw=1.4, ls=style.dashes)
        ax.fill_between(fit.at, fit.low, fit.high, color=style.colour, alpha=0.18, lw=0)


def _chances(
    here: Sequence[tuple[Curve, Fit | None]], hues: Sequence[str], bar: float, price: float
) -> list[str]:
    """A line per fitted curve, for the space above its panel; the table has them all."""
    lines = []
    for curve, fit in here:
        if fit is None:
            continue
        cost = f", for ${labels.number(price * fit.doubling / 2, 2)}" if price == price else ""
        chance = fit.chance(bar)
        said = "unknown: the last step may be the largest" if chance is None else _equal(chance)
        which = f"{hues.index(_hue(curve)) + 1}. " if len(hues) > 1 else ""
        lines.append(f"{which}P({labels.count(fit.doubling)} rows ≥ {bar:g}) {said}{cost}")
    return lines if len(lines) <= _LINES else []


def _equal(chance: float) -> str:
    text = _chance(chance)
    return text if text[0] in "<>" else f"= {text}"


def _axis(ax: Any, curves: Sequence[Curve]) -> None:
    """Sizes on a logarithmic axis with a place for 0, the optimiser's steps below each."""
    steps: dict[float, list[float]] = {}
    for curve in curves:
        for size, step in zip(curve.sizes.tolist(), curve.steps, strict=True):
            steps.setdefault(size, []).append(step)
    unit = min((size for size in steps if size > 0), default=1.0)
    texts = []
    for size in sorted(steps):
        known = sorted({f"{step:,.0f}" for step in steps[size] if step == step})
        texts.append(f"{labels.short(size)}\n{'/'.join(known) or labels.MISSING}")
    ax.set_xscale("symlog", linthresh=unit, linscale=0.6)
    ax.set_xticks(sorted(steps), texts, fontsize=7)
    ax.minorticks_off()
    ax.set_xlim(-unit / 4 if 0 in steps else unit / 1.4, max(steps, default=1.0) * 2.4)


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw score and coverage against data size, with a fit and what the next doubling is worth."""
    parser = command.parser("fig_scaling", str(main.__doc__))
    parser.add_argument("--bar", type=float, help="score to be reached (the runs' gate, else 90)")
    what = "what a synthetic row costs (the runs' own ledger)"
    parser.add_argument("--usd-per-row", dest="row_usd", type=float, metavar="USD", help=what)
    return command.run(parser, build, arguments)


if __name__ == "__main__":
    sys.exit(main())
