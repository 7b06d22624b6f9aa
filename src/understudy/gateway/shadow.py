"""Shadows: what the client was answered, asked again of the local model, for judging.

A row of `shadow/DAY.jsonl` is a ready-made answer as `understudy run inference=file` reads it: the
prompt, what the service answered (the reference), and what the local model says to it. With
`shadow_twice` the service is asked again as well: how near it comes to itself is what the local
model is measured against, and `understudy decide` needs both. Clients wait for none of it.
"""

import asyncio
import time
from typing import TYPE_CHECKING, Any

from understudy.data import near, words
from understudy.gateway import answers
from understudy.gateway.calls import Call
from understudy.gateway.control import Control
from understudy.gateway.log import DayLog
from understudy.gateway.upstream import Lost, Target

if TYPE_CHECKING:
    from understudy.gateway.gate import Gate

_END_S = 10.0  # that shadows may take when the gateway ends
_NOT_ASKED_AGAIN = ("stream", "stream_options")


class Shadow:
    """The shadows under way."""

    def __init__(self, gate: "Gate") -> None:
        self._gate = gate
        self._log = DayLog(gate.directory / "shadow")
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(
        self, call: Call, control: Control, place: float, content: bytes, is_stream: bool
    ) -> None:
        """Ask the local model what the service has answered, unless too many are under way."""
        config = self._gate.config
        if place >= config.shadow_share:
            return
        if len(self._tasks) >= config.shadow_in_flight:
            self._gate.numbers.shadowed("skipped")
            return
        task = asyncio.create_task(self._follow(call, control, content, is_stream))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Wait for what is under way, not for long."""
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=_END_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        self._log.close()

    async def _follow(self, call: Call, control: Control, content: bytes, is_stream: bool) -> None:
        gate = self._gate
        found = answers.exchange(call.body, content, is_stream)
        if found is None:
            gate.numbers.shadowed("no text")
            return
        *prompt, said = found.messages
        body = {k: v for k, v in call.body.items() if k not in _NOT_ASKED_AGAIN}
        again = Call(answers.dumps(body), body, {}, id=call.id)
        target = await gate.target("local", control)
        local = await self._answer(target, again)
        if local is None:
            gate.numbers.shadowed("failed")
            return
        row = {"id": call.id, "time": round(time.time(), 3), "rehearsal": gate.service.rehearsal}
        row |= {"prompt": prompt, "reference": said["content"]}
        service = gate.service
        name = target.model or "local"
        name = f"{name} (local)" if name == service.model else name
        rows = [row | {"candidate": local, "generator": name}]
        if gate.config.shadow_twice and (second := await self._second(again)) is not None:
            named = {"generator": service.model, "family": service.family}
            rows.append(row | {"candidate": second} | named)
        for each in rows:
            gate.write(self._log, answers.dumps(each))
        gate.numbers.shadowed("pairs", _alike(said["content"], local))

    async def _answer(self, target: Target, call: Call) -> str | None:
        """The text that somebody answers."""
        try:
            opened = await self._gate.upstream.ask(target, call, target.timeout_s)
        except Lost:
            return None
        found = answers.exchange(call.body, opened.body, is_stream=False)
        if opened.rest is not None:
            opened.close()
        if target.who == "local" and opened.status == 404:
            self._gate.forget(target)
        is_whole = opened.rest is None and opened.status < 300
        return found.messages[-1]["content"] if is_whole and found else None

    async def _second(self, call: Call) -> str | None:
        """The service's second answer, which is paid for like the first."""
        gate = self._gate
        target = await gate.target("service", gate.live.control)
        if (reserved := gate.spend.reserve(call, target.model)) is None:
            return None
        content, is_billed = b"", True
        try:
            opened = await gate.upstream.ask(target, call, target.timeout_s)
            content, is_billed = opened.body, opened.status < 300
        except Lost as lost:
            is_billed = lost.may_be_billed
        finally:
            usage = answers.usage_of(content, False) if content else None
            cost = gate.spend.settle(reserved, usage, is_billed)
            heard, said = (usage.input, usage.output) if usage else (0, 0)
            gate.numbers.billed("service", heard, said, cost.microusd)
            about: dict[str, Any] = {"id": call.id, "time": round(time.time(), 3)}
            about |= {"mode": "shadow", "by": "service", "again": True}
            about |= {"microusd": cost.microusd, "is_bound": cost.is_bound}
            gate.write(gate.requests, answers.dumps(about))
        found = answers.exchange(call.body, content, is_stream=False)
        return found.messages[-1]["content"] if found else None


def _alike(first: str, second: str) -> float:
    """ROUGE-L of two answers, 0 to 1; 1 when they are equal."""
    if first.strip() == second.strip():
        return 1.0
    found = words.encode([first, second])
    return near.rouge_l(found.of(0).tolist(), found.of(1).tolist())
