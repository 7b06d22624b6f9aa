"""Figure 3: where answers lie in precision x similarity, by judge.

python -m analysis.fig_kde RUN… --out DIR [--bandwidth 4]

The density is a histogram of answers smoothed by a Gaussian that is reflected at 0 and 100, so no
mass leaks off the scale, with one bandwidth for all panels, so that they can be compared.
"""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from understudy.errors import BadInput

from . import command, draw, labels, scores
from .evaluations import Data, Evaluation, Floats, System

BANDWIDTH = 4.0  # points
BINS = 200  # half a point each
_MASS = (0.9, 0.6, 0.3)  # share of the answers inside each contour
_MOST = 4  # systems in one panel


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
    """Each task with its figure: a panel per judge, a colour per system."""
    for task in dict.fromkeys(one.system.task for one in data.evaluations):
        here = [one for one in data.evaluations if one.system.task == task]
        names = [_name(system) for system in _final([one.system for one in here])]
        shown: dict[str, dict[str, Evaluation]] = {}
        for one in here:
            if _name(one.system) in names:
                panel = shown.setdefault(scores.judge_name(one), {})
                panel.setdefault(_name(one.system), one)
        yield task, _figure(data, task, shown, names, bandwidth)


def _final(systems: Sequence[System]) -> list[System]:
    """Each trained model at its largest size, and the first service; at most four.

    Where there is neither, the untrained models.
    """
    local: dict[tuple[str, str | None], System] = {}
    service: dict[str, System] = {}
    for system in systems:  # in the order of tables: sizes rise
        if system.role == "baseline":
            service.setdefault(system.model, system)
        elif system.trainer != "none":
            local[system.model, system.teacher] = system
    taught = {model for model, teacher in local if teacher is not None}
    trained = [
        system
        for (model, teacher), system in local.items()
        if teacher is not None or model not in taught
    ]
    trained.sort(key=lambda system: system.key)
    found = [*list(service.values())[: max(1, _MOST - len(trained))], *trained]
    return (found or list(systems))[:_MOST]


def _name(system: System) -> str:
    if system.role == "baseline":
        return f"{labels.label(system.model)} (service)"
    if system.data_size != system.data_size:
        return labels.label(system.model)
    by = f" by {labels.label(system.teacher)}" if system.teacher else ""
    return f"{labels.label(system.model)}, {labels.count(system.data_size)} rows{by}"


def _figure(
    data: Data,
    task: str,
    shown: dict[str, dict[str, Evaluation]],
    names: Sequence[str],
    bandwidth: float,
) -> Any:
    from matplotlib.lines import Line2D

    colours = dict(zip(names, labels.JUDGES, strict=False))
    centres = (np.arange(BINS) + 0.5) * 100 / BINS
    title = f"{labels.label(task)}: precision × similarity"
    held = ", ".join(f"{100 * share:g}" for share in _MASS)
    note = f"contours hold {held} % of the answers; Gaussian of {bandwidth:g} points"
    with draw.canvas(len(shown), min(3, len(shown)), title, data.is_rehearsal) as (figure, axes):
        for ax, (judge, systems) in zip(axes, shown.items(), strict=True):
            for name, one in systems.items():
                means = [scores.answer_means(one, metric) for metric in ("similarity", "precision")]
                both = ~np.isnan(means[0] + means[1])
                if not both.any():
                    continue
                values = density(means[0][both], means[1][both], bandwidth)
                cuts = levels(values)
                ax.contour(centres, centres, values.T, levels=cuts, colors=colours[name],
                           linewidths=np.linspace(0.8, 1.8, len(cuts)))  # fmt: skip
                ax.contourf(centres, centres, values.T, levels=[*cuts, np.inf], alpha=0.15,
                            colors=[colours[name]] * len(cuts))  # fmt: skip
            ax.set(title=f"judge {labels.label(judge)}", xlabel="similarity", ylabel="precision")
            ax.set(xlim=(0, 100), ylim=(0, 100), aspect="equal")
        handles = [Line2D([], [], color=colours[name], label=name) for name in names]
        figure.legend(
            handles=handles, title=note, loc="outside lower center", ncols=min(2, len(shown)),
            fontsize=8, title_fontsize=7,
        )  # fmt: skip
    return figure


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw the density of answers over precision and similarity."""
    parser = command.parser("fig_kde", str(main.__doc__))
    parser.add_argument(
        "--bandwidth", type=float, default=BANDWIDTH, help="points, in all panels (%(default)s)"
    )
    return command.run(parser, build, arguments)


if __name__ == "__main__":
    sys.exit(main())
