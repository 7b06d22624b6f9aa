"""Asking a service or a local model over pooled connections; bytes go through as they are."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
from yarl import URL

from understudy.gateway.calls import ChatCall, Header, RequestRefused
from understudy.gateway.retries import pause_s
from understudy.gateway.targets import Target, without_key, without_keys
from understudy.services.base import MARK, error_in
from understudy.services.providers.openai import chat
from understudy.services.providers.translation import (
    BrokenOff,
    CannotSay,
    TranslatedStream,
)

_CONNECT_S = 5.0
_NAME_S = 0.5  # to name a model; a request may wait for it
_KEPT_S = 4.0  # less than uvicorn's 5 s: who closes an idle connection first loses no request
_MOST_BYTES = 64 << 20  # of an answer that is not streamed
_MOST_HEAD = 1 << 16  # bytes of a stream without an event; it goes through as it is
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
_CHAT = "/chat/completions"
_TRACED = ("x-request-id", "traceparent", "tracestate")  # what a call is called, for its logs
_MAY_BE_LEFT_OUT = ("temperature", "top_p", "top_k")  # newer models decline them
_DECLINED = (400, 422)
_NO_PATH = (404, 405, 501)
_MAY_LACK_PATHS = ("openai_compatible",)
_BUSY = (408, 409, 425, 429)
ODD = (ValueError, LookupError, TypeError, AttributeError, RecursionError)  # in values of others


class Lost(Exception):
    """No answer came: a time-out, a lost connection, something that is none."""

    def __init__(self, why: str, may_be_billed: bool, said: str = "") -> None:
        super().__init__(why)
        self.why = why  # one of a few words, to be counted
        self.may_be_billed = may_be_billed
        self.said = said  # what was sent in place of an answer, in few words

    @property
    def reason(self) -> str:
        """Why, for the log and the client."""
        return f"{self.why}: {self.said}" if self.said else self.why


@dataclass(slots=True)
class Opened:
    """An answer that has begun: all of it, or its first part and what follows."""

    status: int
    headers: list[Header]
    body: bytes
    rest: AsyncIterator[bytes] | None  # None: `body` is all
    response: aiohttp.ClientResponse
    translated: TranslatedStream | None = None  # which knows the usage
    hides_usage: bool = False  # the client did not ask for it
    is_native: bool = False  # in the protocol of the client's maker, not in OpenAI's
    pause_s: float | None = None  # after which the maker says to come again

    def close(self) -> None:
        """Hang up; a connection that was not read to its end is not used again."""
        self.response.close()


class _Put(NamedTuple):
    """What goes out for a call."""

    path: str
    data: bytes
    ours: tuple[str, ...] = ()  # settings that may be left out where a service declines them
    is_native: bool = False


class Upstream:
    """The connections to service and local model; to a stand-in only when it `is_rehearsal`."""

    def __init__(self, is_rehearsal: bool) -> None:
        self._is_rehearsal = is_rehearsal
        self._without: dict[str, set[str]] = {}  # by address: settings that it declines
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
        """Return the first model that a server lists; None when it does not say."""
        headers = {"authorization": f"Bearer {key}"} if key else {}
        try:
            async with (
                asyncio.timeout(_NAME_S),
                self._session.get(
                    f"{url.rstrip('/')}/models", headers=headers, proxy=proxy_of(url)
                ) as response,
            ):
                model = (await response.json(content_type=None))["data"][0]["id"]
        except (aiohttp.ClientError, OSError, TimeoutError, *ODD):
            return None
        return model if isinstance(model, str) else None

    async def ask(
        self, target: Target, call: ChatCall, patience_s: float, is_alone: bool = True
    ) -> Opened:
        """Return the answer once its first event (streamed) or all of it is there; raises Lost.

        `is_alone`: nobody else would be asked.
        """
        try:
            with _losing():
                async with asyncio.timeout(patience_s):
                    while True:
                        put = self._put(target, call)
                        response = await self._post(target, call, put)
                        try:
                            opened = await self._begin(target, call, put, response, is_alone)
                        except BaseException:
                            response.close()
                            raise
                        opened.is_native = put.is_native
                        opened.hides_usage = "stream_options" in put.ours
                        if not self._declined(target, call, put, opened):
                            return opened
        except Lost as lost:
            lost.said = without_keys(lost.said, target, call)
            raise

    async def pass_on(
        self,
        target: Target,
        call: ChatCall,
        method: str,
        address: str,
        data: bytes | AsyncIterator[bytes] | None,
    ) -> aiohttp.ClientResponse:
        """Return the response to a call of another path once its head is there; raises Lost."""
        base = target.url.rstrip("/")
        place, mark, query = address.partition("?")
        address = f"{place}{mark}{without_key(query, target)}"
        path = address.removeprefix("/v1") if base.endswith("/v1") else address
        headers = {k: v for k, v in call.headers.items() if k not in _TO_SERVICE_NEVER}
        for name in ("content-type", *(() if isinstance(data, bytes) else ("content-length",))):
            if name in call.headers and data is not None:
                headers[name] = call.headers[name]
        # A body that comes in parts takes as long as its client does.
        seconds = target.timeout_s if data is None or isinstance(data, bytes) else None
        with _losing():
            async with asyncio.timeout(seconds):
                response = await self._session.request(
                    method,
                    URL(f"{base}{path}", encoded=True),
                    data=data,
                    headers=headers | {"accept-encoding": "identity"} | _key_of(target, call),
                    proxy=proxy_of(target.url),
                    allow_redirects=False,
                    timeout=_patience(target.timeout_s),
                )
        if MARK in response.headers and not self._is_rehearsal:
            response.close()
            raise Lost("a rehearsal server is there, and rehearsal.url is not given", False)
        return response

    @staticmethod
    def headers_of(response: aiohttp.ClientResponse) -> list[Header]:
        """Return the headers that a client gets."""
        return [
            (name.lower(), value)
            for name, value in response.raw_headers
            if name.lower() not in _TO_CLIENT_NEVER
        ]

    @staticmethod
    def parts(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        """Yield the parts of a body as they come; raises Lost when it breaks off."""
        return _parts(response, None)

    def _put(self, target: Target, call: ChatCall) -> "_Put":
        """Return what a target is sent for a call; raises RequestRefused."""
        maker, service, model = target.translation, target.service, target.model_for(call)
        declined = self._without.get(target.place, ())
        native = call.native
        if native is not None and target.speaks(call) and native.path not in declined:
            data, path = target.renamed(native.raw, native.body, native.path)
            ours = tuple[str, ...]()
            if native.inbound.HIDES_USAGE and call.is_stream and "stream_options" not in declined:
                data, ours = _asking_usage(data, native.body | ({"model": model} if model else {}))
            return _Put(path, data, ours, is_native=True)
        if maker is not None and service is not None:
            try:
                body = maker.request(call.body, service, call.adapted)
                path = maker.path(call.body, service)
            except CannotSay as error:
                raise RequestRefused(400, error.code, str(error)) from None
            except ODD as error:
                message = f"The request cannot be passed on to {service.name}: {error!r}."
                raise RequestRefused(400, "invalid_request", message[:300]) from None
            body = {name: value for name, value in body.items() if name not in declined}
            return _Put(path, chat.dumps(body), tuple(n for n in _MAY_BE_LEFT_OUT if n in body))
        if model not in (None, call.model):
            body = call.body | {"model": model}
            if target.who == "service" and call.is_stream and "stream_options" not in declined:
                return _Put(_CHAT, *_asking_usage(chat.dumps(body), body))
            return _Put(_CHAT, chat.dumps(body))
        if target.who == "service" and call.is_stream and "stream_options" not in declined:
            return _Put(_CHAT, *_asking_usage(call.raw, call.body))
        return _Put(_CHAT, call.raw)

    def _declined(self, target: Target, call: ChatCall, put: "_Put", opened: Opened) -> bool:
        """Return whether a service takes no such setting, which it is not sent from now on."""
        if opened.status not in (*_DECLINED, *_NO_PATH) or opened.rest is not None:
            return False
        name = next((name for name in put.ours if name.encode() in opened.body), None)
        if put.is_native and opened.status in _NO_PATH and b"model" not in opened.body:
            is_other = target.service is not None and target.service.provider in _MAY_LACK_PATHS
            name = put.path if is_other else None  # it is asked for a chat completion
        if name is None:
            return False
        self._without.setdefault(target.place, set()).add(name)
        if name not in ("stream_options", put.path):  # which the client has not asked for
            call.adapted.append(f"{name}: the service takes none, so it is left out")
        opened.close()
        return True

    async def _post(self, target: Target, call: ChatCall, put: "_Put") -> aiohttp.ClientResponse:
        url = f"{target.url.rstrip('/')}{put.path}"
        if call.query and target.who == "service" and (put.is_native or not target.translation):
            url += f"?{without_key(call.query, target)}"
        return await self._session.post(
            URL(url, encoded=True),
            data=put.data,
            headers=_headers(target, call, put),
            proxy=proxy_of(target.url),
            allow_redirects=False,
            timeout=_patience(target.timeout_s),
        )

    async def _begin(
        self,
        target: Target,
        call: ChatCall,
        put: _Put,
        response: aiohttp.ClientResponse,
        is_alone: bool,
    ) -> Opened:
        headers = self.headers_of(response)
        kind = response.headers.get("content-type", "").partition(";")[0]
        maker = None if put.is_native else target.translation
        if MARK in response.headers and not self._is_rehearsal:
            raise Lost("a rehearsal server is there, and rehearsal.url is not given", False)
        if kind == "text/event-stream" and response.status < 300:
            translated = maker.stream(call.body, call.id) if maker is not None else None
            rest = _parts(response, translated)
            first = await _first_event(rest, is_alone)
            return Opened(response.status, headers, first, rest, response, translated)
        body, status = await _whole(response), response.status
        if status < 300 and response.headers.get("content-encoding", "identity") == "identity":
            _check_answer(body, kind, is_chat=maker is None and not put.is_native)
        pause = None if status < 400 else pause_s(status, response.headers, body)
        if maker is not None:
            headers = [pair for pair in headers if pair[0] != b"content-type"]
            headers.append((b"content-type", b"application/json"))
            try:
                values = json.loads(body)
                is_good = status < 300
                said = maker.response(values, call.id) if is_good else maker.error(values, status)
            except ODD:
                raise Lost("unreadable answer", may_be_billed=status < 300) from None
            body = chat.dumps(said)
        return Opened(status, headers, body, None, response, pause_s=pause)


def _asking_usage(raw: bytes, body: dict[str, Any]) -> tuple[bytes, tuple[str, ...]]:
    """Return a request for a stream that asks for its usage, and what was added for it."""
    if chat.shows_usage(body):
        return raw, ()
    data = chat.asking_usage(raw, body)
    return data, () if data is raw else ("stream_options",)


@contextmanager
def _losing() -> Iterator[None]:
    """Turn whatever goes wrong on the way into Lost."""
    try:
        yield
    except TimeoutError as error:
        may_be_billed = not isinstance(error, aiohttp.ConnectionTimeoutError)
        raise Lost("timeout", may_be_billed) from None
    except (aiohttp.ClientConnectorError, aiohttp.InvalidURL):
        raise Lost("unreachable", may_be_billed=False) from None
    except (aiohttp.ClientError, OSError):
        raise Lost("connection lost", may_be_billed=True) from None


def _patience(seconds: float) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S, sock_read=seconds)


def _key_of(target: Target, call: ChatCall) -> dict[str, str]:
    """Return the headers with the key of a target, be it the client's own."""
    if target.translation is not None:
        own = target.translation.headers(target.key or "none")  # the client's version counts
        return {k: v for k, v in own.items() if k in _TO_SERVICE_NEVER or k not in call.headers}
    if target.key is not None:
        return {"authorization": f"Bearer {target.key}"}
    if not target.passes_key:
        return {}
    return {
        name: call.headers[name] for name in ("authorization", "api-key") if name in call.headers
    }


@lru_cache(maxsize=64)
def proxy_of(url: str) -> str | None:
    """Return the proxy that the environment has for an address; loopback needs none."""
    place = urlsplit(url)
    host = place.hostname or ""
    if host in ("localhost", "::1") or host.startswith("127.") or proxy_bypass(host):
        return None
    return getproxies().get(place.scheme)


def is_failure(status: int, has_own_key: bool) -> bool:
    """Return whether a status says that the other should be asked, not that the call is wrong."""
    return status >= 500 or status in _BUSY or (has_own_key and status in (401, 402, 403))


async def _whole(response: aiohttp.ClientResponse) -> bytes:
    parts, size = [], 0
    async for part in response.content.iter_any():
        size += len(part)
        if size > _MOST_BYTES:
            raise Lost("answer too long", may_be_billed=True)
        parts.append(part)
    return b"".join(parts)


def _check_answer(body: bytes, kind: str, is_chat: bool) -> None:
    """Raise Lost where a body with a good status is no answer; `is_chat`: in OpenAI's protocol."""
    if not body.strip():
        raise Lost("empty answer", may_be_billed=True)
    values = chat.loads(body)
    if (found := error_in(values)) is not None:
        raise Lost("error in a 200", may_be_billed=True, said=found[0])
    if not is_chat:
        return
    if not isinstance(values, dict):
        raise Lost("no answer in a 200", may_be_billed=True, said=kind or "no JSON")
    choices = values.get("choices")
    if not choices or not isinstance(choices, list):
        raise Lost("no answer in a 200", may_be_billed=True, said="no choices in it")
    first = choices[0]
    if not isinstance(first, dict) or not isinstance(first.get("message"), dict):
        raise Lost("no answer in a 200", may_be_billed=True, said="no message in it")
    if first.get("finish_reason") == "error":
        raise Lost("error in a 200", may_be_billed=True, said="it finished with an error")


async def _first_event(rest: AsyncIterator[bytes], is_alone: bool) -> bytes:
    """Return the first parts of a stream up to its first event; raises Lost where it is none.

    A comment says that the service is at work, not that it will answer: it begins an answer only
    where nobody else would be asked.
    """
    head = b""
    async for part in rest:
        head += part
        whole, newline, _ = head.rpartition(b"\n")
        if newline and _has_begun(whole, is_alone):
            return head
        if len(head) > _MOST_HEAD:
            return head
    if _has_begun(head, is_alone):
        return head
    if head.strip():
        _check_answer(head, "", is_chat=False)
    raise Lost("empty stream", may_be_billed=True)


def _has_begun(lines: bytes, is_alone: bool) -> bool:
    """Return whether an answer begins in these lines of a stream; raises Lost for an error."""
    for line in lines.split(b"\n"):
        if line.startswith(b":") and is_alone:
            return True
        if line.startswith(b"data:") and (value := line[5:].strip()):
            if (said := chat.stream_error(lines)) is not None:
                raise Lost("error in a 200", may_be_billed=True, said=said)
            return value != b"[DONE]"
    return False


async def _parts(
    response: aiohttp.ClientResponse, translated: TranslatedStream | None
) -> AsyncIterator[bytes]:
    """Yield the parts of a body as they come, none empty; raises Lost when it breaks off."""
    try:
        async for part in response.content.iter_any():
            said = part if translated is None else translated.feed(part)
            if said:
                yield said
    except TimeoutError:
        raise Lost("timeout", may_be_billed=True) from None
    except (aiohttp.ClientError, OSError):
        raise Lost("connection lost", may_be_billed=True) from None
    except BrokenOff as error:
        raise Lost(str(error), may_be_billed=True, said=error.said) from None
    except ODD:
        raise Lost("unreadable answer", may_be_billed=True) from None


def _headers(target: Target, call: ChatCall, put: _Put) -> dict[str, str]:
    sent = {"content-type": "application/json", "accept-encoding": "identity"}
    if put.is_native:
        sent |= {k: v for k, v in call.headers.items() if k not in _TO_SERVICE_NEVER}
        return sent | _key_of(target, call)
    if target.who == "service" and target.translation is None:
        sent |= {k: v for k, v in call.headers.items() if k not in _TO_SERVICE_NEVER}
        if target.passes_key and "authorization" in call.headers:
            sent["authorization"] = call.headers["authorization"]
    if target.who == "local":
        sent |= {name: call.headers[name] for name in _TRACED if name in call.headers}
    if target.translation is not None:
        sent |= target.translation.headers(target.key or "none")
    elif target.key is not None:
        sent["authorization"] = f"Bearer {target.key}"
    return sent
