"""What the adapters over an SDK have in common: connections, and what every response means."""

import asyncio
import json
import math
import os
import re
import ssl
import time
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Container,
    Iterable,
    Iterator,
    Mapping,
)
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from functools import cache
from typing import Any, ClassVar

import httpx2

from understudy.config import Service
from understudy.records import ToolCall
from understudy.services.base import (
    MARK,
    BatchState,
    CallFailed,
    Fate,
    Reply,
    Request,
    Room,
    Usage,
    error_in,
)

_WAIT = (429, 529)
_HEAL = (408, 409, 425, 499)
_STOP = (401, 402, 403, 404)
_NEVER_SENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)
_CANNOT_BE_SENT = (httpx2.UnsupportedProtocol, httpx2.LocalProtocolError)
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
USED_UP = "the quota is used up: "  # the client ends such a run as one whose budget is spent
_LONGEST = 300  # characters of a provider's message that are repeated
_BEGINNING = 80  # of a page that came in place of an answer
_MARKUP = re.compile(r"<(script|style)\b.*?</\1>|<[^>]*>", re.DOTALL | re.IGNORECASE)
_PLACES = 4  # of a pool: httpx looks at all its connections before and after each call


class SdkAdapter:
    """An adapter for online calls and batches, but for what differs between makers."""

    status_error: ClassVar[type[Exception]]  # of the SDK, for a response that says no
    sdk_error: ClassVar[type[Exception]]  # its other errors

    def __init__(self, service: Service, client: Any) -> None:
        self.service = service
        self.client = client

    async def complete(self, request: Request) -> Reply:
        """Answer one request, or raise CallFailed."""
        with self.calling():
            try:
                async with asyncio.timeout(self.service.timeout_s):
                    headers, text = await self.send(request)
            except self.status_error as error:
                if not self.is_blocked(error):
                    raise
                # The prompt itself: nothing was generated or billed.
                return Reply("", "blocked", Usage(), request_id=getattr(error, "request_id", None))
        return self.read(object_in(self.service, headers, text), headers)

    async def recent(self, since: float) -> list[BatchState]:
        """The batches created in or after the second of `since`, newest first."""
        found = []
        with self.calling(), reading(self.service):
            async for state in self.states():
                if state.created is not None and state.created < int(since):
                    break
                found.append(state)
        return found

    async def close(self) -> None:
        """Close the connections."""
        await self.client.close()

    @contextmanager
    def calling(self) -> Iterator[None]:
        """Turn whatever goes wrong between us and the provider into CallFailed."""
        try:
            yield
        except self.status_error as error:
            raise self.failed(error) from None
        except (self.sdk_error, httpx2.HTTPError, TimeoutError) as error:
            raise lost(self.service, error) from None

    async def send(self, request: Request) -> tuple[Mapping[str, str], str]:
        """Send a request; the headers and the text of the response."""
        raise NotImplementedError

    def read(self, body: dict[str, Any], headers: Mapping[str, str]) -> Reply:
        """The reply in the body of a response."""
        raise NotImplementedError

    def states(self) -> AsyncIterator[BatchState]:
        """All batches, newest first."""
        raise NotImplementedError

    def failed(self, error: Any) -> CallFailed:
        """What a `status_error` means."""
        raise NotImplementedError

    def is_blocked(self, error: Any) -> bool:
        """Whether a `status_error` is the safety filter's."""
        return False


class Connections(httpx2.AsyncClient):
    """A client of small ones: one pool of 128 connections takes 1 ms of CPU a call to search.

    A small client is opened when all others are full, and the one used last is used next, so
    there are no more connections than in one pool, and slow traffic keeps few of them alive.
    """

    def __init__(
        self, service: Service, kind: Callable[..., httpx2.AsyncClient] = httpx2.AsyncClient
    ) -> None:
        super().__init__(verify=_certificates(), timeout=service.timeout_s)
        self._open: Callable[[], httpx2.AsyncClient] = lambda: kind(
            verify=_certificates(), event_hooks={"response": [check_mark(service)]}
        )
        self._pools: list[httpx2.AsyncClient] = []
        self._places: list[httpx2.AsyncClient] = []  # free ones

    async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        """Send a request through the small client that was used last, of those with a place."""
        if not self._places:
            self._pools.append(self._open())
            self._places += [self._pools[-1]] * _PLACES
        pool = self._places.pop()
        try:
            return await pool.send(request, **options)
        finally:
            self._places.append(pool)

    async def aclose(self) -> None:
        """Close all connections."""
        await super().aclose()
        for pool in self._pools:
            await pool.aclose()


@cache
def _certificates() -> ssl.SSLContext:
    """The usual ones, read once: each reading takes 50 ms."""
    return httpx2.create_ssl_context()


def check_mark(service: Service) -> Callable[[httpx2.Response], Awaitable[None]]:
    """A hook that stops the run when rehearsal and real replies are about to mix."""

    async def check(response: httpx2.Response) -> None:
        is_rehearsal = MARK in response.headers
        if is_rehearsal and not service.rehearsal:
            raise CallFailed(
                f"service {service.name}: a rehearsal server answers at {response.url.host}, but "
                "this is no rehearsal; start the command with `understudy rehearse`, or mend "
                "base_url",
                "stop",
            )
        if service.rehearsal and response.is_success and not is_rehearsal:
            raise CallFailed(
                f"service {service.name}: what answers at {response.url.host} is no rehearsal "
                "server; mend rehearsal.url",
                "stop",
            )

    return check


def sendable(text: str) -> str:
    """The text with a question mark for every lone surrogate, which UTF-8 cannot carry."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def calls_of(said: Iterable[tuple[str, Any]]) -> tuple[ToolCall, ...]:
    """The calls of an answer, (name, arguments) each, with ids as rows have them.

    None where nobody can read the arguments of one: then no tool can be called.
    """
    made: list[ToolCall] = []
    for name, given in said:
        if isinstance(given, str):
            try:
                given = json.loads(given) if given.strip() else {}
            except (ValueError, RecursionError):
                return ()
        if not isinstance(given, dict):
            return ()
        made.append({"id": f"call{len(made):05}", "name": name, "arguments": given})
    return tuple(made)


def fate_of(status: int) -> Fate:
    """What to do about an HTTP status, where the body says nothing better."""
    if status in _WAIT:
        return "wait"
    if status in _HEAL or status >= 500:
        return "heal"
    return "stop" if status in _STOP else "row"


def refused(
    service: Service,
    response: httpx2.Response,
    fate: Fate,
    message: object,
    retry_after_s: float | None = None,
) -> CallFailed:
    """The failure that an error status stands for; nothing was billed."""
    status = response.status_code
    if status == 401:  # its message repeats parts of the key
        return CallFailed(f"service {service.name}: the key in {service.key_env} is refused", fate)
    wait = retry_after(response.headers) if retry_after_s is None else retry_after_s
    text = f"service {service.name} ({service.model}): {status} {_short(service, message)}"
    return CallFailed(text.rstrip(), fate, wait)


def lost(service: Service, error: BaseException) -> CallFailed:
    """The failure behind an error without a response: a time-out, a lost connection."""
    is_cause = isinstance(error, (httpx2.HTTPError, TimeoutError))
    cause = error if is_cause else error.__cause__ or error
    if isinstance(cause, CallFailed):  # of the hook, which some SDKs wrap
        return cause
    if isinstance(cause, (TimeoutError, httpx2.ReadTimeout)):
        text = f"no answer within timeout_s={service.timeout_s:g}"
    else:
        text = f"{type(cause).__name__} {_short(service, cause)}".rstrip()
    fate: Fate = "stop" if isinstance(cause, _CANNOT_BE_SENT) else "heal"
    may_be_billed = not isinstance(cause, _NEVER_SENT + _CANNOT_BE_SENT)
    return CallFailed(f"service {service.name}: {text}", fate, is_uncertain=may_be_billed)


def object_in(service: Service, headers: Mapping[str, str], text: str) -> dict[str, Any]:
    """The JSON object of an answer in a delivered body; raises CallFailed for anything else."""
    kind = headers.get("content-type", "").partition(";")[0]
    with reading(service):
        if not text.strip():
            raise ValueError("it is empty")
        if not kind.endswith("json"):
            begins = " ".join(_MARKUP.sub(" ", text).split())[:_BEGINNING]
            raise ValueError(f"it is {kind or 'without a content type'}, not JSON: {begins}")
        body = json.loads(text)
    return answer_in(service, body)


def answer_in(service: Service, body: Any) -> dict[str, Any]:
    """The object that a body with a good status holds, if it is no error; else CallFailed."""
    if (said := error_in(body)) is not None:
        words, code = said
        raise CallFailed(
            f"service {service.name} ({service.model}) answered with an error: "
            f"{_short(service, words)}",
            fate_of(code) if code is not None and 400 <= code < 600 else "heal",
            is_uncertain=True,
        )
    with reading(service):
        if not isinstance(body, dict):
            raise TypeError("it is no JSON object")
    return body


def check_ended(text: str, finish: object, good: Container[str]) -> None:
    """Raise ValueError where an answer without a word ended as no answer does."""
    if not text and finish not in good:
        raise ValueError(f"no text is in it, and it ended with {finish}")


@contextmanager
def reading(service: Service) -> Iterator[None]:
    """Turn what goes wrong in reading a delivered body into CallFailed: it may have been billed."""
    try:
        yield
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        why = f"no {error} in it" if isinstance(error, (KeyError, IndexError)) else str(error)
        raise CallFailed(
            f"service {service.name}: the response is unreadable: {_short(service, why)}",
            "heal",
            is_uncertain=True,
        ) from None


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait by retry-after-ms or Retry-After (RFC 9110, 10.2.3: seconds or a date)."""
    if (wait := _number(headers.get("retry-after-ms"))) is not None:
        return wait / 1000
    text = headers.get("retry-after")
    if text is None or (wait := _number(text)) is not None:
        return wait
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except ValueError:
        return None


def duration(text: str | None) -> float | None:
    """Seconds in a duration such as 120ms, 1.5s or 6m0s; None where there is none."""
    parts = re.findall(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", text or "")
    return sum(float(number) * _UNITS[unit] for number, unit in parts) if parts else None


def count(text: str | None) -> int | None:
    """The whole number in a header; None where there is none."""
    return int(text) if text is not None and text.isascii() and text.isdigit() else None


def room_in(
    headers: Mapping[str, str], name: str, seconds: Callable[[str | None], float | None]
) -> Room | None:
    """What headers say about the limits; `name` has places for what (limit …) and of (tokens …)."""
    values: list[Any] = []
    for of in ("requests", "tokens"):
        limit, left, reset = (
            headers.get(name.format(what=what, of=of)) for what in ("limit", "remaining", "reset")
        )
        values += [count(limit), count(left), seconds(reset)]
    room = Room(*values)
    return None if room == Room() else room


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return max(0.0, number) if math.isfinite(number) else None


def _short(service: Service, message: object) -> str:
    """A provider's message on one short line; the key is never repeated."""
    text = " ".join(str(message or "").split())
    if service.key_env and (key := os.environ.get(service.key_env, "").strip()):
        text = text.replace(key, "[key]")
    return text[:_LONGEST]
