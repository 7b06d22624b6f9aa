"""Routing: the accuracy-cost figure, and the table of a study beside the published numbers.

Both read what `understudy route` wrote and know no router.
"""

import csv
import io
import json
from pathlib import Path
from typing import Any

from understudy.store.artifacts import write_atomically

from . import labels
from .draw import canvas, save

OPTLLM = Path(__file__).parent / "reference" / "optllm.csv"
_HEADS = [
    *("Split", "Router", "Labels", "Best single (accuracy, USD)", "Highest accuracy"),
    *("Saving at best single", "Reached", "Gain over hull (points)", "IGD", "Δ"),
    *("Brier", "ECE", "Seconds"),
]


def fig_routing(picture: dict[str, Any], out: Path, rehearsal: bool = False) -> Path:
    """Draw accuracy against cost to `out`: routers, single LLMs, hull, oracle, band."""
    out.parent.mkdir(parents=True, exist_ok=True)
    save(_figure(picture, rehearsal), out)
    return out


def _figure(picture: dict[str, Any], rehearsal: bool) -> Any:
    """Routers as lines, single LLMs as points, their hull, the oracle, and the band of a plan.

    The axis of costs is logarithmic where single LLMs differ by more than tenfold.
    """
    with canvas(1, 1, "", rehearsal) as (figure, axes):
        figure.set_size_inches(8.6, 4.6)
        ax = axes[0]
        if picture["oracle"] is not None:
            _line(ax, picture["oracle"], labels.JUDGES[5], "oracle (labels known)", ls=":")
        _line(ax, picture["zero"], labels.INK, "zero router (random mix of two)", ls="--")
        mix = picture["mix"]
        ax.plot(mix["cost"], mix["accuracy"], "x", color=labels.INK, label="uniform random mix")
        for place, (name, curve) in enumerate(picture["curves"].items()):
            _line(ax, curve, labels.JUDGES[place % len(labels.JUDGES)], name)
        _singles(ax, picture["singles"])
        if "plan" in picture:
            _plan(ax, picture["plan"], picture["band"])
        costs = [single["cost"] for single in picture["singles"]]
        if costs and max(costs) > 10 * min(costs) > 0:
            ax.set_xscale("log")
        ax.set(xlabel="USD per 1,000 queries", ylabel="accuracy")
        figure.legend(loc="outside right upper", fontsize=7)
    return figure


def _line(ax: Any, curve: dict[str, list[float]], colour: str, label: str, ls: str = "-") -> None:
    marker = "." if len(curve["cost"]) == 1 else None
    ax.plot(
        curve["cost"], curve["accuracy"], color=colour, ls=ls, lw=1.4, label=label, marker=marker
    )


def _singles(ax: Any, singles: list[dict[str, Any]]) -> None:
    for single in singles:
        ax.plot(
            single["cost"],
            single["accuracy"],
            "o",
            ms=4,
            color=labels.INK,
            mfc=labels.FAINT,
            zorder=3,
        )
        ax.annotate(
            single["llm"],
            (single["cost"], single["accuracy"]),
            (3, -8),
            textcoords="offset points",
            fontsize=6.5,
            color=labels.INK,
        )


def _plan(ax: Any, plan: dict[str, float], band: dict[str, float]) -> None:
    """The chosen point, and where its realised accuracy lies."""
    expected = band["expected"]
    ax.errorbar(
        [plan["cost"]],
        [expected],
        yerr=[[expected - band["low"]], [band["high"] - expected]],
        fmt="D",
        ms=5,
        capsize=4,
        color=labels.JUDGES[4],
        label=f"plan, realised accuracy ({labels.percent(band['confidence'], 0)})",
    )


def table_routing(study_json: Path) -> str:
    """Write the study's table beside its file as .csv, .md and .tex; returns the Markdown."""
    study = json.loads(study_json.read_text(encoding="utf-8"))
    rows = [_cells(line) for line in study["lines"]]
    rows += [_published(one) for one in study["published"] or printed(study["dataset"])]
    markdown = "\n".join([*_markdown(rows), "", *_matches(study), *_remarks(study)]) + "\n"
    write_atomically(study_json.with_suffix(".md"), markdown)
    write_atomically(study_json.with_suffix(".csv"), _csv(study["lines"]))
    write_atomically(study_json.with_suffix(".tex"), _latex(rows))
    return markdown


def _cells(line: dict[str, Any]) -> list[str]:
    deviation = line["saving_sd"]
    saving = labels.percent(line["saving"])
    if deviation is not None:
        saving += f" ± {labels.number(100 * deviation)}"
    gain = labels.number(100 * line["gain"], 2)
    if line["gain_sd"] is not None:
        gain += f" ± {labels.number(100 * line['gain_sd'], 2)}"
    if line["gain"] < 0:
        gain += " (loses)"
    return [
        line["split"].replace("_", " "),
        line["router"],
        labels.count(line["labels"]),
        f"{line['best_single']} ({labels.number(line['best_accuracy'], 4)}, "
        f"{labels.number(line['best_cost'], 3)})",
        labels.number(line["highest_accuracy"], 4),
        saving,
        f"{line['reached']}/{line['seeds']}",
        gain,
        labels.number(line["igd"], 2),
        labels.number(line["delta"], 2),
        labels.number(line["brier"], 3),
        labels.number(line["ece"], 3),
        labels.number(line["seconds"]),
    ]


def _published(one: dict[str, Any]) -> list[str]:
    missing = labels.MISSING
    single = missing
    if one["best_single"] is not None:
        numbers = (labels.number(one[name], 2) for name in ("best_accuracy", "best_cost"))
        single = f"{one['best_single']} ({', '.join(numbers)})"
    highest = labels.number(one["highest_accuracy"], 2)
    saving = labels.percent(one["saving"], 2)
    metrics = [labels.number(one["igd"], 2), labels.number(one["delta"], 2)]
    seconds = labels.count(one["seconds"])
    cells = ["random", one["source"], missing, single, highest, saving]
    return [*cells, missing, missing, *metrics, missing, missing, seconds]


_PRINTED = {  # of OptLLM's tables, table and metric -> what a study calls it
    ("highest accuracy", "accuracy"): ("highest_accuracy", 1.0),
    ("IGD, Delta, time", "IGD"): ("igd", 1.0),
    ("IGD, Delta, time", "Delta"): ("delta", 1.0),
    ("IGD, Delta, time", "time"): ("seconds", 60.0),
}
_SINGLE = {
    "accuracy of best single": ("best_accuracy", 1.0),
    "cost of best single": ("best_cost", 1.0),
    "cost at that accuracy": ("cost", 1.0),
    "saving": ("saving", 0.01),
}


def printed(dataset: str) -> list[dict[str, Any]]:
    """What OptLLM's paper prints of a data set, OptLLM first; nothing where it prints nothing.

    Accuracies and savings are shares, costs in USD, times in seconds.
    """
    names = ("best_single", *(name for name, _ in (*_SINGLE.values(), *_PRINTED.values())))
    found: dict[str, dict[str, Any]] = {}
    with OPTLLM.open(encoding="utf-8", newline="") as lines:
        rows = [row for row in csv.DictReader(lines) if row["dataset"].lower() == dataset]
    for row in rows:
        known = _PRINTED.get((row["table"], row["metric"]))
        system = row["system"]
        if row["table"] == "best single":
            known, system = _SINGLE[row["metric"]], "OptLLM"
        if known is None:
            continue
        source = f"{system} (paper)"
        one = found.setdefault(system, dict.fromkeys(names) | {"source": source})
        one[known[0]] = known[1] * float(row["value"])
        if row["metric"] == "cost of best single":
            one["best_single"] = row["system"]
    return list(found.values())


def _markdown(rows: list[list[str]]) -> list[str]:
    lines = [f"| {' | '.join(_HEADS)} |", "|" + " --- |" * len(_HEADS)]
    return lines + [f"| {' | '.join(row)} |" for row in rows]


def _matches(study: dict[str, Any]) -> list[str]:
    """What it costs to be as accurate as each published baseline; nothing where none is known."""
    if not study["matches"]:
        return []
    heads = "| To match | Accuracy | Its cost, USD | OptLLM (paper), USD | Ours, USD |"
    lines = [heads, "|" + " --- |" * 5]
    for one in study["matches"]:
        costs = (labels.number(one[name], 2) for name in ("cost", "optllm_cost", "our_cost"))
        lines.append(f"| {one['source']} | {one['accuracy']:.2f} | {' | '.join(costs)} |")
    return [*lines, ""]


def _remarks(study: dict[str, Any]) -> list[str]:
    remarks = [
        f"{study['dataset']}, {labels.percent(study['share'], 0)} of the queries labelled. Means "
        "± standard deviation over seeds; the saving is over those that reached the best single "
        "LLM's accuracy. The gain is the mean accuracy above the hull of single LLMs (the zero "
        "router) over its range of costs; a router that is below it loses."
    ]
    remarks += [f"- {note}" for note in study.get("notes", [])]
    remarks += [_behind(line) for line in study["lines"] if line.get("ahead_low") is not None]
    remarks += [f"- {split.replace('_', ' ')}: {why}" for split, why in study["leaks"].items()]
    remarks += [
        f"- {split.replace('_', ' ')} does not apply: {why}"
        for split, why in study["inapplicable"].items()
    ]
    return remarks


def _behind(line: dict[str, Any]) -> str:
    """How much more ours gains than another router, on the same seeds."""
    low, high = (labels.number(100 * line[f"ahead_{end}"], 2) for end in ("low", "high"))
    return (
        f"- {line['split'].replace('_', ' ')}: ours gains {labels.number(100 * line['ahead'], 2)} "
        f"points more than {line['router']} [{low}, {high}] (95 %, over the draws of labels)"
    )


def _csv(lines: list[dict[str, Any]]) -> str:
    text = io.StringIO()
    rows = csv.DictWriter(text, list(lines[0]), lineterminator="\n")
    rows.writeheader()
    rows.writerows(lines)
    return text.getvalue()


def _latex(rows: list[list[str]]) -> str:
    """A booktabs table; every cell is text."""
    body = [r"\begin{tabular}{ll" + "r" * (len(_HEADS) - 2) + "}", r"\toprule"]
    for number, row in enumerate([_HEADS, *rows]):
        body.append(" & ".join(map(_escaped, row)) + r" \\")
        if number == 0:
            body.append(r"\midrule")
    return "\n".join([*body, r"\bottomrule", r"\end{tabular}", ""])


def _escaped(text: str) -> str:
    for special in "&%$#_{}":
        text = text.replace(special, f"\\{special}")
    return text.replace("±", r"$\pm$").replace("–", "--").replace("Δ", r"$\Delta$")
