"""What is no chat completion goes to the service untouched, and its answer back as it comes.

Embeddings, responses, files, audio, batches, and whatever its maker thinks of next. A line of
`requests/` counts the call, without what was asked; where the service's own model answers and says
its usage, the call is priced and capped as a chat is.
"""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from understudy.gateway import calls
from understudy.gateway.calls import (
    REQUEST_ID,
    ChatCall,
    ClientGone,
    Receive,
    RequestRefused,
    Scope,
    Send,
    send_error,
)
from understudy.gateway.retries import pause_s, retries_itself
from understudy.gateway.spend import CallCost, Reservation
from understudy.gateway.state import GatewayState
from understudy.gateway.upstream import Lost
from understudy.services.providers.openai import chat

_ROOTS = ("/v1/", "/v1beta/", "/v1alpha/", "/openai/")  # of the makers' paths
_PRICED = (
    *("/responses", "/messages", "/completions", "/embeddings"),
    *(":generateContent", ":streamGenerateContent"),
)
_AZURE = re.compile(r"/openai/(?:deployments/[^/]+|v1)(?=/)")
_MODEL = re.compile(r"/models/([^/:]+):")
_VERSION = re.compile(r"(^|&)api-version=[^&]*")
_MOST_HELD = 16 << 20  # bytes of an answer in which its usage is looked for
_MS = 1000
_GONE = 499


@dataclass(slots=True)
class OtherCall:
    """A call of a path that the gateway does not know."""

    method: str
    path: str
    address: str  # path and query, as the service's base URL continues
    chat: ChatCall  # its headers, and its body where that is JSON
    data: bytes | AsyncIterator[bytes] | None = None
    is_read: asyncio.Event = field(default_factory=asyncio.Event)  # all of the body has come

    @property
    def kind(self) -> str:
        """The path without what names one object."""
        return "/".join(map(_shown, self.path.split("/")))[:100]

    @property
    def model(self) -> str | None:
        """The model that is asked."""
        found = _MODEL.search(self.path)
        return self.chat.model or (found[1] if found else None)


async def understand(
    scope: Scope, receive: Receive, headers: Mapping[str, str], state: GatewayState
) -> OtherCall:
    """Return the call; raises RequestRefused where it may not go to the service."""
    path, config, mode = scope["path"], state.config, state.live.control.mode
    if not path.startswith(_ROOTS) or ".." in path.split("/"):
        raise RequestRefused(404, "not_found", f"{scope['method']} {path} is not served here.")
    if config.pass_through == "never" or (mode == "local" and config.pass_through != "always"):
        message = f"The service answers {path}, and gateway.pass_through={config.pass_through} "
        message += f"lets nothing but chat completions through to it in mode {mode}."
        raise RequestRefused(404, "not_found", message)
    address, query = address_of(scope)
    call = OtherCall(
        scope["method"],
        path,
        f"{address}?{query}" if query else address,
        ChatCall(b"", {}, headers),
    )
    length, most = headers.get("content-length", ""), int(config.max_body_mb * 1e6)
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json" and length.isdigit() and int(length) <= most:
        call.data = call.chat.raw = await calls.read(receive, most, config.client_s)
        found = chat.loads(call.chat.raw)
        call.chat.body = found if isinstance(found, dict) else {}
        call.is_read.set()
    elif "transfer-encoding" in headers or length.strip("0"):
        call.data = _parts(receive, config.client_s, call.is_read)
    else:
        call.is_read.set()
    return call


def as_it_is(scope: Scope, raw: bytes, headers: Mapping[str, str], address: str) -> OtherCall:
    """Return the call in a body that was read, and that only the service understands."""
    found = chat.loads(raw)
    asked = ChatCall(raw, found if isinstance(found, dict) else {}, headers)
    call = OtherCall(scope["method"], scope["path"], address, asked, raw)
    asked.wire = calls.wire_of(call.path, headers)
    call.is_read.set()
    return call


def address_of(scope: Scope) -> tuple[str, str]:
    """Return path and query as the service is asked: Azure's as OpenAI's."""
    query = scope["query_string"].decode("latin-1")
    path, is_azure = _AZURE.subn("/v1", scope["raw_path"].decode("latin-1"))
    return path, (_VERSION.sub("", query) if is_azure else query).strip("&")


async def _parts(receive: Receive, seconds: float, is_read: asyncio.Event) -> AsyncIterator[bytes]:
    """Yield the parts of a body as they come; raises ClientGone, and TimeoutError between two."""
    while True:
        async with asyncio.timeout(seconds):
            event = await receive()
        if event["type"] == "http.disconnect":
            raise ClientGone
        if part := event.get("body", b""):
            yield part
        if not event.get("more_body"):
            is_read.set()
            return


def _shown(segment: str) -> str:
    name, colon, verb = segment.partition(":")
    is_id = len(name) >= 12 and any(sign.isdigit() for sign in name)
    return ("{id}" if is_id else name) + colon + verb


class Passing:
    """Asks the service, passes its answer on, counts it."""

    def __init__(self, state: GatewayState, call: OtherCall, send: Send) -> None:
        self._state, self._call, self._send = state, call, send
        self._mode = state.live.control.mode
        self._target = target = state.service_for(call.model)
        service = target.service or state.service
        is_ours = (call.model == service.model or target.renames) and service.prices is not None
        self._is_priced = call.method == "POST" and call.path.endswith(_PRICED) and is_ours
        self._hider: chat.UsageHider | None = None
        self._reserved: Reservation | None = None
        self._counts: dict[str, Any] = {}  # of tokens, as the maker counts
        self._held = b""  # what may hold them
        self._by = "nobody"
        self._first_s: float | None = None
        self._is_written = False
        self._name = call.chat.headers.get(REQUEST_ID, call.chat.id)  # as the client knows it
        state.numbers.began()

    async def run(self) -> None:
        """Answer; a client that leaves cancels it."""
        response: aiohttp.ClientResponse | None = None
        wire = self._call.chat.wire
        try:
            self._reserve()
            response = await self._ask()
            self._by = "service"
            await self._relay(response)
        except RequestRefused as refused:
            self._write(refused.status)
            await calls.refuse(self._send, refused, wire)
        except Lost as lost:
            if response is not None:  # the connection ends without an end, so the client knows
                self._state.numbers.failed("service", f"{lost.why} in the answer")
                self._write(response.status, is_broken=response.status < 300)
                raise
            self._state.numbers.failed("service", lost.why)
            status = 504 if lost.why == "timeout" else 502
            self._write(status, is_billed=lost.may_be_billed)
            text = f"The service gave no answer: {lost.reason}."
            await send_error(self._send, status, "no_upstream", text, *self._names(), wire=wire)
        finally:
            if response is not None:
                response.close()
            self._write(_GONE, is_billed=True)  # unless it is written

    def _reserve(self) -> None:
        """Set aside what the call can cost; raises RequestRefused when the cap forbids it."""
        spend, call = self._state.spend, self._call
        if self._is_priced:
            model = self._target.model or call.model
            self._reserved = spend.reserve(call.chat, model, self._target.service)
            if self._reserved is None:
                raise RequestRefused(429, "spend_cap", spend.why_not(call.chat))
        elif spend.is_capped(call.chat.caller) and call.method == "POST" and call.model is not None:
            message = f"Model {call.model} has no price here at {call.path}, and "
            message += "a cap holds for what the service may cost."
            raise RequestRefused(404, "model_not_found", message)

    async def _ask(self) -> aiohttp.ClientResponse:
        state, call, data, target = self._state, self._call, self._call.data, self._target
        address = call.address
        if isinstance(data, bytes) and call.chat.body:
            data, address = target.renamed(data, call.chat.body, address)
        is_text = call.path.endswith("/completions") and call.chat.is_stream
        if self._is_priced and is_text and not chat.shows_usage(call.chat.body):
            assert isinstance(data, bytes), "it has said that it wants a stream"
            body = call.chat.body | ({"model": target.model} if target.renames else {})
            data, self._hider = chat.asking_usage(data, body), chat.UsageHider()
        left = state.config.retries if isinstance(data, bytes | None) else 0
        if retries_itself(call.chat):
            left = 0
        while True:
            response = await state.upstream.pass_on(target, call.chat, call.method, address, data)
            pause = pause_s(response.status, response.headers) if response.status >= 400 else None
            waited = time.monotonic() - call.chat.began
            if not left or pause is None or waited + pause >= state.config.deadline_s:
                return response
            left -= 1
            response.close()
            state.numbers.failed("service", str(response.status))
            await asyncio.sleep(pause)

    async def _relay(self, response: aiohttp.ClientResponse) -> None:
        state = self._state
        headers = [*state.upstream.headers_of(response), *self._names()]
        length = response.headers.get("content-length")
        if length is not None and self._hider is None:
            headers.append((b"content-length", length.encode()))
        chat_ = self._call.chat
        self._first_s = time.monotonic() - chat_.began
        self._name, _ = calls.request_id(headers, self._name, chat_.wire, chat_.id)
        start = {"type": "http.response.start", "status": response.status, "headers": headers}
        await self._send(start)
        is_stream = response.content_type == "text/event-stream"
        # The last part of what is paid for waits until its price is on disk.
        waits, last = self._is_priced and not is_stream, b""
        async for part in state.upstream.parts(response):
            shown = self._looked_at(part, is_stream)
            if waits:
                shown, last = last, shown
            if shown:
                await self._send({"type": "http.response.body", "body": shown, "more_body": True})
        if self._is_priced and not is_stream:
            self._count(self._held)
        if self._hider is not None:
            last = self._held
        self._write(response.status)
        await self._send({"type": "http.response.body", "body": last})

    def _looked_at(self, part: bytes, is_stream: bool) -> bytes:
        """Return what the client gets of a part, having looked for the usage in it."""
        if not self._is_priced or len(self._held) > _MOST_HELD:
            return part
        self._held += part
        if not is_stream:
            return part
        whole, newline, self._held = self._held.rpartition(b"\n")
        for line in whole.split(b"\n"):
            if line.startswith(b"data:") and b'"usage' in line:
                self._count(line[5:])
        return part if self._hider is None else self._hider.feed(whole + newline)

    def _count(self, said: bytes) -> None:
        """Add the counts of tokens in a body or an event, wherever a maker puts them."""
        event = chat.loads(said)
        if not isinstance(event, dict):
            return
        for place in (event, event.get("response"), event.get("message")):
            for name in ("usage", "usageMetadata"):
                if isinstance(place, dict) and isinstance(place.get(name), dict):
                    self._counts |= place[name]

    def _names(self) -> list[calls.Header]:
        by, id_ = self._by.encode(), self._call.chat.id.encode()
        return [(b"x-understudy-by", by), (b"x-understudy-id", id_)]

    def _write(self, status: int, is_billed: bool = False, is_broken: bool = False) -> None:
        """Put the call into the log, once."""
        if self._is_written:
            return
        self._is_written = True
        state, call, now = self._state, self._call, time.monotonic()
        usage = self._target.usage_of(self._counts) if self._counts and not is_broken else None
        cost = CallCost(0, False)
        if self._reserved is not None:
            cost = state.spend.settle(self._reserved, usage, is_billed or status < 300)
        about = {
            "id": call.chat.id,
            "time": round(time.time(), 3),
            "mode": self._mode,
            "by": self._by,
            "path": call.kind,
            "status": status,
            "is_broken": is_broken,
            "first_ms": None if self._first_s is None else round(self._first_s * _MS),
            "ms": round((now - call.chat.began) * _MS),
            "model": (call.model or "")[:200],
            "rehearsal": state.service.rehearsal,
            "microusd": cost.microusd,
            "is_bound": cost.is_bound,
        }
        if call.chat.caller:
            about["caller"] = call.chat.caller
        if self._target.name:
            about["service"] = self._target.name
        if self._name != call.chat.id:
            about[REQUEST_ID] = self._name[:200]
        if usage is not None:
            about |= {"input": usage.input, "output": usage.output}
        heard, said = (usage.input, usage.output) if usage is not None else (0, 0)
        state.numbers.billed("service", heard, said, *cost)
        state.numbers.called(call.chat.caller, status, cost.microusd)
        state.write(state.requests, chat.dumps(about), call.chat.headers)
        if state.tracing is not None:
            state.tracing.ended(call.chat, self._target, about)
        whole_s = now - call.chat.began
        state.numbers.ended(self._by, self._mode, status, self._first_s, whole_s, is_broken)
        state.numbers.passed(call.kind, self._is_priced)
