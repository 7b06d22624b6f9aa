"""Translation between OpenAI's chat completions, which clients of the gateway speak, and a maker.

Every maker whose protocol is another has a module `providers/MAKER/translation.py` with the
functions of `Translation`. What they have in common on OpenAI's side is in
`providers/openai/chat.py`.
"""

import json
from typing import Any, Literal, Protocol, cast

from understudy.config.service import Service
from understudy.errors import BadInput
from understudy.services.base import Usage
from understudy.services.providers import facts_of, part_of

Wire = Literal["openai", "anthropic", "google"]
NOT_STORED = "response_not_stored"  # the code of an answer that is wanted again, and is nowhere
MADE = b"resp_gateway_"  # how the ids of responses begin that a gateway has translated


class CannotSay(Exception):
    """A request that has no counterpart in the maker's protocol; `code` as OpenAI's errors."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class BrokenOff(Exception):
    """An error of the maker's within a stream; its text is the maker's word for the kind of it."""

    def __init__(self, kind: str, said: str = "") -> None:
        super().__init__(kind)
        self.said = said  # what it says beyond that


class TranslatedStream(Protocol):
    """A stream of a maker's events, as OpenAI's."""

    @property
    def usage(self) -> Usage | None:
        """The tokens, as far as they are known."""

    def feed(self, part: bytes) -> bytes:
        """Return what the client gets for a part of the body; raises BrokenOff."""


class Translation(Protocol):
    """What the module of a maker must have."""

    def path(self, body: dict[str, Any], service: Service) -> str:
        """Return the path of a call below the base URL."""

    def headers(self, key: str) -> dict[str, str]:
        """Return the headers that carry the key."""

    def request(
        self, body: dict[str, Any], service: Service, notes: list[str] | None = None
    ) -> dict[str, Any]:
        """Return the body of a call, adding to `notes` what was adapted; raises CannotSay."""

    def response(self, body: dict[str, Any], call_id: str) -> dict[str, Any]:
        """Return a whole answer as a chat completion."""

    def error(self, body: dict[str, Any], status: int) -> dict[str, Any]:
        """Return an error as OpenAI's."""

    def stream(self, request: dict[str, Any], call_id: str) -> TranslatedStream:
        """Return a translator of one streamed answer to a request."""


def translation_of(service: Service) -> Translation | None:
    """Return the maker's translation; None where a service speaks OpenAI's protocol itself.

    Raises EnvironmentFailed where the maker's SDK is not installed.
    """
    if facts_of(service).is_offline:
        raise BadInput(
            f"gateway.service={service.name} is no service on a wire; name another, or let "
            "`understudy rehearse` play one and give rehearsal.url"
        )
    return cast(Translation | None, part_of(service, "translation"))


class AnswerStream(Protocol):
    """A streamed chat completion in the words of the client's protocol."""

    def feed(self, part: bytes) -> bytes:
        """Return what the client gets for whole lines of the stream."""

    def end(self) -> bytes:
        """Return what ends the answer."""

    def broken(self, message: str) -> bytes:
        """Return what a client gets in place of the rest."""


class AnswerWire(Protocol):
    """What is read of an answer that goes through as it is."""

    def usage_in(self, content: bytes, is_stream: bool) -> Usage | None:
        """Return the tokens that an answer says it took; None where it does not say."""

    def is_end(self, lines: bytes) -> bool:
        """Return whether a stream ends in these whole lines."""

    def has_ended(self, stream: bytes) -> bool:
        """Return whether a stream says that its answer is whole."""


class Inbound(AnswerWire, Protocol):
    """What the module of a protocol must have that clients speak beside chat completions."""

    NAME: str
    WIRE: Wire  # whose errors its clients read
    SPEAKERS: tuple[str, ...]  # providers whose services get the bytes as they came
    PATH: str  # below the base URL of such a service; "" where the model is in it
    WANTED: str  # the field that every request has
    HIDES_USAGE: bool  # a stream shows the usage only to who asks for it, as chats do

    def chat_request(self, body: dict[str, Any], notes: list[str] | None = None) -> dict[str, Any]:
        """Return a request as one for a chat completion, noting what is left out; CannotSay."""

    def answer(
        self, status: int, body: bytes, request: dict[str, Any], call_id: str
    ) -> tuple[int, bytes]:
        """Return status and body of a chat completion, or of an error in its place."""

    def as_chat(self, content: bytes, is_stream: bool) -> bytes | None:
        """Return an answer as a chat completion, where logs of the protocol are not read."""

    def events(self, request: dict[str, Any], call_id: str) -> AnswerStream:
        """Return a translator of one streamed answer to a request."""


class Events:
    """Server-sent events that come in parts (html.spec.whatwg.org, section 9.2)."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, part: bytes) -> list[dict[str, Any]]:
        """Return the data of the events that are whole now."""
        *lines, self._rest = (self._rest + part).split(b"\n")
        data = (line[5:].strip() for line in lines if line.startswith(b"data:"))
        found = (json.loads(text) for text in data if text and text != b"[DONE]")
        return [event for event in found if isinstance(event, dict)]
