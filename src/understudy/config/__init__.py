"""Names and types of every config value: one dataclass per `conf/` group, checked at second 0.

Values live in `conf/`; nothing here knows Hydra. `build` turns a composed dictionary into a
`Config` or raises one sentence. A `Config` does not change; `changed` makes another one. A field
marked `machine()` may change how a result is computed but not the result, so it is in no
fingerprint.
"""

from dataclasses import replace
from typing import Any, TypeVar, get_args

from pydantic import TypeAdapter, ValidationError

from understudy.config import agreement, schema
from understudy.config.accelerate import AccelerateConfig as AccelerateConfig
from understudy.config.base import complete
from understudy.config.cluster import ClusterConfig as ClusterConfig
from understudy.config.export import ExportConfig as ExportConfig
from understudy.config.gateway import GatewayConfig as GatewayConfig
from understudy.config.groups import BaselineConfig as BaselineConfig
from understudy.config.groups import BudgetConfig as BudgetConfig
from understudy.config.groups import Config as Config
from understudy.config.groups import CoverageConfig as CoverageConfig
from understudy.config.groups import EvaluationConfig as EvaluationConfig
from understudy.config.groups import GateConfig as GateConfig
from understudy.config.groups import InferenceConfig as InferenceConfig
from understudy.config.groups import LoopConfig as LoopConfig
from understudy.config.groups import PathsConfig as PathsConfig
from understudy.config.groups import RehearsalConfig as RehearsalConfig
from understudy.config.groups import RunConfig as RunConfig
from understudy.config.groups import Split as Split
from understudy.config.groups import SynthesisConfig as SynthesisConfig
from understudy.config.groups import TaskConfig as TaskConfig
from understudy.config.groups import TrackingConfig as TrackingConfig
from understudy.config.serve import ServeConfig as ServeConfig
from understudy.config.service import Bias as Bias
from understudy.config.service import Prices as Prices
from understudy.config.service import Retired as Retired
from understudy.config.service import Service as Service
from understudy.config.source import FilePath
from understudy.config.source import Words as Words
from understudy.config.training import ModelConfig as ModelConfig
from understudy.config.training import TrainerConfig as TrainerConfig
from understudy.config.watch import WatchConfig as WatchConfig
from understudy.errors import BadInput

LEAVES = list(schema.leaves(Config))
PATHS = {name for name, hint in schema.hints(Config) if FilePath in (hint, *get_args(hint))}
WORDS = {name for name, hint in schema.hints(Config) if hint == Words}
_ADAPTER: TypeAdapter[Config] = TypeAdapter(Config)
T = TypeVar("T")


def is_path(key: str) -> bool:
    """Return whether a leaf, as the command line names it, is a path."""
    group, *rest = key.lstrip("+").split(".")
    return ".".join([group, *rest]) in PATHS or ".".join([group, "*", *rest[1:]]) in PATHS


def build(values: dict[str, Any]) -> Config:
    """Return the checked Config of a composed dictionary; BadInput says the first thing wrong."""
    values = complete(values)
    try:
        config = _ADAPTER.validate_python(values)
    except ValidationError as error:
        raise BadInput(schema.sentence(error, values, LEAVES)) from None
    if config.rehearsal.url is not None:
        config = _rehearsed(config)
    agreement.check(config)
    return config


def as_dict(config: Config) -> dict[str, Any]:
    """Return the values as nested dictionaries: `dataclasses.asdict`, at a tenth of its time."""
    values: dict[str, Any] = _ADAPTER.dump_python(config, warnings=False)
    return values


def _rehearsed(config: Config) -> Config:
    """Return the config with every paid service played by the rehearsal."""

    def played(service: Service) -> Service:
        is_played = service.rehearsal or service.provider != "offline"
        return replace(service, rehearsal=is_played)

    roles: dict[str, Any] = {
        role: replace(part, service=played(part.service))
        for role, part in (("synthesis", config.synthesis), ("baseline", config.baseline))
        if part.service is not None
    }
    judges = {name: played(service) for name, service in config.judges.items()}
    return replace(config, judges=judges, **roles)


def changed(part: T, values: dict[str, Any]) -> T:
    """Return a config, or a part of one, with other values of these dotted leaves."""
    made: Any = part
    for leaf, value in values.items():
        name, _, below = leaf.partition(".")
        is_dict = isinstance(made, dict)
        if below:
            value = changed(made[name] if is_dict else getattr(made, name), {below: value})
        made = {**made, name: value} if is_dict else replace(made, **{name: value})
    found: T = made
    return found
