"""The report page and the comparison figure, from frames, numbers and drawings."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from understudy.artifacts import write_atomically
from understudy.errors import BadInput

from . import compute, draw, frame, labels

_RESULTS = ["Task", "Synthetic rows", "Rule pass rate", "Judge", "Similarity", "Precision"]


def write_report(root: Path, run_json: Path, out: Path) -> Path:
    """Write the page of one run, finished or not, to `out`."""
    run = frame.load_run(run_json)
    scores = frame.scores_frame(root, run)
    stages = frame.stages_frame(root, run)
    sampled = frame.sampled(root, run)
    gate = run["config"]["gate"]
    thresholds = {"similarity": gate["similarity"], "precision": gate["precision"]}
    figures = {
        "scores": None
        if _is_ready_made(run)
        else draw.scores_figure(scores, thresholds, run["rehearsal"]),
        "training": draw.training_figure(frame.training_frame(root, run), run["rehearsal"]),
    }
    page = _template().render(
        run=run,
        decision=_decision(run, stages),
        thresholds=thresholds,
        groups=_groups(scores, run),
        interval_kind=next(iter(scores["interval"].dropna()), "95 % interval"),
        figures={
            name: draw.svg(figure, name) for name, figure in figures.items() if figure is not None
        },
        sampled_round=sampled.round if sampled else None,
        samples=compute.samples(sampled) if sampled else [],
        stages=stages.to_dict("records"),
        seconds=compute.seconds_by_stage(stages),
        facts=_facts(root, run),
        config=json.dumps(run["config"], indent=2, ensure_ascii=False),
        labels=labels,
    )
    write_atomically(out, page)
    return out


def write_curve(root: Path, names: list[str], out: Path) -> Path:
    """Draw several runs against data size to `out`; a table of the numbers goes beside, as .md."""
    runs = [frame.load_run(root / "run" / name / "run.json") for name in names]
    scores = [part for run in runs if not (part := frame.scores_frame(root, run)).empty]
    points = compute.curve_order(pd.concat(scores)) if scores else pd.DataFrame()
    if points.empty:
        raise BadInput(f"none of the runs {', '.join(names)} has a finished evaluation yet")
    absent = {run["name"]: compute.absent_share(*frame.references(root, run)) for run in runs}
    out.parent.mkdir(parents=True, exist_ok=True)
    rehearsal = any(run["rehearsal"] for run in runs)
    draw.save(draw.curve_figure(points, rehearsal), out)
    write_atomically(out.with_suffix(".md"), _curve_table(points, absent, rehearsal))
    return out


def _template() -> Any:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,  # answers are text that a model wrote
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2")


def _decision(run: dict[str, Any], stages: pd.DataFrame) -> dict[str, str]:
    """The verdict on the run: a word for the colour, a sentence and its reason."""
    decision = run["decision"]
    if decision is None:
        done = f"{int(stages['is_done'].sum())} of the {len(stages)} stages begun so far"
        return {
            "word": "open",
            "sentence": "Not decided yet.",
            "reason": f"The run is unfinished: {done} are done.",
        }
    if _is_ready_made(run):
        sentence = "Ready-made answers were judged; nothing was trained."
        return {"word": "open", "sentence": sentence, "reason": decision["reason"]}
    if not decision["passed"]:
        sentence = "The local model does not pass the gate."
        return {"word": "fail", "sentence": sentence, "reason": decision["reason"]}
    rows = {step["round"]: step["data_size"] for step in run["rounds"]}[decision["round"]]
    sentence = (
        f"The local model passes the gate in round {decision['round']}, "
        f"with {labels.count(rows)} synthetic rows."
    )
    return {"word": "pass", "sentence": sentence, "reason": decision["reason"]}


def _is_ready_made(run: dict[str, Any]) -> bool:
    """Whether the rounds are generators, whose training data nobody knows."""
    kind: str = run["config"].get("inference", {}).get("kind", "local")
    return kind != "local"


def _groups(scores: pd.DataFrame, run: dict[str, Any]) -> list[dict[str, Any]]:
    """The result rows: one group per round, then the baseline."""
    decisions = {step["round"]: step["decision"] for step in run["rounds"]}
    groups = []
    local = scores[scores["role"] == "local"]
    for number, rows in local.groupby("round"):
        groups.append(
            {
                "title": f"Round {number:.0f}",
                "decision": decisions.get(int(float(str(number)))),
                "rows": rows.to_dict("records"),
            }
        )
    baseline = scores[scores["role"] == "baseline"]
    if not baseline.empty:
        title = "Service baseline"
        groups.append({"title": title, "decision": None, "rows": baseline.to_dict("records")})
    return groups


def _facts(root: Path, run: dict[str, Any]) -> dict[str, Any]:
    """What produced the numbers: commits and versions that the stages recorded."""
    metas = [frame.meta(stage.directory) for stage in frame.finished(root, run)]
    versions = {name: text for meta in metas for name, text in meta.get("versions", {}).items()}
    gits = [meta["git"] for meta in metas if meta.get("git")]
    commits = [git["commit"][:12] + (" with changes" if git["dirty"] else "") for git in gits]
    return {"versions": dict(sorted(versions.items())), "commits": list(dict.fromkeys(commits))}


def _curve_table(points: pd.DataFrame, absent: dict[str, float], rehearsal: bool) -> str:
    """The numbers behind the figure, in Markdown."""
    heads = [*_RESULTS, "Test answers absent from training"]
    lines = [f"| {' | '.join(heads)} |", "|" + " --- |" * len(heads)]
    for row in points.to_dict("records"):
        size = "base model" if row["is_base"] else labels.count(row["data_size"])
        rule = f"{labels.percent(row['rule.rate'])} " + labels.interval(
            row["rule.low"], row["rule.high"], 100
        )
        means = [
            f"{labels.number(row[f'{metric}.mean'])} "
            + labels.interval(row[f"{metric}.low"], row[f"{metric}.high"])
            for metric in ("similarity", "precision")
        ]
        cells = [row["task"], size, rule, row["judge"], *means, labels.percent(absent[row["run"]])]
        lines.append(f"| {' | '.join(str(cell).strip() for cell in cells)} |")
    note = f"{labels.REHEARSAL}: offline stand-ins, no LLM was asked. " if rehearsal else ""
    prompts = ", ".join(sorted({labels.count(n) for n in points["n_prompts"]}))
    return (
        f"{note}{prompts} test prompts per task. In brackets: 95 % interval, conditional on the "
        "trained weights of one seed.\n\n" + "\n".join(lines) + "\n"
    )
