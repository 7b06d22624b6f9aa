"""How long stages that call nobody will take: learnt or probed, else a stated prior.

Training costs 6 N floating-point operations a token for N parameters, generating 2 N (Kaplan et al.
2020, arXiv 2001.08361, section 2.1). Priors of the speed: one A100 (312 TFLOP/s bf16, data sheet)
at 35 % when training (PaLM, arXiv 2204.02311, table 3, has 21 to 46 %) and at 5 % when generating
in batches (a guess); one CPU thread at 2e10 (model=tiny generates 1,821 tokens/s, which is 1.6e10;
a model of 135M parameters trained at 2e9 on a machine that others used).
"""

import json
import os
import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from understudy import config as configuration
from understudy import locations
from understudy.config import Config
from understudy.data.subset import rows_of
from understudy.errors import BadInput
from understudy.models import gguf
from understudy.pipeline.stages import SPECS, Stage, named
from understudy.plan.ranges import Range, exactly
from understudy.plan.speed import Measured, Speed, Speeds, here, key_of
from understudy.records import Coverage, read_rows, written
from understudy.store.artifacts import StageDir
from understudy.training.data import plan_steps

BYTES_PER_TOKEN = 4.0
_A100 = 312e12
_CPU = 2e10
_OTHER_S = Range(0.5, 2.0, 60.0)
_WITHIN = {True: 4.0, False: 12.0}  # the factor that the priors are right within on a GPU, a CPU


class Load(NamedTuple):
    """What a stage has to do."""

    units: float  # sequences to train on, or answers to sample
    tokens: float  # of BYTES_PER_TOKEN bytes each
    least: float = 1.0  # the share that is sure: training may stop early
    pauses: int = 0  # evaluations, each with a checkpoint
    paused: float = 0.0  # tokens that each of them reads


class Expected(NamedTuple):
    """Seconds, and what they rest on."""

    seconds: Range
    basis: str


@dataclass(frozen=True)
class Work:
    """What is known of a kind of stage in which a local model works; a Spec names it."""

    load: Callable[[Stage, Config, list[Coverage]], Load]  # of the rows of its split
    done: Callable[[StageDir, Config, list[Coverage]], tuple[float, float]]
    """Of a finished stage: what it has done in `unit`s, and the seconds of that alone."""
    unit: str  # "tokens" | "units": of a load; what speed is told in
    start_s: float  # importing and loading, on two cores
    operations: int  # floating-point operations a token and parameter
    efficiency: float  # share of a GPU's peak

    def prior(self, config: Config, load: Load) -> Speed:
        """The speed by the stated priors."""
        peak = _A100 * self.efficiency if uses_gpu(config) else _CPU
        second = self.operations * parameters(config) / peak
        second *= load.tokens / load.units if self.unit == "units" and load.units else 1
        return Speed(self.start_s, exactly(second), 0.0, _WITHIN[uses_gpu(config)], "table")

    def seconds(self, load: Load, speed: Speed, devices: int) -> Range:
        """Wall time of the worker, importing and loading included, as `stage_seconds` counts it.

        A forward pass is a third of a training step.
        """
        amount = float(getattr(load, self.unit)) / devices
        pauses = load.pauses * (load.paused / devices / 3)
        work = speed.unit_s * (amount + (pauses if speed.pause_s else 0))
        fixed, within = speed.start_s + load.pauses * speed.pause_s, speed.within
        least = (fixed + work.low * load.least) / within
        return Range(least, fixed + work.expected, (fixed + work.high) * within)


class Compute:
    """What the finished stages below a root took, and what they and a probe say of others."""

    def __init__(self, root: Path, probed: Speeds | None = None) -> None:
        self._seconds: dict[str, list[float]] = defaultdict(list)
        self._splits: dict[Path, list[Coverage]] = {}
        found = [] if probed is None else list(probed.measured)
        for path in root.glob("*/*/meta.json"):
            directory, kind = StageDir(path.parent), path.parent.parent.name
            if not directory.is_done:
                continue
            if (work := work_of(kind)) is None:
                self._seconds[kind].append(directory.read("meta.json")["seconds"])
            elif (one := self._measured(work, directory, root)) is not None:
                found.append(one)
        self._speeds = Speeds(found)

    def _measured(self, work: Work, directory: StageDir, root: Path) -> Measured | None:
        frozen, meta = directory.read("config.json"), directory.read("meta.json")
        try:
            config, kind = configuration.build(frozen["config"]), directory.path.parent.name
        except BadInput:  # of a version that allowed what this one does not
            return None
        split = directory.read("inputs.json")["inputs"].get("split", "")
        rows = self._rows(root / split / "out" / "rows.jsonl") if split else []
        if frozen["hashed"]["stage"] != kind:  # ready-made answers, of which nothing is learnt
            return None
        amount, seconds = work.done(directory, config, rows)
        if amount <= 0 or seconds <= 0:
            return None
        return Measured(
            key=key_of(kind, config),
            parameters=parameters(config),
            hardware=meta.get("hardware"),
            start_s=max(0.0, meta.get("stage_seconds", meta["seconds"]) - seconds),
            unit_s=exactly(seconds * meta.get("processes", 1) / amount),
        )

    def _rows(self, path: Path) -> list[Coverage]:
        if path not in self._splits:
            found = list(read_rows(path, Coverage)) if path.is_file() else []
            self._splits[path] = found
        return self._splits[path]

    def estimate(self, stage: Stage, config: Config, split: list[Coverage] | None) -> Expected:
        """Return how long a stage will take; `split` = the rows of its split, None = not known."""
        if (work := work_of(stage.name)) is None or not split:
            if known := self._seconds.get(stage.kind):
                return Expected(Range.around(max(0.1, median(known)), 3.0), "finished stages")
            return Expected(_OTHER_S, "table")
        load, is_gpu = work.load(stage, config, split), uses_gpu(config)
        where = here(config.cluster, is_gpu)
        speed = self._speeds.of(key_of(stage.kind, config), parameters(config), where)
        speed = speed or work.prior(config, load)
        if where is not None and not is_gpu:
            speed = speed._replace(within=speed.within * busy())
        return Expected(work.seconds(load, speed, devices(stage, config)), speed.basis)


def work_of(name: str) -> Work | None:
    """Return what is known of a stage in which a local model works; None of any other."""
    spec = SPECS.get(name)  # another version's stage may have none
    if spec is None or spec.room != "gpu" or spec.estimate is None:
        return None
    work: Work = named(spec.estimate)
    return work


def uses_gpu(config: Config) -> bool:
    """Return whether there is a GPU here, or the model asks for one."""
    if config.accelerate.kind == "cpu":
        return False
    return has_gpu() or parameters(config) >= 5e8


def busy() -> float:
    """Return how many processes share a core here now; they may all be gone later, or be more."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


def has_gpu() -> bool:
    """Return whether there is a GPU here."""
    return Path("/dev/nvidiactl").exists()


def devices(stage: Stage, config: Config) -> int:
    """Return how many devices share the work of a stage."""
    spread = config.accelerate
    if stage.spec.gpus != "all" or not spread.is_distributed:
        return 1
    return (spread.processes or config.cluster.gpu.gpus or 1) * spread.nodes


def _training(stage: Stage, config: Config, split: list[Coverage]) -> Load:
    sequences = _train_rows(stage.inputs["subset"], config, split)
    tokens = tokens_a_row(config, split)
    if config.trainer.packing:
        sequences = max(1, round(sequences * tokens / config.trainer.max_length))
        tokens = float(config.trainer.max_length)
    steps, recipe = plan_steps(sequences, config.trainer), config.trainer
    units = steps.total * recipe.batch_size
    held = sum(row.split == "validation" for row in split) * tokens_a_row(config, split)
    least, stops = 1.0, sorted(steps.checkpoints)
    if recipe.patience is not None and recipe.patience < len(stops):
        least = stops[recipe.patience] / steps.total
    return Load(units, units * tokens, least, len(stops), held)


def _trained(directory: StageDir, config: Config, rows: list[Coverage]) -> tuple[float, float]:
    summary, meta = directory.read("out/summary.json"), directory.read("meta.json")
    packed = float(config.trainer.max_length) if config.trainer.packing else None
    tokens = packed or (tokens_a_row(config, rows) if rows else 0.0)
    seconds = float(meta["seconds"])
    if meta.get("tokens_per_second"):  # of all steps, those of earlier attempts included
        seconds = summary["tokens"] * summary["epochs"] / meta["tokens_per_second"]
    return summary["steps"] * config.trainer.batch_size * tokens, seconds


def _preferring(stage: Stage, config: Config, split: list[Coverage]) -> Load:
    """Every answer sampled to a train row is an example at most; the reference reads it, too."""
    rows = _train_rows(stage.inputs["subset"], config, split) * config.preference.samples
    steps = plan_steps(rows, config.trainer)
    answers = 2 if config.trainer.kind == "dpo" else 1
    units = steps.total * config.trainer.batch_size * answers
    tokens = tokens_a_row(config, split)
    held = sum(row.split == "validation" for row in split) * config.preference.samples
    least = config.trainer.batch_size / max(1, rows)
    paused = held * answers * tokens
    return Load(units, units * tokens * 4 / 3, least, len(steps.checkpoints), paused * 2)


def _train_rows(subset: Stage, config: Config, split: list[Coverage]) -> int:
    human = sum(row.split == "train" for row in split)
    return rows_of(human, int(subset.params["data_size"]), config.loop)


def _sampling(stage: Stage, config: Config, split: list[Coverage]) -> Load:
    prompts = sum(row.split == stage.params["split"] for row in split)
    if (asked := stage.inputs.get("prompts")) is not None and asked.name == "subset":
        prompts = _train_rows(asked, config, split)
    answers = prompts * config.inference.k
    return Load(answers, answers * tokens_a_row(config, split))


def tokens_a_row(config: Config, rows: list[Coverage]) -> float:
    """Return the mean length of a row with its examples, in tokens of BYTES_PER_TOKEN bytes."""
    size = sum(len(written(m).encode()) for row in rows for m in row.messages)
    return (1 + config.inference.shots) * size / len(rows) / BYTES_PER_TOKEN


def _sampled(directory: StageDir, _: Config, __: list[Coverage]) -> tuple[float, float]:
    answers = (directory.out / "rows.jsonl").read_bytes().count(b"\n")
    return float(answers), float(directory.read("meta.json")["seconds"])


TRAINING = Work(_training, _trained, "tokens", start_s=12.0, operations=6, efficiency=0.35)
PREFERRING = Work(_preferring, _trained, "tokens", start_s=12.0, operations=6, efficiency=0.35)
SAMPLING = Work(_sampling, _sampled, "units", start_s=6.0, operations=2, efficiency=0.05)


def parameters(config: Config) -> float:
    """As the model's name says (7b, 1.5b, 350m), else by the size of its weights."""
    model = config.model
    if found := re.findall(r"(\d+(?:\.\d+)?)(b|m)(?![a-z])", model.name.lower()):
        number, unit = found[-1]
        return float(number) * (1e9 if unit == "b" else 1e6)
    if model.path is None:
        return 7e9
    if gguf.is_meant(model):
        return sum(part.stat().st_size for part in gguf.files(model)) / 0.6  # bytes, of 4 to 5 bits
    folder = locations.model(model.path)
    size = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    return max(1.0, size / (4 if _precision(folder) == "float32" else 2))


def _precision(folder: Path) -> Any:
    """What the weights of a model are kept in; ours of 16 bits are loaded as fp32."""
    file = folder / "config.json"
    values = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return values.get("dtype", values.get("torch_dtype"))
