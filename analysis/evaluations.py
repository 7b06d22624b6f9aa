"""Evaluations of systems as arrays: who answered, who judged, every score."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from understudy.pipeline.record import RunRecord

from . import labels
from .frame import UNCOUNTED, Contamination

Floats = NDArray[np.float64]
Codes = NDArray[np.intp]
Names = NDArray[np.str_]
Leaves = Mapping[str, str]  # dotted name -> value, of one stage


class Setting(NamedTuple):
    """A leaf, or a group that was typed, and its value."""

    name: str
    value: str


Setup = tuple[Setting, ...]


@dataclass(frozen=True, eq=False)
class System:
    """A model that answered the test prompts of one task; A answers."""

    task: str
    role: str  # "local" | "baseline"
    model: str
    family: str
    teacher: str | None  # who wrote the synthetic rows it was trained on
    teacher_family: str | None
    data_size: float  # synthetic rows; NaN = not known, or not trained
    trainer: str | None  # "none" = the base model as it came
    seed: int | None
    steps: float  # of the optimiser; NaN = not known
    run: str
    is_rehearsal: bool
    prompt: Names  # (A,)
    cluster: Names  # (A,)
    k: Codes  # (A,)
    length: Floats  # (A,) log of (1 + words) over (1 + the reference's words)
    contamination: Contamination = UNCOUNTED
    leaves: Mapping[str, Leaves] = field(default_factory=dict)  # by stage that it was made by
    typed: Leaves = field(default_factory=dict)  # the overrides of its run
    setup: Setup = ()  # what tells it from others of its task, model and teacher
    place: int = 0  # of its setup among the others

    @property
    def key(self) -> tuple[Any, ...]:
        """Its place in tables: services first, then by model, teacher, size and seed."""
        size = -1.0 if self.data_size != self.data_size else self.data_size
        return (
            labels.rank(self.task),
            self.role != "baseline",
            labels.rank(self.model),
            labels.rank(self.teacher),
            self.place,
            (self.trainer != "none", size, self.seed or 0, self.run),
        )


@dataclass(frozen=True, eq=False)
class Evaluation:
    """One judge on one system; V verdicts."""

    system: System
    judge: str
    judge_family: str
    prompt_variant: str
    order: str  # "reference_first" | "candidate_first" | "unknown"
    answer: Codes  # (V,) into the system's answers
    repeat: Codes  # (V,)
    similarity: Floats  # (V,) NaN = not scored
    precision: Floats
    leaves: Leaves = field(default_factory=dict)  # that its stage has read
    setup: Setup = ()  # what tells it from others of its judge

    def scores(self, metric: str) -> Floats:
        """The verdicts on one metric."""
        found: Floats = getattr(self, metric)
        return found


@dataclass(frozen=True, eq=False)
class Data:
    """Everything the sources hold, in the order of tables."""

    evaluations: list[Evaluation]
    runs: list[RunRecord]

    @property
    def is_rehearsal(self) -> bool:
        """Whether any of it is; then every picture says so."""
        return any(one.system.is_rehearsal for one in self.evaluations) or any(
            run.rehearsal for run in self.runs
        )


def judge_name(one: Evaluation, with_order: bool = True) -> str:
    """Return the judge, and how it was asked where that is not the usual way, or not always so."""
    unusual = [one.prompt_variant] if one.prompt_variant not in ("default", "unknown") else []
    if with_order and one.order not in ("reference_first", "unknown"):
        unusual.append(one.order.replace("_", " "))
    unusual += [f"{name.rpartition('.')[2]} {value}" for name, value in one.setup]
    return f"{one.judge} ({', '.join(unusual)})" if unusual else one.judge


def ordered(evaluations: Sequence[Evaluation]) -> list[Evaluation]:
    """In the order of tables."""
    return sorted(
        evaluations, key=lambda one: (one.system.key, labels.rank(one.judge), judge_name(one))
    )


def log_ratio(texts: Sequence[str], references: Sequence[str]) -> Floats:
    """(A,): how much longer each answer is than its reference, in words."""
    words = np.array([len(text.split()) for text in texts], dtype=float)
    wanted = np.array([len(text.split()) for text in references], dtype=float)
    found: Floats = np.log1p(words) - np.log1p(wanted)
    return found
