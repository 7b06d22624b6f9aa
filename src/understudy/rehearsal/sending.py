"""Ways to send a response badly."""

import asyncio
import socket
import struct

from aiohttp import web

_GONE_EVERY_S = 0.1  # how often a stalled call looks whether its client has left
_PIECES = 10  # of a slow drip


async def stall(request: web.Request) -> web.Response:
    """Say nothing until the client has left."""
    while request.transport is not None and not request.transport.is_closing():
        await asyncio.sleep(_GONE_EVERY_S)
    return web.Response()


async def drip(request: web.Request, response: web.Response, seconds: float) -> web.StreamResponse:
    """Send all of it, slowly."""
    stream, body = await _begin(request, response)
    step = -(-len(body) // _PIECES)
    for start in range(0, len(body), step):
        await asyncio.sleep(seconds / _PIECES)
        await stream.write(body[start : start + step])
    await stream.write_eof()
    return stream


async def break_off(
    fault: str | None, request: web.Request, response: web.Response
) -> web.StreamResponse:
    """Send a page in its place (wrong_type), half of it (truncated) or nothing (reset)."""
    if fault == "wrong_type":
        page = "<html><body>The gateway has no answer.</body></html>"
        return web.Response(text=page, content_type="text/html")
    transport = request.transport
    if transport is None:  # the client has left by itself
        return response
    if fault == "truncated":
        stream, body = await _begin(request, response)
        await stream.write(body[: len(body) // 2])
        transport.close()
        return stream
    connection = transport.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()  # and without lingering: a TCP reset
    return response


async def _begin(request: web.Request, response: web.Response) -> tuple[web.StreamResponse, bytes]:
    """Send the head of a response; what is left is its body."""
    body = response.body
    assert isinstance(body, bytes), "every response is in memory"
    stream = web.StreamResponse(status=response.status, headers=response.headers)
    stream.content_length = len(body)
    await stream.prepare(request)
    return stream, body
