"""OpenAI's chat completions and batches; also of every server that speaks the same protocol."""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final

import openai
from openai.types import Batch

from understudy.config import Service
from understudy.services.base import (
    BatchState,
    CallFailed,
    Fate,
    Finish,
    Reply,
    Request,
    Room,
    Usage,
)
from understudy.services.providers import Endpoint
from understudy.services.providers.adapter import (
    USED_UP,
    Connections,
    SdkAdapter,
    duration,
    fate_of,
    reading,
    refused,
    room_in,
    sendable,
)

_PATH: Final = "/v1/chat/completions"
_LABEL = "understudy"  # our key in a batch's metadata
_ENDED = ("completed", "failed", "expired", "cancelled")
_FINISH: dict[str, Finish] = {"length": "length", "content_filter": "blocked"}  # others: stop
_BLOCKED = ("content_filter", "content_policy_violation", "invalid_prompt")
# Codes and parameters of errors that every request of the run would meet.
_USED_UP = {"insufficient_quota", "billing_hard_limit_reached"}
_STOP = _USED_UP | {"model_not_found", "unsupported_parameter", "unsupported_value"}
_SETTINGS = {"model", "temperature", "reasoning_effort", "response_format"}
_SETTINGS |= {"max_completion_tokens"}


class OpenAIAdapter(SdkAdapter):
    """POST /chat/completions; a batch is a file of requests up and a file of results down.

    `structured` sends the schema as a strict response format. A batch's label is in its metadata.
    """

    client: openai.AsyncOpenAI
    status_error = openai.APIStatusError
    sdk_error = openai.APIError
    most_requests = 50_000
    most_bytes = 200_000_000

    async def send(self, request: Request) -> tuple[Mapping[str, str], str]:
        create: Any = self.client.chat.completions.with_raw_response.create
        response = (await create(**body_of(self.service, request))).http_response
        return response.headers, response.content.decode("utf-8", "replace")

    def read(self, body: dict[str, Any], headers: Mapping[str, str]) -> Reply:
        return reply_of(self.service, body, headers.get("x-request-id"), _room(headers))

    def is_blocked(self, error: openai.APIStatusError) -> bool:
        return error.status_code == 400 and error.code in _BLOCKED

    def failed(self, error: openai.APIStatusError) -> CallFailed:
        is_setting = error.status_code == 400 and (error.param or "").split(".")[0] in _SETTINGS
        is_fatal = error.code in _STOP or is_setting
        message = (USED_UP if error.code in _USED_UP else "") + error.message
        fate = "stop" if is_fatal else fate_of(error.status_code)
        failure = refused(self.service, error.response, fate, message)
        failure.room = _room(error.response.headers)
        return failure

    async def submit(self, requests: Sequence[tuple[str, Request]], label: str) -> str:
        """Upload the requests and start the batch."""
        lines = [
            {"custom_id": id_, "method": "POST", "url": _PATH}
            | {"body": body_of(self.service, request)}
            for id_, request in requests
        ]
        content = "".join(f"{json.dumps(line)}\n" for line in lines).encode()
        with self.calling(), reading(self.service):
            file = await self.client.files.create(file=(f"{label}.jsonl", content), purpose="batch")
            batch = await self.client.batches.create(
                input_file_id=file.id,
                endpoint=_PATH,
                completion_window="24h",
                metadata={_LABEL: label},
            )
            return batch.id

    async def poll(self, batch_id: str) -> BatchState:
        """How far a batch is."""
        with self.calling(), reading(self.service):
            return _state(await self.client.batches.retrieve(batch_id))

    async def states(self) -> AsyncIterator[BatchState]:
        async for batch in self.client.batches.list(limit=100):
            yield _state(batch)

    async def results(self, batch_id: str) -> AsyncIterator[tuple[str, Reply | CallFailed]]:
        """(custom id, outcome) of an ended batch; raises CallFailed when it never started."""
        with self.calling(), reading(self.service):
            batch = await self.client.batches.retrieve(batch_id)
            if batch.errors and batch.errors.data:
                first = batch.errors.data[0]
                fate: Fate = "wait" if first.code == "token_limit_exceeded" else "stop"
                raise CallFailed(f"service {self.service.name}: {first.message}", fate)
            for file in (batch.output_file_id, batch.error_file_id):
                if file is None:
                    continue
                async with self.client.files.with_streaming_response.content(file) as response:
                    async for line in response.iter_lines():
                        if line:
                            yield _outcome(self.service, line)


def connect(service: Service, endpoint: Endpoint) -> OpenAIAdapter:
    """The adapter of a service."""
    client = openai.AsyncOpenAI(
        api_key=endpoint.key,
        base_url=endpoint.base_url,
        max_retries=0,
        timeout=service.timeout_s,
        http_client=Connections(service, openai.DefaultAsyncHttpxClient),
    )
    return OpenAIAdapter(service, client)


def body_of(service: Service, request: Request) -> dict[str, Any]:
    """The body of a call; reasoning tokens count towards its output limit."""
    limit = "max_completion_tokens" if service.provider == "openai" else "max_tokens"
    body: dict[str, Any] = {
        "model": service.model,
        "messages": [
            {"role": m["role"], "content": sendable(m["content"])} for m in request.messages
        ],
        limit: service.max_output_tokens,
    }
    if service.temperature is not None:
        body["temperature"] = service.temperature
    if service.reasoning is not None:
        body["reasoning_effort"] = service.reasoning
    if request.schema is not None and service.structured:
        schema = {"name": "reply", "strict": True, "schema": request.schema}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    return body


def reply_of(
    service: Service, body: dict[str, Any], request_id: str | None, room: Room | None = None
) -> Reply:
    """The reply in the body of a chat completion."""
    with reading(service):
        choice = body["choices"][0]
        message = choice["message"]
        refusal = message.get("refusal")
        text = refusal or message.get("content") or ""
        if isinstance(text, list):  # of parts, some of which may be reasoning
            text = "".join(part["text"] for part in text if part.get("type") == "text")
        if not isinstance(text, str):
            raise TypeError("its content is no text")
        finish = "refusal" if refusal else _FINISH.get(choice.get("finish_reason"), "stop")
        usage = _usage(body.get("usage"))
        return Reply(text, finish, usage, body.get("model"), request_id or body.get("id"), room)


def _usage(counts: dict[str, Any] | None) -> Usage | None:
    if not counts or "prompt_tokens" not in counts:
        return None
    heard = counts.get("prompt_tokens_details") or {}
    said = counts.get("completion_tokens_details") or {}
    return Usage(
        input=counts["prompt_tokens"],
        cached=heard.get("cached_tokens") or 0,
        output=counts.get("completion_tokens") or 0,
        reasoning=said.get("reasoning_tokens") or 0,
        written=heard.get("cache_write_tokens") or 0,
    )


def _room(headers: Mapping[str, str]) -> Room | None:
    """https://developers.openai.com/api/docs/guides/rate-limits, "Rate limits in headers"."""
    return room_in(headers, "x-ratelimit-{what}-{of}", duration)


def _state(batch: Batch) -> BatchState:
    label = (batch.metadata or {}).get(_LABEL)
    requests = batch.request_counts.total if batch.request_counts else None
    return BatchState(
        batch.id, label, batch.status in _ENDED, requests or None, float(batch.created_at)
    )


def _outcome(service: Service, line: str) -> tuple[str, Reply | CallFailed]:
    """One line of an output or error file."""
    item = json.loads(line)
    response, name = item.get("response") or {}, service.name
    status = response.get("status_code")
    if status is None:  # expired or cancelled before its turn
        why = (item.get("error") or {}).get("message", "it was not answered")
        return item["custom_id"], CallFailed(f"service {name}: {why}", "heal")
    body = response["body"]
    if status == 200:
        try:
            return item["custom_id"], reply_of(service, body, response.get("request_id"))
        except CallFailed as failure:
            return item["custom_id"], failure
    error = body.get("error") or {}
    if error.get("code") in _BLOCKED:
        return item["custom_id"], Reply("", "blocked", Usage())
    return item["custom_id"], CallFailed(
        f"service {name}: {status} {error.get('message', '')}", fate_of(status)
    )
