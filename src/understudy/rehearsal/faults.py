"""Fault scripts: which fault strikes which call, whatever the order of arrival, and how.

A script is rates (`429=0.1,reset=0.02`; `all=0.3` spreads a rate evenly over every kind that heals)
or a sequence for every body (`429,500,ok`: the first try of each call meets 429, the second 500,
every later one is answered). Rates of TRANSPORT faults are shares of arrivals, those of CONTENT
faults shares of answers, those of ITEM faults shares of the items of batches. Each draw follows
from (seed, body, number of the try of this body) alone.
"""

import asyncio
import hashlib
import json
import socket
import struct
from collections.abc import Sequence
from typing import NamedTuple

from aiohttp import web

from understudy.errors import BadInput
from understudy.services.base import Finish

ERRORS = ("429", "429_bare", "500", "503", "529")  # 429_bare comes without Retry-After
BROKEN_OFF = ("stall", "reset", "truncated", "wrong_type")  # never delivered whole, so never billed
FATAL = ("400", "401", "404", "quota")  # played only by name: no call heals from them
TRANSPORT = (*ERRORS, *BROKEN_OFF, "drip")
CONTENT = ("broken", "scale", "refusal", "blocked", "empty", "duplicate")
ITEM = ("expired", "failed")
KINDS = (*TRANSPORT, *CONTENT, *ITEM, *FATAL)
_GONE_EVERY_S = 0.1  # how often a stalled call looks whether its client has left
_PIECES = 10  # of a slow drip


class Script(NamedTuple):
    """Rates by kind, or a sequence of kinds; both may be empty."""

    rates: dict[str, float]
    sequence: tuple[str, ...]
    seed: int

    def on_call(self, body: str, attempt: int) -> str | None:
        """The TRANSPORT or FATAL fault of an arrival."""
        return self._next((*TRANSPORT, *FATAL), body, attempt, attempt)

    def in_answer(self, body: str, attempt: int, answer: int) -> str | None:
        """The CONTENT fault of the `answer`-th answer to this body."""
        return self._next(CONTENT, body, attempt, answer)

    def of_item(self, body: str, attempt: int) -> str | None:
        """The ITEM fault of an item of a batch."""
        return self._next(ITEM, body, attempt, attempt)

    def _next(self, kinds: Sequence[str], body: str, attempt: int, number: int) -> str | None:
        if self.sequence:
            kind = self.sequence[attempt] if attempt < len(self.sequence) else "ok"
            return kind if kind in kinds else None
        chosen = draw(self.seed, kinds[0], body, number) if self.rates else 1.0
        for kind in kinds:
            if (chosen := chosen - self.rates.get(kind, 0.0)) < 0:
                return kind
        return None


def parse(spec: str, seed: int = 0) -> Script:
    """The script that a text describes; BadInput names what is no fault."""
    rates: dict[str, float] = {}
    sequence: list[str] = []
    for part in filter(None, (part.strip() for part in spec.split(","))):
        name, has_rate, value = part.partition("=")
        if name not in (*KINDS, "all" if has_rate else "ok"):
            raise BadInput(
                f"{part} in faults={spec} is no fault; choose from {', '.join(KINDS)}, "
                "as kind=rate (or all=rate), or as a sequence, with ok for a call without a fault"
            )
        if not has_rate:
            sequence.append(name)
            continue
        healing = (*TRANSPORT, *CONTENT)
        among = (*healing, *ITEM) if name == "all" else (name,)
        for kind in among:
            rates[kind] = _rate(value, spec) / (len(healing) if name == "all" else 1)
    for group in ((*TRANSPORT, *FATAL), CONTENT, ITEM):
        if (total := sum(rates.get(kind, 0.0) for kind in group)) > 1:
            raise BadInput(f"the rates in faults={spec} add up to {total:g}; 1 is all calls")
    if rates and sequence:
        raise BadInput(f"faults={spec} mixes rates and a sequence; give one of them")
    return Script(rates, tuple(sequence), seed)


def _rate(text: str, spec: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = -1.0
    if not 0 <= rate <= 1:
        raise BadInput(f"{text} in faults={spec} is no rate; give a number from 0 to 1")
    return rate


def draw(*key: str | int) -> float:
    """A number in [0, 1) that depends on the key alone."""
    digest = hashlib.blake2b(json.dumps(key).encode(), digest_size=8).digest()
    return int.from_bytes(digest) / 2**64


REFUSAL = "I'm sorry, but I can't help with that."


def spoil(kind: str, text: str, chosen: float) -> tuple[str, Finish]:
    """An answer as a CONTENT fault leaves it, and how it finished; `chosen` in [0, 1) picks how."""
    if kind == "refusal":
        return REFUSAL, "refusal"
    if kind == "blocked":
        return "", "blocked"
    if kind == "empty":
        return "", "stop"
    if kind == "duplicate":
        return f"{text}\n{text}", "stop"
    if kind == "broken":
        return text[: int(len(text) * (0.2 + 0.6 * chosen))], "stop"
    assert kind == "scale", f"{kind} is no fault of content"
    return _rescaled(text, chosen), "stop"


def _rescaled(text: str, chosen: float) -> str:
    """A judge's scores on another scale: 87 as 870, "87/10" or "8.7/10"; others as they are."""
    try:
        reply = json.loads(text)
        for assessment in reply.values():
            score = assessment["score"]
            ways = (score * 10, f"{score}/10", f"{score / 10:g}/10")
            assessment["score"] = ways[int(chosen * len(ways))]
    except (ValueError, TypeError, KeyError, AttributeError):
        return text
    return json.dumps(reply)


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
