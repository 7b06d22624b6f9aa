"""A gateway in a thread, what stands behind it, and who calls it: all on loopback."""

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx2
from aiohttp import web

from support import configs, wires
from understudy.config import Prices, Service
from understudy.gateway import log, server
from understudy.gateway.state import GatewayState
from understudy.records import read_objects
from understudy.services.providers import Endpoint

CLIENT = httpx2.Client(timeout=30.0, trust_env=False)
KEY = "sk-service-0123456789abcdef"
MODEL = "star-1"
TOOL = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"x":1}'}}


@dataclass
class Stage:
    """An OpenAI-compatible server that plays what a test sets, and keeps what it was sent."""

    text: str = "all right"
    status: int = 200
    latency_s: float = 0.0
    how: str = "whole"  # silent: never answers; cut: breaks off; reset: hangs up
    tools: bool = False
    calls: Callable[[str], list[tuple[str, dict[str, Any]]]] | None = None  # by what the user says
    pieces: int = 4
    piece_s: float = 0.0
    usage: bool = True
    takes_options: bool = True  # stream_options among what it knows
    serves: str | None = None  # the only model that it knows
    said: tuple[bytes, str] | None = None  # body and content type of a 200 that may be no answer
    failing: list[tuple[int, dict[str, str]]] = field(default_factory=list)  # before it answers
    failing_others: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    streams: Sequence[bytes] = ()  # the parts of every stream, whatever they are
    url: str = ""
    bodies: list[bytes] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    sent: list[bytes] = field(default_factory=list)
    others: list[tuple[str, str, bytes]] = field(default_factory=list)  # method, path, body
    other: bytes = b'{"object": "list"}'  # what other paths than chat completions answer
    other_kind: str = "application/json"
    status_other: int = 200  # of those paths
    open: int = 0
    close: Callable[[], None] = lambda: None

    async def chat(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        self.bodies.append(raw)
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        self.open += 1
        try:
            return await self._answer(request, json.loads(raw))
        finally:
            self.open -= 1

    async def any(self, request: web.Request) -> web.StreamResponse:
        """Answer what is no chat completion, as it comes: in two parts."""
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        body = await request.read()
        self.others.append((request.method, request.path_qs, body))
        if self.failing_others:
            status, headers = self.failing_others.pop(0)
            return web.json_response({"error": {"message": "no"}}, status=status, headers=headers)
        if (status := max(self.status, self.status_other)) != 200:
            return web.json_response({"error": {"message": "no"}}, status=status)
        response = web.StreamResponse(headers={"content-type": self.other_kind, "x-odd": "Kept"})
        await response.prepare(request)
        half = len(self.other) // 2
        for part in (self.other[:half], self.other[half:]):
            await response.write(part)
            await asyncio.sleep(self.piece_s)
        return response

    async def _answer(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        await asyncio.sleep(60 if self.how == "silent" else self.latency_s)
        if self.how == "reset":
            assert request.transport is not None
            request.transport.abort()
        if self.serves is not None and body.get("model") != self.serves:
            return web.json_response({"error": {"message": "no such model"}}, status=404)
        if not self.takes_options and "stream_options" in body:
            error = {"error": {"message": "Extra inputs are not permitted: stream_options"}}
            return web.json_response(error, status=400)
        if self.failing:
            status, headers = self.failing.pop(0)
            return web.json_response({"error": {"message": "no"}}, status=status, headers=headers)
        if self.status != 200:
            error = {"error": {"message": f"no: {request.headers.get('authorization')}"}}
            return web.json_response(error, status=self.status)
        if self.said is not None:
            content, kind = self.said
            return web.Response(body=content, headers={"content-type": kind})
        made = self.events(body) if body.get("stream") else [self.whole(body)]
        if body.get("stream") and self.streams:
            made = [*self.streams]
        response = web.StreamResponse(headers={"x-request-id": "req_1", "x-odd": "Kept"})
        kind = "text/event-stream; charset=utf-8" if body.get("stream") else "application/json"
        response.headers["content-type"] = kind
        if not body.get("stream"):
            response.content_length = len(made[0])
        await response.prepare(request)
        for number, part in enumerate(made):
            if self.how == "cut" and number == len(made) // 2:
                await response.write(part[: len(part) // 2])
                assert request.transport is not None
                request.transport.close()
                return response
            self.sent.append(part)  # the test reads it as soon as the client has it
            await response.write(part)
            await asyncio.sleep(self.piece_s or 0.02 * bool(self.streams))
        return response

    def whole(self, body: dict[str, Any]) -> bytes:
        message: dict[str, Any] = {"role": "assistant", "content": self.text}
        if calls := self._calls(body):
            message = {"role": "assistant", "content": None, "tool_calls": calls}
        finish = "tool_calls" if calls else "stop"
        choice = {"index": 0, "message": message, "finish_reason": finish}
        made = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1}
        made |= {"model": body.get("model"), "choices": [choice]}
        made |= {"usage": USAGE} if self.usage else {}
        return json.dumps(made, indent=1).encode()  # several lines, and odd spaces: kept

    def events(self, body: dict[str, Any]) -> list[bytes]:
        step = -(-len(self.text) // self.pieces)
        deltas: list[dict[str, Any]] = [
            {"content": self.text[at : at + step]} for at in range(0, len(self.text), step)
        ]
        if calls := self._calls(body):
            deltas = [{"tool_calls": [{"index": n, **call}]} for n, call in enumerate(calls)]
        head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1}
        head |= {"model": body.get("model")}
        made = [head | {"choices": [{"index": 0, "delta": delta}]} for delta in deltas]
        made[-1]["choices"][0]["finish_reason"] = "tool_calls" if calls else "stop"
        options = body.get("stream_options")
        if self.usage and isinstance(options, dict) and options.get("include_usage"):
            made.append(head | {"choices": [], "usage": USAGE})
        return [*(f"data: {json.dumps(one)}\n\n".encode() for one in made), b"data: [DONE]\n\n"]

    def _calls(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        if self.calls is None:
            return [TOOL] if self.tools else []
        return [
            {"id": f"call_{n}", "type": "function"}
            | {"function": {"name": name, "arguments": json.dumps(given)}}
            for n, (name, given) in enumerate(self.calls(body["messages"][-1]["content"]))
        ]


USAGE = {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100}


@contextmanager
def stage(**how: Any) -> Iterator[Stage]:
    """The server, in a thread of its own; `close()` kills it with all connections."""
    made = Stage(**how)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    app = web.Application(client_max_size=64 << 20)
    app.router.add_post("/v1/chat/completions", made.chat)

    async def models(_: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": made.serves or "small-1"}]})

    app.router.add_get("/v1/models", models)
    app.router.add_route("*", "/{path:.*}", made.any)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.01, handler_cancellation=True)

    async def begin() -> None:
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
        made.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"

    async def end() -> None:
        if runner.server is None:  # closed before
            return
        for connection in list(runner.server.connections):
            if connection.transport is not None:
                connection.transport.abort()
        await runner.cleanup()
        mine = asyncio.all_tasks() - {asyncio.current_task()}
        for task in mine:
            task.cancel()
        await asyncio.gather(*mine, return_exceptions=True)

    def call(coroutine: Any) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, loop).result(10)

    call(begin())
    made.close = lambda: call(end())
    try:
        yield made
    finally:
        call(end())
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


PRICES = Prices(input=2.0, output=10.0, date="2026-01-01", source="a test")


def service(**changed: Any) -> Service:
    """A service of OpenAI's kind that costs 3,000 micro-dollars an answer (USAGE)."""
    facts: dict[str, Any] = {
        "name": "star",
        "provider": "openai",
        "model": MODEL,
        "family": "openai",
        "terms": None,
        "temperature": None,
        "max_output_tokens": 1000,
        "prices": PRICES,
        "timeout_s": 10.0,
    }
    return configs.service(**facts | changed)


@dataclass
class Running:
    """A gateway that runs."""

    state: GatewayState
    url: str

    def post(self, body: Any = None, **more: Any) -> httpx2.Response:
        content = json.dumps(body or ask()).encode() if not isinstance(body, bytes) else body
        headers = {"content-type": "application/json"} | more.pop("headers", {})
        return CLIENT.post(
            f"{self.url}/v1/chat/completions", content=content, headers=headers, **more
        )

    def get(self, path: str, **more: Any) -> httpx2.Response:
        return CLIENT.get(f"{self.url}{path}", **more)

    def lines(self, kind: str) -> list[dict[str, Any]]:
        return list(read_objects(self.state.directory / kind / f"{log.today()}.jsonl"))


@contextmanager
def gateway(
    directory: Path,
    upstream: str | None = None,
    of: Service | None = None,
    key: str = KEY,
    client_key: str | None = None,
    others: dict[str, Endpoint] | None = None,
    **settings: Any,
) -> Iterator[Running]:
    """A gateway before a service at `upstream`, on a free port; `others` are its services."""
    config = configs.gateway(service=of or service(), port=0, **settings)
    endpoint = Endpoint(upstream or "http://127.0.0.1:9/v1", key)
    state = GatewayState(config, directory, endpoint, client_key, others=others)
    with server.bound(state) as (listening, url):
        made = server.server(state)
        thread = threading.Thread(target=made.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            until(lambda: made.started)
            yield Running(state, url)
        finally:
            made.should_exit = True
            thread.join(60)


def until(done: Callable[[], Any], seconds: float = 60.0) -> None:
    """Wait for something that must come."""
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, "it has not come"
        time.sleep(0.01)


def ask(text: str = "hello", **more: Any) -> dict[str, Any]:
    """The body of a request."""
    return {"model": MODEL, "messages": [{"role": "user", "content": text}]} | more


__all__ = ["Running", "Stage", "ask", "gateway", "replace", "service", "stage", "until"]


@contextmanager
def played(answers: Sequence[wires.Answer]) -> Iterator[wires.Server]:
    """The scripted server of wires.py, in a thread."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    def call(coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result(10)

    serving = wires.serving(answers)
    try:
        yield call(serving.__aenter__())
    finally:
        call(serving.__aexit__(None, None, None))
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
