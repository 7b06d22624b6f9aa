"""Names and types of `conf/watch/`: what is judged of the traffic after a migration."""

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass

from understudy.config.source import STRICT


@dataclass(config=STRICT, frozen=True)
class WatchConfig:
    """How many answers are judged, against what, and what an alarm does."""

    share: Annotated[float, Field(gt=0, le=100)]  # percent of conversations
    usd: PositiveFloat | None  # of all commands together
    judged: PositiveInt | None  # answers, of all commands together
    compare: Literal["service", "level"]
    level: Annotated[float, Field(ge=0, le=100)] | None  # points
    alpha: Annotated[float, Field(gt=0, lt=0.5)]
    since: str | None  # ISO 8601, UTC where it names no zone
    every_s: PositiveFloat | None
    action: Literal["none", "rollback", "service"]
