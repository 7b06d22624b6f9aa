"""What every provider is asked, and what it answers."""

from dataclasses import dataclass
from typing import Any, Protocol

from understudy.records import Message


@dataclass(frozen=True, slots=True)
class Request:
    """One call. `index` tells repeats of the same text apart (k of an answer, m of a verdict)."""

    messages: tuple[Message, ...]
    index: int = 0
    schema: dict[str, Any] | None = None  # JSON schema of the wanted reply


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back. `finish` is "stop", "length", "refusal" or "error"."""

    text: str
    finish: str = "stop"
    input_tokens: int | None = None
    output_tokens: int | None = None


class Provider(Protocol):
    """An adapter: one coroutine."""

    async def complete(self, request: Request) -> Reply:
        """Answer one request; raises UnderstudyError subclasses only."""
