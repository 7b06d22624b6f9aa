"""Anthropic's messages and message batches."""

import asyncio
import warnings
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import anthropic
import httpx2
from anthropic.types.messages import MessageBatch

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
    fate_of,
    lost,
    object_in,
    reading,
    refused,
    sendable,
)

_FINISH: dict[str, Finish] = {  # others: stop
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "refusal",
}
_FATES: dict[str, Fate] = {  # by the type of an error; others: by its status
    "invalid_request_error": "row",
    "request_too_large": "row",
    "authentication_error": "stop",
    "permission_error": "stop",
    "not_found_error": "stop",
    "rate_limit_error": "wait",
    "overloaded_error": "wait",
}
_NO_CREDIT = "credit balance is too low"  # comes as an invalid_request_error
_FILTERED = "content filtering policy"  # so does "Output blocked by content filtering policy"
_PREFIX = "anthropic-ratelimit"


class Anthropic:
    """POST /v1/messages; `structured` sends the schema as output_config.format."""

    def __init__(self, service: Service, base_url: str, key: str) -> None:
        self._service = service
        self._client = _client(service, base_url, key)
        self._create: Any = self._client.messages.with_raw_response.create

    async def complete(self, request: Request) -> Reply:
        """Answer one request, or raise CallFailed."""
        service = self._service
        with _calling(service):
            try:
                async with asyncio.timeout(service.timeout_s):
                    response = (await self._create(**_arguments(service, request))).http_response
            except anthropic.BadRequestError as error:
                if _FILTERED not in error.message:
                    raise
                return Reply("", "blocked", Usage(), request_id=error.request_id)
        headers = response.headers
        body = object_in(service, headers, response.content.decode("utf-8", "replace"))
        return reply_of(service, body, headers.get("request-id"), _room(headers))

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()


class AnthropicBatch:
    """Requests inline; Anthropic keeps no label, so a batch is known by its time and its items."""

    most_requests = 100_000
    most_bytes = 256_000_000

    def __init__(self, service: Service, base_url: str, key: str) -> None:
        self._service = service
        self._client = _client(service, base_url, key)

    async def submit(self, requests: Sequence[tuple[str, Request]], label: str) -> str:
        """Start the batch; the label is not kept."""
        items: Any = [
            {"custom_id": id_, "params": body_of(self._service, request)}
            for id_, request in requests
        ]
        with _calling(self._service), reading(self._service):
            return (await self._client.messages.batches.create(requests=items)).id

    async def poll(self, batch_id: str) -> BatchState:
        """How far a batch is."""
        with _calling(self._service), reading(self._service):
            return _state(await self._client.messages.batches.retrieve(batch_id))

    async def recent(self, since: float) -> list[BatchState]:
        """The batches created at or after `since`, newest first."""
        found: list[BatchState] = []
        with _calling(self._service), reading(self._service):
            async for batch in self._client.messages.batches.list(limit=100):
                if batch.created_at.timestamp() < since:
                    break
                found.append(_state(batch))
        return found

    async def results(self, batch_id: str) -> AsyncIterator[tuple[str, Reply | CallFailed]]:
        """(custom id, outcome) of an ended batch."""
        with _calling(self._service), reading(self._service):
            async for item in await self._client.messages.batches.results(batch_id):
                yield item.custom_id, self._outcome(item.result)

    def _outcome(self, result: Any) -> Reply | CallFailed:
        service = self._service
        if result.type == "succeeded":
            try:
                return reply_of(service, result.message.to_dict(mode="json"), None)
            except CallFailed as failure:
                return failure
        if result.type != "errored":  # expired or cancelled before its turn
            return CallFailed(f"service {service.name}: the item is {result.type}", "heal")
        error = result.error.error
        if _FILTERED in error.message:
            return Reply("", "blocked", Usage())
        fate = _fate(error.type, error.message, 500)
        return CallFailed(f"service {service.name}: {error.type}: {error.message}", fate)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()


def body_of(service: Service, request: Request) -> dict[str, Any]:
    """The body of a call; thinking tokens count towards max_tokens."""
    system = [sendable(m["content"]) for m in request.messages if m["role"] == "system"]
    body: dict[str, Any] = {
        "model": service.model,
        "max_tokens": service.max_output_tokens,
        "messages": [
            {"role": m["role"], "content": sendable(m["content"])}
            for m in request.messages
            if m["role"] != "system"
        ],
    }
    if system:
        body["system"] = "\n\n".join(system)
    if service.temperature is not None:
        body["temperature"] = service.temperature
    output: dict[str, Any] = {}
    if isinstance(service.reasoning, int):
        body["thinking"] = {"type": "enabled", "budget_tokens": service.reasoning}
    elif service.reasoning == "none":
        body["thinking"] = {"type": "disabled"}
    elif service.reasoning is not None:
        output["effort"] = service.reasoning
    if request.schema is not None and service.structured:
        output["format"] = {"type": "json_schema", "schema": request.schema}
    return body | ({"output_config": output} if output else {})


def _arguments(service: Service, request: Request) -> dict[str, Any]:
    """The same for the SDK, which knows no temperature any more, though older models take one."""
    body = body_of(service, request)
    extra = {name: body.pop(name) for name in ("temperature",) if name in body}
    return body | ({"extra_body": extra} if extra else {})


def reply_of(
    service: Service, body: dict[str, Any], request_id: str | None, room: Room | None = None
) -> Reply:
    """The reply in a message; a refusal that names a policy is the safety filter's."""
    with reading(service):
        text = "".join(block["text"] for block in body["content"] if block["type"] == "text")
        finish = _FINISH.get(body.get("stop_reason") or "", "stop")
        if finish == "refusal" and (body.get("stop_details") or {}).get("category"):
            finish = "blocked"
        usage = usage_of(body.get("usage"))
        return Reply(text, finish, usage, body.get("model"), request_id or body.get("id"), room)


def usage_of(counts: dict[str, Any] | None) -> Usage | None:
    """`input_tokens` leaves out what was written to or read from the cache."""
    if not counts or "input_tokens" not in counts:
        return None
    cached = counts.get("cache_read_input_tokens") or 0
    written = counts.get("cache_creation_input_tokens") or 0
    return Usage(
        input=counts["input_tokens"] + cached + written,
        cached=cached,
        output=counts.get("output_tokens") or 0,
        reasoning=(counts.get("output_tokens_details") or {}).get("thinking_tokens") or 0,
        written=written,
    )


def _room(headers: Mapping[str, str]) -> Room | None:
    """https://platform.claude.com/docs/en/api/rate-limits, "Response headers"."""
    room = Room(
        count(headers.get(f"{_PREFIX}-requests-limit")),
        count(headers.get(f"{_PREFIX}-requests-remaining")),
        _until(headers.get(f"{_PREFIX}-requests-reset")),
        count(headers.get(f"{_PREFIX}-tokens-limit")),
        count(headers.get(f"{_PREFIX}-tokens-remaining")),
        _until(headers.get(f"{_PREFIX}-tokens-reset")),
    )
    return None if room == Room() else room


def _until(text: str | None) -> float | None:
    """Seconds until a date in RFC 3339."""
    try:
        date = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return max(0.0, (date - datetime.now(UTC)).total_seconds()) if date.tzinfo else None


def _client(service: Service, base_url: str, key: str) -> anthropic.AsyncAnthropic:
    # conf/service says which models are withdrawn, and what to take instead.
    warnings.filterwarnings("ignore", "The model '.*' is deprecated", DeprecationWarning)
    return anthropic.AsyncAnthropic(
        api_key=key,
        base_url=base_url,
        max_retries=0,
        timeout=service.timeout_s,
        http_client=Connections(service, anthropic.DefaultAsyncHttpxClient),
    )


@contextmanager
def _calling(service: Service) -> Iterator[None]:
    """Turn whatever goes wrong between us and the provider into CallFailed."""
    try:
        yield
    except anthropic.APIStatusError as error:
        message = error.api_message or error.message
        if _is_used_up(error.type, message):
            message = USED_UP + message
        fate = _fate(error.type, message, error.status_code)
        failure = refused(service, error.response, fate, message)
        failure.room = _room(error.response.headers)
        raise failure from None
    except (anthropic.APIError, httpx2.HTTPError, TimeoutError) as error:
        raise lost(service, error) from None


def _state(batch: MessageBatch) -> BatchState:
    counts = batch.request_counts
    requests = counts.processing + counts.succeeded + counts.errored
    requests += counts.canceled + counts.expired
    is_ended = batch.processing_status == "ended"
    return BatchState(batch.id, None, is_ended, requests, batch.created_at.timestamp())


def _is_used_up(kind: str | None, message: str) -> bool:
    return kind == "billing_error" or _NO_CREDIT in message


def _fate(kind: str | None, message: str, status: int) -> Fate:
    if _is_used_up(kind, message):
        return "stop"
    return _FATES.get(kind or "", fate_of(status))
