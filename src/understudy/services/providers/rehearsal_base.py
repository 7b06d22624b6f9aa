"""What the providers' parts of the rehearsal share: calls, batches, and what is said of both.

A provider's `rehearsal.py` knows its wire alone: `play` makes a PlayedProvider of it. The server
around it (keys, faults, limits, answers, the bill) is the room `rehearsal`.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

from aiohttp import web

from understudy.records import Message
from understudy.services.base import Finish, Room, Usage
from understudy.services.providers.openai import chat
from understudy.services.providers.translation import CannotSay

_PIECES = 4  # of the text of a stream


@dataclass(frozen=True, slots=True)
class AskedCall:
    """What the body of a call asks for."""

    model: str
    messages: tuple[Message, ...]
    limit: int | None = None  # output tokens, hidden reasoning included
    reasons: bool = False  # hidden reasoning was asked for
    tools: tuple[dict[str, Any], ...] = ()  # functions: name, description, parameters
    choice: str = "auto"  # none, required, or the name of a tool
    schema: dict[str, Any] | None = None  # of the JSON that is wanted


class SaidCall(NamedTuple):
    """A tool that is called."""

    name: str
    arguments: dict[str, Any]


class Said(NamedTuple):
    """An answer, before a wire protocol wraps it."""

    text: str
    finish: Finish
    usage: Usage
    call: SaidCall | None = None


class PlayedWire(NamedTuple):
    """A path of a provider on which calls are answered and billed."""

    path: str
    name: str
    asked: Callable[[dict[str, Any], str | None], AskedCall]
    answer: Callable[[Said, str, str, dict[str, Any]], dict[str, Any] | bytes]  # model, id, body


class CallRefused(Exception):
    """An error reply in place of an answer.

    `kind` is one of the client's words: too_many · quota · bad_key · no_model · no_path ·
    bad_request · too_long · broken · busy.
    """

    def __init__(
        self, status: int, kind: str, message: str, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.kind, self.retry_after_s = status, kind, retry_after_s


class BatchItem(NamedTuple):
    """One request of a batch."""

    custom_id: str
    asked: AskedCall
    body: str  # hash


class ItemResult(NamedTuple):
    """What became of an item: an answer, or the fault that struck it (expired or failed)."""

    item: BatchItem
    id: str
    said: Said | None
    fault: str | None


@dataclass(slots=True)
class PlayedBatch:
    """A submitted batch; `results` is filled when it ends."""

    id: str
    key: str
    items: Sequence[BatchItem]
    facts: dict[str, Any]  # what the protocol keeps beside the items
    created: float = field(default_factory=time.time)  # seconds since the epoch
    ended: float | None = None
    results: list[ItemResult] = field(default_factory=list)

    def count(self, fault: str | None) -> int:
        """The number of results with this fault; None = answered."""
        return sum(result.fault == fault for result in self.results)


class Props(NamedTuple):
    """What the server lends to a played provider."""

    new_id: Callable[[str], str]  # an id with this prefix that no server has given before
    models: list[str]  # that conf/service knows
    batch: Callable[[str, str], PlayedBatch]  # by id and key; raises CallRefused without one


class PlayedProvider:
    """One provider's protocol; paths are below its name."""

    name: ClassVar[str]
    call_path: ClassVar[str]
    submit_path: ClassVar[str]
    batches_path: ClassVar[str]
    batch_prefix: ClassVar[str]  # of a batch's id
    paging: ClassVar[tuple[str, str, int]]  # names of limit and start in the query, and the limit

    def __init__(self, props: Props) -> None:
        self.props = props

    def key(self, request: web.Request) -> str | None:
        """The API key in the headers."""
        raise NotImplementedError

    def wires(self) -> list[PlayedWire]:
        """The paths of calls."""
        return [PlayedWire(self.call_path, "call", self.asked, self.answer)]

    def answer(
        self, said: Said, model: str, id_: str, body: dict[str, Any]
    ) -> dict[str, Any] | bytes:
        """An answer to a body as a whole, or the events of its stream."""
        reply = self.reply(said, model, id_)
        return self.events(reply, body) if body.get("stream") else reply

    def events(self, reply: dict[str, Any], body: dict[str, Any]) -> bytes:
        """The stream of an answer to a body."""
        raise NotImplementedError

    def asked(self, body: dict[str, Any], model: str | None) -> AskedCall:
        """Read a call's body, inside `reading`; `model` is the one in the path."""
        raise NotImplementedError

    def reply(self, said: Said, model: str, id_: str) -> dict[str, Any]:
        """Wrap an answer."""
        raise NotImplementedError

    def error(self, refused: CallRefused, id_: str) -> tuple[int, dict[str, Any]]:
        """The status and body of an error."""
        raise NotImplementedError

    def headers(self, id_: str, room: Room | None) -> dict[str, str]:
        """The headers of every response: the request's id and what is left of the limits."""
        return {}

    def submitted(self, body: bytes, model: str | None) -> tuple[list[BatchItem], dict[str, Any]]:
        """Read a batch's body, inside `reading`; its items, and what is kept beside them."""
        raise NotImplementedError

    def about(self, batch: PlayedBatch, origin: str) -> dict[str, Any]:
        """A batch as its owner sees it; `origin` is the address of the server."""
        raise NotImplementedError

    def page(self, batches: list[dict[str, Any]], has_more: bool) -> dict[str, Any]:
        """One page of the list of batches."""
        raise NotImplementedError

    def add_to(self, router: web.UrlDispatcher, root: str) -> None:
        """Serve what other paths the protocol has, below `root`."""

    def item(self, custom_id: str, body: dict[str, Any], model: str | None = None) -> BatchItem:
        """The item that a request body makes."""
        asked = self.asked(body, model)
        path = f"{self.name}/{asked.model}"
        return BatchItem(custom_id, asked, hash_of(path, json.dumps(body).encode()))


@contextmanager
def reading() -> Iterator[None]:
    """Refuse a body that is not as the protocol says."""
    try:
        yield
    except CannotSay as error:
        raise CallRefused(400, "bad_request", str(error)) from None
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        message = f"The body cannot be read: {error!r}."
        raise CallRefused(400, "bad_request", message) from None


def asked_of(body: dict[str, Any], reasons: bool) -> AskedCall:
    """What a chat completion asks for, inside `reading`."""
    tools = [tool["function"] for tool in body.get("tools") or () if tool["type"] == "function"]
    choice = body.get("tool_choice") or "auto"
    form = body.get("response_format") or {"type": "text"}
    schema = None if form["type"] == "text" else {"type": "object"}
    if form["type"] == "json_schema":
        schema = form["json_schema"]["schema"]
    return AskedCall(
        body["model"],
        tuple(map(_spoken, body["messages"])),
        next((body[name] for name in chat.LIMITS if body.get(name) is not None), None),
        reasons,
        tuple(tools),
        choice if isinstance(choice, str) else choice["function"]["name"],
        schema,
    )


def _spoken(turn: dict[str, Any]) -> Message:
    """A turn as text alone: calls of tools are read like what is said."""
    content = turn.get("content") or ""
    if not isinstance(content, str):
        content = "".join(part["text"] for part in content if "text" in part)
    for call in turn.get("tool_calls") or ():
        content += f"{call['function']['name']} {call['function']['arguments']}"
    role = "system" if turn["role"] == "developer" else turn["role"]
    return {"role": role, "content": content}


def pieces(text: str) -> list[str]:
    """A text in the parts of a stream."""
    step = max(1, -(-len(text) // _PIECES))
    return [text[at : at + step] for at in range(0, len(text), step)]


def sse(values: dict[str, Any], name: str = "") -> bytes:
    """An event of a stream."""
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(values)}\n\n".encode()


def limits_in(room: Room | None) -> Iterator[tuple[str, str, str, float]]:
    """(requests or tokens, limit, what is left, seconds until all is) of every limit."""
    if room is not None:
        for of in ("requests", "tokens"):
            limit, left = getattr(room, f"{of}_per_minute"), getattr(room, f"{of}_left")
            if limit is not None:
                yield of, str(limit), str(left), getattr(room, f"{of}_reset_s") or 0.0


def broken() -> CallRefused:
    """What a failed item of a batch says."""
    return CallRefused(500, "broken", "The server had an error.")


def hash_of(path: str, body: bytes) -> str:
    """What makes two calls the same: the path and the body."""
    return hashlib.sha256(path.encode() + b"\n" + body).hexdigest()[:16]


def json_lines(values: Sequence[dict[str, Any]]) -> bytes:
    """A file of these values, one a line."""
    return "".join(f"{json.dumps(value)}\n" for value in values).encode()
