"""What a client asks: read within limits, understood as far as the gateway must, never changed."""

import asyncio
import hashlib
import json
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from understudy.services.providers.log import Values, find

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Answering = Callable[[Request], Awaitable[Response]]

_TALKS = ("x-conversation-id", "x-session-id")  # headers
_NAMES = ("conversation_id", "session_id", "thread_id", "user_id")  # in the body's metadata
_USERS = ("safety_identifier", "user")
_ID = re.compile(r"[\w.:@+-]{1,200}")


class Refused(Exception):
    """A request that the gateway answers itself; `code` as OpenAI's errors have it."""

    def __init__(self, status: int, code: str, message: str, ends: bool = False) -> None:
        super().__init__(message)
        self.status, self.code = status, code
        self.ends = ends  # the connection too: the rest of the request was not read


class ClientGone(Exception):
    """The client left before its request was whole."""


@dataclass(slots=True)
class Call:
    """One chat completion that was asked for."""

    raw: bytes  # as it came; what the service gets
    body: Values
    headers: Mapping[str, str]  # by lower-case name
    id: str = field(default_factory=lambda: secrets.token_hex(8))
    began: float = field(default_factory=time.monotonic)

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


async def read(receive: Receive, most_bytes: int, seconds: float) -> bytes:
    """The body of a request; raises Refused when it is too long or too slow, or ClientGone."""
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
                    raise Refused(413, "request_too_large", message, ends=True)
                parts.append(part)
                if not event.get("more_body"):
                    return b"".join(parts)
    except TimeoutError:
        message = f"The request was not whole within {seconds:g} seconds."
        raise Refused(408, "request_timeout", message, ends=True) from None


def understand(raw: bytes, headers: Mapping[str, str]) -> Call:
    """The call in a body; raises Refused when it is no chat completion."""
    if headers.get("content-encoding", "identity") != "identity":
        raise Refused(415, "unsupported_encoding", "Send the request without Content-Encoding.")
    if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Refused(415, "unsupported_media_type", "Send Content-Type: application/json.")
    try:
        body = json.loads(raw.decode("utf-8"))
    except (ValueError, RecursionError):
        raise Refused(400, "invalid_json", "The body is no JSON in UTF-8.") from None
    if not isinstance(body, dict) or not isinstance(body.get("messages"), list):
        raise Refused(400, "invalid_request", "The body is no object with a list of messages.")
    return Call(raw, body, headers)


def conversation(call: Call) -> bytes:
    """What stays the same through a conversation: its id, its user's, else how it began."""
    if call.talk is not None:
        return f"talk {call.talk}".encode()
    names = (*_NAMES, *_USERS)
    for name in names:
        found = find((call.body,), name)
        if isinstance(found, str | int) and not isinstance(found, bool) and found != "":
            return f"{name} {found}".encode(errors="surrogatepass")
    turns = call.body["messages"]
    roles = [turn.get("role") if isinstance(turn, dict) else None for turn in turns]
    first = roles.index("user") + 1 if "user" in roles else len(turns)
    return json.dumps(turns[:first], sort_keys=True).encode()


def place(conversation: bytes) -> float:
    """Where a conversation stands among all, evenly from 0 to 100."""
    digest = hashlib.blake2b(conversation, digest_size=8).digest()
    return int.from_bytes(digest) / 2**64 * 100


def texts_of(values: Values) -> list[dict[str, str]]:
    """Role and text of each turn, for the router; what is no text is left out."""
    found = []
    for turn in values["messages"]:
        content = turn.get("content") if isinstance(turn, dict) else None
        parts = content if isinstance(content, list) else [{"text": content}]
        texts = [part.get("text") for part in parts if isinstance(part, dict)]
        text = "".join(text for text in texts if isinstance(text, str))
        found.append({"role": "user", "content": text})
    return found
