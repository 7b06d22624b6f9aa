"""What the calls of a stage cost: tokens, dollars, and seconds under the service's limits."""

import math
from typing import Any, NamedTuple

from understudy.config import Service
from understudy.plan.calls import Calls
from understudy.plan.learned import Learned
from understudy.plan.ranges import NOTHING, Range, exactly
from understudy.services import money
from understudy.services.base import Usage

# Hidden reasoning before a short answer, in tokens: guesses, until the journal knows.
REASONING = {
    "none": NOTHING,
    "minimal": Range(0, 50, 300),
    "low": Range(0, 150, 1000),
    "medium": Range(50, 500, 3000),
}
MUCH_REASONING = Range(200, 1500, 8000)
BATCH_S = Range(300, 3600, 86400)  # the makers promise a day and often need an hour


class Cost(NamedTuple):
    """The calls of one stage, in what they take; dollars are None where nobody states a price."""

    calls: Range
    repairs: int  # at most as many more
    input: Range  # tokens
    output: Range
    online_usd: Range | None
    batch_usd: Range | None  # None also where there is no batch API
    seconds: Range
    basis: str  # of what lengths and speed are estimated

    def or_nothing(self) -> "Cost":
        """The same of a stage that may not be needed."""
        changed: dict[str, Any] = {
            name: part.or_nothing()
            for name, part in self._asdict().items()
            if isinstance(part, Range)
        }
        return self._replace(**changed)


def cost_of(calls: Calls, role: str, learned: Learned) -> Cost:
    """The cost of a stage's calls; the upper ends hold a repair of each."""
    service = calls.service
    per_byte = learned.tokens_per_byte(service, role)
    reply = learned.reply_tokens(service, role, calls.reply + _reasoning(service))
    reply = reply.at_most(service.max_output_tokens)  # hidden reasoning included
    again = Range(0, 0, calls.repairs)  # a repair sends the request again, and the bad reply
    sent = calls.asked + again
    tokens_in = sent * (per_byte * calls.size) + again * reply
    tokens_out = sent * reply
    latency = learned.latency_s(service, role, reply)
    return Cost(
        calls=calls.asked,
        repairs=calls.repairs,
        input=tokens_in,
        output=tokens_out,
        online_usd=_usd(service, tokens_in, tokens_out, "online"),
        batch_usd=_usd(service, tokens_in, tokens_out, "batch"),
        seconds=_seconds(service, sent, tokens_in + tokens_out, latency),
        basis=learned.basis(service, role),
    )


def _reasoning(service: Service) -> Range:
    effort = service.reasoning
    if isinstance(effort, int):
        return Range(0, effort / 2, effort)
    return NOTHING if effort is None else REASONING.get(effort, MUCH_REASONING)


def _usd(service: Service, tokens_in: Range, tokens_out: Range, mode: money.Mode) -> Range | None:
    prices = service.prices
    if service.provider == "offline" and mode == "online":
        return NOTHING
    if prices is None or (mode == "batch" and prices.batch is None):
        return None
    ends = (
        Usage(input=math.ceil(getattr(tokens_in, end)), output=math.ceil(getattr(tokens_out, end)))
        for end in ("low", "expected", "high")
    )
    return Range(*(money.cost(usage, prices, mode) / money.MICRO for usage in ends))


def _seconds(service: Service, calls: Range, tokens: Range, latency: Range) -> Range:
    if not calls.high:
        return NOTHING
    if service.mode == "batch":
        return BATCH_S
    at_once = 1 if service.provider == "offline" else service.concurrency
    seconds = calls * latency * (1 / at_once)
    for amount, limit in (
        (calls, service.requests_per_minute),
        (tokens, service.tokens_per_minute),
    ):
        if limit is not None:
            seconds = seconds.at_least(amount * (60 / limit))
    return seconds.at_least(latency if calls.low else exactly(0))
