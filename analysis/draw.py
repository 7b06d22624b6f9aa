"""Figures, drawn on matplotlib figures of their own (no pyplot state, no display)."""

import io
import math
import re
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib

matplotlib.use("agg")

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from understudy.errors import BadInput

from .labels import DATA_SIZE, FAINT, INK, JUDGES, MARKERS, METRICS, REHEARSAL, number

_BARS = "bars: 95 % over prompts, of one training"
_RC = {
    "text.parse_math": False,  # a $ in a name is a dollar sign
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "axes.titlesize": 10,
    "axes.labelsize": 9,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": FAINT,
    "legend.frameon": False,
}


DASHES = ("-", "--", ":", "-.")


class Style(NamedTuple):
    """How one series is drawn, in colour and without."""

    colour: str
    marker: str
    dashes: str


def style(place: int) -> Style:
    """The style of the series at this place; the first differ in all three."""
    colours = len(JUDGES)
    dashes = DASHES[(place % colours + place // colours) % len(DASHES)]
    return Style(JUDGES[place % colours], MARKERS[place % len(MARKERS)], dashes)


def handle(style: Style, name: str) -> Any:
    """A series in a legend."""
    from matplotlib.lines import Line2D

    return Line2D([], [], color=style.colour, marker=style.marker, ls=style.dashes, label=name)


def legend(figure: Any, handles: Sequence[Any], title: str | None = None) -> None:
    """A legend below all panels, in as many columns as its names leave room for."""
    names = [handle.get_label() for handle in handles]
    characters = 15 * figure.get_size_inches()[0]  # of 8 points
    longest = max((len(name) + 8 for name in names), default=1)
    columns = int(min(max(len(names), 1), 4, max(1, characters // longest)))
    figure.legend(
        handles=handles, labels=names, loc="outside lower center", ncols=columns, fontsize=8,
        title=title, title_fontsize=7,
    )  # fmt: skip


def wrapped(name: str, width: int = 38) -> str:
    """A long name on several lines."""
    return textwrap.fill(name, width, break_on_hyphens=False)


def shaded(colour: str, share: float) -> tuple[float, ...]:
    """So much of a colour on whatever is behind it: stronger with the share, in grey as well."""
    from matplotlib.colors import to_rgb

    return (*to_rgb(colour), share)


@contextmanager
def canvas(
    panels: int, columns: int, title: str, rehearsal: bool, height: float = 3.1
) -> Iterator[tuple[Any, Any]]:
    """A themed figure with `panels` axes; afterwards its title and, in a rehearsal, the word."""
    rows = math.ceil(panels / columns)
    with (
        sns.axes_style("whitegrid"),
        sns.plotting_context("notebook", font_scale=0.85),
        matplotlib.rc_context(_RC),
    ):
        figure = Figure(figsize=(3.6 * columns + 0.4, height * rows + 0.5), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False).flatten()
        for unused in axes[panels:]:
            unused.remove()
        yield figure, axes[:panels]
        sns.despine(fig=figure)
        if rehearsal:
            title = f"{title} — {REHEARSAL}".removeprefix(" — ")
        figure.suptitle(title, fontsize=10, color=INK)


def scores_figure(
    scores: pd.DataFrame, thresholds: dict[str, float], rehearsal: bool
) -> Any | None:
    """Scores against data size: a panel per metric, a colour per judge, the baseline as a band."""
    local = scores[scores["role"] == "local"].sort_values("data_size")
    if local.empty:
        return None
    metrics = ["similarity", "precision"]
    if scores["rule.rate"].notna().any():
        metrics.append("rule")
    with canvas(len(metrics), len(metrics), "", rehearsal) as (figure, axes):
        for ax, metric in zip(axes, metrics, strict=True):
            # a rule asks no judge, so any judge's rows carry the same rate
            judges = list(dict.fromkeys(scores["judge"]))[: 1 if metric == "rule" else None]
            for place, judge in enumerate(judges):
                look = METRICS["rule"] if metric == "rule" else None
                colour = look.colour if look else JUDGES[place % len(JUDGES)]
                marker = look.marker if look else MARKERS[place % len(MARKERS)]
                name = None if look else judge
                baseline = scores[(scores["role"] == "baseline") & (scores["judge"] == judge)]
                _band(ax, baseline, metric, colour)
                _points(ax, local[local["judge"] == judge], metric, colour, marker, name)
            if metric in thresholds:
                ax.axhline(thresholds[metric], color=INK, ls="--", lw=1, zorder=1)
                ax.annotate(
                    f"gate ≥ {number(thresholds[metric], 0)}",
                    (0.01, thresholds[metric]),
                    (0, 3),
                    xycoords=ax.get_yaxis_transform(),
                    textcoords="offset points",
                    fontsize=8,
                    color=INK,
                )
            _size_axis(ax, local["data_size"])
            ax.set(title=METRICS[metric].label + (" (%)" if metric == "rule" else ""))
            ax.set_ylim(-2, 102)
        figure.supxlabel(DATA_SIZE, fontsize=9, color=INK)
        legend(figure, axes[0].get_legend_handles_labels()[0], _BARS)
    return figure


def training_figure(training: pd.DataFrame, rehearsal: bool) -> Any | None:
    """Train and validation loss per round; a vertical line marks the best step."""
    rounds = sorted(training["round"].unique())
    if not rounds:
        return None
    with canvas(len(rounds), min(3, len(rounds)), "", rehearsal) as (figure, axes):
        for ax, step in zip(axes, rounds, strict=True):
            part = training[training["round"] == step]
            for column in ("train_loss", "validation_loss"):
                known = part.dropna(subset=[column])
                look = METRICS[column]
                sns.lineplot(
                    known, x="step", y=column, ax=ax, color=look.colour, marker=look.marker,
                    markersize=4, errorbar=None, label=look.label, legend=False,
                )  # fmt: skip
            best = part["best_step"].iloc[0]
            if best == best:
                ax.axvline(best, color=INK, ls=":", lw=1.2, label="best step")
            rows = number(part["data_size"].iloc[0], 0)
            kept = f", best step {best:.0f}" if best == best else ""
            title = f"Round {step:.0f}: {rows} synthetic rows{kept}"
            ax.set(title=title, xlabel="step", ylabel="loss")
            ax.set_ylim(bottom=0)
        found = [ax.get_legend_handles_labels() for ax in axes]
        names = {name: one for ones in found for one, name in zip(*ones, strict=True)}
        legend(figure, list(names.values()))
    return figure


def curve_figure(points: pd.DataFrame, rehearsal: bool) -> Any:
    """A panel per task: rule pass rate and judge precision against data size; base model dotted."""
    tasks = list(dict.fromkeys(points["task"]))
    judges = list(dict.fromkeys(points["judge"]))
    with canvas(len(tasks), min(2, len(tasks)), "", rehearsal) as (figure, axes):
        for ax, task in zip(axes, tasks, strict=True):
            here = points[points["task"] == task]
            for metric, judge in [("rule", judges[0]), *(("precision", name) for name in judges)]:
                look = METRICS[metric]
                name = f"{look.label} (%)" if metric == "rule" else f"{look.label}, judge {judge}"
                marker = MARKERS[1 + judges.index(judge)] if metric == "precision" else look.marker
                rows = here[here["judge"] == judge]
                _points(ax, rows[~rows["is_base"]], metric, look.colour, marker, name)
                for base in _values(rows[rows["is_base"]], metric)[0].dropna():
                    ax.axhline(base, color=look.colour, ls=":", lw=1.6)
            ax.plot([], [], color=INK, ls=":", lw=1.6, label="the base model, untrained")
            _size_axis(ax, here["data_size"])
            ax.set(title=task, xlabel=DATA_SIZE)
            ax.set_ylim(-2, 102)
        legend(figure, axes[0].get_legend_handles_labels()[0], _BARS)
    return figure


def _values(rows: pd.DataFrame, metric: str) -> tuple[Any, Any, Any]:
    """Centre, low and high of a metric on the 0–100 scale."""
    scale, centre = (100, "rule.rate") if metric == "rule" else (1, f"{metric}.mean")
    low, high = rows[f"{metric}.low"], rows[f"{metric}.high"]
    return scale * rows[centre], scale * low, scale * high


def _points(
    ax: Any, rows: pd.DataFrame, metric: str, colour: str, marker: str, name: str | None
) -> None:
    """Means joined by a line, with their intervals; a missing interval draws no bar."""
    mean, low, high = _values(rows, metric)
    bars = [(mean - low).clip(lower=0).fillna(0), (high - mean).clip(lower=0).fillna(0)]
    ax.errorbar(
        rows["data_size"], mean, yerr=bars, color=colour, marker=marker, ms=5, lw=1.6,
        capsize=3, elinewidth=1, label=name, zorder=3,
    )  # fmt: skip


def _band(ax: Any, baseline: pd.DataFrame, metric: str, colour: str) -> None:
    """The service baseline: a dotted line in its interval."""
    if baseline.empty:
        return
    mean, low, high = (column.iloc[0] for column in _values(baseline, metric))
    if mean == mean:
        ax.axhline(mean, color=colour, ls=":", lw=1.2, zorder=1)
    if low == low and high == high:
        ax.axhspan(low, high, color=colour, alpha=0.15, lw=0, zorder=0)


def _size_axis(ax: Any, sizes: "pd.Series[float]") -> None:
    """A logarithmic axis that has a place for 0; a tick at every size that was run."""
    ticks = sorted(set(sizes.dropna()))
    unit = min((size for size in ticks if size > 0), default=1.0)
    ax.set_xscale("symlog", linthresh=unit, linscale=0.6)
    ax.set_xticks(ticks, [number(size, 0) for size in ticks])
    ax.minorticks_off()
    ax.set_xlim(-unit / 4, max([*ticks, unit]) * 1.3)


def svg(figure: Figure, name: str) -> str:
    """The figure as an inline element in the page's own colours and font; bytes are repeatable."""
    text = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with matplotlib.rc_context({"svg.hashsalt": name, "svg.fonttype": "none"}):
        figure.savefig(text, format="svg", metadata=nothing, transparent=True)
    element = text.getvalue()
    element = element[element.index("<svg") :]
    # ids are unique in a figure only, and a page holds several
    element = re.sub(r'( id="|url\(#|href="#)', rf"\g<1>{name}-", element)
    for fixed, own in ((INK, "currentColor"), (FAINT, "var(--line)"), (JUDGES[0], "var(--bar)")):
        element = element.replace(fixed, own)  # the palette's blue is too dark on a dark page
    return element


def save(figure: Figure, out: Path) -> None:
    """The figure as a file for any background; the suffix decides the format."""
    kind = out.suffix.removeprefix(".")
    title = figure.get_suptitle()  # a file that is passed on alone still says REHEARSAL
    metadata: dict[str, dict[str, str | None]] = {
        "svg": {"Date": None},
        "png": {"Software": None, "Title": title},
        "pdf": {"CreationDate": None, "Title": title},
    }
    if kind not in metadata:
        raise BadInput(
            f"{out} is no figure that can be drawn; end its name in .svg or .png, or .pdf"
        )
    rc = {"svg.hashsalt": "understudy", "pdf.fonttype": 42, "text.parse_math": False}
    with matplotlib.rc_context(rc):
        figure.savefig(out, format=kind, dpi=160, facecolor="white", metadata=metadata[kind])


def save_both(figure: Figure, folder: Path, name: str) -> list[Path]:
    """The figure as `name`.pdf, for a paper, and as `name`.png."""
    folder.mkdir(parents=True, exist_ok=True)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # laid out once, for both
    paths = [folder / f"{name}.pdf", folder / f"{name}.png"]
    for path in paths:
        save(figure, path)
    return paths
