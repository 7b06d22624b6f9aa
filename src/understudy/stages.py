"""Facts per stage: what it reads of the config, which function runs it, its meaning's version."""

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from understudy import locations
from understudy.artifacts import digest, fingerprint
from understudy.config import Config
from understudy.prompts import judge as judge_prompt
from understudy.prompts import synthesis as synthesis_prompt
from understudy.records import SCHEMA_VERSION


@dataclass(frozen=True)
class Spec:
    """`leaves` are prefixes of dotted config names; `{judge}` is filled from the params."""

    run: str
    leaves: tuple[str, ...]
    version: int = 1  # raise it when the stage's meaning changes


SPECS = {
    "coverage": Spec(
        "understudy.data.coverage:run",
        ("coverage.kind", "coverage.rows", "coverage.seed", "coverage.licence", "task.name"),
    ),
    "split": Spec("understudy.data.split:run", ("coverage.split", "coverage.seed")),
    "synthesis": Spec("understudy.synthesis:run", ("synthesis", "task.name", "task.topic")),
    "subset": Spec("understudy.data.subset:run", ()),
    "finetune": Spec("understudy.finetune:run", ("model", "trainer", "seed")),
    "inference": Spec("understudy.inference:run", ("model", "inference", "seed")),
    "baseline": Spec("understudy.baseline:run", ("baseline", "inference.k")),
    "evaluation": Spec(
        "understudy.evaluation.judge:run", ("evaluation", "judges.{judge}", "task.execute_code")
    ),
    "gate": Spec(
        "understudy.evaluation.gate:run", ("gate.kind", "gate.similarity", "gate.precision")
    ),
}


@dataclass(frozen=True)
class Stage:
    """One stage with everything that its result depends on."""

    name: str
    params: dict[str, Any]
    inputs: dict[str, "Stage"]  # role -> upstream stage
    leaves: dict[str, Any]
    files: dict[str, str]  # what -> digest of its contents

    @cached_property
    def document(self) -> dict[str, Any]:
        """What is hashed."""
        return {
            "stage": self.name,
            "version": SPECS[self.name].version,
            "schema": SCHEMA_VERSION,
            "params": self.params,
            "config": self.leaves,
            "files": self.files,
            "inputs": {role: stage.fingerprint for role, stage in self.inputs.items()},
        }

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits."""
        return fingerprint(self.document)

    @property
    def path(self) -> str:
        """The stage's directory, below the run root."""
        return f"{self.name}/{self.fingerprint}"


def science(value: Any, name: str = "") -> dict[str, Any]:
    """Dotted name → value of every leaf that can change a result."""
    if isinstance(value, dict):
        items = [(key, item, False) for key, item in value.items()]
    elif dataclasses.is_dataclass(value):
        items = [
            (item.name, getattr(value, item.name), bool(item.metadata.get("machine")))
            for item in dataclasses.fields(value)
        ]
    else:
        return {name: value}
    return {
        leaf: leaf_value
        for key, item, is_machine in items
        if not is_machine
        for leaf, leaf_value in science(item, f"{name}.{key}" if name else key).items()
    }


def make(
    name: str,
    config: Config,
    params: dict[str, Any] | None = None,
    inputs: dict[str, Stage] | None = None,
) -> Stage:
    """The stage `name` of this config."""
    params = params or {}
    wanted = [leaf.format(**params) for leaf in SPECS[name].leaves]
    leaves = {
        leaf: value
        for leaf, value in science(config).items()
        if any(leaf == prefix or leaf.startswith(f"{prefix}.") for prefix in wanted)
    }
    return Stage(name, params, inputs or {}, leaves, _files(name, config))


def _files(name: str, config: Config) -> dict[str, str]:
    """Digests of what a stage reads beside config and upstream: prompts and model files."""
    if name == "synthesis":
        return {"prompt": fingerprint(synthesis_prompt.template())}
    if name == "evaluation":
        return {"prompt": fingerprint(judge_prompt.template(config.evaluation.prompt))}
    if name in ("finetune", "inference") and config.model.path is not None:
        return {"model": digest(locations.model(config.model.path))}
    return {}


def frozen(stage: Stage, config: Config) -> dict[str, Any]:
    """What `config.json` holds: the hashed document, and the typed config that the worker loads."""
    return {"hashed": stage.document, "config": dataclasses.asdict(config)}
