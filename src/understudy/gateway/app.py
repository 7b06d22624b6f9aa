"""The paths of the gateway: chat completions, models, health, metrics, and a page for people."""

import asyncio
import base64
import binascii
import hmac
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from understudy.gateway import calls, page
from understudy.gateway.calls import Call, ClientGone, Receive, Refused, Scope, Send
from understudy.gateway.exchange import Exchange
from understudy.gateway.gate import Gate
from understudy.gateway.replies import error_body, refuse

LOOPBACK = ("127.0.0.1", "localhost", "::1")
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'"


def application(gate: Gate) -> Starlette:
    """The paths; without a key only requests to a loopback name are let in."""

    async def models(request: Request) -> Response:
        control = gate.live.control
        names = [(gate.service.model, gate.service.family)]
        if control.local is not None:
            target = await gate.target("local", control)
            names += [(target.model, "local")] if target.model else []
        data = [{"id": name, "object": "model", "owned_by": owner} for name, owner in names]
        return JSONResponse({"object": "list", "data": data})

    async def health(request: Request) -> Response:
        said = gate.health()
        try:
            check_key(_headers(request.scope), gate.client_key)
        except Refused:  # whether it lives is no secret, addresses and paths are
            said = {"status": said["status"]}
        return JSONResponse(said)

    async def metrics(request: Request) -> Response:
        return Response(generate_latest(gate.numbers.registry), media_type=CONTENT_TYPE_LATEST)

    async def status(request: Request) -> Response:
        headers = {"content-security-policy": _POLICY, "cache-control": "no-store"}
        return HTMLResponse(page.render(gate), headers=headers)

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        text = f"{request.method} {request.url.path} is not served here."
        body = error_body(error.status_code, "not_found", text)
        return Response(body, error.status_code, media_type="application/json")

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        await gate.open()
        yield
        await gate.close()

    routes = [
        Route("/v1/chat/completions", _Chat(gate), methods=["POST"]),
        Route("/v1/models", _Known(gate, models)),
        Route("/health", health),
        Route("/metrics", _Known(gate, metrics)),
        Route("/", _Known(gate, status)),
    ]
    handlers = {404: refused, 405: refused}
    return Starlette(routes=routes, lifespan=lifespan, exception_handlers=handlers)


class _Known:
    """A path for those who know the key, where there is one."""

    def __init__(self, gate: Gate, answer: calls.Answering) -> None:
        self._gate, self._answer = gate, answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            check_key(_headers(scope), self._gate.client_key)
        except Refused as refused:
            await refuse(send, refused)
            return
        response = await self._answer(Request(scope, receive))
        await response(scope, receive, send)


class _Chat:
    """POST /v1/chat/completions."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            call = await self._call(scope, receive)
        except ClientGone:
            return
        except Refused as refused:
            self._gate.numbers.refused(refused.status)
            await refuse(send, refused)
            return
        work = asyncio.create_task(Exchange(self._gate, call, send).run())
        leaving = asyncio.create_task(_left(receive))
        try:
            await asyncio.wait((work, leaving), return_when=asyncio.FIRST_COMPLETED)
        finally:
            leaving.cancel()
            if not work.done():
                work.cancel()
                await asyncio.wait((work,))
        if not work.cancelled():
            work.result()

    async def _call(self, scope: Scope, receive: Receive) -> Call:
        gate, headers = self._gate, _headers(scope)
        check_key(headers, gate.client_key)
        config = gate.config
        if gate.numbers.in_flight >= config.max_in_flight:
            raise Refused(429, "too_many_requests", "Too many requests are in flight.", ends=True)
        most = int(config.max_body_mb * 1e6)
        length = headers.get("content-length", "")
        if length.isdigit() and int(length) > most:
            message = f"The request is longer than {most:,} bytes."
            raise Refused(413, "request_too_large", message, ends=True)
        call = calls.understand(await calls.read(receive, most, config.client_s), headers)
        is_priced = gate.spend.cap is None or call.model == gate.service.model
        if not is_priced and gate.live.control.mode != "local" and not gate.translates:
            message = f"Model {call.model} has no price here; {gate.service.model} has one."
            raise Refused(404, "model_not_found", message)
        return call


async def _left(receive: Receive) -> None:
    """Until the client leaves."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _headers(scope: Scope) -> dict[str, str]:
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}


def check_key(headers: Mapping[str, str], key: str | None) -> None:
    """Let in who shows the key; without one, who has asked for a loopback name.

    A page of the web can make a browser call 127.0.0.1 under a name of its own (DNS rebinding).
    """
    if key is None:
        try:
            host = urlsplit(f"//{headers.get('host', '')}").hostname
        except ValueError:  # half a bracket
            host = None
        if host not in LOOPBACK:
            raise Refused(403, "wrong_host", "Without a key only loopback names are answered.")
        return
    scheme, _, shown = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "basic":  # a browser
        try:
            shown = base64.b64decode(shown, validate=True).decode().partition(":")[2]
        except (binascii.Error, ValueError):
            shown = ""
    if not hmac.compare_digest(shown.strip().encode(), key.encode()):
        raise Refused(401, "invalid_api_key", "The API key of this gateway is missing or wrong.")
