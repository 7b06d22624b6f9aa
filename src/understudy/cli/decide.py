"""`understudy decide RUN`: may the local model replace the service? One test on the holdout.

Reads `holdout` of the run's run.json and the finished evaluations it names; asks no judge. Of
ready-made answers (`inference=file`, as a gateway's shadows are) all prompts are the holdout: no
model was trained or chosen on them.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from understudy.errors import BadInput

if TYPE_CHECKING:
    from understudy.evaluation.decision import Decision, Judges, Pairs
    from understudy.pipeline.record import RunRecord
    from understudy.records import Verdict

_ABOUT = "decide on the holdout whether the local model may replace the service (exit 0 yes, 1 no)"


def register(verbs: Any) -> None:
    """Add the verb to the command line."""
    sub = verbs.add_parser("decide", help=_ABOUT, description=_ABOUT)
    sub.set_defaults(verb=_decide)
    sub.add_argument("run", nargs="?", metavar="RUN", help="a name, a path, or latest (default)")
    sub.add_argument("--root", metavar="DIR", help="where runs are (default: paths.root)")
    sub.add_argument("--margin", type=float, help="points that may be lost (default: the gate's)")
    sub.add_argument(
        "--alpha", type=float, help="error of all looks together (default: the gate's)"
    )
    sub.add_argument(
        "--service", metavar="GENERATOR", help="of ready-made answers: whose are the service's"
    )
    sub.add_argument(
        "--judges",
        choices=("fixed", "random"),
        default="fixed",
        help="hold for this panel (default), or for judges of which it is a random sample",
    )
    sub.add_argument(
        "--tail", type=float, help="also: points that coverage@70 may fall (default: no limit)"
    )


def _decide(arguments: argparse.Namespace) -> int:
    from understudy.config.compose import runs_root
    from understudy.evaluation import decision
    from understudy.pipeline.measured import measured
    from understudy.pipeline.record import RunRecord, find_run
    from understudy.report.page import report
    from understudy.store.artifacts import write_atomically

    run = RunRecord.read(find_run(runs_root(arguments.root), arguments.run))
    if arguments.service is not None and not run.is_ready_made:
        raise BadInput(f"--service={arguments.service} is for ready-made answers (inference=file)")
    if not run.is_ready_made and run.decision is not None and not run.decision.passed:
        print(
            f"NOT YET: no round passed on the test split, so the holdout stays unseen.\n"
            f"{run.decision.reason}"
        )
        return 1
    gate = run.config["gate"]
    margin = _given(arguments.margin, gate.get("margin"), decision.MARGIN)
    alpha = _given(arguments.alpha, gate.get("alpha"), decision.ALPHA)
    if not 0 < margin <= 100:
        raise BadInput(f"margin={margin:g} is no number of points within 0 and 100")
    if not 0 < alpha < 0.5:
        raise BadInput(f"alpha={alpha:g} is no probability within 0 and 0.5")
    if arguments.tail is not None and not 0 < arguments.tail <= 100:
        raise BadInput(f"tail={arguments.tail:g} is no number of points within 0 and 100")
    decided = decide_run(run, margin, alpha, arguments.service, arguments.judges, arguments.tail)
    judged = _ready_made(run, arguments.service) if run.is_ready_made else _holdout(run)
    beside = measured(run, judged.stages)
    short = beside.objections(gate.get("p95_s"), gate.get("refusals"))
    if decided.decision == "MIGRATE" and short:
        reason = " ".join([decided.reason, *short])
        decided = replace(decided, decision="NOT YET", reason=reason)
    holdout = None if run.holdout is None else asdict(run.holdout)  # a later run may replace it
    whole = decided.to_dict() | {"serving": asdict(beside), "holdout": holdout}
    text = json.dumps(whole, indent=1, allow_nan=False)
    write_atomically(run.path.parent / "decision.json", text)
    show(decided)
    for line in beside.lines:
        print(line)
    if (run.path.parent / "report.html").is_file():  # its first lines are the decision
        print(f"report: {report(run.path)}")
    return 0 if decided.decision == "MIGRATE" else 1


def _given(*values: float | None) -> float:
    return next(value for value in values if value is not None)


def decide_run(
    run: "RunRecord",
    margin: float,
    alpha: float,
    service: str | None = None,
    estimator: "Judges" = "fixed",
    tail: float | None = None,
) -> "Decision":
    """Look at the run's holdout, which is recorded first, and decide."""
    from understudy.evaluation import decision, looks, scale
    from understudy.evaluation.scores import METRICS
    from understudy.records import Coverage, Verdict, read_rows

    stages, judges, replaced = _ready_made(run, service) if run.is_ready_made else _holdout(run)
    split = run.stage(run.stages["split"]).out / "rows.jsonl"
    name = "test" if run.is_ready_made else "holdout"
    groups = {row.id: row.group_id for row in read_rows(split, Coverage) if row.split == name}
    local, theirs = (
        {
            judge: list(read_rows(run.stage(stages[f"{role}.{judge}"]).out / "rows.jsonl", Verdict))
            for judge in judges
        }
        for role in ("evaluation", "baseline")
    )
    pairs = {metric: decision.pair(local, theirs, sorted(groups), metric) for metric in METRICS}
    families = {judge: _family(found) for judge, found in local.items()}
    teacher = _service(run, "synthesis")
    evidence = {"stages": stages, "margin": margin, "alpha": alpha, "metric": "precision"}
    # Absent where they are not asked for, so that the looks of earlier versions stay what they are.
    evidence |= {} if estimator == "fixed" else {"judges": estimator}
    evidence |= {} if tail is None else {"tail": tail}
    workload = looks.workload_of(run.config, _generator(local), _generator(theirs))
    number = looks.look(run.root, workload, run.name, evidence)
    asked = run.config.get("judges", {})
    doubts = [
        doubt
        for judge in judges
        for doubt in scale.doubts(
            judge, local[judge], theirs[judge], asked.get(judge, {}).get("scale") is not None
        )
    ]
    warnings = [*decision.family_warnings(families, teacher, replaced), *doubts]
    decided = decision.decide(
        pairs,
        groups,
        margin=margin,
        alpha=alpha,
        look=number,
        level=looks.level(alpha, number),
        judges=estimator,
        tail=None if tail is None else (tail, _covered(local, theirs, sorted(groups))),
        warnings=warnings,
    )
    if doubts and decided.decision == "MIGRATE":
        reason = f"{decided.reason} But {'; '.join(doubts)}."
        decided = replace(decided, decision="INCONCLUSIVE", reason=reason)
    return decided


def _covered(
    local: "Mapping[str, Sequence[Verdict]]",
    service: "Mapping[str, Sequence[Verdict]]",
    prompts: Sequence[str],
) -> "Pairs":
    """Return the differences of coverage@70 in points."""
    from understudy.evaluation.decision import TAIL_CUT, pair

    return pair(local, service, prompts, "precision", TAIL_CUT)


class _Judged(NamedTuple):
    stages: dict[str, str]  # evaluation.JUDGE and baseline.JUDGE → path
    judges: list[str]
    service: tuple[str, str] | None  # name and family


def _ready_made(run: "RunRecord", service: str | None) -> _Judged:
    """Return the evaluations of two generators, as if one were the baseline of the other."""
    found: dict[str, dict[str, str]] = {}  # generator -> judge -> stage
    families: dict[str, str] = {}
    for step in run.rounds:
        for role, path in step.stages.items():
            if role.startswith("evaluation.") and run.stage(path).is_done:
                summary = run.stage(path).read("out/summary.json")
                found.setdefault(summary["generator"], {})[role.partition(".")[2]] = path
                families[summary["generator"]] = summary["family"]
    others = [name for name in found if name != service]
    if service not in found or len(others) != 1:
        raise BadInput(
            f"{run.name} has judged answers of {', '.join(found) or 'nobody'}: it needs two "
            f"generators and --service=NAME of the one to be replaced (given: {service}); a "
            "gateway's shadows hold both with gateway.shadow_twice=true"
        )
    judges = [judge for judge in found[others[0]] if judge in found[service]]
    stages = {
        f"{role}.{judge}": found[name][judge]
        for role, name in (("evaluation", others[0]), ("baseline", service))
        for judge in judges
    }
    return _Judged(stages, judges, (service, families[service]))


def _holdout(run: "RunRecord") -> _Judged:
    """Return the evaluations on the holdout; raise BadInput unless all are finished."""
    if run.holdout is None:
        raise BadInput(
            f"{run.name} has no judged holdout: it needs coverage.split.holdout > 0, a baseline "
            f"and a round that passes its gate; go on with {run.command}"
        )
    stages = {
        role: path
        for role, path in run.holdout.stages.items()
        if role.startswith(("evaluation.", "baseline."))
    }
    if unfinished := [role for role, path in stages.items() if not run.stage(path).is_done]:
        raise BadInput(
            f"{run.name} has not finished {', '.join(unfinished)} on the holdout; "
            f"go on with {run.command}"
        )
    judges = [role.partition(".")[2] for role in stages if role.startswith("evaluation.")]
    return _Judged(stages, judges, _service(run, "baseline"))


def _generator(judged: "Mapping[str, Sequence[Verdict]]") -> str:
    """Whose answers were judged."""
    return next((rows[0].generator for rows in judged.values() if rows), "unknown")


def _family(verdicts: Any) -> str:
    return verdicts[0].judge_family if verdicts else "unknown"


def _service(run: "RunRecord", role: str) -> tuple[str, str] | None:
    """Name and family of the service in this role, where one was asked."""
    asked = run.config[role]
    service = asked.get("service") if asked["kind"] == "service" else None
    return None if service is None else (service["name"], service["family"])


def show(decided: "Decision") -> None:
    """Print the decision first, then what it rests on and what would change it."""
    from understudy.evaluation.decision import POWER
    from understudy.evaluation.power import smallest_loss
    from understudy.evaluation.statistics.intervals import Interval

    def said(found: Interval) -> str:
        if found.mean is None:
            return "no scores"
        limits = "" if found.low is None else f" [{found.low:+.2f}, {found.high:+.2f}]"
        return f"{found.mean:+.2f}{limits}"

    print(f"{decided.decision}: {decided.reason}")
    spent = f"look {decided.look}, one-sided level {decided.level:g}"
    clusters = decided.difference.clusters
    unequal = decided.worth is not None and decided.worth < 0.95 * clusters
    worth = f" (worth {decided.worth:.1f} of equal size)" if unequal else ""
    held = f"{decided.prompts} prompts ({decided.missing} missing)"
    print(f"{clusters} clusters{worth} hold {held}, {spent}")
    print(f"{decided.metric}: {said(decided.difference)}, {decided.difference.form}")
    if decided.panel == "fixed":
        print("the level holds for this panel of judges; --judges random: for judges like these")
    else:
        print("the level holds for judges of whom these are a random sample")
    if (tail := decided.tail) is not None:
        least = "no limit" if tail.low is None else f"at least {tail.low:+.2f}"
        worst = "no limit" if tail.worst_low is None else f"{tail.worst_low:+.2f} at worst"
        print(
            f"coverage@70: {tail.mean or 0:+.2f} points, {least}, {worst}; margin {tail.margin:g}"
        )
    for judge, found in decided.judges.items():
        print(f"  by {judge}: {said(found)}")
    for metric, found in decided.beside.items():
        print(f"{metric}, which does not decide: {said(found)}")
    if (error := decided.difference.error) is not None and error > 0:
        loss = smallest_loss(error, decided.difference.clusters, decided.level)
        print(f"with power {POWER:g} it excludes a loss of {loss:.1f} points, if both are as good")
    if decided.more_prompts:
        print(f"about {decided.more_prompts:,} more prompts would decide it, if nothing changes")
    if decided.verdicts_per_answer:
        print(f"or {decided.verdicts_per_answer} verdicts per answer on the same prompts")
    for warning in decided.warnings:
        print(f"warning: {warning}")
