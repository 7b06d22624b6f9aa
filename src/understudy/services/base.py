"""What every provider is asked, what it answers, and how a call can fail."""

import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from understudy.records import Message, Tool, ToolCall

Finish = Literal["stop", "length", "refusal", "blocked", "error"]
Fate = Literal["heal", "wait", "row", "stop"]
MARK = "x-understudy-rehearsal"  # the header of every response of a rehearsal


@dataclass(frozen=True, slots=True)
class Request:
    """One call. `index` tells repeats of the same text apart (k of an answer, m of a verdict)."""

    messages: tuple[Message, ...]
    index: int = 0
    schema: dict[str, Any] | None = None  # JSON schema of the wanted reply
    tools: tuple[Tool, ...] = ()  # that may be called


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the provider bills them."""

    input: int = 0  # all of the prompt, cached tokens included
    cached: int = 0  # of `input`: read from the provider's prompt cache
    output: int = 0  # everything generated and billed as output, reasoning included
    reasoning: int = 0  # of `output`: hidden reasoning
    written: int = 0  # of `input`: written to the provider's prompt cache


@dataclass(frozen=True, slots=True)
class Room:
    """What a response's headers say about the limits; None where they say nothing."""

    requests_per_minute: int | None = None
    requests_left: int | None = None
    requests_reset_s: float | None = None  # seconds until the requests are all there again
    tokens_per_minute: int | None = None
    tokens_left: int | None = None
    tokens_reset_s: float | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back and was paid for.

    `finish`: stop · length (cut at the output limit) · refusal (the model declined) · blocked (the
    provider's safety filter) · error (given up; nothing was answered, and `text` says why).
    """

    text: str
    finish: Finish = "stop"
    usage: Usage | None = None  # None where the provider reports none
    model: str | None = None  # the version that the provider says answered
    request_id: str | None = None
    room: Room | None = field(default=None, compare=False)
    calls: tuple[ToolCall, ...] = ()  # of tools that were offered; ids are those of rows


class CallFailed(Exception):
    """A call without a reply, and what to do about it.

    `fate`: heal (try again after a back-off: 5xx, time-out, reset, unreadable body) · wait (the
    provider is too busy for us: 429, 529; slow down and try again) · row (this request can never be
    answered: 400, too long) · stop (no request can be: bad key, unknown model, quota used up).
    """

    def __init__(
        self,
        message: str,
        fate: Fate,
        retry_after_s: float | None = None,
        is_uncertain: bool = False,
        room: Room | None = None,
    ) -> None:
        super().__init__(message)
        self.fate = fate
        self.retry_after_s = retry_after_s
        self.is_uncertain = is_uncertain  # it may have been answered and billed all the same
        self.room = room


def error_in(values: Any) -> tuple[str, int | None] | None:
    """Return the words and the number of an error that stands in the place of an answer, if any.

    Overloaded servers and those before other makers send it with status 200, as the body, in its
    first choice, or as the event of a stream.
    """
    if isinstance(values, list) and len(values) == 1:  # as Gemini wraps it
        (values,) = values
    if not isinstance(values, dict):
        return None
    places = [values, *(values["choices"][:1] if isinstance(values.get("choices"), list) else [])]
    found = next((place["error"] for place in places if _has_error(place)), None)
    if found is None and not _ANSWERS & values.keys():
        # Of servers without an `error`: FastAPI's, vLLM's of old, those behind Cloudflare.
        texts = (_said(values.get(name)) for name in ("errors", "detail", "message", "msg"))
        found = next((text for text in texts if text), None)
    if found is None:
        return None
    told = found if isinstance(found, dict) else {"message": found}
    named = (_said(told.get(name)) for name in ("message", "type", "status", "code"))
    words = next((word for word in named if word), "it says no more")
    code = str(told.get("code", values.get("code")))
    return " ".join(words.split())[:300], int(code) if re.fullmatch("[0-9]{1,9}", code) else None


_ANSWERS = {"choices", "content", "candidates", "output", "delta", "usage", "usageMetadata"}


def _has_error(place: Any) -> bool:
    return isinstance(place, dict) and bool(place.get("error"))


def _said(value: Any) -> str:
    """The words in an error's field: a text, or the first of a list of errors."""
    if isinstance(value, list) and value:
        value = value[0]
    if isinstance(value, dict):
        value = next((value[name] for name in ("message", "msg") if value.get(name)), None)
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""


class Provider(Protocol):
    """An adapter for online calls."""

    async def complete(self, request: Request) -> Reply:
        """Answer one request, or raise CallFailed."""

    async def close(self) -> None:
        """Close the connections."""


@dataclass(frozen=True, slots=True)
class BatchState:
    """Where a submitted batch stands."""

    id: str
    label: str | None  # the label it was submitted under, where the provider keeps one
    is_ended: bool  # nothing more will come
    requests: int | None  # number of requests in it
    created: float | None  # seconds since the epoch


class BatchProvider(Protocol):
    """An adapter for a provider's batch API (half price, within a day)."""

    most_requests: int  # of one batch
    most_bytes: int

    async def submit(self, requests: Sequence[tuple[str, Request]], label: str) -> str:
        """Submit (custom id, request) pairs under a label of ours; the batch's id."""

    async def poll(self, batch_id: str) -> BatchState:
        """How far a batch is."""

    async def recent(self, since: float) -> list[BatchState]:
        """The batches created at or after `since` (seconds since the epoch), newest first."""

    def results(self, batch_id: str) -> AsyncIterator[tuple[str, Reply | CallFailed]]:
        """(custom id, outcome) of an ended batch; expired and failed items are CallFailed."""

    async def close(self) -> None:
        """Close the connections."""
