"""What runs need next, as cells of a plan: where each stage runs and what it waits for."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from understudy.config import Config
from understudy.config.cluster import Room
from understudy.pipeline.record import HoldoutRecord, RoundRecord, RunRecord
from understudy.pipeline.run import Run
from understudy.pipeline.stages import Stage
from understudy.store.artifacts import StageDir
from understudy.sweep import slurm


class Cell(NamedTuple):
    """One stage that is not done, with the upstream stages that are not done either."""

    path: Path
    stage: str
    room: Room
    flags: tuple[str, ...]  # what its job asks for
    service: str | None  # that it asks
    needs: tuple[Path, ...]


class Ahead(NamedTuple):
    """How far a run is: its record so far, and the stages that are sure to be needed next."""

    run: Run
    record: RunRecord
    stages: list[Stage]  # not done, each after what it needs; none = only the decision is left


def ahead(run: Run) -> Ahead:
    """Read from the disk which rounds have decided; the next one, or the holdout, is needed."""
    flow = run.flow
    plan = dict(flow.shared)
    record = replace(run.record, stages=_paths(plan), rounds=[])
    stages = list(plan.values())
    for number, size in enumerate(flow.sizes):
        plan = flow.round(number)
        stages += plan.values()
        gate = StageDir(run.root / plan["gate"].path)
        decision = gate.read("out/summary.json")["decision"] if gate.is_done else None
        record.rounds.append(RoundRecord(number, size, _paths(plan), decision))
        if flow.is_ladder and decision == "pass" and (last := run.holdout(number)):
            record.holdout = HoldoutRecord(number, _paths(last))
            stages += last.values()
        if flow.is_ladder and decision in (None, "pass"):
            break
    left = {stage.path: stage for stage in stages if not StageDir(run.root / stage.path).is_done}
    return Ahead(run, record, list(left.values()))


def _paths(plan: Mapping[str, Stage]) -> dict[str, str]:
    return {role: stage.path for role, stage in plan.items()}


def cells(aheads: Iterable[Ahead]) -> dict[Path, tuple[Cell, Ahead, Stage]]:
    """The different cells by their directory, each after what it needs; the first run owns it."""
    found: dict[Path, tuple[Cell, Ahead, Stage]] = {}
    for each in aheads:
        places, root = _Places(each.run.config), each.run.root
        left = {stage.path for stage in each.stages}
        for stage in each.stages:
            if (path := root / stage.path) not in found:
                upstream = {up.path for up in stage.inputs.values()} & left
                needs = tuple(root / up for up in sorted(upstream))
                found[path] = places.cell(path, stage, needs), each, stage
    return found


class _Places:
    """Where the stages of a config run."""

    def __init__(self, config: Config) -> None:
        self._config = config
        cluster, gpu, spread = config.cluster, config.cluster.gpu, config.accelerate
        nodes = spread.nodes if spread.is_distributed else 1
        self._flags = {
            ("gpu", "all"): slurm.flags(gpu, gpu.gpus, nodes),
            ("gpu", "one"): slurm.flags(gpu, min(1, gpu.gpus), 1),
            ("cpu", "none"): slurm.flags(cluster.cpu, 0, 1),
            ("api", "none"): slurm.flags(cluster.api, 0, 1),
        }

    def cell(self, path: Path, stage: Stage, needs: tuple[Path, ...]) -> Cell:
        spec, service = stage.spec, stage.service(self._config)
        flags = self._flags[spec.room, spec.gpus]
        return Cell(path, stage.name, spec.room, flags, service.name if service else None, needs)
