"""What a run has measured beside quality: reads the answers that were judged, and their stages."""

from collections.abc import Mapping, Sequence

from understudy.data.answers import topic
from understudy.evaluation.arms import Arms, arms
from understudy.evaluation.serving import PaysFrom, Serving, Side, pays_from, side_of
from understudy.pipeline.record import RunRecord
from understudy.records import Answer, Coverage, read_rows
from understudy.services import money
from understudy.services.journal import Journal, open_journal
from understudy.store.artifacts import StageDir


def measured(run: RunRecord, stages: Mapping[str, str]) -> Serving:
    """Both sides of these evaluations, whose roles are evaluation.JUDGE and baseline.JUDGE."""
    with open_journal(run.root / "journal") as journal:
        local, service = (answers_of(run, stages, role) for role in ("evaluation", "baseline"))
        return Serving(
            None if local is None else _side(local, journal),
            None if service is None else _side(service, journal),
            _pays(run, local, service, journal),
        )


def arms_of(
    run: RunRecord,
    stages: Mapping[str, str],
    differences: Mapping[str, float],
    rows: Sequence[Coverage],
) -> Arms:
    """Both arms of ready-made answers, by what their prompts are about, and what judging cost."""
    paid = []
    for role in ("evaluation", "baseline"):
        answers = answers_of(run, stages, role)
        is_noted = answers is not None and (answers.path / "meta.json").is_file()
        notes = answers.read("meta.json").get("usd", {}) if answers and is_noted else {}
        paid.append({about: (count, usd) for about, (count, usd) in notes.items()})
    with open_journal(run.root / "journal") as journal:
        judged = {_name(run.stage(path)) for path in stages.values()}
        totals = [total for name in judged for total in journal.totals(stage=name)]
    judging = sum(total.microusd for total in totals) / money.MICRO
    topics = {row.id: topic(row.messages[:-1]) for row in rows}
    groups = {row.id: row.group_id for row in rows}
    return arms(differences, groups, topics, paid[0], paid[1], judging)


def answers_of(run: RunRecord, stages: Mapping[str, str], role: str) -> StageDir | None:
    """The answers that this side's evaluations have read; None where they are gone."""
    judged = next(run.stage(path) for name, path in stages.items() if name.startswith(f"{role}."))
    if not (judged.path / "inputs.json").is_file():
        return None
    answers = run.stage(judged.read("inputs.json")["inputs"]["answers"])
    return answers if answers.is_done else None


def _side(answers: StageDir, journal: Journal) -> Side:
    rows = list(read_rows(answers.out / "rows.jsonl", Answer))
    notes = answers.read("meta.json") if (answers.path / "meta.json").is_file() else {}
    return side_of(rows, journal.latencies(_name(answers)), notes)


def _pays(
    run: RunRecord, local: StageDir | None, service: StageDir | None, journal: Journal
) -> PaysFrom | None:
    """None unless the rent is told, and the price and speed of an answer were measured."""
    rent = run.config["gate"].get("rent_usd")
    if rent is None or local is None or service is None:
        return None
    rate = local.read("meta.json").get("tokens_per_second")
    tokens = [row.tokens for row in read_rows(local.out / "rows.jsonl", Answer) if row.tokens]
    totals = journal.totals(stage=_name(service))
    if not (rate and tokens and totals and totals[0].calls and totals[0].microusd):
        return None
    price = totals[0].microusd / totals[0].calls / money.MICRO
    return pays_from(rent, price, rate, sum(tokens) / len(tokens))


def _name(stage: StageDir) -> str:
    return f"{stage.path.parent.name}/{stage.path.name}"
