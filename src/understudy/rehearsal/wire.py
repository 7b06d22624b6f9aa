"""What the three wire protocols have in common: what is asked, what is said, how it is refused."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from aiohttp import web

from understudy.records import Message
from understudy.services.base import Finish, Room, Usage


@dataclass(frozen=True, slots=True)
class Asked:
    """What the body of a call asks for."""

    model: str
    messages: tuple[Message, ...]
    limit: int | None = None  # output tokens, hidden reasoning included
    reasons: bool = False  # hidden reasoning was asked for


class Said(NamedTuple):
    """An answer, before a wire protocol wraps it."""

    text: str
    finish: Finish
    usage: Usage


class Refused(Exception):
    """An error reply in place of an answer.

    `kind` is one of the client's words: too_many · quota · bad_key · no_model · no_path ·
    bad_request · too_long · broken · busy.
    """

    def __init__(
        self, status: int, kind: str, message: str, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.kind, self.retry_after_s = status, kind, retry_after_s


class Wire(Protocol):
    """One provider's protocol: plain functions of bodies and headers."""

    name: str  # the first part of its paths
    family: str  # of a model that conf/service does not know

    def key(self, request: web.Request) -> str | None:
        """The API key in the headers."""

    def asked(self, body: dict[str, Any], model: str | None) -> Asked:
        """Read a call's body, inside `reading`; `model` is the one in the path."""

    def reply(self, said: Said, model: str, id_: str) -> dict[str, Any]:
        """Wrap an answer."""

    def error(self, refused: Refused, id_: str) -> tuple[int, dict[str, Any]]:
        """The status and body of an error."""

    def headers(self, id_: str, room: Room | None) -> dict[str, str]:
        """The headers of every response: the request's id and what is left of the limits."""


@contextmanager
def reading() -> Iterator[None]:
    """Refuse a body that is not as the protocol says."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        message = f"The body cannot be read: {error!r}."
        raise Refused(400, "bad_request", message) from None


def text_of(content: Any) -> str:
    """The text of a message's content: a text, or a list of text parts."""
    if isinstance(content, str):
        return content
    return "".join(part["text"] for part in content if "text" in part)
