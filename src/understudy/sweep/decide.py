"""`understudy decide SWEEP`: one decision per workload, and what holds of all of them together.

A workload (task, service, local model) may be that of several cells, say of data sizes. Its holdout
is looked at in one of them: the cell that passed and is furthest above its service on the test
split, which has seen no holdout. So a sweep takes one look at each workload, not one per cell.

The family is every workload that is looked at or still may be: a cell that is not finished counts,
as not shown, and one where no round passed does not, since it never will be looked at.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from understudy.errors import BadInput
from understudy.evaluation.family import FamilyWord, Member, together
from understudy.evaluation.looks import Workload, workload_of
from understudy.pipeline import deciding
from understudy.pipeline.deciding import Asked, Look
from understudy.pipeline.record import RunRecord
from understudy.store.artifacts import write_atomically
from understudy.sweep.record import CellRecord, SweepRecord


@dataclass(frozen=True)
class _Cell:
    """A cell of the sweep, and how far it is."""

    record: CellRecord
    run: RunRecord | None  # None: not begun
    workload: Workload | None

    @property
    def state(self) -> str:
        """`ready` to be decided, `open` while it is not finished, `closed` where none passed."""
        if self.run is None or self.run.decision is None:
            return "open"
        return "ready" if self.run.is_ready_made or self.run.decision.passed else "closed"


@dataclass(frozen=True)
class WorkloadLine:
    """One workload: the cell that was looked at, its own decision, and that of the family."""

    workload: Workload
    cell: CellRecord
    run: RunRecord | None
    look: Look | None  # None: not finished
    member: Member
    family: FamilyWord
    others: Sequence[str]  # labels of cells of this workload that were not looked at


@dataclass(frozen=True)
class Family:
    """The decisions of a sweep."""

    name: str
    alpha: float
    lines: Sequence[WorkloadLine]
    closed: Sequence[CellRecord]  # of workloads where no round of any cell passed

    @property
    def looked_at(self) -> list[RunRecord]:
        """The runs whose holdout was looked at."""
        return [line.run for line in self.lines if line.look is not None and line.run is not None]

    @property
    def all_migrate(self) -> bool:
        """Whether every workload of the sweep may migrate."""
        return not self.closed and all(line.family.word == "MIGRATE" for line in self.lines)


def decide(sweep_json: Path, asked: Asked) -> Family:
    """Look at every workload that can be, decide them together, and write decision.json."""
    sweep = SweepRecord.read(sweep_json)
    cells = [_cell(*pair, asked) for pair in zip(sweep.cells, sweep.files, strict=True)]
    chosen: dict[Workload, list[_Cell]] = {}
    for cell in cells:
        if cell.state != "closed":
            # What a cell that has not begun is about is not known: a workload of its own.
            workload = cell.workload or Workload(cell.record.label, "", "")
            chosen.setdefault(workload, []).append(cell)
    ready = [cell for cell in cells if cell.state == "ready"]
    if not ready:
        raise BadInput(
            f"no cell of {sweep.name} has passed its gate and judged a holdout; "
            f"go on with {sweep.command}"
        )
    alpha = _alpha(ready, asked)
    for some in chosen.values():  # nothing is looked at before all can be
        _check(some, asked)
    first = [_first(some) for some in chosen.values()]
    found = [
        deciding.decide(cell.run, asked) if cell.run and cell.state == "ready" else None
        for cell in first
    ]
    members = [
        Member(None, 1.0) if look is None else Member(look.decision.decision, look.smallest_alpha)
        for look in found
    ]
    lines = [
        WorkloadLine(workload, cell.record, cell.run, look, member, word,
             [other.record.label for other in chosen[workload] if other is not cell])
        for workload, cell, look, member, word in zip(
            chosen, first, found, members, together(members, alpha), strict=True
        )
    ]  # fmt: skip
    closed = [
        cell.record for cell in cells if cell.state == "closed" and cell.workload not in chosen
    ]
    family = Family(sweep.name, alpha, lines, closed)
    text = json.dumps(_document(family), indent=1, allow_nan=False)
    write_atomically(sweep_json.with_name("decision.json"), text)
    return family


def _cell(record: CellRecord, run_json: Path, asked: Asked) -> _Cell:
    if not run_json.is_file():
        return _Cell(record, None, None)
    run = RunRecord.read(run_json)
    config = run.config
    local, service = config["model"]["name"], (config["baseline"].get("service") or {}).get("name")
    if run.is_ready_made:
        names = {
            run.stage(path).read("out/summary.json")["generator"]
            for step in run.rounds
            for role, path in step.stages.items()
            if role.startswith("evaluation.") and run.stage(path).is_done
        }
        local = next(iter(names - {asked.service}), "unknown")
        service = asked.service
    return _Cell(record, run, workload_of(config, local, service or "none"))


def _alpha(cells: Sequence[_Cell], asked: Asked) -> float:
    """The one alpha of the family."""
    found = {deciding.terms_of(cell.run, asked).alpha for cell in cells if cell.run}
    if len(found) > 1:
        values = ", ".join(f"{alpha:g}" for alpha in sorted(found))
        raise BadInput(f"the cells have gate.alpha {values}: give --alpha for all of them together")
    return found.pop()


def _check(cells: Sequence[_Cell], asked: Asked) -> None:
    """Raise BadInput where a holdout is not judged, or cells of a workload differ in their panel.

    The best of several panels would be the most lenient one.
    """
    panels = {
        tuple(sorted(deciding.judged(cell.run, asked.service).judges)): cell.record.label
        for cell in cells
        if cell.state == "ready" and cell.run is not None
    }
    if len(panels) > 1:
        (first, of_first), (second, of_second), *_ = panels.items()
        raise BadInput(
            f"cells {of_first} and {of_second} are one workload under other judges "
            f"({', '.join(first)}; {', '.join(second)}): decide the run of one of them, "
            "or give all cells the same gate.judges"
        )


def _first(cells: Sequence[_Cell]) -> _Cell:
    """The cell to look at: the one that is furthest above its service on the test split."""
    ready = [cell for cell in cells if cell.state == "ready"]
    return max(ready, key=_advantage) if ready else cells[0]


def _advantage(cell: _Cell) -> float:
    """Mean precision of the local model minus the service's, over the gate's judges."""
    assert cell.run is not None
    assert cell.run.decision is not None
    for step in cell.run.rounds:
        gate = cell.run.stage(step.stages.get("gate", "gate/none"))
        if step.round == cell.run.decision.round and gate.is_done:
            table = gate.read("out/summary.json")["table"]
            means = [
                (1 if row["role"] == "local" else -1, row["precision"]["mean"]) for row in table
            ]
            sides = [
                [mean for sign, mean in means if sign == side and mean is not None]
                for side in (1, -1)
            ]
            if all(sides):
                return fmean(sides[0]) - fmean(sides[1])
    return float("-inf")


def _document(family: Family) -> dict[str, Any]:
    """What decision.json of a sweep holds."""
    return {
        "alpha": family.alpha,
        "workloads": [
            {
                **line.workload._asdict(),
                "cell": line.cell.label,
                "run": line.cell.run,
                "own": line.member.word,
                "p": line.member.p,
                "family": line.family.word,
                "p_holm": line.family.p,
                "look": None if line.look is None else line.look.decision.look,
                "not_looked_at": list(line.others),
            }
            for line in family.lines
        ],
        "not_passed": [cell.label for cell in family.closed],
    }


def lines(family: Family) -> Iterator[str]:
    """Yield what is printed: the family first, then every workload, then what was left out."""
    yes = sum(line.family.word == "MIGRATE" for line in family.lines)
    count = len(family.lines)
    yield (
        f"MIGRATE for {yes} of {count} workloads of {family.name}, together wrong with "
        f"probability {family.alpha:g} at most (Holm)"
        if yes
        else f"None of {count} workloads of {family.name} is shown to be ready to MIGRATE (Holm)"
    )
    names = [_name(line.workload, family.lines) for line in family.lines]
    table = [("workload", "alone", "p", "together", "p (Holm)")]
    for line, name in zip(family.lines, names, strict=True):
        own, word = (one or "not finished" for one in (line.member.word, line.family.word))
        values = ("", "") if line.look is None else (_p(line.member.p), _p(line.family.p))
        table.append((name, own, values[0], word, values[1]))
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
    panels = {line.look.terms.judges for line in family.lines if line.look is not None}
    yield (
        "the levels hold for judges of whom these are a random sample"
        if panels == {"random"}
        else "the levels hold for these panels of judges; --judges random: for judges like these"
    )
    for line, name in zip(family.lines, names, strict=True):
        if line.look is None:
            yield f"{name}: {line.cell.label} is not finished, and counts as not shown"
            continue
        found = line.look.decision
        yield (
            f"{name}: {found.reason} {found.difference.clusters} clusters hold {found.prompts} "
            f"prompts ({found.missing} missing), look {found.look}, one-sided level "
            f"{found.level:g}; {line.cell.label}, run {Path(line.cell.run).name}"
        )
        if line.others:
            yield (
                f"{name}: not looked at, since that cell is the furthest above its service on the "
                f"test split: {'; '.join(line.others)}"
            )
        for warning in found.warnings:
            yield f"{name}: warning: {warning}"
    for cell in family.closed:
        yield f"NOT YET, and its holdout stays unseen: no round of {cell.label} passed"


def _name(workload: Workload, of: Sequence[WorkloadLine]) -> str:
    """The task, with service and model where these are not the same in all workloads."""
    parts = [workload.task]
    for field in ("service", "lineage"):
        if len({getattr(line.workload, field) for line in of}) > 1:
            parts.append(getattr(workload, field))
    if len({line.workload.task for line in of}) == 1 and len(parts) > 1:
        parts = parts[1:]
    return " ".join(parts)


def _p(value: float) -> str:
    return "1" if value >= 1 else f"{value:.2g}" if value >= 1e-4 else "< 0.0001"
