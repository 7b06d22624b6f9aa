"""The loopback server in a thread of its own, and its paths."""

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from understudy.errors import EnvironmentFailed
from understudy.rehearsal.batches import BatchShelf
from understudy.rehearsal.bill import Bill, Charge
from understudy.rehearsal.desk import VISIT, Desk, RehearsalSettings
from understudy.services import providers
from understudy.services.base import MARK
from understudy.services.providers.rehearsal_base import PlayedProvider, PlayedWire, Props, reading

_LARGEST_BODY = 256 << 20  # bytes; OpenAI's limit of a batch file is 200 MB
_HOST = "127.0.0.1"


class RehearsalServer:
    """`with RehearsalServer(latency_s=0.1, faults="all=0.3") as server:`; see options.py."""

    def __init__(self, port: int = 0, **settings: Any) -> None:
        self._port = port
        self._desk = Desk(RehearsalSettings(**settings))
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """What `rehearsal.url` takes."""
        return f"http://{_HOST}:{self._port}"

    @property
    def log(self) -> list[Charge]:
        """Every billed call so far."""
        return list(self._desk.bill.log)

    def bill(self) -> Bill:
        """What was sold so far."""
        return self._desk.bill.copy()

    def __enter__(self) -> Self:
        self._thread.start()
        try:
            self._call(self._start())
        except OSError as error:
            self._stop_loop()
            raise EnvironmentFailed(
                f"port {self._port} of {_HOST} cannot be opened ({error.strerror}); "
                "choose another --port, or 0 for a free one"
            ) from None
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._call(self._stop())
        self._stop_loop()

    def _call(self, coroutine: Any) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    async def _start(self) -> None:
        # A client that leaves does not undo its call: providers go on, and bill.
        runner = web.AppRunner(
            application(self._desk),
            access_log=None,
            handler_cancellation=False,
            shutdown_timeout=0.1,
        )
        await runner.setup()
        await web.TCPSite(runner, _HOST, self._port, backlog=4096).start()
        self._port, self._runner = runner.addresses[0][1], runner

    async def _stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
        waiting = asyncio.all_tasks() - {asyncio.current_task()}  # batches
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        await self._loop.shutdown_default_executor()

    def _stop_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def application(desk: Desk) -> web.Application:
    """All paths of the providers that can be played, and GET /rehearsal/bill."""
    app = web.Application(middlewares=[desk.door], client_max_size=_LARGEST_BODY)
    app.on_response_prepare.append(_mark)
    shelf = BatchShelf(desk)
    props = Props(desk.new_id, desk.speaker.models, shelf.get)
    for name, part in providers.parts("rehearsal").items():
        provider: PlayedProvider = part.play(props)
        desk.providers[name] = provider
        for wire in provider.wires():
            handler = _online(desk, provider, wire)
            app.router.add_post(f"/{name}{wire.path}", handler, name=f"{name}.{wire.name}")
        shelf.add_paths(app.router, provider)
        provider.add_to(app.router, f"/{name}")

    async def bill(request: web.Request) -> web.Response:
        return web.json_response(desk.bill.to_dict(request.query.get("log") != "0"))

    app.router.add_get("/rehearsal/bill", bill)
    return app


async def _mark(request: web.Request, response: web.StreamResponse) -> None:
    response.headers[MARK] = "1"


def _online(
    desk: Desk, provider: PlayedProvider, wire: PlayedWire
) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handle(request: web.Request) -> web.Response:
        body = await request.read()
        with reading():
            values = json.loads(body)
            asked = wire.asked(values, request.match_info.get("model"))
        said = await desk.online(provider, request, asked)
        answer = wire.answer(said, asked.model, request[VISIT].arrival.id, values)
        if isinstance(answer, bytes):
            return web.Response(body=answer, content_type="text/event-stream")
        return web.json_response(answer)

    return handle
