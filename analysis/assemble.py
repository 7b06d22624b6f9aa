"""The report page and the comparison figure, from frames, numbers and drawings."""

import base64
import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from understudy.errors import BadInput
from understudy.pipeline.record import RunRecord
from understudy.store.artifacts import write_atomically

from . import (
    browser,
    costs,
    decided,
    draw,
    fig_cost,
    fig_kde,
    fig_scaling,
    frame,
    labels,
    sections,
    setups,
    sources,
    table_bridge,
    table_cost,
)
from .costs import Assumption
from .evaluations import Data, ordered

_RESULTS = [
    *("Task", "Synthetic rows", "Rule pass rate", "Judge", "Similarity", "Precision"),
    *("Test answers absent from training", "Contaminated"),
]


def write_report(run: RunRecord, out: Path) -> Path:
    """Write the page of one run, finished or not, to `out`."""
    scores = frame.scores_frame(run)
    stages = frame.stages_frame(run)
    gate = run.config["gate"]
    thresholds = {"similarity": gate["similarity"], "precision": gate["precision"]}
    data = Data(ordered(sources.of_run(run, {}, set())), [run])
    rows = browser.collect(run)
    assumptions = table_cost.assumptions(data, [])
    bridge = list(table_bridge.bridges(data))
    script = (Path(__file__).parent / "report.js").read_text(encoding="utf-8")
    page = template("report.html.j2").render(
        run=run,
        decision=decided.decision(run, stages),
        thresholds=thresholds,
        groups=_groups(scores, run),
        interval_kind=next(iter(scores["interval"].dropna()), "95 % interval"),
        figures=drawings(run, data, scores, assumptions),
        judges=sections.judges(data),
        bridge=[{**one._asdict(), "shift": one.shift._asdict()} for one in bridge],
        bridge_reach=sections.reach([one.shift._asdict() for one in bridge]),
        costs=sections.costs(run),
        measured=costs.measured(assumptions),
        confusions=sections.confusions(run),
        hygiene=sections.hygiene(run),
        warnings=sections.warnings(run),
        rows=browser.pack(rows) if rows else None,
        samples=browser.samples(rows) if rows else ("", []),
        stages=stages.to_dict("records"),
        seconds=seconds_by_stage(stages),
        facts=_facts(run),
        config=json.dumps(run.config, indent=2, ensure_ascii=False),
        script=script,
        # the one script that the page may run, whatever else a model's text looks like
        allowed=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        labels=labels,
    )
    write_atomically(out, page)
    return out


def write_curve(root: Path, names: list[str], out: Path) -> Path:
    """Draw several runs against data size to `out`; a table of the numbers goes beside, as .md."""
    records = [RunRecord.read(root / "run" / name / "run.json") for name in names]
    scores = [part for run in records if not (part := frame.scores_frame(run)).empty]
    points = curve_order(pd.concat(scores)) if scores else pd.DataFrame()
    if points.empty:
        raise BadInput(f"none of the runs {', '.join(names)} has a finished evaluation yet")
    _check_unmixed(points, {run.name: run for run in records})
    absent = {run.name: absent_share(*frame.references(run)) for run in records}
    out.parent.mkdir(parents=True, exist_ok=True)
    rehearsal = any(run.rehearsal for run in records)
    draw.save(draw.curve_figure(points, rehearsal), out)
    write_atomically(out.with_suffix(".md"), _curve_table(points, absent, rehearsal))
    return out


def _check_unmixed(points: pd.DataFrame, runs: dict[str, RunRecord]) -> None:
    """Raise BadInput where one curve would be drawn through points of unlike runs."""
    for (task, *_), rows in points.groupby(["task", "judge", "is_base", "data_size"]):
        names = list(dict.fromkeys(rows["run"]))
        if len(names) > 1:
            leaves = setups.config_differences([runs[name] for name in names])
            raise BadInput(
                f"{names[0]} and {names[-1]} would be one point of {task}, and these differ: "
                f"{', '.join(leaves) or 'nothing'}; give a pattern of fewer runs, or draw a curve "
                "of each with python -m analysis.fig_scaling"
            )


def template(name: str) -> Any:
    """Return a page's template; what a model wrote is escaped."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,  # answers are text that a model wrote
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)


def _groups(scores: pd.DataFrame, run: RunRecord) -> list[dict[str, Any]]:
    """The result rows: one group per round, then the baseline."""
    decisions = {step.round: step.decision for step in run.rounds}
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


def _facts(run: RunRecord) -> dict[str, Any]:
    """What produced the numbers: commits and versions that the stages recorded."""
    metas = [frame.meta(stage.directory) for stage in frame.finished(run)]
    versions = {name: text for meta in metas for name, text in meta.get("versions", {}).items()}
    gits = [meta["git"] for meta in metas if meta.get("git")]
    commits = [git["commit"][:12] + (" with changes" if git["dirty"] else "") for git in gits]
    return {"versions": dict(sorted(versions.items())), "commits": list(dict.fromkeys(commits))}


def _curve_table(points: pd.DataFrame, absent: dict[str, float], rehearsal: bool) -> str:
    """The numbers behind the figure, in Markdown."""
    lines = [f"| {' | '.join(_RESULTS)} |", "|" + " --- |" * len(_RESULTS)]
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
        clean = [labels.percent(absent[row["run"]]), labels.contaminated(row)]
        cells = [row["task"], size, rule, row["judge"], *means, *clean]
        lines.append(f"| {' | '.join(str(cell).strip() for cell in cells)} |")
    note = f"{labels.REHEARSAL}: offline stand-ins, no LLM was asked. " if rehearsal else ""
    prompts, clusters = (
        ", ".join(sorted({labels.count(n) for n in points[name]}))
        for name in ("n_prompts", "n_groups")
    )
    return (
        f"{note}{prompts} test prompts in {clusters} clusters per task. In brackets: 95 % limits, "
        f"conditional on the trained weights of one seed. {labels.CONTAMINATED}\n\n"
        + "\n".join(lines)
        + "\n"
    )


class Drawings(NamedTuple):
    """SVG elements; None, or left out, where the run has nothing to draw."""

    scores: str | None
    scaling: dict[str, str]  # by metric, precision first
    density: str | None
    training: str | None
    cost: str | None


def drawings(
    run: RunRecord, data: Data, scores: pd.DataFrame, found: dict[str, Assumption]
) -> Drawings:
    """Draw what the run has; `found` are the assumptions of the cost figure."""
    gate, is_rehearsal = run.config["gate"], run.rehearsal
    thresholds = {metric: gate[metric] for metric in ("similarity", "precision") if gate[metric]}
    overview = None
    if not run.is_ready_made:
        overview = draw.scores_figure(scores, thresholds, is_rehearsal)
    curves = fig_scaling.figures(data, fig_scaling.fitted(data), fig_scaling.goal(data))
    scaling = {metric: draw.svg(figure, f"scaling-{metric}") for _, metric, figure in curves}
    density = [draw.svg(figure, f"density-{task}") for task, figure in fig_kde.figures(data)]
    training = draw.training_figure(frame.training_frame(run), is_rehearsal)
    return Drawings(
        scores=None if overview is None else draw.svg(overview, "scores"),
        scaling=dict(sorted(scaling.items())),
        density="\n".join(density) or None,
        training=None if training is None else draw.svg(training, "training"),
        cost=draw.svg(fig_cost.figure(found, is_rehearsal), "cost") if data.evaluations else None,
    )


def absent_share(test: list[str], train: list[str] | None) -> float:
    """The share of test answers that are no training answer; missing without training rows."""
    if train is None or not test:
        return float("nan")
    seen = {answer.strip() for answer in train}
    return sum(answer.strip() not in seen for answer in test) / len(test)


def seconds_by_stage(stages: pd.DataFrame) -> dict[str, float]:
    """The wall time of the finished stages, added up by kind of stage, in the run's order."""
    # a directory shared by two rounds was filled once
    once = stages[stages["is_done"]].drop_duplicates(["stage", "fingerprint"])
    return {
        str(name): float(group["seconds"].sum(min_count=1))
        for name, group in once.groupby("stage", sort=False)
    }


def curve_order(scores: pd.DataFrame) -> pd.DataFrame:
    """The local model's rows by task; the untrained base model first, then by data size."""
    local = scores[scores["role"] == "local"]
    local = local.assign(is_base=local["trainer"] == "none")
    keys = ["task", "is_base", "data_size", "judge"]
    return local.sort_values(keys, ascending=[True, False, True, True]).reset_index(drop=True)
