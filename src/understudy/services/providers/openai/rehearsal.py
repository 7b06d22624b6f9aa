"""OpenAI as the rehearsal plays it: chat completions, files and batches."""

import json
import time
from typing import Any

from aiohttp import BodyPartReader, web

from understudy.services.base import Room
from understudy.services.providers.rehearsal_base import (
    AskedCall,
    BatchItem,
    CallRefused,
    ItemResult,
    PlayedBatch,
    PlayedProvider,
    Said,
    broken,
    json_lines,
    limits_in,
    text_of,
)

_CODES = {
    "too_many": ("rate_limit_error", "rate_limit_exceeded"),
    "quota": ("insufficient_quota", "insufficient_quota"),
    "bad_key": ("invalid_request_error", "invalid_api_key"),
    "no_model": ("invalid_request_error", "model_not_found"),
    "too_long": ("invalid_request_error", "context_length_exceeded"),
    "broken": ("server_error", None),
    "busy": ("server_error", None),
}  # kind → (type, code)
_BATCHED_PATH = "/v1/chat/completions"
_DAY_S = 86_400


class PlayedOpenAI(PlayedProvider):
    """POST /v1/chat/completions, /v1/files and /v1/batches; also vLLM's and Ollama's protocol."""

    name = "openai"
    call_path = "/v1/chat/completions"
    submit_path = batches_path = "/v1/batches"
    batch_prefix = "batch"
    paging = ("limit", "after", 20)

    def key(self, request: web.Request) -> str | None:
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        return key if scheme.lower() == "bearer" and key else None

    def asked(self, body: dict[str, Any], model: str | None) -> AskedCall:
        roles = {"developer": "system"}
        messages = tuple(
            {"role": roles.get(m["role"], m["role"]), "content": text_of(m["content"])}
            for m in body["messages"]
        )
        limit = body.get("max_completion_tokens", body.get("max_tokens"))
        effort = body.get("reasoning_effort")
        return AskedCall(body["model"], messages, limit, effort not in (None, "none", "minimal"))

    def reply(self, said: Said, model: str, id_: str) -> dict[str, Any]:
        is_refusal = said.finish == "refusal"
        message = {
            "role": "assistant",
            "content": None if is_refusal else said.text,
            "refusal": said.text if is_refusal else None,
        }
        finish = {"length": "length", "blocked": "content_filter"}.get(said.finish, "stop")
        usage = said.usage
        return {
            "id": f"chatcmpl-{id_}",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": model,
            "choices": [
                {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
            ],
            "usage": {
                "prompt_tokens": usage.input,
                "completion_tokens": usage.output,
                "total_tokens": usage.input + usage.output,
                "prompt_tokens_details": {"cached_tokens": usage.cached},
                "completion_tokens_details": {"reasoning_tokens": usage.reasoning},
            },
        }

    def error(self, refused: CallRefused, id_: str) -> tuple[int, dict[str, Any]]:
        kind, code = _CODES.get(refused.kind, ("invalid_request_error", None))
        error = {"message": str(refused), "type": kind, "param": None, "code": code}
        return refused.status, {"error": error}

    def headers(self, id_: str, room: Room | None) -> dict[str, str]:
        headers = {"x-request-id": id_}
        for of, limit, left, reset_s in limits_in(room):
            headers[f"x-ratelimit-limit-{of}"] = limit
            headers[f"x-ratelimit-remaining-{of}"] = left
            headers[f"x-ratelimit-reset-{of}"] = _duration(reset_s)
        return headers

    def submitted(self, body: bytes, model: str | None) -> tuple[list[BatchItem], dict[str, Any]]:
        """Read a batch's body, and the file that it names."""
        wanted = json.loads(body)
        lines = map(json.loads, self._stored(wanted["input_file_id"])[1].splitlines())
        items = [self.item(line["custom_id"], line["body"]) for line in lines]
        if wanted["endpoint"] != _BATCHED_PATH:
            raise CallRefused(400, "bad_request", f"Batches are for {_BATCHED_PATH} only.")
        return items, {name: wanted.get(name) for name in ("input_file_id", "metadata")}

    def about(self, batch: PlayedBatch, origin: str) -> dict[str, Any]:
        """A batch as its owner sees it; an ended one has files, but none without lines."""
        created = int(batch.created)
        about: dict[str, Any] = {
            "id": batch.id,
            "object": "batch",
            "endpoint": _BATCHED_PATH,
            "completion_window": "24h",
            "created_at": created,
            "expires_at": created + _DAY_S,
            "status": "in_progress",
            "request_counts": {"total": len(batch.items), "completed": 0, "failed": 0},
        }
        if batch.ended is None:
            return about | batch.facts
        if "output_file_id" not in batch.facts:
            for field, is_answered in (("output_file_id", True), ("error_file_id", False)):
                lines = [
                    self._line(result)
                    for result in batch.results
                    if (result.fault is None) == is_answered
                ]
                name = f"{batch.id}_{field}.jsonl"
                kept = self._keep(name, "batch_output", json_lines(lines)) if lines else {}
                batch.facts[field] = kept.get("id")
        is_expired = batch.count("expired") > 0
        failed = len(batch.items) - batch.count(None)
        counts = {"total": len(batch.items), "completed": batch.count(None), "failed": failed}
        about |= {"status": "expired" if is_expired else "completed", "request_counts": counts}
        about["expired_at" if is_expired else "completed_at"] = int(batch.ended)
        return about | batch.facts

    def page(self, batches: list[dict[str, Any]], has_more: bool) -> dict[str, Any]:
        return {"object": "list", "data": batches, "has_more": has_more}

    def add_to(self, router: web.UrlDispatcher, root: str) -> None:
        """Serve files, and the list of models."""
        self._files: dict[str, tuple[dict[str, Any], bytes]] = {}
        for path, name, handler in (
            ("files/{id}", "file", self._file),
            ("files/{id}/content", "content", self._content),
            ("models", "models", self._models),
        ):
            router.add_get(f"{root}/v1/{path}", handler, name=f"{self.name}.{name}")
        router.add_post(f"{root}/v1/files", self._upload, name=f"{self.name}.upload")

    async def _upload(self, request: web.Request) -> web.Response:
        fields: dict[str, Any] = {}
        async for part in await request.multipart():
            assert isinstance(part, BodyPartReader), "a form has no multipart inside"
            fields[part.name or ""] = bytes(await part.read())
            if part.filename:
                fields["filename"] = part.filename
        if fields.get("purpose") != b"batch" or "file" not in fields:
            raise CallRefused(400, "bad_request", "A file with purpose=batch is wanted.")
        return web.json_response(self._keep(fields["filename"], "batch", fields["file"]))

    async def _file(self, request: web.Request) -> web.Response:
        return web.json_response(self._stored(request.match_info["id"])[0])

    async def _content(self, request: web.Request) -> web.Response:
        body = self._stored(request.match_info["id"])[1]
        return web.Response(body=body, content_type="application/octet-stream")

    async def _models(self, request: web.Request) -> web.Response:
        data = [
            {"id": model, "object": "model", "owned_by": "rehearsal"} for model in self.props.models
        ]
        return web.json_response({"object": "list", "data": data})

    def _keep(self, name: str, purpose: str, content: bytes) -> dict[str, Any]:
        id_ = self.props.new_id("file")
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
            raise CallRefused(404, "no_path", f"There is no file {id_}.")
        return self._files[id_]

    def _line(self, result: ItemResult) -> dict[str, Any]:
        """One line of an output or error file."""
        line = {"id": f"batch_{result.id}", "custom_id": result.item.custom_id}
        if result.fault == "expired":
            message = "This request could not be executed before the completion window expired."
            return line | {"response": None, "error": {"code": "batch_expired", "message": message}}
        if result.said is None:
            status, body = self.error(broken(), result.id)
        else:
            status, body = 200, self.reply(result.said, result.item.asked.model, result.id)
        response = {"status_code": status, "request_id": result.id, "body": body}
        return line | {"response": response, "error": None}


play = PlayedOpenAI


def _duration(seconds: float) -> str:
    """Seconds as OpenAI's headers write them: 12ms, 1.5s, 6m0s."""
    if seconds < 1:
        return f"{seconds * 1000:.0f}ms"
    minutes, rest = divmod(seconds, 60)
    return f"{minutes:.0f}m{rest:.0f}s" if minutes else f"{rest:.3f}s"
