"""Names and types of `conf/gateway/`: one endpoint before a service and a local model."""

from typing import Annotated, Literal, get_args

from pydantic import Field, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass

from understudy.config.service import Service
from understudy.config.source import STRICT

Mode = Literal["record", "shadow", "split", "route", "failover", "local"]
MODES: tuple[Mode, ...] = get_args(Mode)
Percent = Annotated[float, Field(ge=0, le=100)]


@dataclass(config=STRICT, frozen=True)
class GatewayConfig:
    """Where it listens, whom it asks, and what it keeps.

    `mode`, `share`, `local`, `local_model` and `router` are those of the first start: later they
    are changed, without a restart, by `understudy gateway set`.
    """

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8100  # 0 = a free one
    key_env: str | None = None  # the environment variable with the key that callers must show
    service: Service | None = None
    mode: Mode = "record"
    share: Percent = 0.0  # of the conversations that the local model answers in mode split
    local: str | None = None  # base_url of the local model, e.g. http://127.0.0.1:8000/v1
    local_model: str | None = None  # as its server calls it; null = the first that it lists
    local_key_env: str | None = None
    router: str | None = None  # the folder that `understudy route` wrote
    deadline_s: PositiveFloat = 60.0  # to the first byte; then the next in line is asked
    breaker_failures: PositiveInt = 5  # in a row, and nobody asks for breaker_s
    breaker_s: PositiveFloat = 10.0
    usd_per_day: Annotated[float, Field(gt=0)] | None = None  # UTC; null = no cap
    shadow_share: Percent = 100.0  # of the conversations that are shadowed
    shadow_twice: bool = False  # ask the service again too, which `decide` needs
    shadow_in_flight: PositiveInt = 8  # what comes while all are busy is not shadowed
    log_prompts: bool = False  # also in the log of requests
    max_body_mb: PositiveFloat = 10.0
    max_in_flight: PositiveInt = 512
    client_s: PositiveFloat = 30.0  # that a client may take to send, or to take what it is sent
