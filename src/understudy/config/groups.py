"""The whole config, and the groups of `conf/` that need no file of their own."""

from dataclasses import field
from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass

from understudy.config.accelerate import AccelerateConfig
from understudy.config.cluster import ClusterConfig
from understudy.config.export import ExportConfig
from understudy.config.gateway import GatewayConfig
from understudy.config.grader import BOTH, Grader, MetricName, measures
from understudy.config.preference import PreferenceConfig
from understudy.config.serve import ServeConfig
from understudy.config.service import Service
from understudy.config.source import (
    STRICT,
    Columns,
    Dedup,
    FilePath,
    Format,
    Share,
    Size,
    Source,
    added,
    machine,
)
from understudy.config.training import ModelConfig, TrainerConfig
from understudy.config.watch import WatchConfig

Score = Annotated[float, Field(ge=0, le=100)]


@dataclass(config=STRICT, frozen=True)
class Split:
    """Sizes as in scikit-learn: below 1 a share of all rows, from 1 a number of rows."""

    validation: Annotated[float, Field(ge=0)]
    test: Annotated[float, Field(ge=0)]
    holdout: Annotated[float, Field(ge=0)]


@dataclass(config=STRICT, frozen=True)
class CoverageConfig(Source):
    """Where the real (prompt, response) pairs come from."""

    kind: Literal["playground", "file", "hub"]
    rows: PositiveInt | None  # of the playground
    seed: int
    licence: str | None
    split: Split
    format: Format = added("auto")
    columns: Columns = field(default_factory=Columns, kw_only=True)
    categories: dict[str, str] = field(kw_only=True)  # task -> category; others: all rows
    expected: dict[str, str] = field(kw_only=True)  # what a grader reads of a row -> its column


@dataclass(config=STRICT, frozen=True)
class TaskConfig:
    """What the workload is about; `topic` is what the synthesis prompt calls it."""

    name: str
    topic: str
    execute_code: bool


@dataclass(config=STRICT, frozen=True)
class SynthesisConfig(Source):
    """How the synthetic pairs are asked for, or where a ready-made set of them is."""

    kind: Literal["service", "none", "file", "hub"]
    pairs_per_call: PositiveInt
    seed: int
    seeds: Literal["uniform", "weak"]
    depth: PositiveInt  # 1 = from human rows only
    topics: list[str]  # asked for in turn; [] = whatever the teacher likes
    lengths: Annotated[list[PositiveFloat], Field(min_length=1)]  # times the seed's words, in turn
    min_yield: Share  # of the pairs asked for that must be new
    service: Service | None
    format: Format = added("auto")
    columns: Columns = field(default_factory=Columns, kw_only=True)
    dedup: Dedup = field(default_factory=Dedup, kw_only=True)


@dataclass(config=STRICT, frozen=True)
class BaselineConfig:
    """The service LLM that the local model is measured against."""

    kind: Literal["service", "none"]
    service: Service | None


@dataclass(config=STRICT, frozen=True)
class InferenceConfig(Source):
    """How the answers to the test prompts are sampled, or where ready-made ones are."""

    k: PositiveInt
    temperature: Annotated[float, Field(ge=0)]
    max_new_tokens: PositiveInt
    batch_size: PositiveInt
    kind: Literal["local", "file", "hub"] = added("local")
    engine: Literal["transformers", "vllm"] = added("transformers")
    shots: NonNegativeInt = added(0)  # train rows shown before each prompt
    shot_choice: Literal["nearest", "random", "diverse"] = added("nearest")
    shared_start: bool = added(False)  # read once per batch what all its prompts begin with
    families: dict[str, str] = field(kw_only=True)  # generator or evaluator -> family
    repeats: PositiveInt | None = added(None)  # verdicts behind each ready-made average
    python: FilePath | None = machine()  # of the virtual environment that has vLLM
    system: FilePath | None = machine()  # a text before every prompt; it counts by its contents


@dataclass(config=STRICT, frozen=True)
class EvaluationConfig:
    """How a judge is asked: `m` times per answer, with which prompt."""

    m: PositiveInt
    prompt: Literal["default", "paper", "paraphrased", "scale_5"]
    order: Literal["reference_first", "candidate_first"]


@dataclass(config=STRICT, frozen=True)
class GateConfig:
    """When a round is good enough."""

    kind: Literal["paper", "noninferiority"]
    similarity: Score  # of kind paper, as is precision
    precision: Score
    judges: list[str] | None
    margin: Annotated[float, Field(gt=0, le=100)] = added(5.0)  # points that may be lost
    alpha: Annotated[float, Field(gt=0, lt=0.5)] = added(0.05)  # of all looks at the holdout
    max_unscored: Share = added(1.0)  # of the verdicts; above it a round must pass at the worst
    tail: Annotated[float, Field(gt=0, le=100)] | None = added(None)  # points of coverage@70
    sd: PositiveFloat = machine()  # of paired differences, in points: what a plan assumes
    icc: Share = machine()  # within clusters: what a plan assumes
    rho: Share = machine()  # of judges' paired differences with humans': what a plan assumes
    p95_s: PositiveFloat | None = machine()  # second criteria of `decide`, of the local model:
    refusals: Share | None = machine()  # seconds at most, and the share of answers at most
    floor: Share | None = machine()  # of agreement with humans, where there are labels
    rent_usd: PositiveFloat | None = machine()  # per hour of the machine that would serve it


@dataclass(config=STRICT, frozen=True)
class LoopConfig:
    """The ladder of synthetic-data sizes that the rounds climb."""

    sizes: Annotated[list[Size], Field(min_length=1)]
    max_rounds: PositiveInt | None
    subsets: Literal["nested", "prefix"] = added("nested")  # prefix = LlamaDuo's first n rows


@dataclass(config=STRICT, frozen=True)
class BudgetConfig:
    """The most that one run or sweep may spend on services; null = no cap."""

    usd: Annotated[float, Field(gt=0)] | None


@dataclass(config=STRICT, frozen=True)
class RehearsalConfig:
    """The loopback server of `understudy rehearse` that plays every paid service; null = none."""

    url: str | None


@dataclass(config=STRICT, frozen=True)
class TrackingConfig:
    """Where metrics go beside our own files."""

    kind: Literal["none", "wandb"]
    project: str
    mode: Literal["offline", "online"]


@dataclass(config=STRICT, frozen=True)
class PathsConfig:
    """Everything is written below `root`."""

    root: FilePath


@dataclass(config=STRICT, frozen=True)
class RunConfig:
    """The name under which `status` and `report` find this run; null makes one."""

    name: str | None


@dataclass(config=STRICT, frozen=True)
class Config:
    """The whole composed configuration."""

    coverage: CoverageConfig
    task: TaskConfig
    model: ModelConfig
    synthesis: SynthesisConfig
    judges: dict[str, Service]
    graders: dict[str, Grader]  # judges that are rules
    baseline: BaselineConfig
    trainer: TrainerConfig
    preference: PreferenceConfig
    inference: InferenceConfig
    evaluation: EvaluationConfig
    gate: GateConfig
    loop: LoopConfig
    data_size: Size | None
    seed: int
    budget: BudgetConfig = machine()
    rehearsal: RehearsalConfig = machine()
    cluster: ClusterConfig = machine()
    tracking: TrackingConfig = machine()
    paths: PathsConfig = machine()
    run: RunConfig = machine()
    accelerate: AccelerateConfig = machine()
    export: ExportConfig = machine()
    gateway: GatewayConfig = machine()
    serve: ServeConfig = machine()
    watch: WatchConfig = machine()

    @property
    def services(self) -> list[Service]:
        """Every service that this run may call."""
        roles = [*self.judges.values(), self.synthesis.service, self.baseline.service]
        return [service for service in roles if service is not None]

    @property
    def is_rehearsal(self) -> bool:
        """Whether any role is played offline; such results never mix with real ones."""
        return any(s.provider == "offline" or s.rehearsal for s in self.services)

    @property
    def sizes(self) -> list[int]:
        """The rounds' data sizes: one when `data_size` is given, else the ladder."""
        if self.data_size is not None:
            return [self.data_size]
        return self.loop.sizes[: self.loop.max_rounds]

    @property
    def judge_names(self) -> list[str]:
        """Who scores the answers, services first."""
        return [*self.judges, *self.graders]

    @property
    def gate_judges(self) -> list[str]:
        """The judges whose verdicts the gate reads."""
        return self.gate.judges if self.gate.judges is not None else self.judge_names

    def measures(self, judge: str) -> tuple[MetricName, ...]:
        """Return what a judge's verdicts hold."""
        return measures(self.graders[judge]) if judge in self.graders else BOTH
