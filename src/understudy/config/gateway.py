"""Names and types of `conf/gateway/`: one endpoint before a service and a local model."""

from typing import Annotated, Literal, get_args

from pydantic import Field, PositiveFloat, PositiveInt, StringConstraints
from pydantic.dataclasses import dataclass

from understudy.config.service import Service
from understudy.config.source import STRICT, FilePath, added

Mode = Literal["record", "shadow", "split", "route", "failover", "local"]
MODES: tuple[Mode, ...] = get_args(Mode)
Percent = Annotated[float, Field(ge=0, le=100)]
Name = Annotated[str, StringConstraints(pattern=r"^[\w-]{1,60}$")]
MAIN = "service"  # how aliases call `gateway.service`


@dataclass(config=STRICT, frozen=True)
class CallerKey:
    """A key of its own for one caller, and what it may take; null = no limit."""

    key_env: str  # the environment variable with the key
    usd_per_day: Annotated[float, Field(gt=0)] | None = added(None)  # UTC
    requests_per_minute: PositiveInt | None = added(None)


@dataclass(config=STRICT, frozen=True)
class LocalPrices:
    """What the local models' tokens cost, in USD per million, as who runs the machine says."""

    input: Annotated[float, Field(ge=0)]
    output: Annotated[float, Field(ge=0)]


@dataclass(config=STRICT, frozen=True)
class GatewayConfig:
    """Where it listens, whom it asks, and what it keeps.

    `mode`, `share`, `local`, `local_model` and `router` count where the command line gives them;
    else they are as the last start and `understudy gateway set` left them.
    """

    host: str
    port: Annotated[int, Field(ge=0, le=65535)]  # 0 = a free one
    key_env: str | None  # the environment variable with the key that callers must show
    service: Service | None
    services: dict[Name, Service]  # more of them, for aliases and fallback
    aliases: dict[str, Name]  # a model that clients name → who is asked: a service, or MAIN
    fallback: tuple[Name, ...]  # whom to ask when the service fails, in this order
    keys: dict[Name, CallerKey]  # callers with keys and limits of their own
    mode: Mode
    share: Percent  # of the conversations that the local model answers in mode split
    local: str | None  # base_url of the local model, e.g. http://127.0.0.1:8000/v1
    local_model: str | None  # as its server calls it; null = the first that it lists
    local_key_env: str | None
    local_prices: LocalPrices | None  # null = not known
    candidates: tuple[str, ...]  # base_urls of more local models, which shadows are asked, too
    router: FilePath | None  # the folder that `understudy route` wrote
    deadline_s: PositiveFloat  # to the first byte; then the next in line is asked
    retries: Annotated[int, Field(ge=0)]  # where the service says after how long to come again
    breaker_failures: PositiveInt  # in a row, and nobody asks for breaker_s
    breaker_s: PositiveFloat
    usd_per_day: Annotated[float, Field(gt=0)] | None  # UTC; null = no cap
    shadow_share: Percent  # of the conversations that are shadowed
    shadow_twice: bool  # ask the service again too, which `decide` needs
    shadow_in_flight: PositiveInt
    shadow_queue: Annotated[int, Field(ge=0)]  # that wait while all are busy; more are skipped
    record_share: Percent  # of the conversations whose requests and answers are kept
    keep: PositiveInt | None  # days that logs are kept; null = for ever
    file_mb: PositiveFloat  # a log file that is longer is followed by another
    log_prompts: bool  # also in the log of requests
    otel: bool  # spans and measurements to OpenTelemetry
    pass_through: Literal["always", "unless_local", "never"]  # other paths go to the service
    trial_s: Annotated[float, Field(ge=0)]  # after a change, within which failures undo it
    max_body_mb: PositiveFloat
    max_in_flight: PositiveInt
    client_s: PositiveFloat  # that a client may take to send, or to take what it is sent
