"""Anthropic's message batches."""

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

from aiohttp import web

from understudy.rehearsal.anthropic import Anthropic
from understudy.rehearsal.batches import Batch, Batches, Item, Outcome, item_of
from understudy.rehearsal.desk import VISIT
from understudy.rehearsal.wire import Refused, reading

_WIRE = Anthropic()
_ROOT = "/anthropic/v1/messages/batches"
_CUSTOM_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")


class AnthropicBatches:
    """POST and GET /v1/messages/batches."""

    def __init__(self, batches: Batches) -> None:
        self._batches = batches

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Serve the paths."""
        router.add_post(_ROOT, self._submit, name="anthropic.submit")
        router.add_get(_ROOT, self._list, name="anthropic.list")
        router.add_get(f"{_ROOT}/{{id}}", self._poll, name="anthropic.poll")
        router.add_get(f"{_ROOT}/{{id}}/results", self._results, name="anthropic.results")

    async def _submit(self, request: web.Request) -> web.Response:
        body = await request.read()
        with reading():
            items = [_item(wanted) for wanted in json.loads(body)["requests"]]
        id_ = self._batches.desk.new_id("msgbatch")
        batch = self._batches.submit(_WIRE, id_, request[VISIT].turn.key, items, {})
        return web.json_response(_about(batch, request))

    async def _poll(self, request: web.Request) -> web.Response:
        batch = self._batches.get(request.match_info["id"], request[VISIT].turn.key)
        return web.json_response(_about(batch, request))

    async def _list(self, request: web.Request) -> web.Response:
        limit = int(request.query.get("limit", 20))
        page, has_more = self._batches.page(
            request[VISIT].turn.key, request.query.get("after_id"), limit
        )
        data = [_about(batch, request) for batch in page]
        ends = {"first_id": page[0].id, "last_id": page[-1].id} if page else {}
        return web.json_response({"data": data, "has_more": has_more, **ends})

    async def _results(self, request: web.Request) -> web.Response:
        batch = self._batches.get(request.match_info["id"], request[VISIT].turn.key)
        if batch.ended is None:
            raise Refused(404, "no_path", f"Batch {batch.id} has no results yet.")
        lines = [
            json.dumps({"custom_id": outcome.custom_id, "result": _result(outcome, item)})
            for outcome, item in zip(batch.outcomes, batch.items, strict=True)
        ]
        body = "".join(f"{line}\n" for line in lines).encode()
        return web.Response(body=body, content_type="application/x-jsonl")


def _item(wanted: dict[str, Any]) -> Item:
    if not _CUSTOM_ID.fullmatch(wanted["custom_id"]):
        message = f"A custom id matches {_CUSTOM_ID.pattern}."
        raise Refused(400, "bad_request", message)
    return item_of(_WIRE, wanted["custom_id"], wanted["params"])


def _about(batch: Batch, request: web.Request) -> dict[str, Any]:
    is_ended = batch.ended is not None
    counts = {"succeeded": batch.count(None), "errored": batch.count("failed")}
    counts |= {"expired": batch.count("expired"), "canceled": 0}
    counts["processing"] = len(batch.items) - sum(counts.values())
    return {
        "id": batch.id,
        "type": "message_batch",
        "processing_status": "ended" if is_ended else "in_progress",
        "request_counts": counts,
        "created_at": _date(batch.created),
        "expires_at": _date(batch.created, days=1),
        "ended_at": _date(batch.ended) if batch.ended else None,
        "results_url": f"{request.url.origin()}{_ROOT}/{batch.id}/results" if is_ended else None,
        "archived_at": None,
        "cancel_initiated_at": None,
    }


def _date(seconds: float, days: int = 0) -> str:
    return (datetime.fromtimestamp(seconds, UTC) + timedelta(days=days)).isoformat()


def _result(outcome: Outcome, item: Item) -> dict[str, Any]:
    if outcome.fault == "expired":
        return {"type": "expired"}
    if outcome.said is None:
        _, error = _WIRE.error(Refused(500, "broken", "The server had an error."), outcome.id)
        return {"type": "errored", "error": error}
    message = _WIRE.reply(outcome.said, item.asked.model, outcome.id)
    return {"type": "succeeded", "message": message}
