"""The connections under an SDK: as many as calls in flight, in pools that stay small."""

import asyncio
from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from aiohttp import web

from support import paid
from understudy.services.providers.adapter import Connections


class Small(httpx2.AsyncClient):
    """One of the clients that share the work, and how many calls it had at once."""

    made: "list[Small]"

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.open = self.most = 0
        Small.made.append(self)

    async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        self.open += 1
        self.most = max(self.most, self.open)
        try:
            return await super().send(request, **options)
        finally:
            self.open -= 1


@pytest.fixture(autouse=True)
def _none_made() -> None:
    Small.made = []


def served(play: Callable[[httpx2.AsyncClient, str], Any]) -> set[object]:
    """Let a client play against a server; the connections that the server has seen."""
    seen = set[object]()

    async def answer(request: web.Request) -> web.Response:
        seen.add(request.transport)
        await asyncio.sleep(0.05)
        return web.Response(text="yes", headers={"x-understudy-rehearsal": "1"})

    async def serve() -> None:
        app = web.Application()
        app.router.add_get("/", answer)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        client = Connections(paid.service(rehearsal=True), Small)
        try:
            await play(client, f"http://127.0.0.1:{runner.addresses[0][1]}/")
        finally:
            await client.aclose()
            await runner.cleanup()

    asyncio.run(serve())
    return seen


def test_calls_in_flight_have_a_connection_each_which_later_calls_use_again() -> None:
    async def play(client: httpx2.AsyncClient, url: str) -> None:
        for _ in range(3):
            replies = await asyncio.gather(*(client.get(url) for _ in range(10)))
            assert [reply.text for reply in replies] == ["yes"] * 10
        for _ in range(3):
            await client.get(url)

    assert len(served(play)) == 10
    assert [small.most for small in Small.made] == [4, 4, 2]
    assert all(small.is_closed for small in Small.made)


def test_calls_that_fail_or_are_cancelled_give_their_places_back() -> None:
    async def play(client: httpx2.AsyncClient, url: str) -> None:
        for _ in range(3):
            nobody = [client.get("http://127.0.0.1:1/") for _ in range(8)]
            for error in await asyncio.gather(*nobody, return_exceptions=True):
                assert isinstance(error, httpx2.ConnectError)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.02):
                    await asyncio.gather(*(client.get(url) for _ in range(8)))
        assert (await client.get(url)).text == "yes"

    served(play)
    assert len(Small.made) == 2
    assert [small.open for small in Small.made] == [0, 0]
