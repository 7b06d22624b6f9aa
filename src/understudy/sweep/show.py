"""A sweep seen whole: its cells with their scores, the best first, and those that failed last."""

import math
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from understudy.pipeline.record import RunRecord
from understudy.pipeline.standing import Standings
from understudy.pipeline.status import METRICS, console_for, number, plain_table, rehearsal_mark
from understudy.sweep.record import CellRecord, SweepRecord


class Line(NamedTuple):
    """What is known of a cell."""

    cell: CellRecord
    run: RunRecord | None  # None: not begun
    scores: list[Mapping[str, Any]]  # of the local model by judge, from the gate shown here

    @property
    def is_decided(self) -> bool:
        """Whether its run has ended."""
        return self.run is not None and self.run.decision is not None

    @property
    def order(self) -> tuple[bool, tuple[float, ...]]:
        """Failures last, the others by precision, then similarity, each the mean of the judges."""
        failed = not self.is_decided and self.cell.failed is not None
        return failed, tuple(-_mean(self.scores, metric) for metric in reversed(METRICS))

    def words(self, standings: Standings) -> tuple[str, str]:
        """Return its decision, or how far it is, and the reason why it does not go on."""
        if self.run is not None and self.run.decision is not None:
            decision = self.run.decision
            return f"passed in round {decision.round}" if decision.passed else "not passed", ""
        if self.cell.failed:
            return "failed", f"failed: {self.cell.failed}"
        if self.run is None:
            return "not begun", ""
        state, _, reason = standings.outline(self.run.stage_paths).partition(": ")
        return state, reason

    def score(self, metric: str) -> str:
        """Return a metric with its interval, a line per judge."""
        several = len(self.scores) > 1
        return "\n".join(
            (f"{row['judge']}: " if several else "") + _score(row[metric] or {})
            for row in self.scores
        )


def show(sweep_json: Path) -> None:
    """Print every cell with its scores and decision, and how to go on when one is missing."""
    from rich.markup import escape

    record = SweepRecord.read(sweep_json)
    console = console_for()
    console.print(f"[bold]{escape(record.name)}[/]{rehearsal_mark(record.rehearsal)}")
    console.print(escape(str(sweep_json.parent)), soft_wrap=True)
    table = plain_table(None, "cell", "rounds", *METRICS, "decision", "run")
    lines = sorted(map(_line, record.cells, record.files), key=lambda line: line.order)
    standings = Standings(sweep_json.parents[2])
    reasons = list[str]()
    for line in lines:
        rounds = "" if line.run is None else str(len(line.run.rounds))
        scores = map(line.score, METRICS)
        run = Path(line.cell.run).name
        word, reason = line.words(standings)
        table.add_row(*map(escape, (line.cell.label, rounds, *scores, word, run)))
        reasons += [f"{line.cell.label} {reason}"] if reason else []
    console.print(table)
    for reason in reasons:  # below the table, whose columns would break paths and names
        console.print(escape(reason), soft_wrap=True)
    if not all(line.is_decided for line in lines):
        print(f"to go on: {record.command}")


def objective(run_json: Path) -> float:
    """Return what a search maximises: the mean precision of a run by its judges, 0 to 100.

    Where no judge measures precision it is similarity; NaN where nothing is scored.
    """
    scores = _line(CellRecord("", ""), run_json).scores
    means = (_mean(scores, metric) for metric in reversed(METRICS))
    return next((mean for mean in means if mean >= 0), math.nan)


def _line(cell: CellRecord, run_json: Path) -> Line:
    """Read a cell's run, and the gate of the round that passed, else of the last that is done."""
    if not run_json.is_file():
        return Line(cell, None, [])
    run = RunRecord.read(run_json)
    gates = {step.round: run.stage(step.stages.get("gate", "gate/none")) for step in run.rounds}
    done = [index for index, gate in gates.items() if gate.is_done]
    passed = run.decision.round if run.decision is not None else None
    if not done:
        return Line(cell, run, [])
    chosen = passed if passed in done else max(done)
    table = gates[chosen].read("out/summary.json")["table"]
    return Line(cell, run, [row for row in table if row["role"] == "local"])


def _mean(rows: list[Mapping[str, Any]], metric: str) -> float:
    means = [row[metric]["mean"] for row in rows if row[metric] is not None]
    known = [mean for mean in means if mean is not None]
    return fmean(known) if known else -1.0  # below every score


def _score(found: Mapping[str, Any]) -> str:
    return number(found.get("mean"), found.get("low"), found.get("high"))
