"""Plans of small runs, and how far those runs are."""

from collections.abc import Callable
from typing import Any

from support import configs
from understudy import plan
from understudy.config import Config, Prices, Service
from understudy.pipeline import flow, stages, worker
from understudy.pipeline import run as pipeline
from understudy.pipeline.stages import Stage
from understudy.plan import Plan, PlannedStage
from understudy.plan.ranges import Range, total
from understudy.records import Answer, Coverage, read_rows
from understudy.store.artifacts import RowLog, StageDir

SMALL = (
    "coverage.rows=24",
    "coverage.split.test=4",
    "coverage.split.validation=4",
    "inference.k=2",
    "evaluation.m=3",
)
ONE_ROUND = (*SMALL, "data_size=250")
Make = Callable[..., Config]


def priced(name: str, **changed: Any) -> Service:
    facts: dict[str, Any] = {
        **{"name": name, "provider": "openai", "model": f"{name}-1", "family": "x", "terms": None},
        **{"temperature": None, "max_output_tokens": 1000, "concurrency": 10, "rehearsal": True},
        "prices": Prices(input=2.0, output=8.0, date="2026-11-21", source="a test", batch=0.5),
    }
    return configs.service(**facts | changed)


def work_off(config: Config, *names: str) -> None:
    """Do the stages of these names in this process, as the pipeline would."""
    run = pipeline.Run(config, ["understudy", "run"])
    for task in run.steps():
        if task.directory.path.parent.name not in names:
            return
        worker.run(task.directory)


def planned(*cells: Config) -> Plan:
    return plan.make(cells, "run/x")


def items(made: Plan, kind: str, *states: str) -> list[PlannedStage]:
    return [i for i in made.items if i.stage.kind == kind and (not states or i.state in states)]


def calls(made: Plan, kind: str) -> Range:
    return total(i.cost.calls for i in items(made, kind) if i.cost)


def answers_of(config: Config, text: Callable[[Coverage, int], str]) -> Stage:
    """The finished answers of the local model to the first round."""
    stage = flow.flow_of(config).round(0)["inference"]
    directory = StageDir(pipeline.run_root(config) / stage.path)
    directory.prepare(stages.frozen(stage, config), {"command": "", "inputs": {}, "purse": ""})
    attempt = directory.open_attempt()
    log = RowLog(attempt / "out", Answer)
    log.append(
        Answer(row.id, row.group_id, k, text(row, k), 3, "stop", "tiny", "understudy")
        for row in rows_of(config)
        if row.split == "test"
        for k in range(config.inference.k)
    )
    log.finish()
    directory.publish(attempt, {"seconds": 3.0})
    return stage


def rows_of(config: Config) -> list[Coverage]:
    """The rows of the finished split."""
    split = StageDir(pipeline.run_root(config) / flow.flow_of(config).split.path)
    return list(read_rows(split.out / "rows.jsonl", Coverage))
