"""How fast models have been: of finished stages below a root, and of a probe of this machine.

What is learnt of the same model on the same hardware comes first, then a probe, then the same model
on other hardware, then other models, by their number of parameters, on the same hardware.
"""

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from understudy import locations
from understudy.config import Config
from understudy.config.cluster import ClusterConfig
from understudy.models import hardware
from understudy.plan.ranges import Range

# What the speed of a model depends on, of its config.json
_SHAPE = (
    *("model_type", "hidden_size", "num_hidden_layers", "intermediate_size", "vocab_size"),
    *("num_attention_heads", "num_key_value_heads", "quantization_config"),
)
_SAME = 2.0  # the factor that what is learnt of the same model and hardware is right within: a
_PROBED = 2.0  # shared machine is twice as busy at other times (so is a probe of ten seconds)
_ELSEWHERE = 4.0  # of the same model on other hardware, or of a probe of another machine
_OTHERS = 4.0  # of other models on the same hardware


class Key(NamedTuple):
    """What speeds are compared by."""

    kind: str  # of stage
    way: str  # of training or answering
    shape: str  # of the model


class Measured(NamedTuple):
    """What one stage, or a probe, took."""

    key: Key
    parameters: float
    hardware: str | None  # None: of an earlier version, which did not say
    start_s: float
    unit_s: Range  # seconds of work a unit, on one device
    pause_s: float = 0.0  # of an evaluation and its checkpoint, where they are not in `unit_s`
    is_probe: bool = False


class Speed(NamedTuple):
    """What is expected of a stage, and what that rests on."""

    start_s: float
    unit_s: Range
    pause_s: float
    within: float
    basis: str


@dataclass
class Speeds:
    """All that was measured."""

    measured: list[Measured]

    def __post_init__(self) -> None:
        self._by_key = defaultdict[Key, list[Measured]](list)
        for one in self.measured:
            self._by_key[one.key].append(one)

    def of(self, key: Key, parameters: float, here: str | None) -> Speed | None:
        """Return the speed of a model on the hardware `here`; None = that of the nodes, not known.

        None where nothing was measured that tells.
        """
        same = self._by_key.get(key, [])
        done = [one for one in same if not one.is_probe]
        probed = [one for one in same if one.is_probe]
        tiers = (
            ([one for one in done if here in (None, one.hardware)], _SAME, "finished stages"),
            (probed, _PROBED if here is not None else _ELSEWHERE, "probe"),
            (done, _ELSEWHERE, "finished stages elsewhere"),
            (self._others(key, parameters, here), _OTHERS, "finished stages of other models"),
        )
        return next((_speed(*tier) for tier in tiers if tier[0]), None)

    def _others(self, key: Key, parameters: float, here: str | None) -> list[Measured]:
        """Those of other models, as long as their number of parameters makes them take."""
        return [
            one._replace(unit_s=one.unit_s * (parameters / one.parameters))
            for one in self.measured
            if one.key[:2] == key[:2] and here in (None, one.hardware)
        ]


def _speed(found: list[Measured], within: float, basis: str) -> Speed:
    """The median of all, within a factor that holds all of them."""
    paces = [one.unit_s.expected for one in found]
    middle = median(paces)
    within = max(within, 1.2 * max(paces) / middle, 1.2 * middle / max(1e-12, min(paces)))
    unit_s = found[0].unit_s if len(found) == 1 else Range(middle, middle, middle)
    starts, pauses = [one.start_s for one in found], [one.pause_s for one in found]
    return Speed(median(starts), unit_s, median(pauses), within, basis)


def key_of(kind: str, config: Config) -> Key:
    """Return what the speed of a stage depends on, beside the hardware."""
    recipe, model = config.trainer, config.model
    way = config.inference.engine if kind == "inference" else f"{recipe.kind} {recipe.quantization}"
    return Key(kind, way, shape(model.path, model.repo, model.revision) or model.name)


@cache
def shape(path: str | None, repo: str | None, revision: str | None) -> str:
    """What of a model its speed depends on; "" where its config.json is not at hand."""
    if (file := config_file(path, repo, revision)) is None:
        return ""
    values: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return json.dumps([values.get(name) for name in _SHAPE])


def config_file(path: str | None, repo: str | None, revision: str | None) -> Path | None:
    """The config.json of a model; None where it is not at hand."""
    if path is None and repo is not None:
        from huggingface_hub import try_to_load_from_cache

        found = try_to_load_from_cache(repo, "config.json", revision=revision)
        file = Path(found) if isinstance(found, str) else None
    else:
        file = locations.model(path) / "config.json" if path is not None else None
    return file if file is not None and file.is_file() else None


def here(cluster: ClusterConfig, is_gpu: bool) -> str | None:
    """Return the hardware that stages will run on, where that is this machine."""
    return hardware.name(is_gpu) if cluster.kind == "local" else None


def merged(each: Iterable[Speeds]) -> Speeds:
    """Return all that several have measured."""
    return Speeds([one for speeds in each for one in speeds.measured])
