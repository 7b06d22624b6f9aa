"""Asking a service or a local model over pooled connections; bytes go through as they are."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import aiohttp

from understudy.config.service import Service
from understudy.gateway import answers
from understudy.gateway.calls import Call, Refused
from understudy.gateway.choice import Who
from understudy.services.base import MARK, Usage

Headers = list[tuple[bytes, bytes]]

_CONNECT_S = 5.0
_NAME_S = 0.5  # to name a model; a request may wait for it
_KEPT_S = 4.0  # less than uvicorn's 5 s: who closes an idle connection first loses no request
_MOST_BYTES = 64 << 20  # of an answer that is not streamed
_TO_SERVICE_NEVER = {
    *("host", "content-length", "connection", "keep-alive", "transfer-encoding", "te", "trailer"),
    *("upgrade", "proxy-authorization", "proxy-connection", "expect", "accept-encoding", "cookie"),
    *("authorization", "x-api-key", "api-key", "x-goog-api-key", "content-type"),
    *("x-conversation-id", "x-session-id", "origin", "referer"),
}
_TO_CLIENT_NEVER = {
    *(b"connection", b"keep-alive", b"transfer-encoding", b"content-length", b"set-cookie"),
    *(b"upgrade", b"trailer", b"proxy-authenticate", b"alt-svc", b"strict-transport-security"),
}
_BUSY = (408, 409, 425, 429)
_ODD = (ValueError, LookupError, TypeError, AttributeError, RecursionError)  # in values of others


class Lost(Exception):
    """No answer came: a time-out, a lost connection, something unreadable."""

    def __init__(self, why: str, may_be_billed: bool) -> None:
        super().__init__(why)
        self.why = why  # one of a few words, for the log
        self.may_be_billed = may_be_billed


class Translated(Protocol):
    """A stream of another maker's events, as OpenAI's."""

    @property
    def usage(self) -> Usage | None:
        """The tokens, as far as they are known."""

    def feed(self, part: bytes) -> bytes:
        """What the client gets for a part of the body."""


class Wire(Protocol):
    """Another maker's protocol, for a client that speaks OpenAI's."""

    def path(self, body: dict[str, Any], service: Service) -> str:
        """Below the base URL."""

    def headers(self, key: str) -> dict[str, str]:
        """With the key."""

    def request(self, body: dict[str, Any], service: Service) -> dict[str, Any]:
        """The body of a call; raises Refused for what cannot be said."""

    def response(self, body: dict[str, Any], call: Call) -> dict[str, Any]:
        """A whole answer as a chat completion."""

    def error(self, body: dict[str, Any]) -> dict[str, Any]:
        """An error as OpenAI's."""

    def stream(self, call: Call) -> Translated:
        """A translator of one streamed answer."""


@dataclass(frozen=True, slots=True)
class Target:
    """Somebody who can be asked."""

    who: Who
    url: str
    key: str | None = field(default=None, repr=False)
    passes_key: bool = False  # without one of ours, the client's own goes through
    model: str | None = None  # in place of the one that the client names
    timeout_s: float = 120.0
    wire: Wire | None = None
    service: Service | None = None


@dataclass(slots=True)
class Opened:
    """An answer that has begun: all of it, or its first part and what follows."""

    status: int
    headers: Headers
    body: bytes
    rest: AsyncIterator[bytes] | None  # None: `body` is all
    response: aiohttp.ClientResponse
    translated: Translated | None = None  # which knows the usage

    def close(self) -> None:
        """Hang up; a connection that was not read to its end is not used again."""
        self.response.close()


class Upstream:
    """The connections to everybody who is asked; stand-ins only when it `is_rehearsal`."""

    def __init__(self, is_rehearsal: bool) -> None:
        self._is_rehearsal = is_rehearsal
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEPT_S),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S),
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    async def first_model(self, url: str, key: str | None) -> str | None:
        """The first model that a server lists; None when it does not say."""
        headers = {"authorization": f"Bearer {key}"} if key else {}
        try:
            async with (
                asyncio.timeout(_NAME_S),
                self._session.get(f"{url.rstrip('/')}/models", headers=headers) as response,
            ):
                model = (await response.json(content_type=None))["data"][0]["id"]
        except (aiohttp.ClientError, OSError, TimeoutError, *_ODD):
            return None
        return model if isinstance(model, str) else None

    async def ask(self, target: Target, call: Call, patience_s: float) -> Opened:
        """The answer, once its first byte (streamed) or all of it is there; raises Lost."""
        try:
            async with asyncio.timeout(patience_s):
                response = await self._post(target, call)
                try:
                    return await self._begin(target, call, response)
                except BaseException:
                    response.close()
                    raise
        except TimeoutError as error:
            may_be_billed = not isinstance(error, aiohttp.ConnectionTimeoutError)
            raise Lost("timeout", may_be_billed) from None
        except (aiohttp.ClientConnectorError, aiohttp.InvalidURL):
            raise Lost("unreachable", may_be_billed=False) from None
        except (aiohttp.ClientError, OSError):
            raise Lost("connection lost", may_be_billed=True) from None

    async def _post(self, target: Target, call: Call) -> aiohttp.ClientResponse:
        wire, service = target.wire, target.service
        if wire is not None and service is not None:
            path, data = wire.path(call.body, service), _translated_request(wire, call, service)
        else:
            path, data = "/chat/completions", _body(target, call)
        return await self._session.post(
            f"{target.url.rstrip('/')}{path}",
            data=data,
            headers=_headers(target, call),
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=_CONNECT_S, sock_read=target.timeout_s
            ),
        )

    async def _begin(self, target: Target, call: Call, response: aiohttp.ClientResponse) -> Opened:
        headers = [
            (name.lower(), value)
            for name, value in response.raw_headers
            if name.lower() not in _TO_CLIENT_NEVER
        ]
        kind = response.headers.get("content-type", "").partition(";")[0]
        if MARK in response.headers and not self._is_rehearsal:
            raise Lost("a rehearsal server is there, and rehearsal.url is not given", False)
        if kind == "text/event-stream" and response.status < 300:
            translated = target.wire.stream(call) if target.wire else None
            rest = _parts(response, translated)
            try:
                first = await anext(rest)
            except StopAsyncIteration:
                raise Lost("empty stream", may_be_billed=True) from None
            return Opened(response.status, headers, first, rest, response, translated)
        body = await _whole(response)
        if target.wire is not None:
            headers = [pair for pair in headers if pair[0] != b"content-type"]
            headers.append((b"content-type", b"application/json"))
            body = _translated_answer(target.wire, call, response.status, body)
        return Opened(response.status, headers, body, None, response)


def is_failure(status: int, has_own_key: bool) -> bool:
    """Whether a status says that somebody else should be asked, not that the call is wrong."""
    return status >= 500 or status in _BUSY or (has_own_key and status in (401, 402, 403))


async def _whole(response: aiohttp.ClientResponse) -> bytes:
    parts, size = [], 0
    async for part in response.content.iter_any():
        size += len(part)
        if size > _MOST_BYTES:
            raise Lost("answer too long", may_be_billed=True)
        parts.append(part)
    return b"".join(parts)


async def _parts(
    response: aiohttp.ClientResponse, translated: Translated | None
) -> AsyncIterator[bytes]:
    """The parts of a body as they come, none empty; raises Lost when it breaks off."""
    try:
        async for part in response.content.iter_any():
            said = part if translated is None else translated.feed(part)
            if said:
                yield said
    except TimeoutError:
        raise Lost("timeout", may_be_billed=True) from None
    except (aiohttp.ClientError, OSError):
        raise Lost("connection lost", may_be_billed=True) from None
    except _ODD:
        raise Lost("unreadable answer", may_be_billed=True) from None


def _body(target: Target, call: Call) -> bytes:
    """As it came, but for the name of the model where the target has another."""
    if target.model is None or target.model == call.model:
        return call.raw
    return answers.dumps(call.body | {"model": target.model})


def _headers(target: Target, call: Call) -> dict[str, str]:
    sent = {"content-type": "application/json", "accept-encoding": "identity"}
    if target.who == "service" and target.wire is None:
        sent |= {k: v for k, v in call.headers.items() if k not in _TO_SERVICE_NEVER}
        if target.passes_key and "authorization" in call.headers:
            sent["authorization"] = call.headers["authorization"]
    if target.wire is not None:
        sent |= target.wire.headers(target.key or "none")
    elif target.key is not None:
        sent["authorization"] = f"Bearer {target.key}"
    return sent


def _translated_request(wire: Wire, call: Call, service: Service) -> bytes:
    try:
        return answers.dumps(wire.request(call.body, service))
    except _ODD as error:
        message = f"The request cannot be passed on to {service.name}: {error!r}."
        raise Refused(400, "invalid_request", message[:300]) from None


def _translated_answer(wire: Wire, call: Call, status: int, body: bytes) -> bytes:
    try:
        values = json.loads(body)
        made = wire.response(values, call) if status < 300 else wire.error(values)
    except _ODD:
        raise Lost("unreadable answer", may_be_billed=status < 300) from None
    return answers.dumps(made)
