"""Facts per stage: what it reads of the config, which function runs it, its meaning's version."""

import dataclasses
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from understudy import locations
from understudy.config import Config
from understudy.errors import BadInput
from understudy.prompts import judge as judge_prompt
from understudy.prompts import synthesis as synthesis_prompt
from understudy.records import SCHEMA_VERSION
from understudy.store.artifacts import digest, fingerprint


@dataclass(frozen=True)
class Spec:
    """`leaves` are prefixes of dotted config names; `{judge}` is filled from the params."""

    run: str
    leaves: tuple[str, ...]
    version: int = 1  # raise it when the stage's meaning changes


def _source(group: str, *more: str) -> tuple[str, ...]:
    """The leaves that say where rows come from; a file counts by its contents."""
    return *(f"{group}.{leaf}" for leaf in ("kind", "repo", "revision", "subset", "parts")), *more


_COVERAGE = ("rows", "seed", "licence", "format", "columns", "categories")
# A name with a dot is another way to the same kind of rows, in the same directory.
SPECS = {
    "coverage": Spec(
        "understudy.data.coverage:run",
        _source("coverage", *(f"coverage.{leaf}" for leaf in _COVERAGE), "task.name"),
        version=2,  # near-duplicate prompts by MinHash, word sets and ROUGE-L
    ),
    "split": Spec("understudy.data.split:run", ("coverage.split", "coverage.seed")),
    "fold": Spec("understudy.data.folds:run", ()),
    "synthesis": Spec(
        "understudy.synthesis:run",
        ("synthesis", "task.name", "task.topic"),
        version=2,  # prompts of the task, quotas, filters, near-duplicates and decontamination
    ),
    "cleaning": Spec(
        "understudy.data.cleaning:run",
        _source("synthesis", "synthesis.format", "synthesis.dedup", "task.name"),
        version=2,  # near-duplicates and what is held out
    ),
    "subset": Spec("understudy.data.subset:run", ("loop.subsets",)),
    "finetune": Spec("understudy.training.finetune:run", ("model", "trainer", "seed")),
    "inference": Spec("understudy.inference.inference:run", ("model", "inference", "seed")),
    "baseline": Spec("understudy.inference.baseline:run", ("baseline", "inference.k")),
    "evaluation": Spec(
        "understudy.evaluation.judge:run",
        ("evaluation", "judges.{judge}", "task.execute_code"),
        version=3,  # limits where only a few prompts failed; 2: unreadable verdicts once more
    ),
    "split.imported": Spec(
        "understudy.data.answers:run_prompts", _source("inference", "task.name")
    ),
    "inference.imported": Spec(
        "understudy.data.answers:run_answers", _source("inference", "inference.families")
    ),
    "evaluation.imported": Spec(
        "understudy.evaluation.imported:run",
        _source("inference", "inference.families", "inference.repeats"),
        version=2,  # limits where only a few prompts failed
    ),
    "gate": Spec(
        "understudy.evaluation.gate:run",
        tuple(f"gate.{leaf}" for leaf in ("kind", "similarity", "precision", "margin", "alpha")),
        version=3,  # limits where only a few prompts failed; 2: they say by which form they are
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
        return f"{self.name.partition('.')[0]}/{self.fingerprint}"


def science(value: Any, name: str = "") -> dict[str, Any]:
    """Dotted name → value of every leaf that can change a result.

    A leaf of later work that still has its default is left out.
    """
    if isinstance(value, dict):
        items = [(key, item, False) for key, item in value.items()]
    elif dataclasses.is_dataclass(value):
        items = [
            (item.name, getattr(value, item.name), _is_unhashed(item, getattr(value, item.name)))
            for item in dataclasses.fields(value)
        ]
    else:
        return {name: value}
    return {
        leaf: leaf_value
        for key, item, is_unhashed in items
        if not is_unhashed
        for leaf, leaf_value in science(item, f"{name}.{key}" if name else key).items()
    }


def _is_unhashed(item: "dataclasses.Field[Any]", value: Any) -> bool:
    is_old = "added" in item.metadata and value == item.default
    return is_old or bool(item.metadata.get("machine"))


class Maker:
    """Makes the stages of one config, which must not change meanwhile."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._read: dict[tuple[str, ...], tuple[dict[str, Any], dict[str, str]]] = {}

    @cached_property
    def _science(self) -> dict[str, Any]:
        return science(self._config)

    def __call__(
        self,
        name: str,
        params: dict[str, Any] | None = None,
        inputs: dict[str, Stage] | None = None,
    ) -> Stage:
        """The stage `name` with these parameters and upstream stages."""
        params = params or {}
        wanted = tuple(leaf.format(**params) for leaf in SPECS[name].leaves)
        if (name, *wanted) not in self._read:
            below = tuple(f"{leaf}." for leaf in wanted)
            leaves = {
                leaf: value
                for leaf, value in self._science.items()
                if leaf in wanted or leaf.startswith(below)
            }
            self._read[name, *wanted] = leaves, _files(name, self._config)
        return Stage(name, params, inputs or {}, *self._read[name, *wanted])


def _files(name: str, config: Config) -> dict[str, str]:
    """Digests of what a stage reads beside config and upstream: prompts, rows, model files."""
    if name == "synthesis":
        return {"prompt": fingerprint(synthesis_prompt.template(config.task.name))}
    if name == "evaluation":
        return {"prompt": fingerprint(judge_prompt.template(config.evaluation.prompt))}
    if name in ("finetune", "inference"):
        return _model_files(config)
    sources: dict[str, Any] = {"coverage": config.coverage, "cleaning": config.synthesis}
    source: Any = config.inference if name.endswith(".imported") else sources.get(name)
    if source is not None and source.kind == "file":
        return {"rows": _digest(Path(source.path).expanduser())}
    return {}


def _model_files(config: Config) -> dict[str, str]:
    model, files = config.model, dict[str, str]()
    if model.path is not None:
        files["model"] = _model_digest(locations.model(model.path))
    if model.chat_template is not None:
        files["chat_template"] = _digest(locations.chat_template(model.chat_template))
    return files


def _digest(path: Path) -> str:
    if not path.is_file():
        raise BadInput(f"{path} does not exist")
    return _digest_once(path, path.stat().st_mtime_ns, path.stat().st_size)


def _model_digest(path: Path) -> str:
    stats = [file.stat() for file in sorted(path.rglob("*"))]
    return _digest_once(path, *((stat.st_mtime_ns, stat.st_size) for stat in stats))


@lru_cache(maxsize=16)  # a sweep asks for every cell
def _digest_once(path: Path, *_stamp: object) -> str:
    return digest(path)


def frozen(stage: Stage, config: Config) -> dict[str, Any]:
    """What `config.json` holds: the hashed document, and the typed config that the worker loads."""
    return {"hashed": stage.document, "config": dataclasses.asdict(config)}
