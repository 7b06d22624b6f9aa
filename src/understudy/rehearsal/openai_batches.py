"""OpenAI's files and batches: JSONL in, JSONL out."""

import json
import time
from typing import Any

from aiohttp import BodyPartReader, web

from understudy.rehearsal.batches import Batch, Batches, Outcome, item_of
from understudy.rehearsal.desk import VISIT
from understudy.rehearsal.openai import OpenAI
from understudy.rehearsal.wire import Refused, reading

_WIRE = OpenAI()
_ROOT = "/openai/v1"
_PATH = "/v1/chat/completions"
_DAY_S = 86_400


class OpenAIBatches:
    """POST and GET /v1/files, /v1/batches."""

    def __init__(self, batches: Batches) -> None:
        self._batches = batches
        self._files: dict[str, tuple[dict[str, Any], bytes]] = {}

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Serve the paths."""
        router.add_post(f"{_ROOT}/files", self._upload, name="openai.upload")
        router.add_get(f"{_ROOT}/files/{{id}}", self._file, name="openai.file")
        router.add_get(f"{_ROOT}/files/{{id}}/content", self._content, name="openai.content")
        router.add_post(f"{_ROOT}/batches", self._submit, name="openai.submit")
        router.add_get(f"{_ROOT}/batches", self._list, name="openai.list")
        router.add_get(f"{_ROOT}/batches/{{id}}", self._poll, name="openai.poll")

    async def _upload(self, request: web.Request) -> web.Response:
        fields: dict[str, Any] = {}
        async for part in await request.multipart():
            assert isinstance(part, BodyPartReader), "a form has no multipart inside"
            fields[part.name or ""] = bytes(await part.read())
            if part.filename:
                fields["filename"] = part.filename
        if fields.get("purpose") != b"batch" or "file" not in fields:
            raise Refused(400, "bad_request", "A file with purpose=batch is wanted.")
        return web.json_response(self._keep(fields["filename"], "batch", fields["file"]))

    def _keep(self, name: str, purpose: str, content: bytes) -> dict[str, Any]:
        id_ = self._batches.desk.new_id("file")
        about = {
            "id": id_,
            "object": "file",
            "bytes": len(content),
            "created_at": int(time.time()),
            "filename": name,
            "purpose": purpose,
            "status": "processed",
        }
        self._files[id_] = (about, content)
        return about

    def _stored(self, id_: str) -> tuple[dict[str, Any], bytes]:
        if id_ not in self._files:
            raise Refused(404, "no_path", f"There is no file {id_}.")
        return self._files[id_]

    async def _file(self, request: web.Request) -> web.Response:
        return web.json_response(self._stored(request.match_info["id"])[0])

    async def _content(self, request: web.Request) -> web.Response:
        body = self._stored(request.match_info["id"])[1]
        return web.Response(body=body, content_type="application/octet-stream")

    async def _submit(self, request: web.Request) -> web.Response:
        body = await request.read()
        with reading():
            wanted = json.loads(body)
            lines = map(json.loads, self._stored(wanted["input_file_id"])[1].splitlines())
            items = [item_of(_WIRE, line["custom_id"], line["body"]) for line in lines]
            if wanted["endpoint"] != _PATH:
                raise Refused(400, "bad_request", f"Batches are for {_PATH} only.")
        facts = {name: wanted.get(name) for name in ("input_file_id", "metadata")}
        id_ = self._batches.desk.new_id("batch")
        return web.json_response(
            self._about(self._batches.submit(_WIRE, id_, request[VISIT].turn.key, items, facts))
        )

    async def _poll(self, request: web.Request) -> web.Response:
        batch = self._batches.get(request.match_info["id"], request[VISIT].turn.key)
        return web.json_response(self._about(batch))

    async def _list(self, request: web.Request) -> web.Response:
        limit = int(request.query.get("limit", 20))
        page, has_more = self._batches.page(
            request[VISIT].turn.key, request.query.get("after"), limit
        )
        data = [self._about(batch) for batch in page]
        return web.json_response({"object": "list", "data": data, "has_more": has_more})

    def _about(self, batch: Batch) -> dict[str, Any]:
        created = int(batch.created)
        about: dict[str, Any] = {
            "id": batch.id,
            "object": "batch",
            "endpoint": _PATH,
            "completion_window": "24h",
            "created_at": created,
            "expires_at": created + _DAY_S,
            "status": "in_progress",
            "request_counts": {"total": len(batch.items), "completed": 0, "failed": 0},
        }
        if batch.ended is None:
            return about | batch.facts
        if "output_file_id" not in batch.facts:
            self._write(batch)
        is_expired = batch.count("expired") > 0
        failed = len(batch.items) - batch.count(None)
        counts = {"total": len(batch.items), "completed": batch.count(None), "failed": failed}
        about |= {"status": "expired" if is_expired else "completed", "request_counts": counts}
        about["expired_at" if is_expired else "completed_at"] = int(batch.ended)
        return about | batch.facts

    def _write(self, batch: Batch) -> None:
        """Make the two files of an ended batch; one without lines is left out."""
        for field, wanted in (("output_file_id", True), ("error_file_id", False)):
            lines = [
                json.dumps(_line(outcome, batch.items[place].asked.model))
                for place, outcome in enumerate(batch.outcomes)
                if (outcome.fault is None) == wanted
            ]
            text = "".join(f"{line}\n" for line in lines).encode()
            name = f"{batch.id}_{field}.jsonl"
            batch.facts[field] = self._keep(name, "batch_output", text)["id"] if lines else None


def _line(outcome: Outcome, model: str) -> dict[str, Any]:
    line: dict[str, Any] = {"id": f"batch_{outcome.id}", "custom_id": outcome.custom_id}
    if outcome.fault == "expired":
        message = "This request could not be executed before the completion window expired."
        return line | {"response": None, "error": {"code": "batch_expired", "message": message}}
    if outcome.said is None:
        status, body = _WIRE.error(Refused(500, "broken", "The server had an error."), outcome.id)
    else:
        status, body = 200, _WIRE.reply(outcome.said, model, outcome.id)
    response = {"status_code": status, "request_id": outcome.id, "body": body}
    return line | {"response": response, "error": None}
