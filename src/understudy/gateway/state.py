"""What all requests share: the control, the connections, the purse, the logs, the numbers."""

import asyncio
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from understudy.config.gateway import GatewayConfig
from understudy.errors import BadInput
from understudy.gateway.control import LOOK_S, Control, Live, Local, Who
from understudy.gateway.log import DayLog
from understudy.gateway.numbers import Numbers
from understudy.gateway.spend import Spend
from understudy.gateway.upstream import Breaker, Target, Upstream
from understudy.services.providers import Endpoint
from understudy.services.providers.translation import translation_of

CONTROL = "control.json"
_MARK = b"[key]"
_MOST_NOTES = 100
_SHORTEST = 16  # characters of what can be a key


class GatewayState:
    """Made before the event loop runs, so that what is wrong is said at once."""

    def __init__(
        self,
        config: GatewayConfig,
        directory: Path,
        endpoint: Endpoint | None,
        client_key: str | None,
    ) -> None:
        service = config.service
        if service is None or endpoint is None:
            raise BadInput("gateway.service is missing; name one of conf/service")
        if config.usd_per_day is not None and service.prices is None:
            raise BadInput(
                f"gateway.usd_per_day={config.usd_per_day:g} needs the prices of {service.name}: "
                "give gateway.service.prices={input: …, output: …, date: …, source: …}"
            )
        if config.shadow_twice and not endpoint.key and service.key_env is not None:
            raise BadInput(
                f"gateway.shadow_twice=true asks {service.name} by itself: that needs its key in "
                f"the environment variable {service.key_env}"
            )
        self.config, self.directory, self.service = config, directory, service
        self.client_key = client_key
        self.live = Live(directory / CONTROL, config, service)
        self.numbers = Numbers()
        self.spend = Spend(service, config.usd_per_day, directory / "requests")
        self.requests, self.pairs = self.day_log("requests"), self.day_log("pairs")
        self.local_pairs = self.day_log("local_pairs")
        self.notes: dict[str, None] = {}  # what is said once, the first first
        self.upstream: Upstream  # it needs the loop
        translation = translation_of(service)
        self._service = Target(
            who="service",
            url=endpoint.base_url,
            key=endpoint.key or None,
            passes_key=not endpoint.key and client_key is None,
            model=service.model if translation is not None else None,
            timeout_s=service.timeout_s,
            translation=translation,
            service=service,
        )
        self.translates = translation is not None
        self._local_key = _key(config.local_key_env)
        self._keys = [key.encode() for key in (endpoint.key, client_key, self._local_key) if key]
        self._models: dict[str, str] = {}  # the first that a server lists, by its address
        self._breakers: dict[str, Breaker] = {}  # by address
        self._watching: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Open connections, and begin to watch the control."""
        self.upstream = Upstream(self.service.rehearsal)
        await self._name_local()
        self._watching = asyncio.create_task(self._watch())

    async def close(self) -> None:
        """Close connections and logs."""
        assert self._watching is not None, "it was opened"
        self._watching.cancel()
        await self.upstream.close()
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

    async def target(self, who: Who, control: Control) -> Target:
        """Return the service, or the local model of a control."""
        if who == "service":
            return self._service
        local = control.local
        assert local is not None, "a control whose mode asks a local model names one"
        return Target("local", local.url, self._local_key, model=await self._model(local))

    def forget(self, target: Target) -> None:
        """Forget what a local model was called: its server knows no such name any more."""
        if self._models.get(target.url) == target.model:  # nobody has asked anew meanwhile
            self._models.pop(target.url, None)

    def breaker(self, target: Target) -> Breaker:
        """Return the breaker of an address."""
        if (found := self._breakers.get(target.url)) is None:
            found = Breaker(self.config.breaker_failures, self.config.breaker_s)
            self._breakers[target.url] = found
        return found

    def open_breakers(self) -> list[str]:
        """Return who is left alone at the moment."""
        resting = [url for url, breaker in self._breakers.items() if breaker.is_open]
        return ["service" if url == self._service.url else f"local {url}" for url in resting]

    def write(self, log: DayLog, line: bytes, headers: Mapping[str, str] | None = None) -> None:
        """Append a line without any key in it; one that is not taken is counted."""
        own = (headers or {}).get("authorization", "").rpartition(" ")[2].encode()
        for key in (*self._keys, own):
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
            if self.live.look():
                self._models.clear()
                await self._name_local()

    async def _name_local(self) -> None:
        """Ask for the local model's name before a request has to."""
        if self.live.control.local is not None:
            await self._model(self.live.control.local)


def _key(variable: str | None) -> str | None:
    if variable is None:
        return None
    key = os.environ.get(variable, "").strip()
    if not key:
        raise BadInput(f"the environment variable {variable} holds no key")
    return key
