"""Shadows: what the client was answered, asked again of the local model, for judging.

A row of `shadow/DAY.jsonl` is a ready-made answer as `understudy run inference=file` reads it: the
prompt, what the service answered (the reference), and what the local model says to it, after how
many seconds and for how many dollars, where that is known. Each of several candidates has a row.
`group_id` is a digest of the user or conversation, which are not in the row, or of how it began
where the client named neither (`group_of`). With `shadow_twice` the service is asked again as well:
how near it comes to itself is what the local model is measured against, and `understudy decide`
needs both. Clients wait for none of it.
"""

import asyncio
import time
from collections import deque
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from understudy.data import near, words
from understudy.data.answers import topic
from understudy.data.rejects import BadRow, NotWanted
from understudy.gateway.calls import ChatCall, cluster
from understudy.gateway.control import Control, Local
from understudy.gateway.pairs import ShadowPair
from understudy.gateway.state import GatewayState
from understudy.gateway.targets import Target
from understudy.gateway.upstream import Lost
from understudy.records import Message
from understudy.services.providers import log
from understudy.services.providers.anthropic.log import DIALECTS as MESSAGES
from understudy.services.providers.google.log import DIALECTS as GEMINI
from understudy.services.providers.log import Dialect
from understudy.services.providers.openai import chat
from understudy.services.providers.openai.log import CHAT, RESPONSES

_MOST_WAITING = 64 << 20  # bytes of requests and answers
_END_S = 10.0  # that shadows may take when the gateway ends
_DIALECTS = {"messages": MESSAGES[0], "responses": RESPONSES, "generate_content": GEMINI[0]}
_NOT_ASKED_AGAIN = ("stream", "stream_options")


class _Shadow(NamedTuple):
    """What a client was answered."""

    call: ChatCall
    control: Control
    service: Target  # who has answered
    content: bytes
    is_stream: bool
    is_native: bool  # the answer: in the protocol of the request, not in that of chats
    microusd: int  # that it has cost

    @property
    def size(self) -> int:
        return len(self.call.raw) + len(self.content)


class Shadows:
    """The shadows under way."""

    def __init__(self, state: GatewayState) -> None:
        self._state = state
        self._log = state.day_log("shadow")
        self._waiting: deque[_Shadow] = deque()
        self._bytes = 0  # of those that wait
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(
        self,
        call: ChatCall,
        control: Control,
        service: Target,
        place: float,
        content: bytes,
        is_stream: bool,
        is_native: bool,
        microusd: int,
    ) -> None:
        """Ask the local model what the service has answered, in turn, unless too many wait."""
        config = self._state.config
        if place >= config.shadow_share:
            return
        shadow = _Shadow(call, control, service, content, is_stream, is_native, microusd)
        if len(self._tasks) < config.shadow_in_flight:
            task = asyncio.create_task(self._work(shadow))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        elif len(self._waiting) < config.shadow_queue and self._bytes < _MOST_WAITING:
            self._waiting.append(shadow)
            self._bytes += shadow.size
        else:
            self._state.numbers.shadowed("skipped")

    @property
    def waiting(self) -> int:
        """Shadows whose turn has not come."""
        return len(self._waiting)

    async def close(self) -> None:
        """Wait for what is under way, not for long; what still waits is skipped."""
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=_END_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        for _ in self._waiting:
            self._state.numbers.shadowed("skipped")
        self._waiting.clear()
        self._log.close()

    async def _work(self, shadow: "_Shadow") -> None:
        """Follow a shadow, then those that wait."""
        while True:
            await self._follow(shadow)
            if not self._waiting:
                return
            shadow = self._waiting.popleft()
            self._bytes -= shadow.size

    async def _follow(self, shadow: _Shadow) -> None:
        state, call, control = self._state, shadow.call, shadow.control
        service = shadow.service.service or state.service
        is_native = shadow.is_native and call.native is not None
        asked = call.native.body if call.native is not None and is_native else call.body
        dialect = _DIALECTS[call.native.inbound.NAME] if call.native and is_native else CHAT
        talk = _talk(asked, shadow.content, shadow.is_stream, dialect)
        if talk is None:
            state.numbers.shadowed("no text")
            return
        *prompt, said = talk
        body = {k: v for k, v in call.body.items() if k not in _NOT_ASKED_AGAIN}
        again = ChatCall(chat.dumps(body), body, {}, id=call.id)
        targets = await self._locals(control)
        asked_locals = (self._local_answer(target, again) for _, target in targets)
        answers = dict(zip(targets, await asyncio.gather(*asked_locals), strict=True))
        if not any(answers.values()):
            state.numbers.shadowed("failed")
            return
        row: dict[str, Any] = {"id": call.id, "time": round(time.time(), 3)}
        row |= {"rehearsal": service.rehearsal} | cluster(call, state.sides.shared)._asdict()
        row |= {"prompt": prompt, "reference": said["content"]}
        rows = []
        for (name, _), answer in answers.items():
            name = f"{name} (local)" if name == service.model else name
            if answer is None:
                state.numbers.shadowed(f"failed at {name}")
                continue
            rows.append(row | {"candidate": answer.text, "generator": name} | answer.facts)
            alike = _alike(said["content"], answer.text)
            pair = ShadowPair(alike, str(row["group_id"]), answer.usd, shadow.microusd / 1e6)
            state.numbers.paired(name, topic(prompt), pair)
        if state.config.shadow_twice:
            second = await self._second_answer(shadow.service, again)
            if second is not None:
                named = {"generator": service.model, "family": service.family}
                rows.append(row | {"candidate": second.text} | named | second.facts)
        for each in rows:
            state.write(self._log, chat.dumps(each))
        state.numbers.shadowed("pairs")

    async def _locals(self, control: Control) -> list[tuple[str, Target]]:
        """Return the local model and the other candidates, each under a name of its own."""
        state = self._state
        others = [await state.local(Local(url)) for url in state.config.candidates]
        found = dict[str, Target]()
        for target in (await state.target("local", control), *others):
            name = target.model or "local"
            found[f"{name} at {urlsplit(target.url).netloc}" if name in found else name] = target
        return list(found.items())

    async def _local_answer(self, target: Target, call: ChatCall) -> "_Answer | None":
        """Return what a local model answers; None where it is no text."""
        began = time.monotonic()
        try:
            opened = await self._state.upstream.ask(target, call, target.timeout_s)
        except Lost:
            return None
        if opened.status == 404:
            self._state.forget(target)
        if opened.rest is not None:
            opened.close()
        elif opened.status < 300 and (talk := _talk(call.body, opened.body, is_stream=False)):
            prices, usage = self._state.config.local_prices, chat.usage_in(opened.body, False)
            usd = None
            if prices is not None and usage is not None:
                usd = (usage.input * prices.input + usage.output * prices.output) / 1e6
            return _Answer(str(talk[-1]["content"]), time.monotonic() - began, usd)
        return None

    async def _second_answer(self, target: Target, call: ChatCall) -> "_Answer | None":
        """Return the service's second answer, which is paid for like the first."""
        state, began = self._state, time.monotonic()
        if (reserved := state.spend.reserve(call, target.model, target.service)) is None:
            return None
        content, is_billed = b"", True
        try:
            opened = await state.upstream.ask(target, call, target.timeout_s)
            content, is_billed = opened.body, opened.status < 300
        except Lost as lost:
            is_billed = lost.may_be_billed
        finally:
            usage = chat.usage_in(content, False) if content else None
            cost = state.spend.settle(reserved, usage, is_billed)
            heard, said = (usage.input, usage.output) if usage else (0, 0)
            state.numbers.billed("service", heard, said, *cost)
            about: dict[str, Any] = {"id": call.id, "time": round(time.time(), 3)}
            about |= {"mode": "shadow", "by": "service", "again": True}
            about |= {"microusd": cost.microusd, "is_bound": cost.is_bound}
            state.write(state.requests, chat.dumps(about))
        talk = _talk(call.body, content, is_stream=False)
        has_price = target.service is not None and target.service.prices is not None
        usd = cost.microusd / 1e6 if has_price and not cost.is_bound else None
        return _Answer(talk[-1]["content"], time.monotonic() - began, usd) if talk else None


class _Answer(NamedTuple):
    """What somebody has answered, and how."""

    text: str
    seconds: float
    usd: float | None  # null where it is not known exactly

    @property
    def facts(self) -> dict[str, float]:
        """What a row says beside the text."""
        found = {"seconds": round(self.seconds, 3)}
        return found if self.usd is None else found | {"usd": round(self.usd, 9)}


def _talk(
    request: dict[str, Any], content: bytes, is_stream: bool, made: Dialect = CHAT
) -> list[Message] | None:
    """Return a conversation with its answer; None when it is no text alone, cut off or refused."""
    response: Any = content.decode("utf-8", "replace") if is_stream else chat.loads(content)
    try:
        part = log.unwrap({"request": request, "response": response}, made)
        talk = log.join([(part, made)]).messages
        return None if any("tool_calls" in turn for turn in talk) else talk
    except (NotWanted, BadRow):
        return None


def _alike(first: str, second: str) -> float:
    """Return ROUGE-L of two answers, 0 to 1; 1 when they are equal."""
    if first.strip() == second.strip():
        return 1.0
    found = words.encode([first, second])
    return near.rouge_l(found.of(0).tolist(), found.of(1).tolist())
