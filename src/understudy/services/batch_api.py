"""A provider's batch API with patience: calls that fail are tried again, and nothing twice."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

from understudy.config import Service
from understudy.services.base import BatchProvider, BatchState, CallFailed, Reply, Request
from understudy.services.retry import back_off, silent
from understudy.services.segment import Batch

_SETTLED_S = 5.0  # a batch that was submitted at a kill may take as long to be listed
_CLOCKS_S = 60.0  # by which the provider's clock may be behind ours
_FIRST_POLL_S = 0.25
_LAST_POLL_S = 60.0
_GROUP = 500  # results that are noted in one commit

Outcome = tuple[bytes, Reply | CallFailed]
T = TypeVar("T")


class BatchApi:
    """Raises CallFailed where trying again is vain, EnvironmentFailed where nobody answers."""

    def __init__(self, service: Service, provider: BatchProvider) -> None:
        self._service, self._provider = service, provider
        self._failures = 0  # in a row
        self._poll_s = _FIRST_POLL_S

    async def submit(
        self, items: list[tuple[bytes, Request]], batch: Batch, at: float, taken: set[str]
    ) -> str:
        """Submit a batch that was noted at `at`; its id. One that got lost is looked for first."""
        self._poll_s = _FIRST_POLL_S
        named = [(key.hex(), request) for key, request in items]
        while True:
            try:
                return await self._provider.submit(named, batch.label)
            except CallFailed as failed:
                keys = {key for key, _ in items}
                if failed.is_uncertain and (found := await self.find(batch, keys, at, taken)):
                    return found
                await self._back_off(failed)

    async def find(self, batch: Batch, keys: set[bytes], at: float, taken: set[str]) -> str | None:
        """The id of a batch that was about to be submitted at `at`; `taken` are those of others.

        By its label, or, where the provider keeps none, by its size and the names in its results.
        """
        while True:
            for state in await self._patiently(lambda: self._provider.recent(at - _CLOCKS_S)):
                if state.label == batch.label:
                    return state.id
                is_free = state.label is None and state.id not in taken
                if is_free and await self._holds(state, batch, keys):
                    return state.id
            if time.time() - at > _SETTLED_S:
                return None
            await asyncio.sleep(_SETTLED_S / 5)

    async def is_ended(self, batch_id: str) -> bool:
        """Whether all results of a batch are there."""
        return (await self._patiently(lambda: self._provider.poll(batch_id))).is_ended

    async def wait(self) -> None:
        """Wait a while for batches, longer each time."""
        await asyncio.sleep(self._poll_s)
        self._poll_s = min(_LAST_POLL_S, 1.5 * self._poll_s)

    async def results(self, batch_id: str) -> AsyncIterator[list[Outcome]]:
        """What became of the items of an ended batch, in groups.

        A connection that breaks off ends them early: they begin anew with the next call.
        """
        group: list[Outcome] = []
        try:
            async for name, outcome in self._provider.results(batch_id):
                group.append((bytes.fromhex(name), outcome))
                if len(group) == _GROUP:
                    yield group
                    group = []
        except CallFailed as failed:
            yield group
            await self._back_off(failed)
            raise
        self._failures = 0
        yield group

    async def _holds(self, state: BatchState, batch: Batch, keys: set[bytes]) -> bool:
        if state.requests not in (None, batch.requests):
            return False
        while not await self.is_ended(state.id):
            await self.wait()
        async for group in self.results(state.id):
            return any(key in keys for key, _ in group)
        return False

    async def _patiently(self, call: Callable[[], Awaitable[T]]) -> T:
        while True:
            try:
                answer = await call()
            except CallFailed as failed:
                await self._back_off(failed)
            else:
                self._failures = 0
                return answer

    async def _back_off(self, failed: CallFailed) -> None:
        """Wait before the next try; raises where there should be none."""
        if failed.fate in ("row", "stop"):
            raise failed
        self._failures += 1
        if self._failures >= self._service.attempts:
            raise silent(self._service, failed)
        await asyncio.sleep(max(back_off(self._failures), failed.retry_after_s or 0.0))
