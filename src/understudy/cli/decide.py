"""`understudy decide RUN`: may the local model replace the service? One test on the holdout.

Reads `holdout` of the run's run.json and the finished evaluations it names; asks no judge. Of a
sweep, each workload is decided, and all of them together.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from understudy.cli.status import sweep_named

if TYPE_CHECKING:
    from understudy.evaluation.decision import Decision
    from understudy.pipeline.deciding import Asked

_ABOUT = "decide on the holdout whether the local model may replace the service (exit 0 yes, 1 no)"


def register(verbs: Any) -> None:
    """Add the verb to the command line."""
    sub = verbs.add_parser("decide", help=_ABOUT, description=_ABOUT)
    sub.set_defaults(verb=_decide)
    sub.add_argument(
        "run",
        nargs="?",
        metavar="RUN",
        help="a run or a sweep: a name, a path, or latest (default)",
    )
    sub.add_argument("--root", metavar="DIR", help="where runs are (default: paths.root)")
    sub.add_argument("--margin", type=float, help="points that may be lost (default: the gate's)")
    sub.add_argument(
        "--alpha", type=float, help="error of all looks together (default: the gate's)"
    )
    sub.add_argument(
        "--service", metavar="GENERATOR", help="of ready-made answers: whose are the service's"
    )
    sub.add_argument(
        "--local", metavar="GENERATOR", help="and whose the local model's, where several answered"
    )
    sub.add_argument(
        "--judges",
        choices=("fixed", "random"),
        default="fixed",
        help="hold for this panel (default), or for judges of which it is a random sample",
    )
    sub.add_argument(
        "--tail", type=float, help="also: points that coverage@70 may fall (default: the gate's)"
    )


def _decide(arguments: argparse.Namespace) -> int:
    from understudy.config.compose import runs_root
    from understudy.pipeline.deciding import Asked
    from understudy.pipeline.record import find_run

    root = runs_root(arguments.root)
    asked = Asked(
        *(arguments.margin, arguments.alpha, arguments.tail, arguments.judges, arguments.service),
        local=arguments.local,
    )
    if (sweep := sweep_named(root, arguments.run)) is not None:
        return _decide_sweep(sweep, asked)
    return _decide_run(find_run(root, arguments.run), asked)


def _decide_run(run_json: Path, asked: "Asked") -> int:
    from understudy.pipeline import deciding
    from understudy.pipeline.record import RunRecord
    from understudy.report.page import report

    run = RunRecord.read(run_json)
    if not run.is_ready_made and run.decision is not None and not run.decision.passed:
        print(
            f"NOT YET: no round passed on the test split, so the holdout stays unseen.\n"
            f"{run.decision.reason}"
        )
        return 1
    look = deciding.decide(run, asked)
    show(look.decision)
    for line in look.human_lines:
        print(line)
    for line in (*look.serving.lines, *(look.arms.lines if look.arms is not None else ())):
        print(line)
    if (run.path.parent / "report.html").is_file():  # its first lines are the decision
        print(f"report: {report(run.path)}")
    return 0 if look.decision.decision == "MIGRATE" else 1


def _decide_sweep(sweep_json: Path, asked: "Asked") -> int:
    from understudy.report.page import report
    from understudy.sweep import decide

    found = decide.decide(sweep_json, asked)
    for line in decide.lines(found):
        print(line)
    for run in found.looked_at:
        if (run.path.parent / "report.html").is_file():
            print(f"report: {report(run.path)}")
    return 0 if found.all_migrate else 1


def show(decided: "Decision") -> None:
    """Print the decision first, then what it rests on and what would change it."""
    from understudy.evaluation import looks
    from understudy.evaluation.decision import POWER
    from understudy.evaluation.statistics.intervals import Interval
    from understudy.evaluation.statistics.prediction_powered import FORMS as LABELLED

    def said(found: Interval) -> str:
        if found.mean is None:
            return "no scores"
        limits = "" if found.low is None else f" [{found.low:+.2f}, {found.high:+.2f}]"
        # The other clusters have no score of this judge or metric.
        is_part = found.clusters != decided.difference.clusters
        return f"{found.mean:+.2f}{limits}{f', {found.clusters} clusters' if is_part else ''}"

    print(f"{decided.decision}: {decided.reason}")
    spent = f"look {decided.look}, one-sided level {decided.level:g}"
    if decided.look > 1:
        so_far = looks.spent(decided.alpha, decided.look)
        spent += f" (all looks so far have {so_far:.3g} of alpha {decided.alpha:g})"
    clusters = decided.difference.clusters
    unequal = decided.worth is not None and decided.worth < 0.95 * clusters
    worth = f" (worth {decided.worth:.1f} of equal size)" if unequal else ""
    held = f"{decided.prompts} prompts ({decided.missing} missing)"
    hold = "are labelled of" if decided.difference.form in LABELLED else "hold"
    print(f"{clusters} clusters{worth} {hold} {held}, {spent}")
    print(f"{decided.metric}: {said(decided.difference)}, {decided.difference.form}")
    if decided.missing_scores:
        least = (
            "nothing is shown"
            if decided.worst_low is None
            else f"at least {decided.worst_low:+.2f}"
        )
        print(f"with the {decided.missing_scores} missing scores at their worst: {least}")
    if decided.difference.form in LABELLED:
        print("the level holds for these raters' scale, whatever the judges' bias")
    elif decided.panel == "fixed":
        print("the level holds for this panel of judges; --judges random: for judges like these")
    else:
        print("the level holds for judges of whom these are a random sample")
    if decided.tail is not None:
        print(f"coverage@70: {decided.tail}; margin {decided.tail.margin:g}")
    for judge, found in decided.judges.items():
        print(f"  by {judge}: {said(found)}")
    for metric, found in decided.beside.items():
        print(f"{metric}, which does not decide: {said(found)}")
    if (loss := decided.excludes) is not None:
        print(f"with power {POWER:g} it excludes a loss of {loss:.1f} points, if both are as good")
    if decided.more_prompts:
        print(f"about {decided.more_prompts:,} more prompts would decide it, if nothing changes")
    if decided.verdicts_per_answer:
        print(f"or {decided.verdicts_per_answer} verdicts per answer on the same prompts")
    for warning in decided.warnings:
        print(f"warning: {warning}")
