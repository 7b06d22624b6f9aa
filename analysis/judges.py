"""How far the judges can be trusted: their use of the scale, agreement, and bias.

python -m analysis.judges RUN… --out DIR [--draws 2000]

The statistics are `understudy.evaluation.reliability`; here they become tables and a figure.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from understudy.evaluation.scores import METRICS
from understudy.evaluation.statistics.intervals import DRAWS

from . import command, draw, labels, scores, tables
from .evaluations import Data, Floats
from .panels import reports
from .tables import Column, Row, Table

_PARTS = {
    **{"mean": "Mean", "leniency": "Leniency", "spread": "SD", "heaping": "Heaped %"},
    **{"ceiling": "At 100 %", "retest_sd": "Retest SD", "retest_alpha": "Retest α"},
}
_SHARES = ("heaping", "ceiling")
EFFECTS = {
    "self_family": "own family",
    "teacher_family": "taught by its family",
    "length": "much longer answer",
    "position": "candidate first",
}
ALL = "all judges, mean"


def build(data: Data, out: Path, draws: int = DRAWS) -> list[Path]:
    """Write table_judges, table_agreement, table_bias and fig_judges."""
    found = reports(data, draws)
    paths = []
    for made in (_scale(data, found), _agreement(data, found), _bias(data, found)):
        if not made.frame.empty:
            paths += tables.write(made, out)
    if any(len(one["judges"]) > 1 for one in found.values()):
        paths += draw.save_both(_figure(data, found), out, "fig_judges")
    return paths


def _ends(name: str, found: Any) -> Row:
    """An interval as three cells; None where there is none."""
    values = found or {}
    return {f"{name}.{part}": values.get(part) for part in scores.PARTS}


def _scale(data: Data, found: dict[tuple[str, str], dict[str, Any]]) -> Table:
    rows = []
    for (task, metric), one in found.items():
        for judge, use in one["judges"].items():
            row: Row = {"task": task, "metric": metric, "judge": judge}
            for name in _PARTS:  # one judge is no panel to be more lenient than
                is_known = name != "leniency" or len(one["judges"]) > 1
                row |= _ends(name, use[name] if is_known else None)
            rows.append(row | {name: use[name] for name in ("distinct", "verdicts", "unscored")})
    columns = [
        tables.words("task", "Task"),
        tables.words("judge", "Judge"),
        Column("Metric", lambda row: str(row["metric"]), is_number=False),
        *(
            tables.value(name, heading, scale=100 if name in _SHARES else 1,
                         digits=2 if name == "retest_alpha" else 1)
            for name, heading in _PARTS.items()
        ),
        Column("Values used", lambda row: labels.count(row["distinct"])),
        Column("Unscored", lambda row: labels.count(row["unscored"])),
    ]  # fmt: skip
    caption = (
        "Use of the scale. Leniency: mean minus the panel's, on answers that all judges scored. "
        "Heaped: verdicts on multiples of 5 (whole numbers at random: 20.8 %). Retest: repeated "
        "verdicts on the same answer. In brackets: 95 % interval, clustered by prompt."
    )
    return Table("table_judges", caption, pd.DataFrame(rows), columns, data.is_rehearsal)


def _agreement(data: Data, found: dict[tuple[str, str], dict[str, Any]]) -> Table:
    rows: list[Row] = []
    for (task, metric), one in found.items():
        if len(one["judges"]) < 2:
            continue
        whole = {
            "Krippendorff α": one["alpha"],
            "Krippendorff α, ordinal": one["alpha_ordinal"],
            **{f"ICC({name[0].upper()},{name[1]})": one["icc"][name] for name in ("a1", "ak")},
            effective(one): one["effective_judges"]["value"],
        }
        pairs = {f"Lin's CCC, {_pair(pair)}": of["ccc"] for pair, of in one["pairs"].items()}
        pairs |= {
            f"Bland-Altman bias, {_pair(pair)}": of["bland_altman"]["bias"]
            for pair, of in one["pairs"].items()
        }
        taus = {f"Kendall τ-b, {_pair(pair)}": tau for pair, tau in one["ranking"]["tau_b"].items()}
        rows += [
            {"task": task, "metric": metric, "what": what, **_ends("value", value)}
            for what, value in (whole | pairs | taus).items()
        ]
    columns = [
        tables.words("task", "Task"),
        Column("Metric", lambda row: str(row["metric"]), is_number=False),
        Column("Coefficient", lambda row: str(row["what"]), is_number=False),
        tables.value("value", "Value", 2),
    ]
    caption = "Agreement of the judges; in brackets: 95 % interval over prompts, clustered."
    return Table("table_agreement", caption, pd.DataFrame(rows), columns, data.is_rehearsal)


def _pair(pair: str) -> str:
    return " / ".join(labels.label(judge) for judge in pair.split(" / "))


def effective(found: dict[str, Any]) -> str:
    """The name of Kish's number, with what it is a bound of."""
    if not found["effective_judges"]["is_bound"]:
        return "effective judges"
    return f"effective judges, at least (at most {len(found['judges'])})"


def findings(bias: dict[str, Any]) -> list[Row]:
    """What is beside quality in the scores: every effect, pooled and judge by judge."""
    return [
        {"what": what, "judge": judge, "claim": one["claim"], "because": one["because"] or ""}
        | _ends("points", one["value"])
        for name, what in EFFECTS.items()
        for judge, one in ((ALL, bias[name]["pooled"]), *bias[name]["judges"].items())
    ]


def _bias(data: Data, found: dict[tuple[str, str], dict[str, Any]]) -> Table:
    rows = [
        {"task": task, "metric": metric, **row}
        for (task, metric), one in found.items()
        for row in findings(one["bias"])
    ]
    columns = [
        tables.words("task", "Task"),
        Column("Metric", lambda row: str(row["metric"]), is_number=False),
        Column("Effect of", lambda row: str(row["what"]), is_number=False),
        tables.words("judge", "Judge"),
        tables.value("points", "Points"),
        Column("Claim", lambda row: str(row["claim"]), is_number=False),
        Column("Because", lambda row: str(row["because"]), is_number=False),
    ]
    return Table("table_bias", BIAS, pd.DataFrame(rows), columns, data.is_rehearsal)


BIAS = (
    "What goes with the scores beside quality, in points of each judge's scale, with 95 % "
    "intervals, clustered. Preference for a family is estimated after a curve has mapped another "
    "judge's scale to this one's, and proved at 5 % for all preferences of a metric together "
    "(Holm). Length is an association: longer answers may be better. Position is measured where "
    "the same answers were judged in both orders."
)


def _figure(data: Data, found: dict[tuple[str, str], dict[str, Any]]) -> Any:
    """A panel per metric: leniency of each judge, a line per task."""
    tasks = list(dict.fromkeys(task for task, _ in found))
    judges = labels.looks(judge for one in found.values() for judge in one["judges"])
    colours = dict(zip(tasks, labels.JUDGES, strict=False))
    with draw.canvas(2, 2, "Leniency of judges", data.is_rehearsal) as (figure, axes):
        for ax, metric in zip(axes, METRICS, strict=True):
            for number, task in enumerate(tasks):
                uses = found[task, metric]["judges"]
                heights, means, bars = [], [], []
                for place, judge in enumerate(judges):
                    end = uses.get(judge, {}).get("leniency") or {}
                    if end.get("mean") is None or len(uses) < 2:
                        continue
                    heights.append(place + 0.6 * ((number + 0.5) / len(tasks) - 0.5))
                    means.append(end["mean"])
                    bars.append(_bars(end))
                label = labels.label(task)
                label = labels.label(task)
                ax.errorbar(means, heights, xerr=np.array(bars).T if bars else None, ls="none",
                            marker=labels.MARKERS[number % len(labels.MARKERS)], ms=5, capsize=3,
                            color=colours.get(task, labels.INK), label=label)  # fmt: skip
            ax.axvline(0, color=labels.INK, lw=0.8)
            ax.set_yticks(range(len(judges)), [look.label for look in judges.values()])
            ax.set(title=metric, xlabel="points above the panel's mean")
            ax.set_ylim(len(judges) - 0.4, -0.6)  # the first judge on top
        draw.legend(figure, axes[0].get_legend_handles_labels()[0], "bars: 95 % over prompts")
    return figure


def _bars(end: dict[str, Any]) -> Floats:
    if end["low"] is None:
        return np.zeros(2)
    return np.array([end["mean"] - end["low"], end["high"] - end["mean"]]).clip(0)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the tables and the figure about the judges."""
    parser = command.parser("judges", str(main.__doc__))
    parser.add_argument(
        "--draws", type=int, default=DRAWS, help="of the cluster bootstrap (%(default)s)"
    )
    return command.run(parser, build, arguments)


if __name__ == "__main__":
    sys.exit(main())
