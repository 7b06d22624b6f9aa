"""A server on loopback that answers what a test tells it to, and the services that call it."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from support import configs
from understudy.config import Service
from understudy.records import Message
from understudy.services.base import CallFailed, Reply, Request
from understudy.services.providers import open_provider

WIRES = ("openai", "openai_compatible", "anthropic", "google")
KEY = "sk-planted-0123456789abcdef"
KEY_ENV = "UNDERSTUDY_TEST_KEY"
HELLO: tuple[Message, ...] = ({"role": "user", "content": "hello"},)


@dataclass
class Answer:
    """One scripted response; `how` is whole, cut (less than promised), reset, silent or drip."""

    body: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = "application/json"
    how: str = "whole"

    @property
    def content(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


@dataclass
class Server:
    """Gives the answers in turn, the last one for ever; keeps what it was asked."""

    answers: Sequence[Answer]
    url: str = ""
    paths: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    bodies: list[Any] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        content = await request.read()
        answer = self.answers[min(len(self.paths), len(self.answers) - 1)]
        self.paths.append(request.path_qs)
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        is_json = request.content_type == "application/json" and content
        self.bodies.append(json.loads(content) if is_json else content)
        if answer.how == "silent":
            await asyncio.sleep(5)
        if answer.how == "reset":
            assert request.transport is not None
            request.transport.abort()
        response = web.StreamResponse(status=answer.status, headers=answer.headers)
        response.content_type = answer.content_type
        if answer.how == "whole":
            response.content_length = len(answer.content)
            await response.prepare(request)
            await response.write(answer.content)
        elif answer.how == "cut":
            response.content_length = len(answer.content)
            await response.prepare(request)
            await response.write(answer.content[:-5])
            assert request.transport is not None
            request.transport.close()
        elif answer.how == "drip":
            await response.prepare(request)
            for byte in answer.content:
                await response.write(bytes([byte]))
                await asyncio.sleep(0.05)
        return response


@asynccontextmanager
async def serving(answers: Sequence[Answer]) -> AsyncIterator[Server]:
    """The server, on the loop of the caller."""
    server = Server(answers)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.01)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield server
    finally:
        await runner.cleanup()


def service(wire: str, **changed: Any) -> Service:
    """A service that speaks this protocol."""
    facts: dict[str, Any] = {
        "name": f"our_{wire}",
        "provider": wire,
        "model": "model-1",
        "family": "test",
        "terms": None,
        "temperature": None,
        "max_output_tokens": 100,
        "key_env": KEY_ENV,
        "timeout_s": 5.0,
    }
    return configs.service(**facts | changed)


def outcomes(
    wire: str, answers: Sequence[Answer], request: Request | None = None, **changed: Any
) -> tuple[list[Reply | CallFailed], Server]:
    """A call for each of the answers, one after the other; every call is sent exactly once."""

    async def ask() -> tuple[list[Reply | CallFailed], Server]:
        async with serving(answers) as server:
            url = server.url + ("/v1" if wire.startswith("openai") else "")
            provider = open_provider(service(wire, **{"base_url": url} | changed))
            got: list[Reply | CallFailed] = []
            for _ in answers:
                try:
                    got.append(await provider.complete(request or Request(HELLO)))
                except CallFailed as failed:
                    got.append(failed)
            await provider.close()
            if "base_url" not in changed:
                assert len(server.paths) == len(answers)
            return got, server

    return asyncio.run(ask())


def call(wire: str, answer: Answer, request: Request | None = None, **changed: Any) -> Reply:
    """One call; raises CallFailed as the adapter does."""
    ((outcome,), _) = outcomes(wire, [answer], request, **changed)
    if isinstance(outcome, CallFailed):
        raise outcome
    return outcome


def failures(wire: str, answers: Sequence[Answer], **changed: Any) -> list[CallFailed]:
    """What became of calls that all fail."""
    got, _ = outcomes(wire, answers, **changed)
    assert all(isinstance(outcome, CallFailed) for outcome in got), got
    return [outcome for outcome in got if isinstance(outcome, CallFailed)]


def good(wire: str, text: str = "hi", **changed: Any) -> dict[str, Any]:
    """The body of a plain answer."""
    if wire.startswith("openai"):
        message = {"role": "assistant", "content": text, "refusal": None}
        return {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": "model-1-dated",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {
                "prompt_tokens": 20,
                "completion_tokens": 12,
                "total_tokens": 32,
                "prompt_tokens_details": {"cached_tokens": 8},
                "completion_tokens_details": {"reasoning_tokens": 5},
            },
        } | changed
    if wire == "anthropic":
        return {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": "model-1-dated",
            "content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": text}],
            "stop_reason": "end_turn",
            "usage": {
                "input_tokens": 10,
                "cache_read_input_tokens": 8,
                "cache_creation_input_tokens": 2,
                "output_tokens": 12,
                "output_tokens_details": {"thinking_tokens": 5},
            },
        } | changed
    parts = [{"text": "hm", "thought": True}, {"text": text}]
    candidate = {"content": {"role": "model", "parts": parts}, "finishReason": "STOP"}
    return {
        "candidates": [candidate],
        "modelVersion": "model-1-dated",
        "responseId": "resp-1",
        "usageMetadata": {
            "promptTokenCount": 20,
            "cachedContentTokenCount": 8,
            "candidatesTokenCount": 7,
            "thoughtsTokenCount": 5,
            "totalTokenCount": 32,
        },
    } | changed


def error(wire: str, message: str = "no", **changed: Any) -> dict[str, Any]:
    """The body of an error."""
    if wire.startswith("openai"):
        return {"error": {"message": message, "type": "x", "param": None, "code": None} | changed}
    if wire == "anthropic":
        inner = {"type": "x_error", "message": message} | changed
        return {"type": "error", "error": inner, "request_id": "req_1"}
    return {"error": {"code": 0, "message": message, "status": "X"} | changed}
