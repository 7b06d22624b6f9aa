"""How long stages that call nobody will take: learnt from finished ones, else a stated prior.

Training costs 6 N floating-point operations a token for N parameters, generating 2 N (Kaplan et al.
2020, arXiv 2001.08361, section 2.1). Priors of the speed: one A100 (312 TFLOP/s bf16, data sheet)
at 35 % when training (PaLM, arXiv 2204.02311, table 3, has 21 to 46 %) and at 5 % when generating
in batches (a guess); one CPU thread at 2e10 (model=tiny generates 1,821 tokens/s, which is 1.6e10).
"""

import re
from collections import defaultdict
from pathlib import Path
from statistics import median
from typing import NamedTuple

from understudy import locations
from understudy.config import Config
from understudy.data.subset import rows_of
from understudy.pipeline.stages import Stage
from understudy.plan.ranges import Range
from understudy.records import Coverage
from understudy.store.artifacts import StageDir
from understudy.training.data import plan_steps

BYTES_PER_TOKEN = 4.0
_A100 = 312e12
_TRAINING, _GENERATING = 0.35, 0.05
_CPU = 2e10
_START_S = {"finetune": 12.0, "inference": 6.0}  # importing and loading, on two cores
_OTHER_S = Range(0.5, 2.0, 60.0)
_WITHIN = 4.0  # the factor that the priors are right within
_LEARNT = 2.0  # and what is learnt of the same model


class Load(NamedTuple):
    """The work of a stage."""

    kind: str
    model: str
    units: float  # sequences to train on, or answers to sample
    tokens: float


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
        if kind not in _START_S:
            self._seconds[kind].append(seconds)
            return
        config = directory.read("config.json")["config"]
        if kind == "inference":
            units = (directory.out / "rows.jsonl").read_bytes().count(b"\n")
        else:
            units = directory.read("out/summary.json")["steps"] * config["trainer"]["batch_size"]
        self._paces[kind, config["model"]["name"]].append(seconds / max(1, units))

    def seconds(self, load: Load | None, kind: str, config: Config) -> Range:
        """How long a stage will take."""
        if load is None:
            known = self._seconds.get(kind)
            return Range.around(max(0.1, median(known)), 3.0) if known else _OTHER_S
        if paces := self._paces.get((load.kind, load.model)):
            return Range.around(median(paces) * load.units, _LEARNT)
        return Range.around(_START_S[kind] + _prior(load, config), _WITHIN)


def load_of(stage: Stage, config: Config, rows: list[Coverage] | None) -> Load | None:
    """What a stage that trains or samples has to do; None for all others."""
    if rows is None or stage.name not in _START_S:
        return None
    size = sum(len(m["content"].encode()) for row in rows for m in row.messages) / len(rows)
    if stage.name == "inference":
        prompts = sum(row.split == "test" for row in rows)
        answers = prompts * config.inference.k
        return Load("inference", config.model.name, answers, answers * size / BYTES_PER_TOKEN)
    human = sum(row.split == "train" for row in rows)
    size = int(stage.inputs["subset"].params["data_size"])
    sequences = rows_of(human, size, config.loop)
    tokens = size / BYTES_PER_TOKEN
    if config.trainer.packing:
        sequences = max(1, round(sequences * tokens / config.trainer.max_length))
        tokens = float(config.trainer.max_length)
    units = plan_steps(sequences, config.trainer).total * config.trainer.batch_size
    return Load("finetune", config.model.name, units, units * tokens)


def uses_gpu(config: Config) -> bool:
    """Whether there is a GPU here, or the model asks for one."""
    return Path("/dev/nvidiactl").exists() or _parameters(config) >= 5e8


def _prior(load: Load, config: Config) -> float:
    work = (6 if load.kind == "finetune" else 2) * _parameters(config) * load.tokens
    if not uses_gpu(config):
        return work / _CPU
    return work / (_A100 * (_TRAINING if load.kind == "finetune" else _GENERATING))


def _parameters(config: Config) -> float:
    """As the model's name says (7b, 1.5b, 350m), else by the size of its weights in 16 bits."""
    model = config.model
    if found := re.findall(r"(\d+(?:\.\d+)?)(b|m)(?![a-z])", model.name.lower()):
        number, unit = found[-1]
        return float(number) * (1e9 if unit == "b" else 1e6)
    if model.path is None:
        return 7e9
    return sum(f.stat().st_size for f in locations.model(model.path).glob("*.safetensors")) / 2
