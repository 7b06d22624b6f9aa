"""The HTTP client under every SDK: its connections, kept in small pools."""

import ssl
from collections.abc import Callable
from functools import cache
from typing import Any

import httpx2

from understudy.config import Service
from understudy.services.responses import check_mark

_PLACES = 4  # of a pool: httpx looks at all its connections before and after each call


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
