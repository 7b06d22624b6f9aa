"""One request: service and local model are asked in turn, and an answer goes to the client.

It is in the log before the client has its last byte.
"""

import asyncio
import json
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from understudy.gateway import spend
from understudy.gateway.calls import (
    REQUEST_ID,
    ChatCall,
    Header,
    RequestRefused,
    Send,
    refuse,
    request_id,
    send_error,
)
from understudy.gateway.control import choose
from understudy.gateway.retries import retries_itself
from understudy.gateway.shadow import Shadows
from understudy.gateway.spend import CallCost, Reservation
from understudy.gateway.state import GatewayState
from understudy.gateway.targets import Target, without_keys
from understudy.gateway.upstream import ODD, Lost, Opened, is_failure
from understudy.services.base import Usage
from understudy.services.providers.openai import chat
from understudy.services.providers.translation import AnswerWire, TranslatedStream

_MS = 1000
_LONGEST = 200  # characters of a name that is logged
_GONE = 499  # nginx's number for a client that left; it stands in logs only


class Relay:
    """Asks, passes the answer on, writes it down."""

    def __init__(self, state: GatewayState, shadows: Shadows, call: ChatCall, send: Send) -> None:
        self._state, self._shadows, self._call, self._send = state, shadows, call, send
        self._control = state.live.control  # it keeps this one to its end
        self._choice = choose(self._control, call, state.live.router, state.key(call))
        self._target: Target | None = None  # who answers
        self._tried: list[tuple[str, str, int]] = []  # who, why not, milliseconds
        self._refusal: tuple[Target, Opened] | None = None
        self._translated: TranslatedStream | None = None
        self._reserved: Reservation | None = None
        self._cost = CallCost(0, False)
        self._first_s: float | None = None
        self._is_written = False
        self._name = call.headers.get(REQUEST_ID, call.id)  # as the client knows the answer
        state.numbers.began()

    async def run(self) -> None:
        """Answer; a client that leaves cancels it."""
        opened: Opened | None = None
        try:
            opened = await self._first_answer()
            if opened is None and self._refusal is not None:
                self._target, opened = self._refusal
            if opened is None:
                await self._give_up()
            elif opened.rest is None:
                await self._relay(opened)
            else:
                await self._stream(opened)
        except RequestRefused as refused:  # it cannot be put to this maker
            self._settle(None, False)
            self._write(refused.status, b"", False)
            await refuse(self._send, refused, self._call.wire)
        finally:
            if opened is not None and opened.rest is not None:
                opened.close()
            self._write(_GONE, b"", False)  # unless it is written

    async def _first_answer(self) -> Opened | None:
        """Return the answer of the first in line that can; those with an open breaker come last."""
        sides, waiting, resting = list(self._choice.order), list[Target](), list[Target]()
        while sides or waiting or resting:
            if sides and not waiting:
                waiting = await self._state.targets(sides.pop(0), self._control, self._call)
            if waiting:
                target = waiting.pop(0)
                others = bool(sides or waiting or resting)
                breaker = self._state.breaker(target)
                if others and not breaker.lets_in():
                    self._tried.append((target.label, "resting", 0))
                    resting.append(target)
                    continue
                is_trial = others and breaker.is_open
            else:
                target, others, is_trial = resting.pop(0), bool(resting), False
            opened = await self._ask(target, others, is_trial)
            if opened is not None:
                return opened
        return None

    async def _ask(self, target: Target, others: bool, is_trial: bool) -> Opened | None:
        state, call, began = self._state, self._call, time.monotonic()
        breaker = state.breaker(target)
        if target.who == "service":
            model = target.model_for(call)
            self._reserved = state.spend.reserve(call, model, target.service)
            if self._reserved is None:
                breaker.gave_up(is_trial)
                self._failed(target, "cap", began)
                return None
        try:
            patience_s = self._patience(target, others)
            opened = await self._answer(target, patience_s, others)
        except Lost as lost:
            self._settle(None, lost.may_be_billed)
            breaker.failed(is_trial)
            state.heard(target.who, self._control, has_failed=True)
            self._failed(target, lost.why, began, lost.reason)
            if target.who == "service":
                self._refusal = None  # of the local model; that the service is gone is the reason
            return None
        except BaseException:  # the client left, or the call cannot be put to this maker
            breaker.gave_up(is_trial)
            raise
        has_service_failed = any(
            who != "local" and why not in ("cap", "resting") for who, why, _ in self._tried
        )
        has_failed = is_failure(opened.status, has_own_key=not target.passes_key)
        if has_failed or opened.status < 400:  # others may be the client's mistake
            state.heard(target.who, self._control, has_failed)
        if has_failed:
            breaker.failed(is_trial)
        else:
            breaker.succeeded()
            if target.who == "local" and opened.status == 404:  # another model may be there now
                state.forget(target)
                renamed = await state.target("local", self._control)
                if renamed.model != target.model:
                    return await self._ask(renamed, others, is_trial=False)
            # What the local model cannot do is no mistake of the client's: the service could.
            can_others = others or has_service_failed
            if target.who == "service" or opened.status < 400 or not can_others:
                self._target, self._translated = target, opened.translated
                return opened
        self._settle(None, False)
        self._failed(target, str(opened.status), began)
        if target.who == "service" or not has_service_failed:
            self._refusal = target, opened
        return None

    async def _answer(self, target: Target, patience_s: float, others: bool) -> Opened:
        """Return what a target says; where nobody else is left, also when asked again."""
        upstream, call, until = self._state.upstream, self._call, time.monotonic() + patience_s
        for left in range(self._state.config.retries, -1, -1):
            began = time.monotonic()
            opened = await upstream.ask(target, call, until - began, is_alone=not others)
            pause = opened.pause_s
            if others or pause is None or not left or retries_itself(call):
                break
            if time.monotonic() + pause >= min(until, self._late()):
                break  # the client is told how long, and may wait itself
            self._failed(
                target, str(opened.status), began, f"{opened.status}, again in {pause:g} s"
            )
            opened.close()
            await asyncio.sleep(pause)
        return opened

    def _late(self) -> float:
        """Return when a client would rather be told that there is no answer."""
        deadline = self._state.config.deadline_s
        return self._call.began + min(deadline, self._call.patience_s or deadline)

    def _patience(self, target: Target, others: bool) -> float:
        """Return the seconds to the first byte, with time left for the next in line."""
        if not others:
            return target.timeout_s
        allowed = self._call.patience_s
        deadline = self._state.config.deadline_s
        if allowed is not None:
            deadline = min(deadline, max(allowed - 1.0, allowed / 2))
        return max(0.05, deadline - (time.monotonic() - self._call.began))

    def _begin(self, opened: Opened) -> None:
        """Note when an answer begins, and what it is called."""
        call = self._call
        self._first_s = time.monotonic() - call.began
        self._name, _ = request_id(opened.headers, self._name, call.wire, call.id)

    async def _relay(self, opened: Opened) -> None:
        """Send an answer that is all here."""
        self._begin(opened)
        self._write(opened.status, opened.body, False, opened)
        status, body = opened.status, opened.body
        if self._call.native is not None and not opened.is_native:
            native = self._call.native
            status, body = native.inbound.answer(status, body, native.body, self._made_id)
        headers = [*opened.headers, (b"content-length", str(len(body)).encode())]
        await self._start(status, headers)
        await self._send({"type": "http.response.body", "body": body})

    async def _stream(self, opened: Opened) -> None:
        """Send an answer as it comes in parts; one that breaks off ends with an error event."""
        assert opened.rest is not None, "it comes in parts"
        self._begin(opened)
        await self._start(opened.status, opened.headers)
        parts, held, last = [opened.body], opened.body, b""
        is_whole, hider = True, chat.UsageHider() if opened.hides_usage else None
        native, wire = None, self._wire_of(opened)
        if (asked := self._call.native) is not None:
            native = asked.inbound.events(asked.body, self._made_id)
        try:
            while True:
                whole, newline, held = held.rpartition(b"\n")  # half a line is of use to nobody
                if newline:
                    said = chat.stream_error(whole)
                    if is_whole and said is not None:  # the client gets it as it is
                        await self._broke_off(Lost("error in a 200", True, said))
                        is_whole = False
                    if wire.is_end(whole):
                        content = b"".join(parts)
                        self._write(opened.status, content, True, opened if is_whole else None)
                    shown = whole + newline if hider is None else hider.feed(whole + newline)
                    if native is not None and not opened.is_native:
                        shown = _made(native.feed, shown)
                    if shown:
                        part = {"type": "http.response.body", "body": shown}
                        await self._send(part | {"more_body": True})
                try:
                    parts.append(await anext(opened.rest))
                except StopAsyncIteration:
                    last = held
                    if native is not None and not opened.is_native:
                        last = _made(native.feed, held + b"\n") + _made(native.end)
                    break
                held += parts[-1]
            if is_whole and not wire.has_ended(b"".join(parts)):
                raise Lost("the stream ended early", may_be_billed=True)
        except Lost as lost:
            reason = await self._broke_off(lost)
            is_whole = False
            text = f"The answer broke off: {reason}."
            error = chat.dumps(chat.error(502, "upstream_broke_off", text))
            last = b"\n" + (native.broken(text) if native else b"data: " + error + b"\n\n")
        self._write(opened.status, b"".join(parts), True, opened if is_whole else None)
        await self._send({"type": "http.response.body", "body": last})

    async def _broke_off(self, lost: Lost) -> str:
        """Log that an answer broke off, and return why."""
        if (target := self._target) is not None:
            lost.said = without_keys(lost.said, target, self._call)
            self._state.breaker(target).failed()
            self._state.heard(target.who, self._control, has_failed=True)
            self._state.numbers.failed(target.label, f"{lost.why} in the answer")
        label = "None" if target is None else target.label
        self._tried.append((label, f"{lost.reason} in the answer", self._ms()))
        return lost.reason

    async def _give_up(self) -> None:
        """Tell the client why it gets no answer."""
        headers = self._names()
        tried = [found for found in reversed(self._tried) if found[1] != "resting"]
        who, why, _ = max(tried, key=lambda found: found[0] != "local" and found[1] != "cap")
        if why == "cap":
            status, code = 429, "spend_cap"
            text = self._state.spend.why_not(self._call)
            headers.append((b"retry-after", str(spend.seconds_to_midnight()).encode()))
        else:
            status = 504 if why == "timeout" else 502
            code, text = "no_upstream", f"The {who} gave no answer: {why}."
        self._write(status, b"", False)
        await send_error(self._send, status, code, text, *headers, wire=self._call.wire)

    async def _start(self, status: int, headers: list[Header]) -> None:
        whole = [*headers, *self._names()]
        await self._send({"type": "http.response.start", "status": status, "headers": whole})

    def _names(self) -> list[Header]:
        """Return the headers that say who has answered, and how the log calls it."""
        return [
            (b"x-understudy-by", self._by.encode()),
            (b"x-understudy-id", self._call.id.encode()),
        ]

    @property
    def _by(self) -> str:
        """Who answers: service, local or nobody."""
        return "nobody" if self._target is None else self._target.who

    @property
    def _made_id(self) -> str:
        """The id of an answer that is translated."""
        return f"gateway_{self._call.id}"

    def _wire_of(self, opened: Opened | None) -> AnswerWire:
        """Return what reads an answer as it came."""
        native = self._call.native
        return native.inbound if native and opened is not None and opened.is_native else chat

    def _failed(self, target: Target, why: str, began: float, reason: str | None = None) -> None:
        """Log that a target gave no answer; `why` is counted, `reason` says more."""
        ms = round((time.monotonic() - began) * _MS)
        self._tried.append((target.label, reason or why, ms))
        self._state.numbers.failed(target.label, why)

    def _settle(self, usage: Usage | None, is_billed: bool) -> None:
        """Book what the service is owed for the call that is under way, if there is one."""
        if self._reserved is not None:
            found = self._state.spend.settle(self._reserved, usage, is_billed)
            is_bound = self._cost.is_bound or found.is_bound
            self._cost = CallCost(self._cost.microusd + found.microusd, is_bound)
            self._reserved = None

    def _ms(self) -> int:
        return round((time.monotonic() - self._call.began) * _MS)

    def _write(
        self, status: int, content: bytes, is_stream: bool, whole: Opened | None = None
    ) -> None:
        """Put the exchange into the logs, once; `whole` when the client gets all of the answer."""
        if self._is_written:
            return
        self._is_written = True
        state, call, control = self._state, self._call, self._control
        by = self._by
        is_good = whole is not None and status < 300
        is_broken = whole is None and status < 300
        usage: Usage | None = None  # of half an answer it is not known
        if is_good and self._translated is not None:  # it knows even where the client does not ask
            usage = self._translated.usage
        elif is_good:
            usage = self._wire_of(whole).usage_in(content, is_stream)
        self._settle(usage, is_billed=status < 300 or status == _GONE)
        about = {
            "id": call.id,
            "time": round(time.time(), 3),
            "mode": control.mode,
            "by": by,
            "status": status,
            "stream": is_stream or call.is_stream,
            "is_broken": is_broken,
            "first_ms": None if self._first_s is None else round(self._first_s * _MS),
            "ms": self._ms(),
            "place": round(self._choice.place, 4),
            "tried": self._tried,
            "model": (call.model or "")[:_LONGEST],
            "rehearsal": state.service.rehearsal,
        }
        if call.caller:
            about["caller"] = call.caller
        if self._target is not None and self._target.name:
            about["service"] = self._target.name
        if self._name != call.id:
            about[REQUEST_ID] = self._name[:_LONGEST]
        if call.native is not None:
            about["path"] = call.native.path
        is_native = whole is not None and whole.is_native
        if is_good and is_native and (kept := self._as_chat(content, is_stream)) is not None:
            content, is_stream, is_native = kept, False, False
        if is_good and self._choice.place < state.config.record_share:
            self._keep(about, content, is_stream, is_native)
        if usage is not None:
            about |= {"input": usage.input, "output": usage.output}
            state.numbers.billed(by, usage.input, usage.output, 0)
        state.numbers.billed(by, 0, 0, *self._cost)
        state.numbers.called(call.caller, status, self._cost.microusd)
        if call.adapted:
            about["adapted"] = list(dict.fromkeys(call.adapted))
            state.note(*call.adapted)
        about |= {"microusd": self._cost.microusd, "is_bound": self._cost.is_bound}
        if state.config.log_prompts:
            about["request"] = call.body
        state.write(state.requests, chat.dumps(about), call.headers)
        if state.tracing is not None:
            state.tracing.ended(call, self._target, about)
        whole_s = time.monotonic() - call.began
        state.numbers.ended(by, control.mode, status, self._first_s, whole_s, is_broken)
        if is_good and control.mode == "shadow":
            assert self._target is not None, "it has answered"
            self._shadows.begin(
                *(call, control, self._target, self._choice.place),
                *(content, is_stream, is_native, self._cost.microusd),
            )

    def _as_chat(self, content: bytes, is_stream: bool) -> bytes | None:
        native = self._call.native
        with suppress(*ODD):
            return None if native is None else native.inbound.as_chat(content, is_stream)
        return None

    def _keep(
        self, about: dict[str, Any], content: bytes, is_stream: bool, is_native: bool
    ) -> None:
        """Write the pair for `collect`: the request as it came, the answer or its events."""
        native = self._call.native
        request = _one_line(native.raw if native is not None and is_native else self._call.raw)
        if is_stream:
            response: bytes | None = json.dumps(content.decode("utf-8", "replace")).encode()
        else:
            response = _one_line(content)
        if request is None or response is None:
            return
        names = ("time", "mode", "by", "rehearsal", "service")
        facts = {name: about[name] for name in names if name in about}
        if self._call.talk is not None:
            facts["session_id"] = self._call.talk
        head = chat.dumps({"request_id": self._call.id, "metadata": facts})[:-1]
        whole = head + b',"request":' + request + b',"response":' + response + b"}"
        log = self._state.local_pairs if about["by"] == "local" else self._state.pairs
        self._state.write(log, whole, self._call.headers)


def _made(say: Callable[..., bytes], *lines: bytes) -> bytes:
    """Return what a client gets for lines of a stream; raises Lost where those are odd."""
    try:
        return say(*lines)
    except ODD:
        raise Lost("unreadable answer", may_be_billed=True) from None


def _one_line(content: bytes) -> bytes | None:
    """Return a JSON object as it is, on one line; None when it is none."""
    if not isinstance(chat.loads(content), dict):
        return None
    return content.replace(b"\r", b" ").replace(b"\n", b" ")  # no text of it holds a newline
