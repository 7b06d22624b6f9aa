"""OpenAI as the rehearsal plays it: chats, responses, completions, embeddings, files, batches."""

import base64
import hashlib
import json
import time
from array import array
from typing import Any

from aiohttp import BodyPartReader, web

from understudy.records import Message
from understudy.services.base import Room, Usage
from understudy.services.providers.openai import chat, completions, responses
from understudy.services.providers.rehearsal_base import (
    AskedCall,
    BatchItem,
    CallRefused,
    ItemResult,
    PlayedBatch,
    PlayedProvider,
    PlayedWire,
    Said,
    asked_of,
    broken,
    json_lines,
    limits_in,
    pieces,
)
from understudy.services.providers.translation import AnswerStream

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
_DIMENSIONS = 16


class PlayedOpenAI(PlayedProvider):
    """POST /v1/chat/completions, /v1/responses and so on; also vLLM's and Ollama's protocol."""

    name = "openai"
    call_path = "/v1/chat/completions"
    submit_path = batches_path = "/v1/batches"
    batch_prefix = "batch"
    paging = ("limit", "after", 20)

    def key(self, request: web.Request) -> str | None:
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        return key if scheme.lower() == "bearer" and key else None

    def asked(self, body: dict[str, Any], model: str | None) -> AskedCall:
        effort = body.get("reasoning_effort")
        return asked_of(body, effort not in (None, "none", "minimal"))

    def wires(self) -> list[PlayedWire]:
        return [
            *super().wires(),
            PlayedWire("/v1/responses", "responses", self._continued, self._response),
            PlayedWire("/v1/completions", "completions", self._prompted, self._completion),
            PlayedWire("/v1/embeddings", "embeddings", _to_embed, _embeddings),
        ]

    def _continued(self, body: dict[str, Any], model: str | None) -> AskedCall:
        return self.asked(responses.chat_request(self._with_stored(body)), model)

    def _with_stored(self, body: dict[str, Any]) -> dict[str, Any]:
        """The request with the turns that it continues."""
        before = body.get("previous_response_id")
        if before is None:
            return body
        if before not in self._responses:
            message = f"Previous response with id '{before}' not found."
            raise CallRefused(400, "bad_request", message)
        turns, given = self._responses[before][0], body["input"]
        new = [{"role": "user", "content": given}] if isinstance(given, str) else given
        return body | {"previous_response_id": None, "input": [*turns, *new]}

    def _response(
        self, said: Said, model: str, id_: str, body: dict[str, Any]
    ) -> dict[str, Any] | bytes:
        """A response or its events; it is kept, unless `store` is false."""
        reply = self.reply(said, model, id_)
        made: dict[str, Any] = json.loads(responses.answer(200, chat.dumps(reply), body, id_)[1])
        if body.get("store") is not False:
            given = self._with_stored(body)["input"]
            turns = [{"role": "user", "content": given}] if isinstance(given, str) else given
            made["store"] = True
            self._responses[made["id"]] = ([*turns, *made["output"]], made)
        return self._translated(reply, body, responses.events(body, id_)) or made

    def _prompted(self, body: dict[str, Any], model: str | None) -> AskedCall:
        return self.asked(completions.chat_request(body), model)

    def _completion(
        self, said: Said, model: str, id_: str, body: dict[str, Any]
    ) -> dict[str, Any] | bytes:
        reply = self.reply(said, model, id_)
        made: dict[str, Any] = json.loads(completions.answer(200, chat.dumps(reply), body, id_)[1])
        return self._translated(reply, body, completions.events(body, id_)) or made

    def _translated(
        self, reply: dict[str, Any], body: dict[str, Any], events: AnswerStream
    ) -> bytes:
        """The stream of an answer in another protocol; empty where none is wanted."""
        if not body.get("stream"):
            return b""
        asking = body | {"stream_options": {"include_usage": True}}
        return events.feed(self.events(reply, asking)) + events.end()

    def events(self, reply: dict[str, Any], body: dict[str, Any]) -> bytes:
        chunks = chat.Chunks(body, reply["id"])
        chunks.model = reply["model"]
        (choice,), used = reply["choices"], chat.counted(reply["usage"])
        message, made = choice["message"], chunks.delta(role="assistant", content="")
        for name in ("content", "refusal"):
            for piece in pieces(message[name] or ""):
                made += chunks.delta(None, **{name: piece})
        for index, call in enumerate(message.get("tool_calls") or ()):
            function = call["function"]
            begun = {"index": index} | call | {"function": function | {"arguments": ""}}
            made += chunks.delta(tool_calls=[begun])
            for piece in pieces(function["arguments"]):
                made += chunks.delta(
                    tool_calls=[{"index": index, "function": {"arguments": piece}}]
                )
        return made + chunks.delta(choice["finish_reason"]) + chunks.end(used or Usage())

    def reply(self, said: Said, model: str, id_: str) -> dict[str, Any]:
        is_refusal = said.finish == "refusal"
        message: dict[str, Any] = {
            "role": "assistant",
            "content": None if is_refusal or said.call else said.text,
            "refusal": said.text if is_refusal else None,
        }
        if said.call is not None:
            arguments = json.dumps(said.call.arguments)
            message["tool_calls"] = [chat.tool_call(f"call_{id_}", said.call.name, arguments)]
        finish = {"length": "length", "blocked": "content_filter"}.get(said.finish, "stop")
        finish = "tool_calls" if said.call else finish
        usage = said.usage
        return {
            "id": f"chatcmpl-{id_}",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": model,
            "choices": [
                {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
            ],
            "usage": chat.counts(usage),
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
        self._responses: dict[str, tuple[list[Any], dict[str, Any]]] = {}  # turns, and the last
        for path, name, handler in (
            ("files/{id}", "file", self._file),
            ("files/{id}/content", "content", self._content),
            ("models", "models", self._models),
            ("responses/{id}", "response", self._stored_response),
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

    async def _stored_response(self, request: web.Request) -> web.Response:
        id_ = request.match_info["id"]
        if id_ not in self._responses:
            raise CallRefused(404, "no_path", f"Response with id '{id_}' not found.")
        return web.json_response(self._responses[id_][1])

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


def _to_embed(body: dict[str, Any], model: str | None) -> AskedCall:
    given = body["input"]
    texts = [given] if isinstance(given, str) else given
    messages: list[Message] = [{"role": "user", "content": str(text)} for text in texts]
    return AskedCall(body["model"], tuple(messages), limit=0)


def _embeddings(said: Said, model: str, id_: str, body: dict[str, Any]) -> dict[str, Any]:
    """Vectors that depend on the text alone."""
    data = []
    for index, turn in enumerate(_to_embed(body, None).messages):
        digest = hashlib.sha256(turn["content"].encode("utf-8", "replace")).digest()
        vector = array("f", (byte / 255 - 0.5 for byte in digest[:_DIMENSIONS]))
        is_packed = body.get("encoding_format") == "base64"
        shown = base64.b64encode(vector.tobytes()).decode() if is_packed else vector.tolist()
        data.append({"object": "embedding", "index": index, "embedding": shown})
    usage = {"prompt_tokens": said.usage.input, "total_tokens": said.usage.input}
    return {"object": "list", "data": data, "model": model, "usage": usage}


def _duration(seconds: float) -> str:
    """Seconds as OpenAI's headers write them: 12ms, 1.5s, 6m0s."""
    if seconds < 1:
        return f"{seconds * 1000:.0f}ms"
    minutes, rest = divmod(seconds, 60)
    return f"{minutes:.0f}m{rest:.0f}s" if minutes else f"{rest:.3f}s"
