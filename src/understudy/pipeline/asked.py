"""What a request asks for and what comes back, between the web side and an engine."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One request: `n` answers to the prompt `ids`."""

    ids: tuple[int, ...]
    max_tokens: int
    n: int = 1
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()
    presence: float = 0.0
    frequency: float = 0.0
    bias: dict[int, float] = field(default_factory=dict)  # token -> added to its logit
    top_logprobs: int | None = None  # None = no log-probabilities at all
    is_streamed: bool = False  # a piece per step, not one per answer

    @property
    def key(self) -> str:
        """The prompt's name in `generation.uniforms`: equal prompts draw equal numbers."""
        return " ".join(map(str, self.ids))


class Logprob(NamedTuple):
    """A token's natural log-probability under the model, before temperature and penalties."""

    token: int
    logprob: float
    top: list[tuple[int, float]]  # the likeliest tokens, best first


@dataclass
class Piece:
    """What one answer has grown by; `finish` is set in its last piece."""

    index: int  # of the answer
    text: str = ""
    tokens: list[int] = field(default_factory=list)  # the stop token is among them
    logprobs: list[Logprob] = field(default_factory=list)
    finish: str | None = None  # "stop" | "length" | "error", then `text` says what


class Engine(Protocol):
    """What computes the answers. All methods are called on the event loop."""

    about: str  # library and version

    async def open(self) -> None:
        """Begin to work; EnvironmentFailed when it cannot."""

    async def close(self) -> None:
        """Stop, whatever is under way."""

    def is_alive(self) -> bool:
        """Whether it can still answer."""

    def start(self, asked: Asked, put: Callable[[Piece], None]) -> Callable[[], None]:
        """Begin to answer; `put` gets the pieces, the function that is returned cancels."""
