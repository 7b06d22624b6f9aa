"""The head of the report page: what was decided, and all that `understudy decide` prints."""

import json
from collections.abc import Iterator
from typing import Any

import pandas as pd

from understudy.evaluation import looks, serving
from understudy.evaluation.decision import POWER, Tail
from understudy.pipeline.record import RunRecord

from . import labels
from .sections import reach

Values = dict[str, Any]

_WORDS = {"MIGRATE": "pass", "NOT YET": "fail", "INCONCLUSIVE": "open"}
_PANELS = {
    "fixed": "The level holds for this panel of judges.",
    "random": "The level holds for judges of whom these are a random sample.",
}


def decision(run: RunRecord, stages: pd.DataFrame) -> Values:
    """The verdict on the run: a word for the colour, a sentence, its reason, what it rests on."""
    path = run.path.parent / "decision.json"
    screened = _screened(run, stages)
    if not path.is_file():
        return {**screened, "rows": [], "notes": [], "sides": [], "screened": None}
    decided: Values = json.loads(path.read_text(encoding="utf-8"))
    rows = [
        ("all judges", decided["metric"], decided["difference"]),
        *((name, decided["metric"], one) for name, one in decided["judges"].items()),
        *(("all judges", name, one) for name, one in decided["beside"].items()),
    ]
    measured = serving.read(decided["serving"]) if decided.get("serving") else None
    return {
        "word": _WORDS[decided["decision"]],
        "sentence": f"{decided['decision']}.",
        "reason": decided["reason"],
        "rows": [
            {"judge": judge, "metric": metric, "value": one, "decides": number == 0}
            for number, (judge, metric, one) in enumerate(rows)
        ],
        "margin": decided["margin"],
        "reach": reach([one for *_, one in rows], at_least=1.5 * decided["margin"]),
        "notes": [*_notes(decided, measured)],
        "sides": _sides(measured),
        "screened": f"{screened['sentence']} {screened['reason']}",
    }


def _notes(decided: Values, measured: serving.Serving | None) -> Iterator[str]:
    """Sentences; what a decision of an earlier version does not tell is left out."""
    difference, look, alpha = decided["difference"], decided["look"], decided["alpha"]
    worth = decided.get("worth")
    is_unequal = worth is not None and worth < 0.95 * difference["clusters"]
    yield (
        f"{labels.count(decided['prompts'])} prompts of the holdout in "
        f"{labels.count(difference['clusters'])} clusters"
        f"{f' (worth {worth:.1f} of equal size)' if is_unequal else ''}; "
        f"{labels.count(decided['missing'])} prompts lack a score. Look {look} at this workload, "
        f"one-sided level {decided['level']:g}; looks up to this one have spent "
        f"{looks.spent(alpha, look):.3g} of alpha {alpha:g}. In brackets: "
        f"{100 * (1 - 2 * decided['level']):g} % intervals ({difference['form']}), whose lower end "
        "must clear the margin."
    )
    if (missing := decided.get("missing_scores")) is not None:
        low = decided["worst_low"]
        least = "nothing is shown" if low is None else f"at least {low:+.2f} points"
        what = f"With the {labels.count(missing)} missing scores at their worst: {least}."
        yield what if missing else "No score is missing."
    if "panel" in decided:
        yield _PANELS[decided["panel"]]
    if decided.get("tail"):
        tail = Tail(**decided["tail"])
        yield f"Second criterion, coverage@70: {tail}; {tail.margin:g} points may be lost."
    if decided.get("excludes") is not None:
        yield (
            f"With power {POWER:g} this holdout excludes a loss of {decided['excludes']:.1f} "
            "points, if both are as good."
        )
    if decided["more_prompts"]:
        more = labels.count(decided["more_prompts"])
        yield f"About {more} more prompts would decide it, if nothing changes."
    if decided["verdicts_per_answer"]:
        yield f"Or {decided['verdicts_per_answer']} verdicts per answer, on these prompts."
    if measured is not None and measured.pays is not None:
        yield f"The local model pays {measured.pays}."
    yield from (f"Warning: {warning}" for warning in decided["warnings"])


def _sides(measured: serving.Serving | None) -> list[Values]:
    """Latency and refusals of the local model and the service, where they were measured."""
    if measured is None:
        return []
    sides = {"local": measured.local, "service": measured.service}
    return [
        {
            **{"role": role, "generator": side.generator, "answers": side.answers},
            **{"p50_s": side.p50_s, "p95_s": side.p95_s, "timed": side.timed},
            "refusals": side.refusals._asdict(),
        }
        for role, side in sides.items()
        if side is not None
    ]


def _screened(run: RunRecord, stages: pd.DataFrame) -> Values:
    """What the rounds on the test split came to."""
    found = run.decision
    if found is None:
        done = f"{int(stages['is_done'].sum())} of the {len(stages)} stages begun so far"
        reason = f"The run is unfinished: {done} are done."
        return {"word": "open", "sentence": "Not decided yet.", "reason": reason}
    if run.is_ready_made:
        sentence = "Ready-made answers were judged; nothing was trained."
        return {"word": "open", "sentence": sentence, "reason": found.reason}
    if not found.passed:
        sentence = "The local model does not pass the gate."
        return {"word": "fail", "sentence": sentence, "reason": found.reason}
    rows = next(step.data_size for step in run.rounds if step.round == found.round)
    sentence = (
        f"The local model passes the gate in round {found.round}, "
        f"with {labels.count(rows)} synthetic rows."
    )
    return {"word": "pass", "sentence": sentence, "reason": found.reason}
