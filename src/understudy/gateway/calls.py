"""What a client asks: read within limits, understood as far as the gateway must, never changed."""

import asyncio
import hashlib
import json
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Container, Iterable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from understudy.services.callers import is_json
from understudy.services.providers.anthropic import errors as anthropic
from understudy.services.providers.google import errors as google
from understudy.services.providers.openai import chat
from understudy.services.providers.translation import CannotSay, Inbound, Wire

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Header = tuple[bytes, bytes]

_TALKS = ("x-conversation-id", "x-session-id")  # headers
_NAMES = ("conversation_id", "session_id", "thread_id", "user_id")  # in the body or its metadata
_USERS = ("safety_identifier", "user")
_ID = re.compile(r"[\w.:@+-]{1,200}")
REQUEST_ID = "x-request-id"
_NAMED = (REQUEST_ID.encode(), b"request-id")  # headers of an answer; the latter is Anthropic's


class RequestRefused(Exception):
    """A request that the gateway answers itself; `code` as OpenAI's errors have it."""

    def __init__(
        self, status: int, code: str, message: str, ends: bool = False, retry_s: int = 1
    ) -> None:
        super().__init__(message)
        self.status, self.code = status, code
        self.ends = ends  # the connection too: the rest of the request was not read
        self.retry_s = retry_s  # of a 429: when to come again


class ClientGone(Exception):
    """The client left before its request was whole."""


def new_id() -> str:
    """Return how the logs call a request."""
    return secrets.token_hex(8)


@dataclass(frozen=True, slots=True)
class Native:
    """A request in another protocol than that of chat completions, as it came."""

    path: str  # below the base URL of a service that speaks it
    raw: bytes
    body: dict[str, Any]
    inbound: Inbound


@dataclass(slots=True)
class ChatCall:
    """One chat completion that was asked for."""

    raw: bytes  # as it came; what the service gets
    body: dict[str, Any]
    headers: Mapping[str, str]  # by lower-case name
    query: str = ""  # of its address
    id: str = field(default_factory=new_id)
    began: float = field(default_factory=time.monotonic)
    wire: Wire = "openai"  # whose protocol the client speaks
    native: Native | None = None  # the request in that protocol; `raw` and `body` are translated
    caller: str = ""  # who has a key of its own
    adapted: list[str] = field(default_factory=list)  # what the maker could not be told as it is

    @property
    def is_stream(self) -> bool:
        """Whether the answer is wanted in pieces."""
        return self.body.get("stream") is True

    @property
    def model(self) -> str | None:
        """The model that the client names."""
        model = self.body.get("model")
        return model if isinstance(model, str) else None

    @property
    def talk(self) -> str | None:
        """The id of the conversation where a header gives one."""
        given = next((self.headers[name] for name in _TALKS if name in self.headers), "")
        return given if _ID.fullmatch(given) else None

    @property
    def patience_s(self) -> float | None:
        """Seconds that the client says it waits; the official SDKs say it in a header."""
        try:
            seconds = float(self.headers.get("x-stainless-read-timeout", ""))
        except ValueError:
            return None
        return seconds if 0 < seconds < float("inf") else None


def request_id(
    answer: Iterable[Header], asked: str, wire: Wire, own: str
) -> tuple[str, list[Header]]:
    """Return how a client may call an answer, and the headers that are missing to say so.

    It is the service's name for it where it has one, else what the client has `asked` for in a
    header of its own, else ours.
    """
    given = dict(answer)
    texts = [given[name].decode("latin-1") for name in _NAMED if name in given]
    found = next((text for text in (*texts, asked) if _ID.fullmatch(text)), own)
    wanted = _NAMED if wire == "anthropic" else _NAMED[:1]
    return found, [(header, found.encode()) for header in wanted if header not in given]


async def read(receive: Receive, most_bytes: int, seconds: float) -> bytes:
    """Return the body of a request; raises RequestRefused when it is too long or too slow."""
    parts, size = [], 0
    try:
        async with asyncio.timeout(seconds):
            while True:
                event = await receive()
                if event["type"] == "http.disconnect":
                    raise ClientGone
                size += len(part := event.get("body", b""))
                if size > most_bytes:
                    message = f"The request is longer than {most_bytes:,} bytes."
                    raise RequestRefused(413, "request_too_large", message, ends=True)
                parts.append(part)
                if not event.get("more_body"):
                    return b"".join(parts)
    except TimeoutError:
        message = f"The request was not whole within {seconds:g} seconds."
        raise RequestRefused(408, "request_timeout", message, ends=True) from None


def understand(raw: bytes, headers: Mapping[str, str]) -> ChatCall:
    """Return the call in a body; raises RequestRefused when it is no chat completion."""
    body = _object(raw, headers)
    if not isinstance(body.get("messages"), list):
        message = "The body is no object with a list of messages."
        raise RequestRefused(400, "invalid_request", message)
    return ChatCall(raw, body, headers)


def understand_native(
    raw: bytes,
    headers: Mapping[str, str],
    inbound: Inbound,
    path: str = "",
    facts: dict[str, Any] | None = None,
) -> ChatCall:
    """Return the call in another protocol; raises RequestRefused for what only its maker knows.

    `path` is below the base URL, where the protocol has no single one; `facts` of a request
    stand in its address.
    """
    body = _object(raw, headers)
    if inbound.WANTED not in body:
        message = f"The body is no object with {inbound.WANTED}."
        raise RequestRefused(400, "invalid_request", message)
    notes: list[str] = []
    try:
        asked = inbound.chat_request(body | (facts or {}), notes)
    except CannotSay as error:
        raise RequestRefused(400, error.code, str(error)) from None
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        message = f"The request cannot be read: {error!r}."
        raise RequestRefused(400, "invalid_request", message[:300]) from None
    native = Native(path or inbound.PATH, raw, body, inbound)
    return ChatCall(
        chat.dumps(asked), asked, headers, wire=inbound.WIRE, native=native, adapted=notes
    )


def _object(raw: bytes, headers: Mapping[str, str]) -> dict[str, Any]:
    if headers.get("content-encoding", "identity") != "identity":
        message = "Send the request without Content-Encoding."
        raise RequestRefused(415, "unsupported_encoding", message)
    if not is_json(headers):
        message = "Send Content-Type: application/json."
        raise RequestRefused(415, "unsupported_media_type", message)
    try:
        body = json.loads(raw.decode("utf-8"))
    except (ValueError, RecursionError):
        raise RequestRefused(400, "invalid_json", "The body is no JSON in UTF-8.") from None
    if not isinstance(body, dict):
        raise RequestRefused(400, "invalid_request", "The body is no JSON object.")
    return body


def conversation(call: ChatCall, shared: Container[bytes] = ()) -> bytes:
    """Return what stays the same through a conversation: its id, its user's, else how it began."""
    return named(call, shared) or beginning(call)[0]


def named(call: ChatCall, shared: Container[bytes] = ()) -> bytes | None:
    """Return the id of a conversation or of its user; one that is `shared` by all is none."""
    if call.talk is not None and (key := f"talk {call.talk}".encode()) not in shared:
        return key
    places = [each for each in (call.body, call.body.get("metadata")) if isinstance(each, dict)]
    for name in (*_NAMES, *_USERS):
        found = next((each[name] for each in places if each.get(name) is not None), None)
        if isinstance(found, str | int) and not isinstance(found, bool) and found != "":
            key = f"{name} {found}".encode(errors="surrogatepass")
            if key not in shared:
                return key
    return None


def beginning(call: ChatCall, answers: int = 0) -> tuple[bytes, bool]:
    """Return how a conversation began, with some answers, and whether nothing follows that."""
    turns = call.body["messages"]
    roles = [turn.get("role") if isinstance(turn, dict) else None for turn in turns]
    first = roles.index("user") + 1 if "user" in roles else len(turns)
    begun = json.dumps(turns[: first + answers], sort_keys=True).encode()
    return begun, first + answers >= len(turns)


class Cluster(NamedTuple):
    """Whose call it is: a digest, and what it is of."""

    group_id: str
    group_of: Literal["user", "conversation", "start"]  # start: nobody told either


def cluster(call: ChatCall, shared: Container[bytes] = ()) -> Cluster:
    """Return the user, else the conversation, else how it began; what all have is no user.

    What one user asks is no independent sample, in however many conversations.
    """
    for name in _USERS:
        user = call.body.get(name)
        key = f"{name} {user}".encode(errors="surrogatepass")
        if isinstance(user, str | int) and user and key not in shared:
            whose = f"user {user}".encode(errors="surrogatepass")
            return Cluster(hashlib.sha256(whose).hexdigest()[:16], "user")
    whose = conversation(call, shared)
    return Cluster(
        hashlib.sha256(whose).hexdigest()[:16],
        "start" if whose.startswith(b"[") else "conversation",
    )


_ERRORS = {"openai": chat.error, "anthropic": anthropic.error, "google": google.error}


def wire_of(path: str, headers: Mapping[str, str]) -> Wire:
    """Return whose protocol a client speaks."""
    if path.startswith("/v1/messages") or "anthropic-version" in headers:
        return "anthropic"
    is_google = path.startswith(("/v1beta/", "/v1alpha/")) or "x-goog-api-key" in headers
    return "google" if is_google else "openai"


async def send_error(
    send: Send, status: int, code: str, message: str, *headers: Header, wire: Wire = "openai"
) -> None:
    """Send an error of the gateway's own, in the shape of a maker's."""
    body = chat.dumps(_ERRORS[wire](status, code, message))
    length = (b"content-length", str(len(body)).encode())
    whole = [(b"content-type", b"application/json"), length, *headers]
    await send({"type": "http.response.start", "status": status, "headers": whole})
    await send({"type": "http.response.body", "body": body})


async def refuse(send: Send, refused: RequestRefused, wire: Wire = "openai") -> None:
    """Tell the client why its request is refused."""
    headers = []
    if refused.ends:
        headers.append((b"connection", b"close"))
    if refused.status == 401:
        headers.append((b"www-authenticate", b'Basic realm="understudy gateway"'))
    if refused.status == 429:
        headers.append((b"retry-after", str(refused.retry_s).encode()))
    await send_error(send, refused.status, refused.code, str(refused), *headers, wire=wire)
