"""Finished synthetic pools and training sets, made by the stages' own workers in this process."""

import json

from support import records
from understudy.config import Config
from understudy.pipeline import run, stages, worker
from understudy.pipeline.flow import Flow
from understudy.pipeline.stages import Stage
from understudy.store.artifacts import StageDir


def do(stage: Stage, config: Config) -> StageDir:
    """Run one stage where the pipeline would, after those that it reads."""
    root = run.run_root(config)
    directory = StageDir(root / stage.path)
    if not directory.is_done:
        for above in stage.inputs.values():
            do(above, config)
        paths = {role: above.path for role, above in stage.inputs.items()}
        purse = f"run/{run.run_name(config)}"
        inputs = {"command": "test", "inputs": paths, "purse": purse}
        directory.prepare(stages.frozen(stage, config), inputs)
        worker.run(directory)
    return directory


def training_set(config: Config) -> StageDir:
    """The training set of the only round, and a run that knows it."""
    subset = Flow(config).round(0)["subset"]
    made = do(subset, config)
    directory = run.run_root(config) / "run" / run.run_name(config)
    directory.mkdir(parents=True, exist_ok=True)
    step = {"round": 0, "data_size": config.data_size, "stages": {"subset": subset.path}}
    record = records.record(name=directory.name, rounds=[step])
    (directory / "run.json").write_text(json.dumps(record))
    return made
