"""What all requests share: the control, the connections, the purse, the logs, the numbers."""

import asyncio
import os
import sys
import time
from collections.abc import Container, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from understudy.config.gateway import MAIN, GatewayConfig
from understudy.config.service import Service
from understudy.errors import BadInput, EnvironmentFailed
from understudy.gateway.breaker import Breaker
from understudy.gateway.calls import ChatCall
from understudy.gateway.control import LOOK_S, Control, Live, Local, Who
from understudy.gateway.keys import callers_of
from understudy.gateway.log import DayLog
from understudy.gateway.numbers import Numbers
from understudy.gateway.probation import Probation
from understudy.gateway.sides import Sides
from understudy.gateway.spend import Spend
from understudy.gateway.targets import Target
from understudy.gateway.upstream import Lost, Upstream
from understudy.services.callers import shown_keys
from understudy.services.providers import Endpoint
from understudy.services.providers.openai import chat
from understudy.services.providers.translation import translation_of

if TYPE_CHECKING:
    from understudy.gateway.tracing import Tracing

CONTROL = "control.json"
_MARK = b"[key]"
_MOST_NOTES = 100
_CHECKS = 60  # of a local model on trial that nobody uses: every 10 s of the usual 600
_SHORTEST = 16  # characters of what can be a key


class GatewayState:
    """Made before the event loop runs, so that what is wrong is said at once."""

    def __init__(
        self,
        config: GatewayConfig,
        directory: Path,
        endpoint: Endpoint | None,
        client_key: str | None,
        given: Container[str] = (),
        others: Mapping[str, Endpoint] | None = None,
    ) -> None:
        service = config.service
        if service is None or endpoint is None:
            raise BadInput("gateway.service is missing; name one of conf/service")
        _check_prices(config, service)
        if config.shadow_twice and not endpoint.key and service.key_env is not None:
            raise BadInput(
                f"gateway.shadow_twice=true asks {service.name} by itself: that needs its key in "
                f"the environment variable {service.key_env}"
            )
        self.config, self.directory, self.service = config, directory, service
        self.client_key, self.callers = client_key, callers_of(config.keys, client_key)
        self.live = Live(directory / CONTROL, config, service, given)
        self.sides = Sides(self.note)
        self.numbers = Numbers()
        self.spend = Spend(
            service, config.usd_per_day, directory / "requests", callers=self.callers.limits
        )
        self.requests, self.pairs = self.day_log("requests"), self.day_log("pairs")
        self.local_pairs = self.day_log("local_pairs")
        self.notes: dict[str, None] = {}  # what is said once, the first first
        self.upstream: Upstream  # it needs the loop
        self._services = _services(config, service, endpoint, others or {})
        if client_key is not None or config.keys:
            self._services[MAIN] = replace(self._services[MAIN], passes_key=False)
        main = self._services[MAIN]
        self._aliased = replace(main, model=service.model, renames=True)
        self.tracing = _tracing() if config.otel else None
        self._local_key = _key(config.local_key_env)
        ours = [target.key for target in self._services.values()]
        keys = (*ours, *self.callers.keys, self._local_key)
        self._keys = [key.encode() for key in keys if key]
        self._models: dict[str, str] = {}  # the first that a server lists, by its address
        self._breakers: dict[str, Breaker] = {}  # by address
        self._watching: asyncio.Task[None] | None = None
        self._is_checking = False
        self._trial: Probation | None = None
        self._asking: asyncio.Task[None] | None = None  # the local model that is on trial

    async def open(self) -> None:
        """Open connections, and begin to watch the control."""
        self.upstream = Upstream(self.service.rehearsal)
        await self._name_local()
        self._watching = asyncio.create_task(self._watch())

    async def close(self) -> None:
        """Close connections and logs."""
        assert self._watching is not None, "it was opened"
        self._watching.cancel()
        if self._asking is not None:
            self._asking.cancel()
        await self.upstream.close()
        if self.tracing is not None:
            await asyncio.to_thread(self.tracing.close)
        for file in (self.requests, self.pairs, self.local_pairs):
            file.close()

    def day_log(self, kind: str) -> DayLog:
        """Return the log of one kind."""
        config = self.config
        return DayLog(self.directory / kind, config.file_mb * 1e6, config.keep)

    def note(self, *sentences: str) -> None:
        """Say something, once: on the page, in `/health` and on stderr."""
        for sentence in sentences:
            if sentence not in self.notes and len(self.notes) < _MOST_NOTES:
                self.notes[sentence] = None
                print(sentence, file=sys.stderr, flush=True)

    def service_for(self, model: str | None) -> Target:
        """Return the service that a model's name means: an alias, a NAME or a model of one."""
        config = self.config
        if model is None or model == self.service.model:
            return self._services[MAIN]
        name = config.aliases.get(model, model)
        if name == MAIN:
            return self._aliased
        if name in self._services:
            return self._services[name]
        named = (name for name, one in config.services.items() if one.model == model)
        return self._services[next(named, MAIN)]

    async def targets(self, who: Who, control: Control, call: ChatCall) -> list[Target]:
        """Return whom to ask in turn where a side is to answer."""
        if who == "local":
            return [await self.target("local", control)]
        first = self.service_for(call.model)
        others = (self._services[name] for name in self.config.fallback)
        return [first, *(target for target in others if target.name != first.name)]

    async def target(self, who: Who, control: Control) -> Target:
        """Return the service, or the local model of a control."""
        if who == "service":
            return self._services[MAIN]
        local = control.local
        assert local is not None, "a control whose mode asks a local model names one"
        return await self.local(local)

    async def local(self, local: Local) -> Target:
        """Return a local model, by the name that its server has for it."""
        return Target("local", local.url, self._local_key, model=await self._model(local))

    def forget(self, target: Target) -> None:
        """Forget what a local model was called: its server knows no such name any more."""
        if self._models.get(target.url) == target.model:  # nobody has asked anew meanwhile
            self._models.pop(target.url, None)

    def breaker(self, target: Target) -> Breaker:
        """Return the breaker of an address."""
        if (found := self._breakers.get(target.place)) is None:
            found = Breaker(self.config.breaker_failures, self.config.breaker_s)
            self._breakers[target.place] = found
        return found

    def key(self, call: ChatCall) -> bytes | None:
        """Return what stays the same through a conversation, where a side hangs on it."""
        config, mode = self.config, self.live.control.mode
        is_even = config.record_share in (0, 100) and config.shadow_share in (0, 100)
        return None if is_even and mode not in ("split", "shadow") else self.sides.key(call)

    def heard(self, who: Who, control: Control, has_failed: bool) -> None:
        """Count how a call went; a change of control that the local model fails is undone."""
        trial = self._trial
        if trial is None or who != "local" or control is not self.live.control:
            return
        if trial.ends_badly(has_failed):
            assert control.local is not None, "it has been asked"
            self._trial = None
            self.live.put(trial.before, trial.router)
            self._models.clear()
            self.note(
                f"{time.strftime('%H:%M:%S', time.gmtime())} UTC: the local model at "
                f"{control.local.url} failed {trial.failures} calls since the change: back to mode "
                f"{trial.before.mode}, as it was before"
            )

    def open_breakers(self) -> list[str]:
        """Return who is left alone at the moment."""
        resting = [place for place, breaker in self._breakers.items() if breaker.is_open]
        labels = {target.place: target.label for target in self._services.values()}
        return [labels.get(place, f"local {place}") for place in resting]

    def write(self, log: DayLog, line: bytes, headers: Mapping[str, str] | None = None) -> None:
        """Append a line without any key in it; one that is not taken is counted."""
        for key in (*self._keys, *(key.encode() for key in shown_keys(headers or {}))):
            if len(key) >= _SHORTEST:
                line = line.replace(key, _MARK)
        if not log.write(line):
            self.numbers.lost_line()

    def health(self) -> dict[str, Any]:
        """Return what `/health` says."""
        control = self.live.control
        return {
            "status": "ok" if self.numbers.unwritten == 0 else "log lines are lost",
            "mode": control.mode,
            "share": control.share,
            "local": control.local.url if control.local else None,
            "local_model": control.local.model if control.local else None,
            "control": control.digest,
            "problem": self.live.problem,
            "seen": self.live.seen,
            "checking": self._is_checking,
            "notes": list(self.notes),
            "resting": self.open_breakers(),
            "pid": os.getpid(),
        }

    async def _model(self, local: Local) -> str | None:
        if local.model is not None:
            return local.model
        if local.url not in self._models:
            found = await self.upstream.first_model(local.url, self._local_key)
            if found is None:
                return None
            self._models[local.url] = found
        return self._models[local.url]

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            if (found := self.live.look()) is None:
                self._check_again()
                continue
            control, router = found
            self._models.clear()
            self._is_checking = True
            problem = await self._unhealthy(control)
            if problem is not None:
                self.live.problem = problem
            else:
                before = self.live.control, self.live.router
                self.live.take(control, router)
                await self._name_local()
                is_other = (control.mode, control.share, control.local) != (
                    (before[0].mode, before[0].share, before[0].local)
                )
                if is_other and self.config.trial_s:
                    self._trial = Probation(*before, self.config.trial_s)
            self._is_checking = False

    def _check_again(self) -> None:
        """Ask a local model that is on trial where nobody else does."""
        trial, control, running = self._trial, self.live.control, self._asking
        local = control.local
        if trial is None or local is None or control.mode == "record":
            return
        is_asked = running is not None and not running.done()
        if is_asked or not trial.is_silent(self.config.trial_s / _CHECKS):
            return

        async def check() -> None:
            problem = await self._answers_not(control, local)
            self.heard("local", control, has_failed=problem is not None)

        self._asking = asyncio.create_task(check())

    async def _unhealthy(self, control: Control) -> str | None:
        """Return why the local model of a control is not to be relied on; None when it answers."""
        now, local = self.live.control, control.local
        is_new = local != now.local or (control.mode != now.mode and control.mode != "record")
        if local is None or not is_new:
            return None
        return await self._answers_not(control, local)

    async def _answers_not(self, control: Control, local: Local) -> str | None:
        """Return what is wrong with a local model that is asked a short question, if anything."""
        target = await self.target("local", control)
        turn = {"role": "user", "content": "Answer with one word: yes or no?"}
        body = {"model": target.model or "local", "messages": [turn], "max_tokens": 16}
        call = ChatCall(chat.dumps(body), body, {})
        try:
            opened = await self.upstream.ask(target, call, self.config.deadline_s)
        except Lost as lost:
            return f"local={local.url} does not answer: {lost.reason}"
        opened.close()
        if opened.status >= 400:
            said = opened.body[:300].decode("utf-8", "replace")
            return f"local={local.url} answers with status {opened.status}: {said}"
        return None

    async def _name_local(self) -> None:
        """Ask for the local model's name before a request has to."""
        local = self.live.control.local
        if local is not None and await self._model(local) is None:
            self.note(f"the local model at {local.url} does not say its name; is it there?")


def _key(variable: str | None) -> str | None:
    if variable is None:
        return None
    key = os.environ.get(variable, "").strip()
    if not key:
        raise BadInput(f"the environment variable {variable} holds no key")
    return key


def _tracing() -> "Tracing":
    """Return what tells of calls; EnvironmentFailed without OpenTelemetry."""
    try:
        from understudy.gateway.tracing import Tracing
    except ModuleNotFoundError as error:
        raise EnvironmentFailed(
            f"gateway.otel=true needs a package that is not installed ({error.name}); "
            "pip install 'understudy[otel]'"
        ) from None
    return Tracing()


def _check_prices(config: GatewayConfig, service: Service) -> None:
    """Raise BadInput for a cap on what a service without prices costs."""
    caps = {f"keys.{name}.usd_per_day": key.usd_per_day for name, key in config.keys.items()}
    caps = {"usd_per_day": config.usd_per_day} | caps
    cap = next(((name, usd) for name, usd in caps.items() if usd is not None), None)
    named = {"service": service} | {f"services.{k}": one for k, one in config.services.items()}
    for place, one in named.items():
        if cap is not None and one.prices is None:
            raise BadInput(
                f"gateway.{cap[0]}={cap[1]:g} needs the prices of {one.name}: "
                f"give gateway.{place}.prices={{input: …, output: …, date: …, source: …}}"
            )


def _services(
    config: GatewayConfig, service: Service, endpoint: Endpoint, others: Mapping[str, Endpoint]
) -> dict[str, Target]:
    """Return the services by name, MAIN first; BadInput for a name that none has."""
    if MAIN in config.services:
        raise BadInput(f"gateway.services.{MAIN}: that is what aliases call gateway.service")
    names = [MAIN, *config.services]
    asked = (*config.aliases.items(), *(("fallback", name) for name in config.fallback))
    for what, name in asked:
        if name not in names:
            where = "gateway.fallback" if what == "fallback" else f"gateway.aliases.{what}"
            raise BadInput(f"{where} names {name}; choose from {', '.join(names)}")
    found = {MAIN: _target(service, endpoint, "")}
    found |= {name: _target(one, others[name], name) for name, one in config.services.items()}
    return found


def _target(service: Service, endpoint: Endpoint, name: str) -> Target:
    translation = translation_of(service)
    return Target(
        who="service",
        url=endpoint.base_url,
        key=endpoint.key or None,
        passes_key=not endpoint.key,
        model=service.model if name or translation is not None else None,
        timeout_s=service.timeout_s,
        translation=translation,
        service=service,
        name=name,
        renames=bool(name),
    )
