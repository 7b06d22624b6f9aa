"""OpenAI's chat completions and batches; also of every server that speaks the same protocol."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import httpx2
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
from understudy.services.connections import Connections
from understudy.services.responses import (
    USED_UP,
    count,
    duration,
    fate_of,
    lost,
    object_in,
    reading,
    refused,
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


class OpenAI:
    """POST /chat/completions; `structured` sends the schema as a strict response format."""

    def __init__(self, service: Service, base_url: str, key: str) -> None:
        self._service = service
        self._client = _client(service, base_url, key)
        self._create: Any = self._client.chat.completions.with_raw_response.create

    async def complete(self, request: Request) -> Reply:
        """Answer one request, or raise CallFailed."""
        service = self._service
        with _calling(service):
            try:
                async with asyncio.timeout(service.timeout_s):
                    response = (await self._create(**body_of(service, request))).http_response
            except openai.BadRequestError as error:
                if error.code not in _BLOCKED:
                    raise
                # The prompt itself: nothing was generated or billed.
                return Reply("", "blocked", Usage(), request_id=error.request_id)
        headers = response.headers
        body = object_in(service, headers, response.content.decode("utf-8", "replace"))
        return reply_of(service, body, headers.get("x-request-id"), _room(headers))

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()


class OpenAIBatch:
    """A file of requests up, a file of results down; the label is in the batch's metadata."""

    most_requests = 50_000
    most_bytes = 200_000_000

    def __init__(self, service: Service, base_url: str, key: str) -> None:
        self._service = service
        self._client = _client(service, base_url, key)

    async def submit(self, requests: Sequence[tuple[str, Request]], label: str) -> str:
        """Upload the requests and start the batch."""
        lines = [
            {"custom_id": id_, "method": "POST", "url": _PATH}
            | {"body": body_of(self._service, request)}
            for id_, request in requests
        ]
        content = "".join(f"{json.dumps(line)}\n" for line in lines).encode()
        with _calling(self._service), reading(self._service):
            file = await self._client.files.create(
                file=(f"{label}.jsonl", content), purpose="batch"
            )
            batch = await self._client.batches.create(
                input_file_id=file.id,
                endpoint=_PATH,
                completion_window="24h",
                metadata={_LABEL: label},
            )
            return batch.id

    async def poll(self, batch_id: str) -> BatchState:
        """How far a batch is."""
        with _calling(self._service), reading(self._service):
            return _state(await self._client.batches.retrieve(batch_id))

    async def recent(self, since: float) -> list[BatchState]:
        """The batches created at or after `since`, newest first."""
        found = []
        with _calling(self._service), reading(self._service):
            async for batch in self._client.batches.list(limit=100):
                if batch.created_at < int(since):  # whole seconds
                    break
                found.append(_state(batch))
        return found

    async def results(self, batch_id: str) -> AsyncIterator[tuple[str, Reply | CallFailed]]:
        """(custom id, outcome) of an ended batch; raises CallFailed when it never started."""
        with _calling(self._service), reading(self._service):
            batch = await self._client.batches.retrieve(batch_id)
            if batch.errors and batch.errors.data:
                first = batch.errors.data[0]
                fate: Fate = "wait" if first.code == "token_limit_exceeded" else "stop"
                raise CallFailed(f"service {self._service.name}: {first.message}", fate)
            for file in (batch.output_file_id, batch.error_file_id):
                if file is None:
                    continue
                async with self._client.files.with_streaming_response.content(file) as response:
                    async for line in response.iter_lines():
                        if line:
                            yield _outcome(self._service, line)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()


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
    room = Room(
        count(headers.get("x-ratelimit-limit-requests")),
        count(headers.get("x-ratelimit-remaining-requests")),
        duration(headers.get("x-ratelimit-reset-requests")),
        count(headers.get("x-ratelimit-limit-tokens")),
        count(headers.get("x-ratelimit-remaining-tokens")),
        duration(headers.get("x-ratelimit-reset-tokens")),
    )
    return None if room == Room() else room


def _client(service: Service, base_url: str, key: str) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(
        api_key=key,
        base_url=base_url,
        max_retries=0,
        timeout=service.timeout_s,
        http_client=Connections(service, openai.DefaultAsyncHttpxClient),
    )


@contextmanager
def _calling(service: Service) -> Iterator[None]:
    """Turn whatever goes wrong between us and the provider into CallFailed."""
    try:
        yield
    except openai.APIStatusError as error:
        raise _failed(service, error) from None
    except (openai.APIError, httpx2.HTTPError, TimeoutError) as error:
        raise lost(service, error) from None


def _failed(service: Service, error: openai.APIStatusError) -> CallFailed:
    message = (USED_UP if error.code in _USED_UP else "") + error.message
    failure = refused(service, error.response, _fate(error), message)
    failure.room = _room(error.response.headers)
    return failure


def _fate(error: openai.APIStatusError) -> Fate:
    is_setting = error.status_code == 400 and (error.param or "").split(".")[0] in _SETTINGS
    return "stop" if error.code in _STOP or is_setting else fate_of(error.status_code)


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
