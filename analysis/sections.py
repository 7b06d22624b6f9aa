"""The sections of the report page as plain values: judges, costs, data hygiene."""

from typing import Any

from understudy.evaluation.scores import METRICS
from understudy.pipeline.record import RunRecord

from . import frame, labels
from .evaluations import Data
from .judges import BIAS, EFFECTS, effective
from .panels import reports

Values = dict[str, Any]

DRAWS = 500  # of the cluster bootstrap: limits to about 5 % of their own width
_ERRORS = 25  # kinds of errors of a confusion table that are shown
_MATTERS = 2.0  # points; a smaller difference from the panel has no word of its own
_SLOPE = 0.05  # points per point of the panel's mean
# What a stage's meta.json says of every stage; the rest are counts of its own.
_USUAL = {
    *("command", "git", "versions", "host", "pid", "cpus", "finished", "seconds", "calls"),
    *("tokens_per_second", "peak_memory_mb", "device", "format", "notices"),
}
_CONTAMINATED = ("contaminated_human", "contaminated_synthetic")
_NAMES = {"length": "answers cut off", "too_long": "prompts too long"}
_LEFT_OUT = {
    *("dropped", "bad", "not coverage", "unscored", "missing answers", "rows over length"),
    *("rows misaligned", "columns unread", "leaks refused"),
    *("contaminated human", "contaminated synthetic"),
    *_NAMES.values(),
}


def confusions(run: RunRecord) -> list[Values]:
    """Per evaluation by labels: macro F1, and the errors, the most frequent first."""
    found = []
    for stage in frame.finished(run):
        if stage.kind != "evaluation":
            continue
        summary = stage.directory.read("out/summary.json")
        if (table := summary.get("confusion")) is None:
            continue
        wanted: dict[str, int] = {}
        for label, _, count in table["pairs"]:
            wanted[label] = wanted.get(label, 0) + count
        errors = [row for row in table["pairs"] if row[0] != row[1]]
        errors.sort(key=lambda row: -row[2])
        found.append(
            {
                "answers": f"{summary['generator']}, round {stage.round}"
                if stage.round is not None
                else summary["generator"],
                "judge": summary["judge"],
                "macro_f1": table["macro_f1"],
                "labels": len(wanted),
                "more": max(0, len(errors) - _ERRORS),
                "errors": [
                    {"wanted": label, "given": given, "count": count, "of": wanted[label]}
                    for label, given, count in errors[:_ERRORS]
                ],
            }
        )
    return found


def judges(data: Data, draws: int = DRAWS) -> Values | None:
    """Per metric: the use of the scale with a reading in words, agreement, bias, missing."""
    by_metric = {metric: one for (_, metric), one in reports(data, draws).items()}
    if not by_metric:
        return None
    panels = {metric: _panel(one) for metric, one in by_metric.items()}
    intervals = [one["use"]["leniency"] for panel in panels.values() for one in panel["judges"]]
    biases = [
        one["value"]
        for panel in panels.values()
        for effect in panel["bias"].values()
        for one in (effect["pooled"], *effect["judges"].values())
    ]
    names = {name: None for one in by_metric.values() for name in _agreement(one)}
    return {
        "panels": panels,
        "reach": reach(intervals),
        "bias_reach": reach(biases),
        "effects": EFFECTS,
        "bias_caption": BIAS,
        "agreement": [
            {
                "name": name,
                **{metric: _agreement(by_metric[metric]).get(name) for metric in METRICS},
            }
            for name in names
        ],
        "missing": [row for row in by_metric["precision"]["missing"] if row["missing"]],
        "answers": by_metric["precision"]["answers"],
        "clusters": by_metric["precision"]["clusters"],
        "draws": draws,
    }


def _panel(found: Values) -> Values:
    many = len(found["judges"]) > 1
    rows = [
        {
            "judge": labels.label(name),
            "use": use,
            "reading": _reading(use, found["against_panel"][name]) if many else [],
        }
        for name, use in found["judges"].items()
    ]
    return {"judges": rows, "bias": found["bias"]}


def _reading(use: Values, against: Values) -> list[tuple[str, str]]:
    """(class, words): what an interval proves and what is large enough to matter."""
    words = []
    lenient = use["leniency"]
    if _proven(lenient, _MATTERS):
        kind = "lenient" if lenient["mean"] > 0 else "strict"
        words.append((kind, f"{kind} by {labels.number(abs(lenient['mean']))} points"))
    else:
        words.append(("even", f"within {labels.number(_MATTERS, 0)} points of the panel"))
    if _proven(against["level"], _SLOPE):
        what = "wider" if against["level"]["mean"] > 0 else "narrower"
        share = labels.percent(abs(against["level"]["mean"]), 0)
        words.append(("", f"scale {share} {what} than the panel's"))
    if use["top"] is not None and use["top"] < 100:
        words.append(("", f"never above {labels.number(use['top'], 0)}"))
    return words


def _proven(one: Values, matters: float) -> bool:
    if one["low"] is None or one["low"] <= 0 <= one["high"]:
        return False
    return bool(abs(one["mean"]) >= matters)


def _agreement(found: Values) -> dict[str, Values]:
    if len(found["judges"]) < 2:
        return {}

    def pair(name: str) -> str:
        return " and ".join(labels.label(judge) for judge in name.split(" / "))

    return {
        "Krippendorff's α": found["alpha"],
        "Krippendorff's α, ordinal": found["alpha_ordinal"],
        "ICC(A,1), one judge": found["icc"]["a1"],
        "ICC(A,k), the panel": found["icc"]["ak"],
        effective(found).capitalize(): found["effective_judges"]["value"],
        **{f"Lin's CCC, {pair(name)}": one["ccc"] for name, one in found["pairs"].items()},
        **{f"Kendall's τ-b of systems, {pair(name)}": one
           for name, one in found["ranking"]["tau_b"].items()},
    }  # fmt: skip


def reach(intervals: list[Values], at_least: float = 1.0) -> float:
    """How far from 0 the axis of these intervals must go."""
    ends: list[float] = [
        abs(one[end])
        for one in intervals
        for end in ("mean", "low", "high")
        if one[end] is not None
    ]
    return 1.05 * max([at_least, *ends])


def costs(*runs: RunRecord) -> list[Values]:
    """By kind of stage: time, calls, tokens, dollars; None where nothing was paid for."""
    kinds: dict[str, Values] = {}
    seen = set()
    for stage in (stage for run in runs for stage in frame.finished(run)):
        if stage.directory.path in seen:  # shared by two rounds or runs, it was filled once
            continue
        seen.add(stage.directory.path)
        made = frame.meta(stage.directory)
        row = kinds.setdefault(stage.kind, {"stage": stage.kind, "stages": 0})
        row["stages"] += 1
        calls: Values = made.get("calls") or {}
        for name, value in {"seconds": made.get("seconds"), **calls}.items():
            if value is not None:
                short = name.removesuffix("_tokens")
                row[short] = row.get(short, 0) + value
    whole: Values = {"stage": "all", "stages": sum(row["stages"] for row in kinds.values())}
    for row in kinds.values():
        for name, value in row.items():
            if name not in ("stage", "stages"):
                whole[name] = whole.get(name, 0) + value
    names = ("seconds", "calls", "from_journal", "input", "output", "microusd")
    nothing = dict.fromkeys(names)
    return [nothing | row for row in (*kinds.values(), whole)] if kinds else []


def hygiene(run: RunRecord) -> list[Values]:
    """Stage by stage: what it kept, what it left out and why."""
    rows: list[Values] = []
    for stage in frame.finished(run):
        made = frame.meta(stage.directory)
        own = {_NAMES.get(name, name): made[name] for name in made if name not in _USUAL}
        counts = _flat(own)
        if (stage.directory.out / "summary.json").is_file() and stage.kind != "gate":
            counts |= _summary(stage.kind, stage.directory.read("out/summary.json"))
        if counts:
            left = [name for name in counts if name.partition(":")[0] in _LEFT_OUT]
            rows.append({"round": stage.round, "stage": stage.name, "counts": counts, "left": left})
    return rows


def warnings(run: RunRecord) -> list[str]:
    """What the finished stages want said, as the terminal and `status` say it."""
    of_holdout = run.holdout.stages.values() if run.holdout is not None else ()
    directories = [stage.directory for stage in frame.finished(run)]
    directories += [stage for path in of_holdout if (stage := run.stage(path)).is_done]
    said = (line for stage in directories for line in frame.meta(stage).get("warnings", []))
    return list(dict.fromkeys(said))


def _summary(kind: str, summary: Values) -> dict[str, int]:
    """The counts of a summary."""
    names = {
        "synthesis": ("rows", "read", "calls", "dropped"),
        "subset": ("rows", "human", "synthetic", *_CONTAMINATED, "leaks_refused"),
        "finetune": ("rows", "rows_over_length", "rows_misaligned", "validation_rows"),
        "evaluation": ("n_answers", "n_missing_answers", "n_verdicts", "n_unscored", "unscored"),
    }
    return _flat({name: summary[name] for name in names.get(kind, ()) if name in summary})


def _flat(values: Values) -> dict[str, int]:
    """Whole numbers by name; a dictionary of them is spread out."""
    found: Values = {}
    for name, value in values.items():
        parts = value.items() if isinstance(value, dict) else ()
        found |= {f"{name}: {key}": one for key, one in parts} or {name: value}
    return {
        name.removeprefix("n_").replace("_", " "): value
        for name, value in found.items()
        if isinstance(value, int) and not isinstance(value, bool)
    }
