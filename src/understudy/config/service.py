"""Names and types of `conf/service/`: the facts about one API, stated once."""

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass

from understudy.config.source import STRICT, Share, added, machine
from understudy.errors import BadInput

# Each has a folder of its name in services/providers/.
ProviderName = Literal["offline", "openai", "anthropic", "google", "openai_compatible"]


@dataclass(config=STRICT, frozen=True)
class Bias:
    """The planted bias of an offline judge; formulas in `service/offline_judge.py`."""

    offset: float
    compression: Annotated[float, Field(gt=0)]
    ceiling: Annotated[float, Field(ge=0, le=100)]
    length: float
    noise: Annotated[float, Field(ge=0)]


@dataclass(config=STRICT, frozen=True)
class Prices:
    """USD per million tokens, read on `date` at `source`; `batch` is the batch API's share."""

    input: Annotated[float, Field(ge=0)]
    output: Annotated[float, Field(ge=0)]
    date: str
    source: str
    cached: Annotated[float, Field(ge=0)] | None = None  # null = as input
    written: Annotated[float, Field(ge=0)] | None = None  # to the cache; null = as input
    batch: Share | None = None  # null = no batch API


@dataclass(config=STRICT, frozen=True)
class Retired:
    """The maker has withdrawn the model on `date`; `successor` is a service of ours."""

    date: str
    successor: str


@dataclass(config=STRICT, frozen=True)
class Service:
    """The facts about one API, or about the offline stand-in."""

    name: str
    provider: ProviderName
    model: str
    family: str
    terms: str | None
    temperature: float | None
    max_output_tokens: PositiveInt
    skill: Share | None
    bias: Bias | None
    base_url: str | None = added(None)  # null = the maker's own
    rehearsal: bool = added(False)  # set by rehearsal.url: no LLM answers
    reasoning: str | PositiveInt | None = added(None)  # an effort, or a budget in tokens
    structured: bool = added(True)  # whether the endpoint takes a JSON schema
    scale: PositiveFloat | None = added(None)  # a judge's own: its highest score, whatever is asked
    context: PositiveInt | None = machine()  # tokens
    key_env: str | None = machine()  # the environment variable that holds the key
    prices: Prices | None = machine()
    retired: Retired | None = machine()
    mode: Literal["online", "batch"] = machine()
    concurrency: PositiveInt = machine()
    requests_per_minute: PositiveInt | None = machine()
    tokens_per_minute: PositiveInt | None = machine()
    timeout_s: PositiveFloat = machine()
    attempts: PositiveInt = machine()


def check_service(service: Service, rehearsal_url: str | None) -> None:
    """Raise BadInput when there is nothing that could answer for this service."""
    if service.rehearsal and rehearsal_url is None:
        raise BadInput(
            f"service {service.name} has rehearsal=true, but rehearsal.url is not set; "
            "start the command with `understudy rehearse`"
        )
    if service.retired and service.base_url is None and not service.rehearsal:
        raise BadInput(
            f"service {service.name} ({service.model}) was withdrawn by its maker on "
            f"{service.retired.date}; choose {service.retired.successor}, or give the base_url "
            "of an endpoint that still serves it"
        )
    if service.provider == "openai_compatible" and not (service.base_url or service.rehearsal):
        raise BadInput(
            f"service {service.name} needs base_url=… (e.g. http://127.0.0.1:8000/v1), "
            "the address of its OpenAI-compatible server"
        )
    if service.mode == "batch" and (service.prices is None or service.prices.batch is None):
        raise BadInput(
            f"service {service.name} has mode=batch, but its maker has no batch API; "
            "choose mode=online"
        )
