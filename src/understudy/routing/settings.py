"""What `conf/experiment/routing/*.yaml` sets: which published table is reproduced, and how."""

from dataclasses import field
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from understudy.config import schema
from understudy.config.source import STRICT
from understudy.errors import BadInput
from understudy.routing.benchmarks import BENCHMARKS
from understudy.routing.data import Outcomes
from understudy.routing.learners import FITS
from understudy.routing.study import PREDICTORS, SPLITS


@dataclass(config=STRICT)
class Published:
    """What a paper prints beside our numbers; null where it prints nothing."""

    source: str
    best_single: str | None = None
    best_accuracy: float | None = None
    best_cost: float | None = None
    cost: float | None = None  # at the best single LLM's accuracy, as is the saving
    saving: float | None = None
    highest_accuracy: float | None = None
    cost_at_highest: float | None = None
    optllm_cost: float | None = None  # the paper's cost of OptLLM at that accuracy
    igd: float | None = None
    delta: float | None = None
    seconds: float | None = None


@dataclass(config=STRICT)
class Study:
    """RQ1 of the OptLLM paper on one data set."""

    dataset: str
    data: str | None  # the directory with the tables
    share: Annotated[float, Field(gt=0, lt=1)]  # of the queries is labelled
    splits: list[str]
    seeds: dict[str, Annotated[int, Field(ge=0)]]  # predictor -> how many
    learner: str
    published: list[Published] = field(default_factory=list)

    def load(self) -> Outcomes:
        """The data set; BadInput when `data` is not its directory."""
        if self.data is None:
            raise BadInput("routing.data is not set: give the directory with the published tables")
        return BENCHMARKS[self.dataset](Path(self.data).expanduser())


_ADAPTER: TypeAdapter[Study] = TypeAdapter(Study)


def build(values: dict[str, Any]) -> Study:
    """The checked settings of a composed config; BadInput says the first thing wrong."""
    if "routing" not in values:
        raise BadInput("nothing to reproduce is named: give experiment=routing/logpai, say")
    known = list(schema.leaves(Study))
    try:
        study = _ADAPTER.validate_python(values["routing"])
    except ValidationError as error:
        raise BadInput(f"routing: {schema.sentence(error, values['routing'], known)}") from None
    for what, given, choices in (
        ("dataset", [study.dataset], list(BENCHMARKS)),
        ("splits", study.splits, list(SPLITS)),
        ("seeds", list(study.seeds), list(PREDICTORS)),
        ("learner", [study.learner], ["auto", *FITS]),
    ):
        for name in given:
            if name not in choices:
                raise BadInput(f"routing.{what}: {name} is none of {', '.join(choices)}")
    return study
