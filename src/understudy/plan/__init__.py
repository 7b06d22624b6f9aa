"""What a run or a sweep would do and cost; nothing below the runs' root is written.

Exact where it is known, else an interval: rounds are needed only while the gate says no, a
teacher's yield is a guess until a block is done, and the journal tells how long replies are.
"""

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from understudy.config import Config, Service
from understudy.data.prepare import prepare
from understudy.evaluation import power
from understudy.pipeline import run
from understudy.pipeline.flow import flow_of
from understudy.pipeline.stages import Stage, named
from understudy.plan import capacity
from understudy.plan.calls import Known, StageCalls, StageCost, cost_of
from understudy.plan.compute import Compute, busy, devices, has_gpu, uses_gpu, work_of
from understudy.plan.inputs import Inputs
from understudy.plan.labels import LabelPlan, label_plans
from understudy.plan.learned import Learned, Paid
from understudy.plan.probe import Probed, Trial, probe
from understudy.plan.ranges import NOTHING, Range, total
from understudy.plan.speed import Speeds, here, key_of
from understudy.records import Coverage
from understudy.services.journal import open_journal
from understudy.store.artifacts import StageDir

_CROWDED = 1.5  # processes at work a core, from which on a plan says so

State = Literal["done", "to run", "perhaps"]


@dataclass
class PlannedStage:
    """One stage of the plan, with the config of the first cell that needs it.

    `seconds` is the wall time of its worker from the opening of its attempt to its end, which is
    what its meta.json calls `stage_seconds`: importing and loading count, starting Python does not.
    """

    stage: Stage
    config: Config
    root: Path
    state: State
    cells: int = 1  # number of cells that use it
    cost: StageCost | None = None  # of its calls
    seconds: Range = NOTHING
    gpu_hours: Range = NOTHING
    basis: str = ""  # what the time rests on

    @property
    def role(self) -> str:
        """What its calls have in common with others: answers of a service have their own."""
        of = self.stage.inputs.get("answers")
        asks = of is not None and of.service(self.config) is not None
        return f"{self.stage.kind}.baseline" if asks else self.stage.kind

    @property
    def service(self) -> Service | None:
        """The service that it asks."""
        return self.stage.service(self.config)

    @property
    def usd(self) -> Range | None:
        """What its calls cost in the service's own mode; None where no price is stated."""
        if self.cost is None or self.service is None:
            return NOTHING
        return self.cost.batch_usd if self.service.mode == "batch" else self.cost.online_usd


@dataclass
class Plan:
    """All stages, in the order to run them."""

    items: list[PlannedStage]
    cells: int
    processes: int
    is_rehearsal: bool
    is_free: bool  # whether no real service is asked
    budget_usd: float | None
    spent_usd: float  # by this run or sweep so far
    power: list[str]  # what its holdouts can show
    notices: list[str]  # what could not be probed, and what makes intervals wide
    labels: list[LabelPlan]  # where a price of a label was given

    @property
    def open(self) -> list[PlannedStage]:
        """The stages that are not done."""
        return [item for item in self.items if item.state != "done"]

    @property
    def usd(self) -> Range:
        """Dollars, without the services of `unpriced`."""
        return total(item.usd for item in self.open if item.usd is not None)

    @property
    def unpriced(self) -> list[str]:
        """The services without a stated price."""
        return sorted({i.service.name for i in self.open if i.usd is None and i.service})

    @property
    def seconds(self) -> Range:
        """Wall time: one stage after the other, at best all of `cluster.processes` busy."""
        whole = total(item.seconds for item in self.open)
        return Range(whole.low / self.processes, whole.expected / self.processes, whole.high)

    @property
    def gpu_hours(self) -> Range:
        """Hours of one GPU."""
        return total(item.gpu_hours for item in self.open)


def make(
    cells: Sequence[Config], purse: str, is_probed: bool = False, label_usd: float | None = None
) -> Plan:
    """Return the plan of one run, or of all cells of a sweep that `purse` pays.

    `is_probed`: this machine's speed is measured, for ten seconds and what loading takes.
    `label_usd`: what a prompt costs whose two answers a human scores; of the first cell.
    """
    with tempfile.TemporaryDirectory(prefix="understudy-plan-") as scratch:
        record = Path(scratch) / "hub.json"
        kept = Path(cells[0].paths.root).expanduser() / "hub.json"
        if kept.is_file():
            shutil.copy(kept, record)
        cells = [prepare(config, record).config for config in cells]
        items = _items(cells)
        inputs = Inputs(Path(scratch) / "rows")
        spent = 0.0
        tried = _probed(items, inputs) if is_probed else Probed(Speeds([]), [])
        shown = dict.fromkeys(line for config in cells for line in _power(config, inputs))
        adapters = list(
            dict.fromkeys(line for config in cells for line in _capacity(config, inputs))
        )
        for root in sorted({item.root for item in items}):
            with open_journal(root / "journal") as journal:
                paid = Paid(journal)
                below = [item for item in items if item.root == root]
                _estimate(below, inputs, paid, Compute(root, tried.speeds))
                spent += paid.spent_usd(purse)
        labels = [] if label_usd is None else _labels(cells[0], inputs, items, label_usd)
    first = cells[0]
    return Plan(
        items=items,
        cells=len(cells),
        processes=first.cluster.processes if len(cells) > 1 else 1,
        is_rehearsal=any(config.is_rehearsal for config in cells),
        is_free=all(
            service.rehearsal or service.provider == "offline"
            for config in cells
            for service in config.services
        ),
        budget_usd=first.budget.usd,
        spent_usd=spent,
        power=list(shown),
        notices=tried.problems + _crowd(items) + adapters,
        labels=labels,
    )


def _labels(
    config: Config, inputs: Inputs, items: Sequence[PlannedStage], usd: float
) -> list[LabelPlan]:
    """What labels of the cell's holdout buy, with all judging that is planned."""
    judging = [i.usd for i in items if i.stage.kind == "evaluation" and i.state != "done"]
    dollars = sum(one.expected for one in judging if one is not None)
    return label_plans(_holdout(config, inputs) or [], config.gate, dollars, usd)


def _crowd(items: Sequence[PlannedStage]) -> list[str]:
    """A sentence where times on this machine's cores are less sure, for others use them too."""
    mine = (i for i in items if i.state != "done" and work_of(i.stage.name) is not None)
    is_here = any(
        here(i.config.cluster, uses_gpu(i.config)) and not uses_gpu(i.config) for i in mine
    )
    if not is_here or (times := busy()) < _CROWDED:
        return []
    return [f"{times:.1f} processes share a core here now: intervals are so much wider, each way"]


def _probed(items: Sequence[PlannedStage], inputs: Inputs) -> Probed:
    """Measure what a stage that is not done does, once for each model and way."""
    trials: dict[tuple[str, ...], Trial] = {}
    problems = dict[str, None]()
    for item in items:
        config, kind = item.config, item.stage.kind
        key = key_of(kind, config)
        is_alike = (
            item.stage.name == item.stage.kind
        )  # others are as fast, or cannot be tried alone
        if item.state == "done" or key in trials or not is_alike or work_of(kind) is None:
            continue
        split = inputs.out(item.root, item.stage.inputs["split"], config)
        is_gpu = here(config.cluster, uses_gpu(config)) is None and config.cluster.gpu.gpus > 0
        if is_gpu and not has_gpu():
            problems["the nodes have GPUs and this machine has none: nothing was probed"] = None
        elif kind == "inference" and config.inference.engine == "vllm":
            problems["inference=vllm was not probed"] = None
        elif split is not None:
            trials[key] = Trial(key, item.stage.spec.run, config, split)
    found = probe(list(trials.values()))
    return found._replace(problems=[*problems, *found.problems])


def _power(config: Config, inputs: Inputs) -> list[str]:
    """What the cell's holdout can show; nothing while it takes more than a moment to know it."""
    groups = _holdout(config, inputs)
    return [] if groups is None else power.lines(config, groups)


def _holdout(config: Config, inputs: Inputs) -> list[str] | None:
    """The clusters of its prompts; None while it takes more than a moment to know them."""
    flow = flow_of(config)
    name = "holdout" if flow.is_ladder else "test"
    rows = inputs.rows(run.run_root(config), flow.split, config, Coverage)
    return None if rows is None else [row.group_id for row in rows if row.split == name]


def _capacity(config: Config, inputs: Inputs) -> list[str]:
    """What the adapter can hold; nothing of ready-made answers, or while rows are not known."""
    flow = flow_of(config)
    if config.trainer.kind == "none":
        return []
    rows = inputs.rows(run.run_root(config), flow.split, config, Coverage)
    return capacity.lines(config, rows or [])


def _items(cells: Sequence[Config]) -> list[PlannedStage]:
    """Every stage once; needed for sure when any cell needs it for sure."""
    found: dict[Path, PlannedStage] = {}
    for config in cells:
        root = run.run_root(config)
        mine: set[Path] = set()
        for stage, is_sure in _walk(config, root):
            directory = StageDir(root / stage.path)
            if directory.path in mine:
                continue
            mine.add(directory.path)
            state: State = "done" if directory.is_done else "to run" if is_sure else "perhaps"
            if (item := found.get(directory.path)) is None:
                seen = stage.spec.view(config)
                found[directory.path] = PlannedStage(stage, seen, root, state)
            else:
                item.cells += 1
                item.state = "to run" if "to run" in (item.state, state) else state
    return list(found.values())


def _walk(config: Config, root: Path) -> Iterator[tuple[Stage, bool]]:
    """The stages of a run, and whether it is sure to come to them."""
    flow = flow_of(config)
    for stage in flow.shared.values():
        yield stage, True
    is_sure = True
    for number in range(len(flow.sizes)):
        stages = flow.round(number)
        for stage in stages.values():
            yield stage, is_sure
        if flow.is_ladder:
            gate = StageDir(root / stages["gate"].path)
            decision = gate.read("out/summary.json")["decision"] if gate.is_done else None
            if decision == "pass":
                return
            is_sure = is_sure and decision is not None


def _estimate(items: Sequence[PlannedStage], inputs: Inputs, paid: Paid, compute: Compute) -> None:
    """Fill in what every stage that is not done takes, learning from those that are."""
    finished = Known(inputs, lambda *_: False, set(), set(), {}, {})
    known = finished._replace(has_reply=paid.has_reply, seen=set())
    calls: dict[str, StageCalls] = {}
    for item in sorted(items, key=lambda item: item.state != "done"):
        spec, of = item.stage.spec, finished if item.state == "done" else known
        if spec.service is not None and spec.estimate is not None:
            found = named(spec.estimate)(item.root, item.stage, item.config, of)
            if found is not None:
                calls[item.stage.path] = found
    seen = {
        item.stage.path: (item.role, calls[item.stage.path].size)
        for item in items
        if item.stage.path in calls
    }
    learned = Learned(paid.facts(seen))
    for item in items:
        if item.state == "done":
            continue
        if item.stage.path in calls:
            item.cost = cost_of(calls[item.stage.path], item.role, learned)
            item.seconds, item.basis = item.cost.seconds, item.cost.basis
        else:
            split, rows = item.stage.inputs.get("split"), None
            if split is not None:
                rows = inputs.rows(item.root, split, item.config, Coverage)
            item.seconds, item.basis = compute.estimate(item.stage, item.config, rows)
            if item.stage.spec.room == "gpu" and uses_gpu(item.config):
                item.gpu_hours = item.seconds * (devices(item.stage, item.config) / 3600)
        if item.state == "perhaps":
            item.seconds, item.gpu_hours = item.seconds.or_nothing(), item.gpu_hours.or_nothing()
            item.cost = item.cost and item.cost.or_nothing()
