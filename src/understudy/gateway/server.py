"""The gateway as a process, one per directory, and its paths.

Chat completions, models, health, metrics, and a page for people. A client that is slow on purpose
holds up no other.
"""

import asyncio
import fcntl
import json
import os
import socket
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterator,
    Mapping,
    MutableMapping,
)
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from understudy.errors import BadInput, EnvironmentFailed
from understudy.gateway import calls, page, passing
from understudy.gateway.calls import (
    REQUEST_ID,
    ChatCall,
    ClientGone,
    Receive,
    RequestRefused,
    Scope,
    Send,
    refuse,
)
from understudy.gateway.passing import OtherCall, Passing
from understudy.gateway.relay import Relay
from understudy.gateway.shadow import Shadows
from understudy.gateway.state import GatewayState
from understudy.gateway.upstream import Lost
from understudy.services.providers.anthropic import inbound as messages
from understudy.services.providers.google import inbound as google
from understudy.services.providers.openai import chat, completions, responses
from understudy.services.providers.translation import MADE, NOT_STORED, Inbound, Wire
from understudy.store.artifacts import write_atomically

ADDRESS = "address.json"
_ROOTS = ("/v1", "/openai/v1", "/openai/deployments/{name}")  # the same, as Azure's SDKs call it
_INBOUND: tuple[tuple[str, Inbound], ...] = (
    *((f"{root}/responses", responses) for root in _ROOTS[:2]),
    *((f"{root}/completions", completions) for root in _ROOTS),
    ("/v1/messages", messages),
)
_BACKLOG = 4096  # connections that wait to be taken
_IDLE_S = (
    120  # longer than clients and load balancers keep a connection; who closes first loses none
)
_CALL_ID = "understudy.id"  # in the scope of a request: how logs call it
_END_S = 30  # that requests in flight have when the gateway ends
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'"


def application(state: GatewayState) -> Starlette:
    """Return the paths; without a key only requests to a loopback name are let in."""
    shadows = Shadows(state)

    async def models(request: Request) -> Response:
        control, config = state.live.control, state.config
        names = [(state.service.model, state.service.family)]
        names += [(name, one.family) for name, one in config.services.items()]
        services = {name: state.service_for(name).service for name in config.aliases}
        names += [(name, (one or state.service).family) for name, one in services.items()]
        if control.local is not None:
            target = await state.target("local", control)
            names += [(target.model, "local")] if target.model else []
        data = [{"id": name, "object": "model", "owned_by": owner} for name, owner in names]
        return JSONResponse({"object": "list", "data": data})

    async def health(request: Request) -> Response:
        said = state.health()
        try:
            state.callers.check_own(_headers(request.scope))
        except RequestRefused:  # whether it lives is no secret, addresses and paths are
            said = {"status": said["status"]}
        return JSONResponse(said)

    async def metrics(request: Request) -> Response:
        return Response(generate_latest(state.numbers.registry), media_type=CONTENT_TYPE_LATEST)

    async def status(request: Request) -> Response:
        headers = {"content-security-policy": _POLICY, "cache-control": "no-store"}
        return HTMLResponse(await page.shown(state), headers=headers)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        await state.open()
        yield
        await shadows.close()
        await state.close()

    gemini = _Gemini(state, shadows, google)
    routes = [
        *(
            Route(f"{root}/chat/completions", _Chat(state, shadows), methods=["POST"])
            for root in _ROOTS
        ),
        *(
            Route(path, _Native(state, shadows, inbound), methods=["POST"])
            for path, inbound in _INBOUND
        ),
        *(
            Route(f"/{{version}}/models/{{model}}:{verb}", gemini, methods=["POST"])
            for verb in ("generateContent", "streamGenerateContent")
        ),
        Route("/v1/models", _Known(state, models, is_for_callers=True), methods=["GET"]),
        Route("/health", health),
        Route("/metrics", _Known(state, metrics)),
        Route("/", _Known(state, status)),
        Route("/{path:path}", _Other(state)),
    ]
    return Starlette(routes=routes, lifespan=lifespan, middleware=[Middleware(_Identified)])


class _Identified:
    """Names every answer in `x-request-id`, as clients and their logs expect it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope[_CALL_ID] = own = calls.new_id()

        async def named(event: MutableMapping[str, Any]) -> None:
            if event["type"] == "http.response.start":
                headers = _headers(scope)
                asked, wire = headers.get(REQUEST_ID, ""), calls.wire_of(scope["path"], headers)
                _, missing = calls.request_id(event["headers"], asked, wire, own)
                event["headers"] = [*event["headers"], *missing]
            await send(event)

        await self._app(scope, receive, named)


class _Known:
    """A path for clients that know the key, where there is one."""

    def __init__(
        self,
        state: GatewayState,
        answer: Callable[[Request], Awaitable[Response]],
        is_for_callers: bool = False,
    ) -> None:
        self._state, self._answer, self._is_for_callers = state, answer, is_for_callers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        state, headers, query = self._state, _headers(scope), _query(scope)
        try:
            known = state.callers.check_any if self._is_for_callers else state.callers.check_own
            known(headers, query)
        except RequestRefused as refused:
            await refuse(send, refused)
            return
        response = await self._answer(Request(scope, receive))
        await response(scope, receive, send)


class _Chat:
    """POST /v1/chat/completions."""

    def __init__(self, state: GatewayState, shadows: Shadows) -> None:
        self._state, self._shadows = state, shadows

    _wire: Wire = "openai"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            call = await self._call(scope, receive)
        except ClientGone:
            return
        except RequestRefused as refused:
            self._state.numbers.refused(refused.status)
            await refuse(send, refused, self._wire)
            return
        if isinstance(call, OtherCall):
            call.chat.id = scope[_CALL_ID]
            with suppress(Lost):
                await _while_there(Passing(self._state, call, send).run(), _left(receive))
            return
        call.id = scope[_CALL_ID]
        await _while_there(Relay(self._state, self._shadows, call, send).run(), _left(receive))

    async def _call(self, scope: Scope, receive: Receive) -> ChatCall | OtherCall:
        state, headers = self._state, _headers(scope)
        caller = state.callers.enter(headers, _query(scope))
        config = state.config
        if state.numbers.in_flight >= config.max_in_flight:
            raise RequestRefused(
                429, "too_many_requests", "Too many requests are in flight.", ends=True
            )
        most = int(config.max_body_mb * 1e6)
        length = headers.get("content-length", "")
        if length.isdigit() and int(length) > most:
            message = f"The request is longer than {most:,} bytes."
            raise RequestRefused(413, "request_too_large", message, ends=True)
        raw = await calls.read(receive, most, config.client_s)
        try:
            call = self._understand(raw, headers, scope)
        except RequestRefused as refused:
            if not self._is_its_own_business(raw, scope, refused):
                raise
            address = passing.address_of(scope)
            other = passing.as_it_is(scope, raw, headers, "?".join(filter(None, address)))
            other.chat.caller = caller
            return other
        call.caller = caller
        if scope["query_string"]:
            call.query = passing.address_of(scope)[1]
        target = state.service_for(call.model)
        # What is translated, or known under other names, is asked for the service's own model.
        is_ours = target.model is not None or (call.native is not None and not target.speaks(call))
        is_priced = not state.spend.is_capped(caller) or call.model == state.service.model
        if not is_priced and not is_ours and state.live.control.mode != "local":
            message = f"Model {call.model} has no price here; {state.service.model} has one."
            raise RequestRefused(404, "model_not_found", message)
        return call

    def _understand(self, raw: bytes, headers: Mapping[str, str], scope: Scope) -> ChatCall:
        return calls.understand(raw, headers)

    def _is_its_own_business(self, raw: bytes, scope: Scope, refused: RequestRefused) -> bool:
        """Return whether the service is to say what is wrong with a call, or to know better."""
        return False


class _Native(_Chat):
    """A path of another protocol: a chat completion in other words."""

    def __init__(self, state: GatewayState, shadows: Shadows, inbound: Inbound) -> None:
        super().__init__(state, shadows)
        self._inbound, self._wire = inbound, inbound.WIRE

    def _understand(self, raw: bytes, headers: Mapping[str, str], scope: Scope) -> ChatCall:
        return calls.understand_native(raw, headers, self._inbound)

    def _is_its_own_business(self, raw: bytes, scope: Scope, refused: RequestRefused) -> bool:
        state = self._state
        is_asked = state.live.control.mode != "local" and state.config.pass_through != "never"
        is_ours = refused.code == NOT_STORED and MADE in raw
        body = chat.loads(raw)
        model = scope["path_params"].get("model") or (
            body.get("model") if isinstance(body, dict) else None
        )
        service = state.service_for(model if isinstance(model, str) else None).service
        speaks = service is not None and service.provider in self._inbound.SPEAKERS
        return is_asked and speaks and not is_ours


class _Gemini(_Native):
    """POST /v1beta/models/MODEL:generateContent, as Google's SDK calls it."""

    def _understand(self, raw: bytes, headers: Mapping[str, str], scope: Scope) -> ChatCall:
        path, is_stream = scope["path"], scope["path"].endswith(":streamGenerateContent")
        if is_stream and "alt=sse" not in _query(scope):
            message = "A stream is answered as server-sent events alone: ask for alt=sse."
            raise RequestRefused(400, "unsupported_parameter", message)
        facts = {"model": scope["path_params"]["model"], "stream": is_stream}
        return calls.understand_native(raw, headers, self._inbound, path, facts)


class _Other:
    """Every other path: to the service, where it is one of the makers'."""

    def __init__(self, state: GatewayState) -> None:
        self._state = state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        state, headers = self._state, _headers(scope)
        wire = calls.wire_of(scope["path"], headers)
        try:
            caller = state.callers.enter(headers, _query(scope))
            if state.numbers.in_flight >= state.config.max_in_flight:
                raise RequestRefused(
                    429, "too_many_requests", "Too many requests are in flight.", ends=True
                )
            call = await passing.understand(scope, receive, headers, state)
        except ClientGone:
            return
        except RequestRefused as refused:
            state.numbers.refused(refused.status)
            await refuse(send, refused, wire)
            return
        call.chat.wire, call.chat.id, call.chat.caller = wire, scope[_CALL_ID], caller
        with suppress(Lost):  # in the middle of an answer: uvicorn hangs up
            await _while_there(Passing(state, call, send).run(), _left(receive, call.is_read))


async def _while_there(answering: Coroutine[Any, Any, None], leaving: Any) -> None:
    """Answer until the client leaves."""
    work, gone = asyncio.create_task(answering), asyncio.create_task(leaving)
    try:
        await asyncio.wait((work, gone), return_when=asyncio.FIRST_COMPLETED)
    finally:
        gone.cancel()
        if not work.done():
            work.cancel()
            await asyncio.wait((work,))
    if not work.cancelled():
        work.result()


async def _left(receive: Receive, is_read: asyncio.Event | None = None) -> None:
    """Return when the client leaves, once the body `is_read`, which comes the same way."""
    if is_read is not None:
        await is_read.wait()
    while (await receive())["type"] != "http.disconnect":
        pass


def _headers(scope: Scope) -> dict[str, str]:
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}


def _query(scope: Scope) -> str:
    query: bytes = scope["query_string"]
    return query.decode("latin-1")


class Patient(H11Protocol):
    """Ends connections whose client sends no whole head, or takes nothing, within `client_s`."""

    client_s = 30.0

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for the first head."""
        super().connection_made(transport)
        self._head: asyncio.TimerHandle | None = self._later(self.timeout_keep_alive_handler)
        self._write: asyncio.TimerHandle | None = None

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timers."""
        super().connection_lost(exc)
        for timer in (self._head, self._write):
            if timer is not None:
                timer.cancel()

    def data_received(self, data: bytes) -> None:
        """Begin to wait when a part of a head has come; a byte now and then helps nobody."""
        super().data_received(data)
        is_between = self.cycle is None or self.cycle.response_complete
        if not is_between and self._head is not None:
            self._head.cancel()
            self._head = None
        elif is_between and self._head is None and not self.transport.is_closing():
            self._head = self._later(self.timeout_keep_alive_handler)

    def pause_writing(self) -> None:
        """Begin to wait for a client that takes nothing."""
        super().pause_writing()
        self._write = self._later(self.transport.abort)

    def resume_writing(self) -> None:
        """Stop to wait: the client goes on."""
        super().resume_writing()
        if self._write is not None:
            self._write.cancel()
            self._write = None

    def on_response_complete(self) -> None:
        """Hang up on a client that never takes the end of what was sent."""
        super().on_response_complete()
        if self.transport.is_closing() and self.transport.get_write_buffer_size():
            self._later(self.transport.abort)

    def timeout_keep_alive_handler(self) -> None:
        """Close an idle connection, at once when it does not empty."""
        super().timeout_keep_alive_handler()
        if self.transport.get_write_buffer_size():
            self._later(self.transport.abort)

    def _later(self, act: Any) -> asyncio.TimerHandle:
        return self.loop.call_later(self.client_s, act)


def server(state: GatewayState) -> uvicorn.Server:
    """Return the server, not yet running."""
    protocol = type("Patient", (Patient,), {"client_s": state.config.client_s})
    config = uvicorn.Config(
        application(state),
        http=protocol,
        ws="none",
        lifespan="on",
        log_config=None,
        log_level="error",  # a request that is no HTTP is no news
        access_log=False,  # it would hold addresses and paths; requests/ has what is wanted
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=_END_S,
        timeout_keep_alive=_IDLE_S,
        backlog=_BACKLOG,
    )
    return uvicorn.Server(config)


@contextmanager
def bound(state: GatewayState) -> Iterator[tuple[socket.socket, str]]:
    """Yield a listening socket and its URL; the directory is this process's alone meanwhile."""
    host, port = state.config.host, state.config.port
    state.directory.mkdir(parents=True, exist_ok=True)
    with (state.directory / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            there = running(state.directory)
            where = there.url if there else "it starts"
            raise BadInput(f"a gateway runs in {state.directory} already: {where}") from None
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        # By its number, or asyncio takes it for no TCP and leaves Nagle's delay of 40 ms on.
        with socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listening:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listening.bind((host, port))
                listening.listen(_BACKLOG)  # or who reads the URL may come too early
            except OSError as error:
                raise EnvironmentFailed(
                    f"{host}:{port} cannot be opened ({error.strerror}); choose another "
                    "gateway.port, or 0 for a free one"
                ) from None
            state.live.keep()
            shown = f"[{host}]" if ":" in host else host
            url = f"http://{shown}:{listening.getsockname()[1]}"
            address = state.directory / ADDRESS
            said = {"url": url, "pid": os.getpid(), "key_env": state.config.key_env}
            write_atomically(address, json.dumps(said) + "\n")
            try:
                yield listening, url
            finally:
                address.unlink(missing_ok=True)


@dataclass(frozen=True)
class Address:
    """Where a gateway is, and the environment variable with the key that it wants."""

    url: str
    pid: int
    key_env: str | None


def running(directory: Path) -> Address | None:
    """Return the address that the gateway of a directory has written; None where none has."""
    try:
        return Address(**json.loads((directory / ADDRESS).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
