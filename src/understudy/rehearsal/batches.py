"""Batches of calls: what was submitted, what becomes of it, and the paths to it."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from aiohttp import web

from understudy.rehearsal.bill import Arrival
from understudy.rehearsal.desk import VISIT, Desk
from understudy.services.providers.rehearsal_base import (
    BatchItem,
    CallRefused,
    ItemResult,
    PlayedBatch,
    PlayedProvider,
    reading,
)


class BatchShelf:
    """All batches, newest last."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._all: dict[str, PlayedBatch] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def add_paths(self, router: web.UrlDispatcher, provider: PlayedProvider) -> None:
        """Serve a provider's batches: submit, list, poll."""
        root, name = f"/{provider.name}", provider.name

        async def submit(request: web.Request) -> web.Response:
            body = await request.read()
            with reading():
                items, facts = provider.submitted(body, request.match_info.get("model"))
            batch = self._submit(provider, request[VISIT].arrival.key, items, facts)
            return web.json_response(provider.about(batch, str(request.url.origin())))

        async def poll(request: web.Request) -> web.Response:
            batch = self.get(request.match_info["id"], request[VISIT].arrival.key)
            return web.json_response(provider.about(batch, str(request.url.origin())))

        async def page(request: web.Request) -> web.Response:
            limit_name, start_name, limit = provider.paging
            limit, after = int(request.query.get(limit_name, limit)), request.query.get(start_name)
            key, origin = request[VISIT].arrival.key, str(request.url.origin())
            mine = [batch for batch in reversed(self._all.values()) if batch.key == key]
            ids = [batch.id for batch in mine]
            start = ids.index(after) + 1 if after in ids else 0
            batches = [provider.about(batch, origin) for batch in mine[start : start + limit]]
            return web.json_response(provider.page(batches, start + limit < len(mine)))

        router.add_post(f"{root}{provider.submit_path}", submit, name=f"{name}.submit")
        router.add_get(f"{root}{provider.batches_path}", page, name=f"{name}.list")
        router.add_get(f"{root}{provider.batches_path}/{{id}}", poll, name=f"{name}.poll")

    def get(self, id_: str, key: str) -> PlayedBatch:
        """The key's batch with this id; raises CallRefused when there is none."""
        batch = self._all.get(id_)
        if batch is None or batch.key != key:
            raise CallRefused(404, "no_path", f"There is no batch {id_}.")
        return batch

    def _submit(
        self,
        provider: PlayedProvider,
        key: str,
        items: Sequence[BatchItem],
        facts: dict[str, Any],
    ) -> PlayedBatch:
        """Take a batch; raises CallRefused without items, unique ids or a model for batches."""
        for model in {item.asked.model for item in items}:
            prices = self._desk.speaker.facts(model, provider.name).prices
            if prices is not None and prices.batch is None:
                raise CallRefused(400, "bad_request", f"{model} has no batch API.")
        if not items or len({item.custom_id for item in items}) < len(items):
            message = "A batch needs requests, each with a custom id of its own."
            raise CallRefused(400, "bad_request", message)
        batch = PlayedBatch(self._desk.new_id(provider.batch_prefix), key, items, facts)
        self._all[batch.id] = batch
        task = asyncio.get_running_loop().create_task(self._work(provider, batch))
        self._tasks.add(task)  # the loop itself keeps weak references only
        task.add_done_callback(self._tasks.discard)
        return batch

    async def _work(self, provider: PlayedProvider, batch: PlayedBatch) -> None:
        await asyncio.sleep(self._desk.settings.batch_s)
        results = [await self._result(provider, batch.key, item) for item in batch.items]
        batch.results, batch.ended = results, time.time()

    async def _result(self, provider: PlayedProvider, key: str, item: BatchItem) -> ItemResult:
        desk, id_ = self._desk, self._desk.new_id("item")
        attempt = desk.arrival(item.body)
        if fault := desk.script.of_item(item.body, attempt):
            desk.bill.faults[fault] += 1
            return ItemResult(item, id_, None, fault)
        arrival = Arrival(item.body, attempt, key, id_, "batch")
        return ItemResult(item, id_, await desk.answer(provider, item.asked, arrival), None)
