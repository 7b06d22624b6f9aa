"""Everything that is known of a stage, in its `Spec`; no other file asks for a stage by its name.

A stage is three places: its `run`, its Spec here, and its place in `flow`.
"""

import dataclasses
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal

from understudy import locations
from understudy.config import Config, Service, views
from understudy.config.cluster import Room
from understudy.errors import BadInput
from understudy.models import gguf
from understudy.prompts import judge as judge_prompt
from understudy.prompts import synthesis as synthesis_prompt
from understudy.records import SCHEMA_VERSION
from understudy.store.artifacts import digest, fingerprint

Params = Mapping[str, Any]


def _no_files(config: Config, params: Params) -> dict[str, str]:
    return {}


@dataclass(frozen=True)
class Spec:
    """The facts of a stage; functions of other rooms as `module:name`, imported when used."""

    run: str
    leaves: tuple[str, ...]  # prefixes of dotted config names; `{judge}` is filled from the params
    version: int = 1  # raise it when the stage's meaning changes
    view: Callable[[Config], Config] = views.plain  # the config as this stage sees it
    files: Callable[[Config, Params], dict[str, str]] = _no_files  # digests of what else it reads
    service: Callable[[Config, Params], Service | None] | None = None  # which it asks
    gpus: Literal["none", "one", "all"] = "none"  # all: a process for each, as `accelerate` says
    is_quick: bool = False  # a plan may do it, to see its rows
    # For plans: of a stage that asks a service, what counts its calls; of others, its `Work`.
    estimate: str | None = None

    @property
    def room(self) -> Room:
        """The allocation that it needs on a cluster."""
        if self.service is not None:
            return "api"
        return "cpu" if self.gpus == "none" else "gpu"


def named(place: str) -> Any:
    """Return what `module:name` is."""
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)


def _source(group: str, *more: str) -> tuple[str, ...]:
    """The leaves that say where rows come from; a file counts by its contents."""
    return *(f"{group}.{leaf}" for leaf in ("kind", "repo", "revision", "subset", "parts")), *more


def _rows_of(group: str) -> Callable[[Config, Params], dict[str, str]]:
    """The digest of the file that a config group reads rows from."""

    def files(config: Config, _: Params) -> dict[str, str]:
        source = getattr(config, group)
        found = {"rows": _digest(Path(source.path).expanduser())} if source.kind == "file" else {}
        # Turns of weight 0 stay in the rows since the trainer heeds them; earlier rows lack them.
        is_weighted = group != "inference" and source.columns.weight is not None
        return found | ({"weights": "kept"} if is_weighted else {})

    return files


def _model_files(config: Config, _: Params) -> dict[str, str]:
    model, files = config.model, dict[str, str]()
    if gguf.is_meant(model):
        files["model"] = gguf.digest(model)
    elif model.path is not None:
        path = locations.model(model.path)
        stats = [file.stat() for file in sorted(path.rglob("*"))]
        stamp = ((stat.st_mtime_ns, stat.st_size) for stat in stats)
        files["model"] = _digest_once(path, *stamp)
    if model.chat_template is not None:
        files["chat_template"] = _digest(locations.chat_template(model.chat_template))
    return files


def _prompted(config: Config, params: Params) -> dict[str, str]:
    """The model's files, and the text that begins its prompts."""
    text = config.inference.system
    system = {} if text is None else {"system": _digest(Path(text).expanduser())}
    return _model_files(config, params) | system


def _grader_files(config: Config, params: Params) -> dict[str, str]:
    """What a grader reads beside rows: a schema, a database or a folder of them, a function."""
    grader = config.graders[params["judge"]]
    found = dict[str, str]()
    for leaf in ("schema", "database", "function"):
        if (given := getattr(grader, leaf, None)) is None:
            continue
        name, _, function = given.rpartition(":") if leaf == "function" else (given, "", "")
        path = Path(name).expanduser()
        if path.is_dir():
            found |= {f"{leaf}: {file.name}": _digest(file) for file in path.glob("*.sqlite")}
        else:
            found[leaf] = _digest(path)
        found |= {"name": function} if function else {}
    return found


def _digest(path: Path) -> str:
    if not path.is_file():
        raise BadInput(f"{path} does not exist")
    return _digest_once(path, path.stat().st_mtime_ns, path.stat().st_size)


@lru_cache(maxsize=16)  # a sweep asks for every cell
def _digest_once(path: Path, *_stamp: object) -> str:
    return digest(path)


_GATE = ("kind", "similarity", "precision", "margin", "alpha", "max_unscored", "tail")
_COVERAGE = ("rows", "seed", "licence", "format", "columns", "categories", "expected")
# A name with a dot is another way to the same kind of rows, in the same directory.
SPECS = {
    "coverage": Spec(
        "understudy.data.coverage:run",
        _source("coverage", *(f"coverage.{leaf}" for leaf in _COVERAGE), "task.name"),
        version=2,  # near-duplicate prompts by MinHash, word sets and ROUGE-L
        files=_rows_of("coverage"),
        is_quick=True,
    ),
    "split": Spec("understudy.data.split:run", ("coverage.split", "coverage.seed"), is_quick=True),
    "fold": Spec("understudy.data.split:run_fold", (), is_quick=True),
    "synthesis": Spec(
        "understudy.synthesis.stage:run",
        ("synthesis", "task.name", "task.topic"),
        version=2,  # prompts of the task, quotas, filters, near-duplicates and decontamination
        files=lambda c, _: {"prompt": fingerprint(synthesis_prompt.template(c.task.name))},
        service=lambda config, _: config.synthesis.service,
        estimate="understudy.plan.calls:synthesis",
    ),
    "cleaning": Spec(
        "understudy.data.cleaning:run",
        _source(
            "synthesis", "synthesis.format", "synthesis.columns", "synthesis.dedup", "task.name"
        ),
        version=2,  # near-duplicates and what is held out
        files=_rows_of("synthesis"),
    ),
    "subset": Spec("understudy.data.subset:run", ("loop.subsets",)),
    "finetune": Spec(
        "understudy.training.finetune:run",
        ("model", "trainer", "seed", "inference.shots", "inference.shot_choice"),
        view=views.sft,
        files=_prompted,
        gpus="all",
        estimate="understudy.plan.compute:TRAINING",
    ),
    "finetune.preferring": Spec(
        "understudy.training.finetune:run_preferring",
        (
            *("model", "trainer", "preference.beta", "seed"),
            *("inference.shots", "inference.shot_choice"),
        ),
        view=views.preferring,
        files=_prompted,
        gpus="all",
        estimate="understudy.plan.compute:PREFERRING",
    ),
    "preference": Spec("understudy.training.preference:run", ("preference.good",)),
    "inference": Spec(
        "understudy.inference.stage:run",
        ("model", "inference", "seed"),
        files=_prompted,
        gpus="one",
        estimate="understudy.plan.compute:SAMPLING",
    ),
    "inference.sampled": Spec(
        "understudy.inference.stage:run",
        ("model", "inference", "seed"),
        view=views.sampling,
        files=_prompted,
        gpus="one",
        estimate="understudy.plan.compute:SAMPLING",
    ),
    "baseline": Spec(
        "understudy.inference.baseline:run",
        ("baseline", "inference.k"),
        service=lambda config, _: config.baseline.service,
        estimate="understudy.plan.calls:baseline",
    ),
    "evaluation": Spec(
        "understudy.evaluation.judge:run",
        ("evaluation", "judges.{judge}", "task.execute_code"),
        version=4,  # drafts, thoughts and other scales; 3: limits where few prompts failed
        files=lambda c, _: {"prompt": fingerprint(judge_prompt.template(c.evaluation.prompt))},
        service=lambda config, params: config.judges[params["judge"]],
        estimate="understudy.plan.calls:evaluation",
    ),
    "evaluation.labelling": Spec(
        "understudy.evaluation.judge:run",
        ("evaluation", "judges.{judge}", "task.execute_code"),
        version=4,  # that of an evaluation, whose verdicts these are
        view=views.labelling,
        files=lambda c, _: {"prompt": fingerprint(judge_prompt.template(c.evaluation.prompt))},
        service=lambda config, params: config.judges[params["judge"]],
        estimate="understudy.plan.calls:evaluation",
    ),
    "evaluation.grader": Spec(
        "understudy.evaluation.grading:run", ("graders.{judge}",), files=_grader_files
    ),
    "split.imported": Spec(
        "understudy.data.answers:run_prompts",
        _source("inference", "task.name"),
        version=3,  # near-duplicate beginnings are one group; 2: the turns of a conversation are
        files=_rows_of("inference"),
        is_quick=True,
    ),
    "inference.imported": Spec(
        "understudy.data.answers:run_answers",
        _source("inference", "inference.families"),
        version=3,  # near-duplicate beginnings are one group; 2: the turns of a conversation are
        files=_rows_of("inference"),
        is_quick=True,
    ),
    "evaluation.imported": Spec(
        "understudy.evaluation.imported:run",
        _source("inference", "inference.families", "inference.repeats"),
        version=2,  # limits where only a few prompts failed
        files=_rows_of("inference"),
    ),
    "gate": Spec(
        "understudy.evaluation.gate:run",
        tuple(f"gate.{leaf}" for leaf in _GATE),
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

    @property
    def spec(self) -> Spec:
        """The facts of its kind."""
        return SPECS[self.name]

    def service(self, config: Config) -> Service | None:
        """Return the service that it asks."""
        return self.spec.service(config, self.params) if self.spec.service is not None else None

    @cached_property
    def document(self) -> dict[str, Any]:
        """What is hashed."""
        return {
            "stage": self.name,
            "version": self.spec.version,
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
    def kind(self) -> str:
        """The stage's name without where its rows come from."""
        return self.name.partition(".")[0]

    @property
    def path(self) -> str:
        """The stage's directory, below the run root."""
        return f"{self.kind}/{self.fingerprint}"


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


class StageMaker:
    """Makes the stages of one config, which must not change meanwhile."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._read: dict[tuple[str, ...], tuple[dict[str, Any], dict[str, str]]] = {}
        self._views: dict[Callable[[Config], Config], tuple[Config, dict[str, Any]]] = {}

    def _seen(self, view: Callable[[Config], Config]) -> tuple[Config, dict[str, Any]]:
        """The config as a stage sees it, and its leaves."""
        if view not in self._views:
            seen = view(self._config)
            self._views[view] = seen, science(seen)
        return self._views[view]

    def __call__(
        self,
        name: str,
        params: dict[str, Any] | None = None,
        inputs: dict[str, Stage] | None = None,
    ) -> Stage:
        """The stage `name` with these parameters and upstream stages."""
        params = params or {}
        spec = SPECS[name]
        wanted = tuple(leaf.format(**params) for leaf in spec.leaves)
        if (name, *wanted) not in self._read:
            below = tuple(f"{leaf}." for leaf in wanted)
            config, every = self._seen(spec.view)
            leaves = {
                leaf: value
                for leaf, value in every.items()
                if leaf in wanted or leaf.startswith(below)
            }
            self._read[name, *wanted] = leaves, spec.files(config, params)
        return Stage(name, params, inputs or {}, *self._read[name, *wanted])


def frozen(stage: Stage, config: Config) -> dict[str, Any]:
    """Return what `config.json` holds: the hashed document, and the config for the worker."""
    return {"hashed": stage.document, "config": dataclasses.asdict(config)}
