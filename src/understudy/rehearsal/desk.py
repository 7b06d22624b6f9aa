"""The desk that every request passes: key, faults, limits, the answer, the bill."""

import asyncio
import random
import secrets
from collections import Counter
from dataclasses import dataclass, field

from aiohttp import web
from aiohttp.typedefs import Handler

from understudy.config import Prices
from understudy.rehearsal import faults
from understudy.rehearsal.bill import Arrival, Bill
from understudy.rehearsal.limits import RateMeters
from understudy.rehearsal.speaker import Speaker
from understudy.services.base import Room
from understudy.services.providers.rehearsal_base import (
    AskedCall,
    CallRefused,
    PlayedProvider,
    Said,
    hash_of,
)


@dataclass(frozen=True, slots=True)
class RehearsalSettings:
    """How the server behaves; times are in seconds."""

    faults: str = ""  # see faults.py
    seed: int = 0  # of faults and latencies
    latency_s: float = 0.0  # of every answer
    latency_spread: float = 0.0  # standard deviation of log latency; 0 = always `latency_s`
    requests_per_minute: int | None = None  # per API key and model
    tokens_per_minute: int | None = None  # prompt and answer
    window_s: float = 60.0  # over which the two limits hold
    retry_after_s: float = 1.0  # what scripted 429s ask for
    drip_s: float = 0.5  # how long a slow drip takes
    batch_s: float = 0.5  # from a batch's submission to its end
    repeatable: bool = False  # equal bodies get equal answers, whichever comes first
    cached: float = 0.0  # share of every prompt that is reported as read from the cache
    prices: dict[str, Prices] = field(default_factory=dict)  # by model; others as in conf/service


@dataclass(slots=True)
class Visit:
    """What is known of a request while it is served."""

    arrival: Arrival
    is_delivered: bool  # no fault will break its answer off
    room: Room | None = None


VISIT = web.RequestKey("visit", Visit)


class Desk:
    """Everything the server knows; lives on its event loop."""

    def __init__(self, settings: RehearsalSettings) -> None:
        self.settings = settings
        self.script = faults.parse(settings.faults, settings.seed)
        self.bill = Bill()
        self.providers: dict[str, PlayedProvider] = {}  # by the first part of their paths
        self.speaker = Speaker(settings.prices, settings.cached)
        self._limits: dict[tuple[str, str], RateMeters] = {}
        self._tries: Counter[str] = Counter()  # arrivals by body
        self._answers: Counter[str] = Counter()  # billed answers by body
        self._name, self._ids = f"rehearsal{secrets.token_hex(4)}", 0

    @web.middleware
    async def door(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Let a request in: check its key, play the fault of this try, send what comes out."""
        provider = self.providers.get(request.path.split("/")[1])
        if provider is None:
            return await handler(request)
        self.bill.open += 1
        try:
            return await self._serve(provider, request, handler)
        except ConnectionError:  # the client left in the middle of a body, ours or its own
            return web.Response()
        finally:
            self.bill.open -= 1

    async def _serve(
        self, provider: PlayedProvider, request: web.Request, handler: Handler
    ) -> web.StreamResponse:
        is_form = request.content_type.startswith("multipart/")  # its handler reads it
        body = hash_of(request.path_qs, b"" if is_form else await request.read())
        attempt, key = self.arrival(body), provider.key(request)
        self.bill.requests[request.match_info.route.name or "unknown path"] += 1
        fault = self.script.on_call(body, attempt)
        if fault:
            self.bill.faults[fault] += 1
        arrival = Arrival(body, attempt, key or "", self.new_id("req"), "online")
        visit = request[VISIT] = Visit(arrival, fault not in faults.BROKEN_OFF)
        try:
            if key is None:
                raise CallRefused(401, "bad_key", "No API key was given.")
            if fault in REFUSALS:
                wait_s = self.settings.retry_after_s if fault == "429" else None
                raise CallRefused(*REFUSALS[fault], retry_after_s=wait_s)
            if fault == "stall":
                return await faults.stall(request)
            response = await handler(request)
        except (CallRefused, web.HTTPNotFound) as error:
            refused = error if isinstance(error, CallRefused) else no_path(request)
            status, values = provider.error(refused, arrival.id)
            response = web.json_response(values, status=status)
            if refused.retry_after_s is not None:
                wait = f"{refused.retry_after_s:.3f}".rstrip("0").rstrip(".")
                response.headers["retry-after"] = wait
        assert isinstance(response, web.Response), "every handler answers from memory"
        response.headers.update(provider.headers(arrival.id, visit.room))
        if fault == "drip":
            return await faults.drip(request, response, self.settings.drip_s)
        if fault in faults.BROKEN_OFF:
            return await faults.break_off(fault, request, response)
        return response

    async def online(
        self, provider: PlayedProvider, request: web.Request, asked: AskedCall
    ) -> Said:
        """Answer a call after its latency; it is billed when a fault does not break it off."""
        visit = request[VISIT]
        place = (visit.arrival.key, asked.model)
        if place not in self._limits:
            per_minute = (self.settings.requests_per_minute, self.settings.tokens_per_minute)
            self._limits[place] = RateMeters(*per_minute, self.settings.window_s)
        limits = self._limits[place]
        wait = limits.admit(self.speaker.heard(asked))
        visit.room = limits.room
        if wait:
            self.bill.faults["limit"] += 1
            raise CallRefused(429, "too_many", "Rate limit reached.", retry_after_s=wait)
        context = self.speaker.facts(asked.model, provider.name).context
        if context is not None and self.speaker.heard(asked) > context:
            message = f"The prompt is longer than the {context} tokens of {asked.model}."
            raise CallRefused(400, "too_long", message)
        await asyncio.sleep(self.latency(visit.arrival))
        said = await self.answer(provider, asked, visit.arrival, visit.is_delivered)
        limits.spoken(said.usage.output)
        visit.room = limits.room
        return said

    async def answer(
        self, provider: PlayedProvider, asked: AskedCall, arrival: Arrival, is_billed: bool = True
    ) -> Said:
        """Answer and bill one call, now."""
        index = 0 if self.settings.repeatable else self._answers[arrival.body]
        self._answers[arrival.body] += is_billed
        # In a thread: the rule of a coding task runs the answer's code.
        reply = await asyncio.to_thread(self.speaker.answer, asked, provider.name, index)
        fault = self.script.in_answer(arrival.body, arrival.attempt, index)
        if fault:
            self.bill.faults[fault] += 1
        chosen = faults.draw(self.settings.seed, "how", arrival.body, index)
        said = self.speaker.say(asked, reply, fault, chosen)
        if is_billed:
            prices = self.speaker.facts(asked.model, provider.name).prices
            self.bill.charge(arrival, asked.model, said.usage, prices)
        return said

    def arrival(self, body: str) -> int:
        """How often this body had come before."""
        self._tries[body] += 1
        return self._tries[body] - 1

    def new_id(self, prefix: str) -> str:
        """An id that no server has given before."""
        self._ids += 1
        return f"{prefix}_{self._name}_{self._ids}"

    def latency(self, arrival: Arrival) -> float:
        """Return the seconds that an answer takes, the same for the same body and attempt."""
        settings = self.settings
        if not settings.latency_spread:
            return settings.latency_s
        rng = random.Random(f"{settings.seed}/{arrival.body}/{arrival.attempt}")
        return settings.latency_s * rng.lognormvariate(0.0, settings.latency_spread)


REFUSALS = {
    "429": (429, "too_many", "Rate limit reached."),
    "429_bare": (429, "too_many", "Rate limit reached."),
    "500": (500, "broken", "The server had an error."),
    "503": (503, "busy", "The server is overloaded."),
    "529": (529, "busy", "The server is overloaded."),
    "400": (400, "bad_request", "This request is not valid."),
    "401": (401, "bad_key", "The API key is not valid."),
    "404": (404, "no_model", "The model does not exist."),
    "quota": (429, "quota", "You exceeded your current quota."),
}  # fault → (status, kind, message)


def no_path(request: web.Request) -> CallRefused:
    """What a request to nowhere is told."""
    return CallRefused(404, "no_path", f"There is no {request.method} {request.path} here.")
