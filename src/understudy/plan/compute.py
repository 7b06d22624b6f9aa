"""How long stages that call nobody will take: learnt from finished ones, else a stated prior.

Training costs 6 N floating-point operations a token for N parameters, generating 2 N (Kaplan et al.
2020, arXiv 2001.08361, section 2.1). Priors of the speed: one A100 (312 TFLOP/s bf16, data sheet)
at 35 % when training (PaLM, arXiv 2204.02311, table 3, has 21 to 46 %) and at 5 % when generating
in batches (a guess); one CPU thread at 2e10 (model=tiny generates 1,821 tokens/s, which is 1.6e10).
"""

import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import NamedTuple

from understudy import locations
from understudy.config import Config
from understudy.data.subset import rows_of
from understudy.pipeline.stages import SPECS, Stage, named
from understudy.plan.ranges import Range
from understudy.records import Coverage
from understudy.store.artifacts import StageDir
from understudy.training.data import plan_steps

BYTES_PER_TOKEN = 4.0
_A100 = 312e12
_CPU = 2e10
_OTHER_S = Range(0.5, 2.0, 60.0)
_WITHIN = 4.0  # the factor that the priors are right within
_LEARNT = 2.0  # and what is learnt of the same model


class Load(NamedTuple):
    """What a stage has to do."""

    units: float  # sequences to train on, or answers to sample
    tokens: float


@dataclass(frozen=True)
class Work:
    """What is known of a kind of stage in which a local model works; a Spec names it."""

    load: Callable[[Stage, Config, list[Coverage]], Load]  # of the rows of its split
    done: Callable[[StageDir], float]  # units of a finished stage
    start_s: float  # importing and loading, on two cores
    operations: int  # floating-point operations a token and parameter
    efficiency: float  # share of a GPU's peak

    def prior_s(self, load: Load, config: Config) -> float:
        """Seconds by the stated priors."""
        work = self.operations * _parameters(config) * load.tokens
        speed = _A100 * self.efficiency if uses_gpu(config) else _CPU
        return self.start_s + work / speed


class Compute:
    """What the finished stages below a root took, and what they say of others."""

    def __init__(self, root: Path) -> None:
        self._paces: dict[tuple[str, str], list[float]] = defaultdict(list)  # seconds a unit
        self._seconds: dict[str, list[float]] = defaultdict(list)
        for path in root.glob("*/*/meta.json"):
            if (directory := StageDir(path.parent)).is_done:
                self._learn(directory)

    def _learn(self, directory: StageDir) -> None:
        kind, seconds = directory.path.parent.name, directory.read("meta.json")["seconds"]
        if (work := work_of(kind)) is None:
            self._seconds[kind].append(seconds)
        else:
            model = directory.read("config.json")["config"]["model"]["name"]
            self._paces[kind, model].append(seconds / max(1, work.done(directory)))

    def seconds(self, stage: Stage, config: Config, split: list[Coverage] | None) -> Range:
        """Return how long a stage will take; `split` = the rows of its split, None = not known."""
        if (work := work_of(stage.name)) is None or split is None:
            known = self._seconds.get(stage.kind)
            return Range.around(max(0.1, median(known)), 3.0) if known else _OTHER_S
        load = work.load(stage, config, split)
        if paces := self._paces.get((stage.kind, config.model.name)):
            return Range.around(median(paces) * load.units, _LEARNT)
        return Range.around(work.prior_s(load, config), _WITHIN)


def work_of(name: str) -> Work | None:
    """Return what is known of a stage in which a local model works; None of any other."""
    spec = SPECS.get(name)  # another version's stage may have none
    if spec is None or spec.room != "gpu" or spec.estimate is None:
        return None
    work: Work = named(spec.estimate)
    return work


def uses_gpu(config: Config) -> bool:
    """Return whether there is a GPU here, or the model asks for one."""
    return Path("/dev/nvidiactl").exists() or _parameters(config) >= 5e8


def _training(stage: Stage, config: Config, split: list[Coverage]) -> Load:
    human = sum(row.split == "train" for row in split)
    sequences = rows_of(human, int(stage.inputs["subset"].params["data_size"]), config.loop)
    tokens = _tokens(split)
    if config.trainer.packing:
        sequences = max(1, round(sequences * tokens / config.trainer.max_length))
        tokens = float(config.trainer.max_length)
    units = plan_steps(sequences, config.trainer).total * config.trainer.batch_size
    return Load(units, units * tokens)


def _trained(directory: StageDir) -> float:
    batch_size: int = directory.read("config.json")["config"]["trainer"]["batch_size"]
    return float(directory.read("out/summary.json")["steps"] * batch_size)


def _sampling(stage: Stage, config: Config, split: list[Coverage]) -> Load:
    answers = sum(row.split == stage.params["split"] for row in split) * config.inference.k
    return Load(answers, answers * _tokens(split))


def _tokens(rows: list[Coverage]) -> float:
    """The mean length of a row."""
    size = sum(len(m["content"].encode()) for row in rows for m in row.messages)
    return size / len(rows) / BYTES_PER_TOKEN


def _sampled(directory: StageDir) -> float:
    return (directory.out / "rows.jsonl").read_bytes().count(b"\n")


TRAINING = Work(_training, _trained, start_s=12.0, operations=6, efficiency=0.35)
SAMPLING = Work(_sampling, _sampled, start_s=6.0, operations=2, efficiency=0.05)


def _parameters(config: Config) -> float:
    """As the model's name says (7b, 1.5b, 350m), else by the size of its weights in 16 bits."""
    model = config.model
    if found := re.findall(r"(\d+(?:\.\d+)?)(b|m)(?![a-z])", model.name.lower()):
        number, unit = found[-1]
        return float(number) * (1e9 if unit == "b" else 1e6)
    if model.path is None:
        return 7e9
    return sum(f.stat().st_size for f in locations.model(model.path).glob("*.safetensors")) / 2
