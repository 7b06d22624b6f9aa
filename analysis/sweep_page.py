"""The page of a sweep: its cells, scores by axis, curves, costs, and a link to each cell's page."""

import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from understudy.errors import BadInput
from understudy.evaluation.scores import METRICS
from understudy.pipeline.record import RunRecord
from understudy.store.artifacts import write_atomically

from . import assemble, draw, fig_scaling, labels, scores, sections, sources
from .evaluations import Data, Evaluation, System

if TYPE_CHECKING:  # an annex can be taken away
    from understudy.sweep.record import SweepRecord
    from understudy.sweep.show import Line

Values = dict[str, Any]


def write_sweep(sweep_json: Path, out: Path) -> Path:
    """Write the page of one sweep, finished or not, to `out`."""
    from understudy.sweep import show
    from understudy.sweep.record import SweepRecord

    record = SweepRecord.read(sweep_json)
    lines = show.lines(record)
    runs = [line.run for line in lines if line.run is not None]
    data = _data(runs)
    figures, refused = _figures(data)
    overview = _axes(record, lines)
    page = assemble.template("sweep.html.j2").render(
        record=record,
        done=sum(line.is_decided for line in lines),
        failed=sum(line.is_failed for line in lines),
        best=_best(lines),
        axes=list(record.axes),
        judges=list(dict.fromkeys(row["judge"] for line in lines for row in line.scores)),
        metrics=METRICS,
        cells=[_cell(line, out) for line in lines],
        overview=None if overview is None else draw.svg(overview, "axes"),
        by_axis=list(_by_axis(record, lines)),
        figures=figures,
        refused=refused,
        costs=sections.costs(*runs),
        labels=labels,
    )
    write_atomically(out, page)
    return out


def _data(runs: Sequence[RunRecord]) -> Data:
    known: dict[Path, System] = {}
    seen: set[Path] = set()
    found: list[Evaluation] = []
    for run in sorted(runs, key=lambda run: run.name):
        found += sources.of_run(run, known, seen)
    return sources.gathered(found, list(runs))


def _figures(data: Data) -> tuple[list[tuple[str, str]], str]:
    """Every curve by title, and why there is none where there are too many."""
    try:
        fig_scaling.check(data)
    except BadInput as error:
        return [], str(error)
    found = fig_scaling.fitted(data)
    drawn = fig_scaling.figures(data, found, fig_scaling.goal(data))
    return [
        (f"{labels.label(task)}: {metric}", draw.svg(figure, f"scaling-{task}-{metric}"))
        for task, metric, figure in sorted(drawn, key=lambda one: (one[0], one[1]))
    ], ""


def _cell(line: "Line", out: Path) -> Values:
    page = line.path.parent / "report.html"
    return {
        "values": line.values,
        "name": line.path.parent.name,
        "link": os.path.relpath(page, out.parent) if page.is_file() else None,
        "rounds": None if line.run is None else len(line.run.rounds),
        "held": "; ".join(line.held),
        "scores": {row["judge"]: row for row in line.scores},
        "word": line.word,
        "reason": line.reason,
        "is_failed": line.is_failed,
        "is_passed": line.is_decided and line.word.startswith("passed"),
    }


def _best(lines: Sequence["Line"]) -> Values | None:
    """The first line, where it has a score."""
    if not lines or not lines[0].scores:
        return None
    values = ", ".join(f"{key} {value}" for key, value in lines[0].values.items())
    means: Values = {metric: _mean(lines[0], metric) for metric in METRICS}
    return {"values": values} | means


def _mean(line: "Line", metric: str) -> float | None:
    """The mean over judges of what the cell's gate read."""
    found = [row[metric]["mean"] for row in line.scores if row[metric] is not None]
    known = [mean for mean in found if mean is not None]
    return fmean(known) if known else None


def _by_axis(record: "SweepRecord", lines: Sequence["Line"]) -> Iterator[Values]:
    """Axis by axis and value by value: the mean of the cells, and their range."""
    for axis, value, here in _slices(record, lines):
        row: Values = {"axis": axis, "value": value, "cells": len(here)}
        for metric in METRICS:
            known = [mean for line in here if (mean := _mean(line, metric)) is not None]
            row[metric] = None if not known else scores.between(known)._asdict()
            row[f"{metric}.range"] = (min(known), max(known)) if known else None
        yield row


def _slices(
    record: "SweepRecord", lines: Sequence["Line"]
) -> Iterator[tuple[str, str, list["Line"]]]:
    for axis in record.axes:
        values = dict.fromkeys(
            line.values[axis]
            for line in sorted(lines, key=lambda line: line.place)
            if axis in line.values
        )
        if len(values) > 1:
            for value in values:
                yield axis, value, [line for line in lines if line.values.get(axis) == value]


def _axes(record: "SweepRecord", lines: Sequence["Line"]) -> Any | None:
    """A panel per axis: every cell as a point by its value there, the mean of each value marked."""
    scored = [line for line in lines if _mean(line, "precision") is not None]
    slices = {
        axis: [(value, here) for _, value, here in group]
        for axis, group in itertools.groupby(_slices(record, scored), lambda one: one[0])
    }
    if not slices:
        return None
    tallest = max(len(values) for values in slices.values())
    height = min(max(2.2, 0.45 * tallest + 1.0), 12.0)
    columns = min(3, len(slices))
    with draw.canvas(len(slices), columns, "", record.rehearsal, height) as (figure, axes):
        for ax, (axis, values) in zip(axes, slices.items(), strict=True):
            for place, (_, here) in enumerate(values):
                means = [mean for line in here if (mean := _mean(line, "precision")) is not None]
                spread = [0.6 * ((n + 0.5) / len(means) - 0.5) for n in range(len(means))]
                ax.plot(means, [place + step for step in spread], ls="none", marker="o", ms=4,
                        color=labels.JUDGES[0], alpha=0.75, label="a cell")  # fmt: skip
                ax.plot([fmean(means)] * 2, [place - 0.4, place + 0.4], color=labels.INK, lw=2,
                        label="mean of the cells")  # fmt: skip
            ax.set_yticks(range(len(values)), [draw.wrapped(value, 24) for value, _ in values])
            ax.set(title=axis, xlabel="precision, mean of the judges")
            ax.set_ylim(len(values) - 0.4, -0.6)
        found = axes[0].get_legend_handles_labels()
        draw.legend(figure, list(dict(zip(found[1], found[0], strict=True)).values()))
    return figure
