"""Where a run stands: which stages are done, what the rounds scored, how to go on."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from understudy.pipeline.record import RunRecord
from understudy.pipeline.standing import STATES, Standings

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_MISSING = "–"
_ROLES = ("local", "baseline")
METRICS = ("similarity", "precision")


def console_for() -> "Console":
    """Return a console as wide as its terminal, or 110 columns wide where it is a file."""
    from rich.console import Console

    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=110)


def show(run_json: Path) -> None:
    """Print the stages of every round, the scores so far, the decision or how to go on."""
    from rich.markup import escape

    console = console_for()
    run = RunRecord.read(run_json)
    console.print(f"[bold]{escape(run.name)}[/]{rehearsal_mark(run.rehearsal)}")
    console.print(escape(str(run_json.parent)), soft_wrap=True)
    console.print(_stages_table(run))
    stages = [run.stages, *(step.stages for step in run.rounds)]
    stages += [run.holdout.stages] if run.holdout is not None else []
    paths = dict.fromkeys(path for some in stages for path in some.values())
    warnings = (line for path in paths for line in run.stage(path).warnings())
    for line in dict.fromkeys(warnings):
        console.print(escape(line), soft_wrap=True)
    for step in run.rounds:
        gate = run.stage(step.stages.get("gate", "gate/none"))
        if gate.is_done:
            closing_table(gate.read("out/summary.json"), run.rehearsal)
    if run.decision is None:
        print(f"to go on: {run.command}")
    else:
        word = "passed" if run.decision.passed else "did not pass"
        console.print(f"[bold]{word}[/]: {escape(run.decision.reason)}", soft_wrap=True)


def closing_table(gate: Mapping[str, Any], rehearsal: bool = False) -> None:
    """Print one round's scores and its decision, from the summary that the gate wrote."""
    from rich.markup import escape

    console = console_for()
    console.print(_scores_table(gate, rehearsal))
    sizes = {(row["n_prompts"], row["n_groups"]) for row in gate["table"] if row.get("n_groups")}
    for prompts, clusters in sorted(sizes):
        console.print(f"intervals over {prompts} prompts in {clusters} clusters")
    for role in _ROLES:
        row = next((row for row in gate["table"] if row["role"] == role), None)
        if row is not None and row["rule"] is not None:
            rule = row["rule"]
            share = escape(number(rule["rate"], rule["low"], rule["high"], 100))
            console.print(f"rule, {role}: {rule['passed']} of {rule['n']} answers pass, {share} %")
    for row in gate["table"]:
        if row["n_unscored"] or row["n_missing_answers"]:
            console.print(
                f"unscored by {escape(row['judge'])}, {row['role']}: {row['n_unscored']} verdicts, "
                f"{row['n_missing_answers']} answers missing"
            )
    console.print(f"[bold]{gate['decision']}[/]: {escape(gate['reason'])}\n", soft_wrap=True)


def _scores_table(gate: Mapping[str, Any], rehearsal: bool) -> "Table":
    from rich.markup import escape

    title = f"round {gate['round']}, {_about(gate)}{rehearsal_mark(rehearsal)}"
    columns = ("answers", "judge", "score", "mean [95 %]", "≥50", "≥70", "÷ service %")
    table = plain_table(title, *map(escape, columns))
    for row in gate["table"]:
        for metric in row.get("measures", METRICS):
            score = row[metric] or {}
            match = (row["p_match"] or {}).get(metric) or {}
            table.add_row(
                row["role"] if gate["data_size"] is not None else "ready-made",
                escape(row["judge"]),
                metric,
                escape(number(score.get("mean"), score.get("low"), score.get("high"))),
                _percent(score.get("coverage@50")),
                _percent(score.get("coverage@70")),
                escape(number(match.get("value"), match.get("low"), match.get("high"))),
            )
    return table


def _about(gate: Mapping[str, Any]) -> str:
    if gate["data_size"] is None:
        from rich.markup import escape

        return f"ready-made answers of {escape(gate['table'][0]['generator'])}"
    return f"{gate['data_size']:,} synthetic rows"


def _stages_table(run: RunRecord) -> "Table":
    """The stages before the rounds, then those of every round, by state."""
    table = plain_table(None, "round", "rows", "stages", "decision")
    standings = Standings(run.root)
    table.add_row("", "", _states(standings, run.stages), "")
    for step in run.rounds:
        rows = _MISSING if step.data_size is None else f"{step.data_size:,}"
        cells = str(step.round), rows, _states(standings, step.stages)
        table.add_row(*cells, step.decision or _MISSING)
    return table


def _states(standings: Standings, stages: Mapping[str, str]) -> str:
    """Return the roles by state, and why one of them failed or waits."""
    from rich.markup import escape

    by_state: dict[str, list[str]] = {state: [] for state in STATES}
    reasons = dict[str, None]()
    for name, path in stages.items():
        standing = standings.of(path)
        by_state[standing.state].append(escape(name))
        if standing.reason:
            reasons[escape(standing.reason)] = None
        if standing.state == "running" and (losses := standings.losses(path)):
            reasons[escape(f"{name}: {losses}")] = None
    lines = [f"{state}: {', '.join(names)}" for state, names in by_state.items() if names]
    return "\n".join([*lines, *reasons])


def plain_table(title: str | None, *columns: str) -> "Table":
    """Return an empty table without a frame."""
    from rich import box
    from rich.table import Table

    table = Table(
        title=title,
        title_justify="left",
        box=box.SIMPLE_HEAD,
        collapse_padding=True,
        pad_edge=False,
        show_edge=False,
    )
    for column in columns:
        table.add_column(column)
    return table


def rehearsal_mark(rehearsal: bool) -> str:
    """Return what stands behind the name of a rehearsal."""
    return " · [yellow]REHEARSAL[/], offline stand-ins" if rehearsal else ""


def number(
    value: float | None, low: float | None = None, high: float | None = None, scale: float = 1
) -> str:
    """Return a value with its interval; missing is a dash, never 0."""
    if value is None:
        return _MISSING
    ends = "" if low is None or high is None else f" [{scale * low:.1f}, {scale * high:.1f}]"
    return f"{scale * value:.1f}{ends}"


def _percent(share: float | None) -> str:
    return _MISSING if share is None else f"{100 * share:.0f} %"
