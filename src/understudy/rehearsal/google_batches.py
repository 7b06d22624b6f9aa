"""Gemini's batches, with the requests and responses inline."""

import json
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from understudy.rehearsal.batches import Batch, Batches, Outcome, item_of
from understudy.rehearsal.desk import VISIT
from understudy.rehearsal.google import Google
from understudy.rehearsal.wire import Refused, reading

_WIRE = Google()
_ROOT = "/google/{version}"
_INLINE_LIMIT = 20 << 20  # bytes of an inline batch


class GoogleBatches:
    """POST /v1/models/MODEL:batchGenerateContent, GET /v1/batches."""

    def __init__(self, batches: Batches) -> None:
        self._batches = batches

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Serve the paths."""
        path = f"{_ROOT}/models/{{model:[^/]+}}:batchGenerateContent"
        router.add_post(path, self._submit, name="google.submit")
        router.add_get(f"{_ROOT}/batches", self._list, name="google.list")
        router.add_get(f"{_ROOT}/batches/{{id}}", self._poll, name="google.poll")

    async def _submit(self, request: web.Request) -> web.Response:
        body = await request.read()
        if len(body) > _INLINE_LIMIT:
            raise Refused(400, "bad_request", "An inline batch is limited to 20 MB.")
        with reading():
            wanted, model = json.loads(body)["batch"], request.match_info["model"]
            inline = wanted["inputConfig"]["requests"]["requests"]
            items = [
                item_of(_WIRE, str(place), entry["request"], model)
                for place, entry in enumerate(inline)
            ]
            facts = {
                "displayName": wanted.get("displayName", ""),
                "metadata": [entry.get("metadata") for entry in inline],
            }
        id_ = self._batches.desk.new_id("b").replace("_", "-")
        batch = self._batches.submit(_WIRE, id_, request[VISIT].turn.key, items, facts)
        return web.json_response(_about(batch))

    async def _poll(self, request: web.Request) -> web.Response:
        batch = self._batches.get(request.match_info["id"], request[VISIT].turn.key)
        return web.json_response(_about(batch))

    async def _list(self, request: web.Request) -> web.Response:
        limit = int(request.query.get("pageSize", 100))
        after = request.query.get("pageToken")
        page, has_more = self._batches.page(request[VISIT].turn.key, after, limit)
        token = {"nextPageToken": page[-1].id} if has_more else {}
        return web.json_response({"operations": [_about(batch) for batch in page]} | token)


def _about(batch: Batch) -> dict[str, Any]:
    """The batch as a long-running operation."""
    model = f"models/{batch.items[0].asked.model}"
    metadata: dict[str, Any] = {
        "@type": "type.googleapis.com/google.ai.generativelanguage.v1main.GenerateContentBatch",
        "model": model,
        "displayName": batch.facts["displayName"],
        "state": "BATCH_STATE_RUNNING",
        "createTime": _date(batch.created),
        "updateTime": _date(batch.ended or batch.created),
        "batchStats": {"requestCount": str(len(batch.items))},
        "name": f"batches/{batch.id}",
    }
    about: dict[str, Any] = {"name": f"batches/{batch.id}", "metadata": metadata}
    if batch.ended is None:
        return about
    responses = [
        _response(outcome, batch.items[place].asked.model, batch.facts["metadata"][place])
        for place, outcome in enumerate(batch.outcomes)
    ]
    output = {"inlinedResponses": {"inlinedResponses": responses}}
    metadata |= {"state": "BATCH_STATE_SUCCEEDED", "endTime": _date(batch.ended), "output": output}
    return about | {"done": True, "response": output}


def _response(outcome: Outcome, model: str, metadata: dict[str, Any] | None) -> dict[str, Any]:
    own = {"metadata": metadata} if metadata else {}
    if outcome.said is not None:
        return own | {"response": _WIRE.reply(outcome.said, model, outcome.id)}
    code, message = (4, "Deadline expired.") if outcome.fault == "expired" else (13, "Internal.")
    return own | {"error": {"code": code, "message": message}}


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
