"""An OpenAI-compatible server: the app, the app on a loopback port, and the process around it.

`POST /v1/chat/completions` and `/v1/completions` (also as streams), `GET /v1/models`, `/health`,
`/metrics`. The app validates and limits; an engine (`serve.Engine`) answers.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from understudy.config.serve import ServeConfig
from understudy.errors import BadInput, EnvironmentFailed
from understudy.inference import DecodeRequest
from understudy.serve import Engine, Piece, chat, completions, fields
from understudy.serve.chat import ChatReply
from understudy.serve.completions import TextReply
from understudy.serve.fields import Rejected, Sampled, event
from understudy.serve.model import Served
from understudy.services import callers

_READ_ON = 16  # times the limit of a body that is read, and dropped, before the answer


def app(served: Served, settings: ServeConfig, engine: Engine, key: str | None = None) -> Starlette:
    """The app; the engine works while the app lives. With a key, clients must send it."""
    return _Desk(served, settings, engine, key).app()


class _Desk:
    """What all requests share."""

    def __init__(
        self, served: Served, settings: ServeConfig, engine: Engine, key: str | None
    ) -> None:
        self.served, self.settings, self.engine, self.key = served, settings, engine, key
        self.name = settings.name or served.name
        self.context = min(served.context, settings.context or served.context)
        self.created = int(time.time())
        self.answers = 0  # decoded or waiting
        self.meters = Meters()

    def app(self) -> Starlette:
        @asynccontextmanager
        async def life(_: Starlette) -> AsyncIterator[None]:
            await self.engine.open()
            try:
                yield
            finally:
                await self.engine.close()

        return Starlette(
            routes=[
                Route("/v1/chat/completions", self.answers_to(self.read_chat), methods=["POST"]),
                Route("/v1/completions", self.answers_to(self.read_text), methods=["POST"]),
                Route("/v1/models", self.models),
                Route("/v1/models/{name:path}", self.model),
                Route("/health", self.health),
                Route("/metrics", self.metrics),
            ],
            exception_handlers={Rejected: _refusal, HTTPException: _refusal, Exception: _failure},
            lifespan=life,
        )

    async def health(self, _: Request) -> Response:
        is_alive = self.engine.is_alive()
        return _json({"status": "ok" if is_alive else "failed"}, 200 if is_alive else 503)

    async def metrics(self, request: Request) -> Response:
        self.admit(request)
        self.meters.answers.set(self.answers)
        return Response(self.meters.text(), media_type=self.meters.content_type)

    async def models(self, request: Request) -> Response:
        self.admit(request)
        return _json({"object": "list", "data": [self.card()]})

    async def model(self, request: Request) -> Response:
        self.admit(request)
        if (name := request.path_params["name"]) != self.name:
            raise Rejected(404, f"The model {name!r} does not exist.", "model", "model_not_found")
        return _json(self.card())

    def card(self) -> dict[str, Any]:
        card = {"id": self.name, "object": "model", "created": self.created}
        return {**card, "owned_by": "understudy", "max_model_len": self.context}

    def admit(self, request: Request) -> None:
        """Let a request with the key pass or, where there is none, one from this machine."""
        if (found := callers.objection(request.headers, self.key)) is not None:
            raise Rejected(found.status, found.message, None, found.code)

    def answers_to(self, read: "Callable[[bytes], _Asked]") -> Callable[[Request], Any]:
        """What answers one kind of request, and counts it."""

        async def answer(request: Request) -> Response:
            began = time.monotonic()
            try:
                response = await self.respond(request, read, began)
            except Rejected as refused:
                self.meters.requests.labels(refused.status).inc()
                raise
            except Exception:
                self.meters.requests.labels(500).inc()
                raise
            if not isinstance(response, _Stream):  # whose status shows at its end
                self.meters.requests.labels(response.status_code).inc()
            return response

        return answer

    async def respond(
        self, request: Request, read: "Callable[[bytes], _Asked]", began: float
    ) -> Response:
        self.admit(request)
        if not callers.is_json(request.headers):
            message = "Send Content-Type: application/json."
            raise Rejected(415, message, None, "unsupported_media_type")
        data = await self.body(request)
        self.check_room(1)  # before any work is done for it
        asked = await asyncio.to_thread(read, data)
        self.check_room(sum(one.n for one in asked.requests))
        if not self.engine.is_alive():
            raise Rejected(503, "The engine is not running.", None, "engine_dead")
        answering = _Answering(self, asked, began)
        if asked.body.stream:
            return _Stream(answering)
        try:
            return await _unless_gone(request, answering.whole())
        finally:
            answering.close()

    def check_room(self, answers: int) -> None:
        """Refuse where the queue is full."""
        if self.answers + answers > self.settings.batch_size + self.settings.queue:
            message = f"{self.answers} answers are under way or wait; try again in a moment."
            raise Rejected(429, message, None, "server_busy")

    async def body(self, request: Request) -> bytes:
        """The body; Rejected when it is too large or too slow."""
        most, size = self.settings.max_body_bytes, 0
        parts: list[bytes] = []
        try:
            async with asyncio.timeout(self.settings.patience_s):
                async for part in request.stream():
                    size += len(part)
                    if size <= most:
                        parts.append(part)
                    elif size > _READ_ON * most:  # else the client would not hear the answer
                        break
        except ClientDisconnect:
            raise Rejected(499, "The client left.") from None
        except TimeoutError:
            raise Rejected(408, "The body did not arrive in time.") from None
        if size > most:
            message = f"The body has more than {most} bytes, the most of this server."
            raise Rejected(413, message, None, "body_too_large")
        return b"".join(parts)

    def read_chat(self, data: bytes) -> "_Asked":
        """The prompt's tokens, and all that is asked of the engine."""
        body = chat.parse(data, self.name, self.settings)
        prompt = chat.prompt(body, self.served)
        asked = self.asked(body, prompt.ids, prompt.schema)
        reply = ChatReply(body, asked, self.served.tokenizer, prompt.use, prompt.form)
        return _Asked(body, [asked], reply)

    def read_text(self, data: bytes) -> "_Asked":
        body = completions.parse(data, self.name, self.settings)
        is_scored = body.echo and body.logprobs is not None
        prompts = completions.prompts(body, self.served)
        if body.n * len(prompts) > (most := self.settings.batch_size + self.settings.queue):
            fields.refuse("prompt", f"prompt asks for more than {most} answers at once")
        asked = [self.asked(body, ids, None, is_scored) for ids in prompts]
        return _Asked(body, asked, TextReply(body, asked, self.served.tokenizer))

    def asked(
        self, body: Sampled, ids: list[int], schema: str | None, scores_prompt: bool = False
    ) -> DecodeRequest:
        asked = fields.asked(
            body,
            ids,
            self.settings,
            self.context,
            len(self.served.tokenizer),
            self.served.temperature,
            schema,
            scores_prompt,
        )
        try:
            self.engine.prepare(asked)
        except BadInput as error:
            where = "tools" if getattr(body, "tools", None) else "response_format"
            fields.refuse(where, f"The schema of {where} cannot be kept to: {error}")
        except EnvironmentFailed as error:
            raise Rejected(501, str(error)) from None
        return asked


class _Asked(NamedTuple):
    """A request that was read: what the engine is to do, and what puts its answers into words."""

    body: Sampled
    requests: list[DecodeRequest]
    reply: ChatReply | TextReply


class _Answering:
    """A request that the engine works on; `close` cancels what is not finished."""

    def __init__(self, desk: _Desk, asked: _Asked, began: float) -> None:
        self._desk, self._asked, self._began = desk, asked, began
        self._reply = asked.reply
        self._pieces: asyncio.Queue[Piece] = asyncio.Queue()
        self._answers = self._left = sum(one.n for one in asked.requests)
        self.status = 499  # of a stream that its client left
        self._cancels = [self._begin(place, one) for place, one in enumerate(asked.requests)]
        desk.answers += self._answers

    def _begin(self, place: int, asked: DecodeRequest) -> Callable[[], None]:
        """Ask the engine for the answers to one prompt; theirs are numbers of their own."""

        def put(piece: Piece) -> None:
            piece.index += place * asked.n
            self._pieces.put_nowait(piece)

        return self._desk.engine.start(asked, put)

    async def pieces(self) -> AsyncIterator[Piece]:
        """The pieces as they come; Rejected when the engine fails."""
        is_first = True
        while self._left:
            piece = await self._pieces.get()
            if piece.finish == "error":
                raise Rejected(500, f"No answer: {piece.text}.", None, "engine_failed")
            if is_first and self._asked.body.stream:
                self._desk.meters.first.observe(time.monotonic() - self._began)
            is_first = False
            self._left -= piece.finish is not None
            yield piece

    async def whole(self) -> Response:
        return _json(self._reply.whole([piece async for piece in self.pieces()]))

    async def events(self) -> AsyncIterator[str]:
        for chunk in self._reply.opening():
            yield chunk
        try:
            async for piece in self.pieces():
                yield self._reply.chunk(piece)
        except Rejected as refused:  # another status is sent already
            self.status = refused.status
            yield event(refused.body())
        else:
            self.status = 200
            yield self._reply.closing()

    def close(self) -> None:
        """Count, and free what the engine holds."""
        for cancel in self._cancels:
            cancel()
        meters = self._desk.meters
        self._desk.answers -= self._answers
        if self._asked.body.stream:
            meters.requests.labels(self.status).inc()
        meters.tokens.labels("prompt").inc(self._reply.usage()["prompt_tokens"])
        meters.tokens.labels("completion").inc(self._reply.completion_tokens)
        if self._left:
            meters.cancelled.inc()
        else:
            meters.whole.observe(time.monotonic() - self._began)


class _Stream(StreamingResponse):
    """Server-sent events of an answering, which ends when they do or the client leaves."""

    def __init__(self, answering: _Answering) -> None:
        headers = {"cache-control": "no-cache", "x-accel-buffering": "no"}  # no proxy holds it back
        super().__init__(answering.events(), headers=headers, media_type="text/event-stream")
        self._answering = answering

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._answering.close()


async def _unless_gone(request: Request, work: Awaitable[Response]) -> Response:
    """What `work` returns; it is cancelled when the client leaves."""
    working = asyncio.ensure_future(work)
    leaving = asyncio.create_task(_gone(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        return Response(status_code=499)  # nginx's number for it
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _json(values: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    text = json.dumps(values, separators=(",", ":"))  # ASCII: what a client sent may be in it
    return Response(text, status, headers, media_type="application/json")


async def _refusal(_: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException):
        error = Rejected(error.status_code, f"{error.detail}.")
    assert isinstance(error, Rejected)
    headers = {401: {"www-authenticate": "Bearer"}, 429: {"retry-after": "1"}}
    return _json(error.body(), error.status, headers.get(error.status))


async def _failure(_: Request, error: Exception) -> Response:
    return _json(Rejected(500, f"{type(error).__name__} in the server.").body(), 500)


_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)


class Meters:
    """What `/metrics` tells Prometheus about one server."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        own = self._registry = CollectorRegistry()
        self.requests = Counter(
            "understudy_requests", "Completions by HTTP status", ["status"], registry=own
        )
        self.tokens = Counter(
            "understudy_tokens", "Tokens read and generated", ["kind"], registry=own
        )
        self.cancelled = Counter(
            "understudy_cancelled", "Requests whose client left before the end", registry=own
        )
        self.answers = Gauge(
            "understudy_answers", "Answers that are decoded or wait for it", registry=own
        )
        self.first = Histogram(
            *("understudy_first_piece_seconds", "From the request to a stream's first piece"),
            buckets=_SECONDS,
            registry=own,
        )
        self.whole = Histogram(
            *("understudy_request_seconds", "From the request to the end of its answers"),
            buckets=_SECONDS,
            registry=own,
        )

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self._registry)
