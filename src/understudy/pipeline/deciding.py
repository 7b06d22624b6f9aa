"""One look at the judged holdout of a run, on the terms that were asked for.

Of ready-made answers (`inference=file`, as a gateway's shadows are) all prompts are the holdout: no
model was trained or chosen on them.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

from understudy.errors import BadInput
from understudy.evaluation import decision, looks, relations, scale
from understudy.evaluation.arms import Arms
from understudy.evaluation.decision import Decision, Judges, Pairs
from understudy.evaluation.looks import Workload
from understudy.evaluation.scores import measured as measured_by
from understudy.evaluation.serving import Serving
from understudy.pipeline.labelled import LabelledLook, labelled
from understudy.pipeline.measured import arms_of, measured
from understudy.pipeline.record import RunRecord
from understudy.records import Coverage, Verdict, read_rows
from understudy.store.artifacts import write_atomically


class Asked(NamedTuple):
    """What the command line says; None: as the run's gate has it."""

    margin: float | None = None
    alpha: float | None = None
    tail: float | None = None
    judges: Judges = "fixed"
    service: str | None = None  # of ready-made answers: whose are the service's
    local: str | None = None  # and whose the local model's, where several have answered


class Terms(NamedTuple):
    """On which terms a run is decided."""

    margin: float  # points
    alpha: float  # of all looks at the workload
    tail: float | None  # points of coverage@70
    judges: Judges

    @property
    def evidence(self) -> dict[str, Any]:
        """What makes it another look; absent where it is not asked for, as earlier versions did."""
        found: dict[str, Any] = {"margin": self.margin, "alpha": self.alpha, "metric": "precision"}
        found |= {} if self.judges == "fixed" else {"judges": self.judges}
        return found if self.tail is None else found | {"tail": self.tail}


def terms_of(run: RunRecord, asked: Asked) -> Terms:
    """Return the terms; raise BadInput for a number that makes no sense."""
    gate = run.config["gate"]
    margin = _given(asked.margin, gate.get("margin"), decision.MARGIN)
    alpha = _given(asked.alpha, gate.get("alpha"), decision.ALPHA)
    tail = _given(asked.tail, gate.get("tail"))
    for name, points in (("margin", margin), ("tail", tail)):
        if points is not None and not 0 < points <= 100:
            raise BadInput(f"{name}={points:g} is no number of points within 0 and 100")
    assert margin is not None
    assert alpha is not None
    if not 0 < alpha < 0.5:
        raise BadInput(f"alpha={alpha:g} is no probability within 0 and 0.5")
    return Terms(margin, alpha, tail, asked.judges)


def _given(*values: float | None) -> float | None:
    return next((value for value in values if value is not None), None)


class JudgedSides(NamedTuple):
    """The evaluations that a decision is made on."""

    stages: dict[str, str]  # evaluation.JUDGE and baseline.JUDGE → path
    judges: list[str]
    service: tuple[str, str] | None  # name and family


@dataclass(frozen=True)
class Look:
    """What was decided, and what it needs to be decided again at another level."""

    workload: Workload
    terms: Terms
    decision: Decision
    serving: Serving
    pairs: Pairs  # of the deciding metric
    tail: tuple[float, Pairs] | None
    groups: Mapping[str, str]  # prompt → cluster
    labelled: LabelledLook | str  # or what it means that there are no labels
    arms: Arms | None  # of ready-made answers

    @property
    def human_lines(self) -> Sequence[str]:
        """What labels say, or what it means that there are none."""
        said = self.labelled
        return [said] if isinstance(said, str) else said.lines()

    @property
    def smallest_alpha(self) -> float:
        """The least alpha of all looks at which this look says MIGRATE; 1 where none does."""
        level = decision.smallest_level(
            self.pairs,
            self.groups,
            margin=self.terms.margin,
            judges=self.terms.judges,
            tail=self.tail,
        )
        return min(1.0, level / looks.level(1.0, self.decision.look))


def decide(run: RunRecord, asked: Asked) -> Look:
    """Look at the run's holdout, which is recorded first, decide, and write decision.json."""
    terms = terms_of(run, asked)
    found = judged(run, asked.service, asked.local)
    look = _look(run, terms, found)
    gate = run.config["gate"]
    short = look.serving.objections(gate.get("p95_s"), gate.get("refusals"))
    if short and look.decision.decision == "MIGRATE":
        reason = " ".join([look.decision.reason, *short])
        look = replace(look, decision=replace(look.decision, decision="NOT YET", reason=reason))
    holdout = None if run.holdout is None else asdict(run.holdout)  # a later run may replace it
    humans = {} if isinstance(look.labelled, str) else {"humans": look.labelled.to_dict()}
    arms = {} if look.arms is None else {"arms": look.arms.to_dict()}
    whole = (
        look.decision.to_dict()
        | humans
        | arms
        | {"serving": look.serving.to_dict(), "holdout": holdout}
    )
    text = json.dumps(whole, indent=1, allow_nan=False)
    write_atomically(run.path.parent / "decision.json", text)
    return look


def _look(run: RunRecord, terms: Terms, found: JudgedSides) -> Look:
    stages, judges, replaced = found
    split = run.stage(run.stages["split"]).out / "rows.jsonl"
    name = "test" if run.is_ready_made else "holdout"
    rows = [row for row in read_rows(split, Coverage) if row.split == name]
    groups = {row.id: row.group_id for row in rows}
    local, theirs = (
        {
            judge: list(read_rows(run.stage(stages[f"{role}.{judge}"]).out / "rows.jsonl", Verdict))
            for judge in judges
        }
        for role in ("evaluation", "baseline")
    )
    prompts = sorted(groups)
    measures = {
        judge: measured_by(run.stage(stages[f"evaluation.{judge}"]).read("out/summary.json"))
        for judge in judges
    }
    human = labelled(run, stages, local, theirs, groups)
    labels = human if isinstance(human, LabelledLook) else None
    used = judges if labels is None else labels.deciding
    ours = {judge: local[judge] for judge in used}
    pairs = decision.pairs_of(ours, theirs, prompts, measures)
    if labels is not None and "precision" in pairs:
        pairs["precision"] = replace(pairs["precision"], humans=labels.humans())
    tail = None
    if terms.tail is not None:
        beyond = decision.tail_pairs(ours, theirs, prompts)
        if labels is not None:
            beyond = replace(beyond, humans=labels.humans(decision.TAIL_CUT))
        tail = (terms.tail, beyond)
    families = {judge: rows[0].judge_family if rows else "unknown" for judge, rows in local.items()}
    workload = looks.workload_of(run.config, _generator(local), _generator(theirs))
    number = looks.look(
        run.root,
        workload,
        run.name,
        {"stages": stages} | terms.evidence | ({} if labels is None else labels.evidence),
    )
    services, rules = run.config.get("judges", {}), run.config.get("graders", {})
    doubts = [
        doubt
        for judge in judges
        for doubt in scale.doubts(
            judge,
            local[judge],
            theirs[judge],
            judge in rules or services.get(judge, {}).get("scale") is not None,
        )
    ]
    decided = decision.decide(
        pairs,
        groups,
        margin=terms.margin,
        alpha=terms.alpha,
        look=number,
        level=looks.level(terms.alpha, number),
        judges=terms.judges,
        tail=tail,
        warnings=[
            *relations.family_warnings(families, _service(run, "synthesis"), replaced),
            *doubts,
        ],
    )
    if doubts and decided.decision == "MIGRATE":
        reason = f"{decided.reason} But {'; '.join(doubts)}."
        decided = replace(decided, decision="INCONCLUSIVE", reason=reason)
    if labels is not None:
        decided = labels.checked(decided)
    serving = measured(run, stages)
    deciding = pairs[decided.metric]
    both = arms_of(run, stages, deciding.panel, rows) if run.is_ready_made else None
    return Look(workload, terms, decided, serving, deciding, tail, groups, human, both)


def judged(run: RunRecord, service: str | None, local: str | None = None) -> JudgedSides:
    """Return the evaluations to decide on; raise BadInput unless all are finished."""
    if run.is_ready_made:
        return _ready_made(run, service, local)
    if found := service or local:
        name = "service" if service else "local"
        raise BadInput(f"--{name}={found} is for ready-made answers (inference=file)")
    return _holdout(run)


def _ready_made(run: RunRecord, service: str | None, local: str | None) -> JudgedSides:
    """Return the evaluations of two generators, as if one were the baseline of the other."""
    found: dict[str, dict[str, str]] = {}  # generator -> judge -> stage
    families: dict[str, str] = {}
    for step in run.rounds:
        for role, path in step.stages.items():
            if role.startswith("evaluation.") and run.stage(path).is_done:
                summary = run.stage(path).read("out/summary.json")
                found.setdefault(summary["generator"], {})[role.partition(".")[2]] = path
                families[summary["generator"]] = summary["family"]
    others = [name for name in found if name != service and local in (None, name)]
    if service in found and local is None and len(others) > 1:
        raise BadInput(
            f"{run.name} has judged answers of several local models: {', '.join(others)}; say with "
            "--local=NAME which is meant"
        )
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
    return JudgedSides(stages, judges, (service, families[service]))


def _holdout(run: RunRecord) -> JudgedSides:
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
    return JudgedSides(stages, judges, _service(run, "baseline"))


def _generator(judged: Mapping[str, Sequence[Verdict]]) -> str:
    """Whose answers were judged."""
    return next((rows[0].generator for rows in judged.values() if rows), "unknown")


def _service(run: RunRecord, role: str) -> tuple[str, str] | None:
    """Name and family of the service in this role, where one was asked."""
    asked = run.config[role]
    service = asked.get("service") if asked["kind"] == "service" else None
    return None if service is None else (service["name"], service["family"])
