"""Figure 3: where answers lie in precision x similarity, by judge.

python -m analysis.fig_kde RUN… --out DIR [--bandwidth 4]

The density is a histogram of answers smoothed by a Gaussian that is reflected at 0 and 100, so no
mass leaks off the scale, with one bandwidth for all panels, so that they can be compared. Where
half of all answers lie in a corner, both axes are stretched there (logarithms of the distance to
the corner), and the bandwidth is a share of the stretched axis. A panel holds one model, all seeds
of it, and the service as dashed contours.
"""

import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from understudy.errors import BadInput

from . import command, draw, labels, scores, setups
from .evaluations import Data, Evaluation, Floats, Setup, System, judge_name

BANDWIDTH = 4.0  # points
BINS = 200  # half a point each
MOST = 12  # panels for one judge
_MASS = (0.9, 0.6, 0.3)  # share of the answers inside each contour
_CORNER = 60.0  # points; where half of the answers lie beyond on both scales, axes are stretched
_SOFT = 4.0  # points from the corner up to which a stretched axis is about linear
_TICKS = (0, 50, 80, 90, 95, 100)


class Panel(NamedTuple):
    """One model under one judge, an evaluation per seed, and the service beside it."""

    judge: str
    name: str
    evaluations: list[Evaluation]
    service: Evaluation | None


class Axis(NamedTuple):
    """From a score to its place on an axis of 0 to 100."""

    corner: str  # "none" | "high" | "low"

    def place(self, score: Any) -> Floats:
        """Where a score lies."""
        score = np.asarray(score, dtype=float)
        if self.corner == "none":
            return np.array(score, dtype=np.float64)
        if self.corner == "low":
            return np.asarray(100 - Axis("high").place(100 - score))
        whole = np.log((100 + _SOFT) / _SOFT)
        return np.asarray(100 * (1 - np.log((100 - score + _SOFT) / _SOFT) / whole))

    @property
    def ticks(self) -> Sequence[int]:
        """The scores that are marked."""
        if self.corner == "none":
            return range(0, 101, 20)
        return _TICKS if self.corner == "high" else [100 - tick for tick in _TICKS]


def density(similarity: Floats, precision: Floats, bandwidth: float = BANDWIDTH) -> Floats:
    """(BINS, BINS) density per square point over similarity x precision; it sums to 1."""
    from scipy.ndimage import gaussian_filter

    edges = np.linspace(0, 100, BINS + 1)
    counts, _, _ = np.histogram2d(similarity, precision, bins=(edges, edges))
    width = 100 / BINS
    # "reflect" mirrors at the outer edge of the last bin, which is the end of the scale
    smooth = gaussian_filter(counts, bandwidth / width, mode="reflect", truncate=6.0)
    return np.asarray(smooth / (max(len(similarity), 1) * width**2))


def levels(values: Floats, shares: Sequence[float] = _MASS) -> list[float]:
    """The density that encloses each share of the mass, rising."""
    ordered = np.sort(values.ravel())[::-1]
    mass = np.cumsum(ordered) / ordered.sum()
    found = {float(ordered[np.searchsorted(mass, share)]) for share in shares}
    return sorted(found)


def build(data: Data, out: Path, bandwidth: float = BANDWIDTH) -> list[Path]:
    """Write one figure per task."""
    if bandwidth <= 0:
        raise BadInput(f"--bandwidth {bandwidth:g} is no bandwidth; it must be above 0 points")
    return [
        path
        for task, figure in figures(data, bandwidth)
        for path in draw.save_both(figure, out, f"fig_kde_{task}")
    ]


def figures(data: Data, bandwidth: float = BANDWIDTH) -> Iterator[tuple[str, Any]]:
    """Each task with its figure: a row of panels per judge, a panel per model.

    Raises BadInput where a judge has more panels than a figure can hold.
    """
    for task, panels in shown(data).items():
        yield task, _figure(data, task, panels, bandwidth)


def shown(data: Data) -> dict[str, list[Panel]]:
    """By task the panels, judge after judge: models at their largest size, with every seed.

    Where no model was trained, the untrained ones; where there is no model, the services.
    """
    tasks: defaultdict[str, list[Evaluation]] = defaultdict(list)
    for one in data.evaluations:
        tasks[one.system.task].append(one)
    return {task: _panels(here) for task, here in tasks.items()}


def _panels(here: Sequence[Evaluation]) -> list[Panel]:
    final = _final([one.system for one in here])
    found: defaultdict[tuple[str, str], list[Evaluation]] = defaultdict(list)
    for one in here:
        if (name := _name(one.system)) in final:
            found[judge_name(one), name].append(one)
    judges = list(dict.fromkeys(judge for judge, _ in found))
    panels = []
    for judge in judges:
        for name in final:
            if mine := found.get((judge, name)):
                is_local = mine[0].system.role == "local"
                service = scores.service_of(mine[0], here) if is_local else None
                panels.append(Panel(judge, name, _per_seed(mine), service))
    if len(final) > MOST:
        kinds = list(final.values())
        raise BadInput(setups.sentence(kinds, "densities", MOST))
    return panels


def _per_seed(mine: Sequence[Evaluation]) -> list[Evaluation]:
    """One of each seed; sets that say no seed and hold the same answers are one."""
    return list({one.system.seed: one for one in reversed(mine)}.values())[::-1]


def _final(systems: Sequence[System]) -> dict[str, Setup]:
    """The names of the panels, each with its setup."""
    local: dict[tuple[str, str | None, Setup], System] = {}
    for system in systems:  # in the order of tables: sizes rise
        if system.role == "local" and system.trainer != "none":
            local[system.model, system.teacher, system.setup] = system
    taught = {model for model, teacher, _ in local if teacher is not None}
    trained = [
        system
        for (model, teacher, _), system in local.items()
        if teacher is not None or model not in taught
    ]
    trained.sort(key=lambda system: system.key)
    untrained = [system for system in systems if system.role == "local"]
    return {_name(system): system.setup for system in trained or untrained or systems}


def _name(system: System) -> str:
    name = labels.label(system.model)
    parts = [f"{name} (service)" if system.role == "baseline" else name]
    if system.data_size == system.data_size:
        by = f" by {labels.label(system.teacher)}" if system.teacher else ""
        parts.append(f"{labels.count(system.data_size)} rows{by}")
    if system.setup:
        parts.append(setups.words(system.setup))
    return ", ".join(parts)


def _answers(one: Evaluation) -> tuple[Floats, Floats]:
    """Similarity and precision of the answers that have both."""
    similarity, precision = (scores.answer_means(one, m) for m in ("similarity", "precision"))
    both = ~np.isnan(similarity + precision)
    return similarity[both], precision[both]


def _corner(panels: Sequence[Panel]) -> str:
    """The corner that half of the answers of the models lie in."""
    points = np.hstack([_answers(one) for panel in panels for one in panel.evaluations])
    if points.size and (points > _CORNER).all(0).mean() >= 0.5:
        return "high"
    return "low" if points.size and (points < 100 - _CORNER).all(0).mean() >= 0.5 else "none"


def _figure(data: Data, task: str, panels: Sequence[Panel], bandwidth: float) -> Any:
    from matplotlib.lines import Line2D

    names = dict.fromkeys(panel.name for panel in panels)
    colours = {name: labels.JUDGES[n % len(labels.JUDGES)] for n, name in enumerate(names)}
    axis = Axis(_corner(panels))
    columns = len(names) if 1 < len(names) <= 4 else min(3, len(panels))
    title = f"{labels.label(task)}: precision × similarity"
    with draw.canvas(len(panels), columns, title, data.is_rehearsal, 3.8) as (figure, axes):
        for ax, panel in zip(axes, panels, strict=True):
            _draw(ax, panel, axis, bandwidth, colours[panel.name])
            ax.set_title(f"{draw.wrapped(panel.name)}\njudge {labels.label(panel.judge)}")
            ax.title.set_fontsize(8)
        handles = [Line2D([], [], color=labels.INK, lw=1.6, label="model, densest part filled")]
        if any(panel.service for panel in panels):
            rivals = {labels.label(p.service.system.model) for p in panels if p.service}
            name = f"{', '.join(sorted(rivals))} (service)"
            handles.append(Line2D([], [], color=labels.INK, lw=1.1, ls="--", label=name))
        seeds = max(len(panel.evaluations) for panel in panels)
        if seeds > 1:
            handles += [
                Line2D([], [], color=labels.INK, lw=1, ls=":", label="one seed each, 60 %"),
                Line2D([], [], color=labels.INK, marker="+", ls="none",
                       label="mean of seeds, 95 % between them"),
            ]  # fmt: skip
        held = ", ".join(f"{100 * share:g}" for share in _MASS)
        unit = "points" if axis.corner == "none" else "% of the stretched axes"
        together = " of all seeds" if seeds > 1 else ""
        note = f"contours hold {held} % of the answers{together}; Gaussian of {bandwidth:g} {unit}"
        draw.legend(figure, handles, note)
    return figure


def _draw(ax: Any, panel: Panel, axis: Axis, bandwidth: float, colour: str) -> None:
    """Filled contours of the model, thin ones of its seeds, dashed ones of the service."""
    centres = (np.arange(BINS) + 0.5) * 100 / BINS

    def contours(ones: Sequence[Evaluation], shares: Sequence[float]) -> tuple[Floats, list[float]]:
        points = np.hstack([_answers(one) for one in ones])
        similarity, precision = axis.place(points)
        values = density(similarity, precision, bandwidth)
        return values.T, levels(values, shares)

    def has_answers(one: Evaluation) -> bool:
        return bool(len(_answers(one)[0]))

    mine = [one for one in panel.evaluations if has_answers(one)]
    if mine:
        values, cuts = contours(mine, _MASS)
        shades = [draw.shaded(colour, share) for share in np.linspace(0.25, 0.75, len(cuts))]
        ax.contourf(centres, centres, values, levels=[*cuts, np.inf], colors=shades)
        ax.contour(centres, centres, values, levels=cuts, colors=colour, linewidths=1.2)
    if len(mine) > 1:
        for one in mine:
            values, cuts = contours([one], _MASS[1:2])
            ax.contour(centres, centres, values, levels=cuts, colors=labels.INK,
                       linewidths=1, linestyles=":")  # fmt: skip
        _cross(ax, mine, axis)
    if panel.service and has_answers(panel.service):
        values, cuts = contours([panel.service], _MASS[:2])
        ax.contour(centres, centres, values, levels=cuts, colors=labels.INK,
                   linewidths=1.1, linestyles="--")  # fmt: skip
    ticks = list(axis.ticks)
    ax.set_xticks(axis.place(ticks), ticks, fontsize=7)
    ax.set_yticks(axis.place(ticks), ticks, fontsize=7)
    ax.set(xlabel="similarity", ylabel="precision", xlim=(0, 100), ylim=(0, 100), aspect="equal")


def _cross(ax: Any, mine: Sequence[Evaluation], axis: Axis) -> None:
    """The mean of the seeds, and its interval between them on both scales."""
    ends = []
    for metric in ("similarity", "precision"):
        means = [scores.statistic(one, metric, "mean").mean for one in mine]
        found = scores.on_scale(scores.between([mean for mean in means if mean is not None]))
        ends.append(axis.place([np.nan if end is None else end for end in found[:3]]))
    (x, left, right), (y, low, high) = ends
    ax.errorbar(x, y, xerr=[[x - left], [right - x]], yerr=[[y - low], [high - y]],
                color=labels.INK, marker="+", ms=6, lw=1.2, capsize=2, zorder=4)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw the density of answers over precision and similarity."""
    parser = command.parser("fig_kde", str(main.__doc__))
    parser.add_argument(
        "--bandwidth", type=float, default=BANDWIDTH, help="points, in all panels (%(default)s)"
    )
    return command.run(parser, build, arguments)


if __name__ == "__main__":
    sys.exit(main())
