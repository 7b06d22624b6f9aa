"""A sweep seen whole: its cells with their scores, the best first, and those that failed last."""

import itertools
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from understudy.config.command_line import command
from understudy.pipeline.record import RunRecord
from understudy.pipeline.standing import Standings
from understudy.pipeline.status import METRICS, console_for, number, plain_table, rehearsal_mark
from understudy.sweep.record import CellRecord, SweepRecord

_LONG = 200  # cells; a longer table is laid out here, since rich takes milliseconds a row


class Line(NamedTuple):
    """What is known of a cell."""

    place: int  # among the cells
    path: Path  # of its run.json, which is there once it has begun
    cell: CellRecord
    values: dict[str, str]  # by axis
    run: RunRecord | None  # None: not begun
    scores: list[Mapping[str, Any]]  # of the local model by judge, from the gate shown here
    word: str  # its decision, or how far it is
    reason: str  # why it does not go on
    is_failed: bool

    @property
    def is_decided(self) -> bool:
        """Whether its run has ended."""
        return self.run is not None and self.run.decision is not None

    @property
    def order(self) -> tuple[bool, tuple[float, ...]]:
        """Failures last, the others by precision, then similarity, each the mean of the judges."""
        return self.is_failed, tuple(-_mean(self.scores, metric) for metric in reversed(METRICS))

    @property
    def held(self) -> list[str]:
        """What the intervals of its scores are over; empty in gates of earlier versions."""
        sizes = {(row["n_prompts"], row["n_groups"]) for row in self.scores if row.get("n_groups")}
        return [
            f"{prompts:,} prompts in {clusters:,} clusters" for prompts, clusters in sorted(sizes)
        ]

    def score(self, metric: str) -> str:
        """Return a metric with its interval, a line per judge."""
        several = len(self.scores) > 1
        return "\n".join(
            (f"{row['judge']}: " if several else "") + _score(row[metric] or {})
            for row in self.scores
        )


def lines(record: SweepRecord) -> list[Line]:
    """Return all cells, the best first and those that failed last."""
    standings = Standings(record.path.parents[2])
    cells = zip(record.cells, record.files, record.values, strict=True)
    found = [_line(n, *cell, standings) for n, cell in enumerate(cells)]
    return sorted(found, key=lambda line: line.order)


def show(sweep_json: Path) -> None:
    """Print every cell with its scores and decision, and how to go on when one is missing."""
    from rich.markup import escape

    record = SweepRecord.read(sweep_json)
    console = console_for()
    console.print(f"[bold]{escape(record.name)}[/]{rehearsal_mark(record.rehearsal)}")
    console.print(escape(str(sweep_json.parent)), soft_wrap=True)
    header = ("cell", "rounds", *METRICS, "decision", "run")
    found, rows = lines(record), list[tuple[str, ...]]()
    for line in found:
        rounds = "" if line.run is None else str(len(line.run.rounds))
        cells = (line.cell.label, rounds, *map(line.score, METRICS), line.word)
        rows.append((*cells, Path(line.cell.run).name))
    if len(rows) > _LONG:
        print("\n".join(_columns([header, *rows])))
    else:
        table = plain_table(None, *header)
        for row in rows:
            table.add_row(*map(escape, row))
        console.print(table)
    for held in dict.fromkeys(held for line in found for held in line.held):
        print(f"intervals over {held}")
    for line in found:  # below the table, whose columns would break paths and names
        if line.reason:
            console.print(escape(f"{line.cell.label} {line.reason}"), soft_wrap=True)
    if not all(line.is_decided for line in found):
        print(f"to go on: {record.command}")
    elif any(line.run is not None and line.run.holdout is not None for line in found):
        print(f"to decide: {command('decide', operand=record.name)}")


def _columns(rows: list[tuple[str, ...]]) -> Iterator[str]:
    """Yield the lines of a table that is as wide as it must be; a cell may have several lines."""
    parts = [[cell.split("\n") for cell in row] for row in rows]
    widths = [max(max(map(len, row[n])) for row in parts) for n in range(len(rows[0]))]
    for row in parts:
        for texts in itertools.zip_longest(*row, fillvalue=""):
            cells = (text.ljust(width) for text, width in zip(texts, widths, strict=True))
            yield "  ".join(cells).rstrip()


def objective(run_json: Path) -> float:
    """Return what a search maximises: the mean precision of a run by its judges, 0 to 100.

    Where no judge measures precision it is similarity; NaN where nothing is scored.
    """
    scores = _scores(RunRecord.read(run_json)) if run_json.is_file() else []
    means = (_mean(scores, metric) for metric in reversed(METRICS))
    return next((mean for mean in means if mean >= 0), math.nan)


def _line(
    place: int, cell: CellRecord, path: Path, values: dict[str, str], standings: Standings
) -> Line:
    run = RunRecord.read(path) if path.is_file() else None
    word, reason, is_failed = _standing(cell, run, standings)
    scores = [] if run is None else _scores(run)
    return Line(place, path, cell, values, run, scores, word, reason, is_failed)


def _standing(
    cell: CellRecord, run: RunRecord | None, standings: Standings
) -> tuple[str, str, bool]:
    """Return a cell's decision or how far it is, why it does not go on, and whether it failed."""
    if run is not None and run.decision is not None:
        decision = run.decision
        word = f"passed in round {decision.round}" if decision.passed else "not passed"
        return word, "", False
    if cell.failed:
        return "failed", f"failed: {cell.failed}", True
    if run is None:
        return "not begun", "", False
    paths = run.stage_paths
    state, _, reason = standings.outline(paths).partition(": ")
    states = {path: standings.of(path).state for path in paths}
    is_failed = not {"failed", "cancelled", "blocked"}.isdisjoint(states.values())
    running = (path for path, state in states.items() if state == "running")
    losses = filter(None, map(standings.losses, running))
    return "\n".join([state, *losses]), reason, is_failed


def _scores(run: RunRecord) -> list[Mapping[str, Any]]:
    """Read the gate of the round that passed, else of the last that is done."""
    gates = {step.round: run.stage(step.stages.get("gate", "gate/none")) for step in run.rounds}
    done = [index for index, gate in gates.items() if gate.is_done]
    if not done:
        return []
    passed = run.decision.round if run.decision is not None else None
    chosen = passed if passed in done else max(done)
    table = gates[chosen].read("out/summary.json")["table"]
    return [row for row in table if row["role"] == "local"]


def _mean(rows: list[Mapping[str, Any]], metric: str) -> float:
    means = [row[metric]["mean"] for row in rows if row[metric] is not None]
    known = [mean for mean in means if mean is not None]
    return fmean(known) if known else -1.0  # below every score


def _score(found: Mapping[str, Any]) -> str:
    return number(found.get("mean"), found.get("low"), found.get("high"))
