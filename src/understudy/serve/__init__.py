"""An OpenAI-compatible server of an exported model, and what its web side and its engines share."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from understudy.inference import DecodeRequest, Logprob


@dataclass
class Piece:
    """What one answer has grown by; `finish` is set in its last piece."""

    index: int  # of the answer
    text: str = ""
    tokens: list[int] = field(default_factory=list)  # the stop token is among them
    logprobs: list[Logprob] = field(default_factory=list)
    prompt: list[Logprob] = field(default_factory=list)  # of its tokens but the first, once
    finish: str | None = None  # "stop" | "length" | "error", then `text` says what


Put = Callable[[Piece], None]


class Engine(Protocol):
    """What computes the answers. All methods are called on the event loop."""

    about: str  # library and version

    async def open(self) -> None:
        """Begin to work; EnvironmentFailed when it cannot."""

    async def close(self) -> None:
        """Stop, whatever is under way."""

    def is_alive(self) -> bool:
        """Whether it can still answer."""

    def prepare(self, asked: DecodeRequest) -> None:
        """Do what may take long, in any thread; BadInput for a schema that cannot be kept to."""

    def start(self, asked: DecodeRequest, put: Put) -> Callable[[], None]:
        """Begin to answer; `put` gets the pieces, the function that is returned cancels."""
