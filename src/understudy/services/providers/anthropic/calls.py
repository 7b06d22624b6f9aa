"""Anthropic's messages and message batches."""

import warnings
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import anthropic
from anthropic.types.messages import MessageBatch

from understudy.config import Service
from understudy.records import Message
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
    answer_in,
    calls_of,
    check_ended,
    fate_of,
    reading,
    refused,
    room_in,
    sendable,
)
from understudy.services.providers.anthropic.usage import usage_of as usage_of

_FINISH: dict[str, Finish] = {  # others: stop
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "refusal",
}
_ENDS = (*_FINISH, "end_turn", "stop_sequence", "tool_use", "pause_turn")
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


class AnthropicAdapter(SdkAdapter):
    """POST /v1/messages; `structured` sends the schema as output_config.format.

    Batches have their requests inline. Anthropic keeps no label, so a batch is known by its time
    and its items.
    """

    client: anthropic.AsyncAnthropic
    status_error = anthropic.APIStatusError
    sdk_error = anthropic.APIError
    most_requests = 100_000
    most_bytes = 256_000_000

    async def send(self, request: Request) -> tuple[Mapping[str, str], str]:
        arguments = body_of(self.service, request)
        # The SDK knows no temperature any more, though older models take one.
        if "temperature" in arguments:
            arguments["extra_body"] = {"temperature": arguments.pop("temperature")}
        create: Any = self.client.messages.with_raw_response.create
        response = (await create(**arguments)).http_response
        return response.headers, response.content.decode("utf-8", "replace")

    def read(self, body: dict[str, Any], headers: Mapping[str, str]) -> Reply:
        return reply_of(self.service, body, headers.get("request-id"), _room(headers))

    def is_blocked(self, error: anthropic.APIStatusError) -> bool:
        return error.status_code == 400 and _FILTERED in error.message

    def failed(self, error: anthropic.APIStatusError) -> CallFailed:
        message = error.api_message or error.message
        if _is_used_up(error.type, message):
            message = USED_UP + message
        fate = _fate(error.type, message, error.status_code)
        failure = refused(self.service, error.response, fate, message)
        failure.room = _room(error.response.headers)
        return failure

    async def submit(self, requests: Sequence[tuple[str, Request]], label: str) -> str:
        """Start the batch; the label is not kept."""
        items: Any = [
            {"custom_id": id_, "params": body_of(self.service, request)}
            for id_, request in requests
        ]
        with self.calling(), reading(self.service):
            return (await self.client.messages.batches.create(requests=items)).id

    async def poll(self, batch_id: str) -> BatchState:
        """How far a batch is."""
        with self.calling(), reading(self.service):
            return _state(await self.client.messages.batches.retrieve(batch_id))

    async def states(self) -> AsyncIterator[BatchState]:
        async for batch in self.client.messages.batches.list(limit=100):
            yield _state(batch)

    async def results(self, batch_id: str) -> AsyncIterator[tuple[str, Reply | CallFailed]]:
        """(custom id, outcome) of an ended batch."""
        with self.calling(), reading(self.service):
            async for item in await self.client.messages.batches.results(batch_id):
                yield item.custom_id, self._outcome(item.result)

    def _outcome(self, result: Any) -> Reply | CallFailed:
        try:
            with reading(self.service):
                return self._of_item(result)
        except CallFailed as failure:
            return failure

    def _of_item(self, result: Any) -> Reply | CallFailed:
        service = self.service
        if result.type == "succeeded":
            body = answer_in(service, result.message.to_dict(mode="json"))
            return reply_of(service, body, None)
        if result.type != "errored":  # expired or cancelled before its turn
            return CallFailed(f"service {service.name}: the item is {result.type}", "heal")
        error = result.error.error
        if _FILTERED in error.message:
            return Reply("", "blocked", Usage())
        fate = _fate(error.type, error.message, 500)
        return CallFailed(f"service {service.name}: {error.type}: {error.message}", fate)


def connect(service: Service, endpoint: Endpoint) -> AnthropicAdapter:
    """The adapter of a service."""
    # conf/service says which models are withdrawn, and what to take instead.
    warnings.filterwarnings("ignore", "The model '.*' is deprecated", DeprecationWarning)
    client = anthropic.AsyncAnthropic(
        api_key=endpoint.key,
        base_url=endpoint.base_url,
        max_retries=0,
        timeout=service.timeout_s,
        http_client=Connections(service, anthropic.DefaultAsyncHttpxClient),
    )
    return AnthropicAdapter(service, client)


def body_of(service: Service, request: Request) -> dict[str, Any]:
    """The body of a call; thinking tokens count towards max_tokens."""
    system = [sendable(m["content"]) for m in request.messages if m["role"] == "system"]
    body: dict[str, Any] = {
        "model": service.model,
        "max_tokens": service.max_output_tokens,
        "messages": _turns(m for m in request.messages if m["role"] != "system"),
    }
    if request.tools:
        body["tools"] = [_tool(one["function"]) for one in request.tools]
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


def _turns(messages: Iterable[Message]) -> list[dict[str, Any]]:
    """Turns; all results of one turn's calls stand together in one of the user's."""
    made: list[dict[str, Any]] = []
    for message in messages:
        text = sendable(message["content"] or "")
        if message["role"] == "tool":
            result = {"type": "tool_result", "tool_use_id": message["tool_call_id"]}
            blocks = [result | {"content": text}]
            if made and made[-1]["role"] == "user" and isinstance(made[-1]["content"], list):
                made[-1]["content"] += blocks
            else:
                made.append({"role": "user", "content": blocks})
        elif calls := message.get("tool_calls"):
            said = [{"type": "text", "text": text}] if text else []
            uses = [
                {"type": "tool_use", "id": one["id"], "name": one["name"]}
                | {"input": one["arguments"]}
                for one in calls
            ]
            made.append({"role": message["role"], "content": [*said, *uses]})
        else:
            made.append({"role": message["role"], "content": text})
    return made


def _tool(function: dict[str, Any]) -> dict[str, Any]:
    about = {"description": function["description"]} if function.get("description") else {}
    return {"name": function["name"], **about, "input_schema": function["parameters"]}


def reply_of(
    service: Service, body: dict[str, Any], request_id: str | None, room: Room | None = None
) -> Reply:
    """The reply in a message; a refusal that names a policy is the safety filter's."""
    with reading(service):
        text = "".join(block["text"] for block in body["content"] if block["type"] == "text")
        check_ended(text, reason := body.get("stop_reason"), _ENDS)
        finish = _FINISH.get(reason or "", "stop")
        if finish == "refusal" and (body.get("stop_details") or {}).get("category"):
            finish = "blocked"
        uses = [block for block in body["content"] if block["type"] == "tool_use"]
        calls = calls_of((one["name"], one["input"]) for one in uses)
        usage, id_ = usage_of(body.get("usage")), request_id or body.get("id")
        return Reply(text, finish, usage, body.get("model"), id_, room, calls)


def _room(headers: Mapping[str, str]) -> Room | None:
    """https://platform.claude.com/docs/en/api/rate-limits, "Response headers"."""
    return room_in(headers, "anthropic-ratelimit-{of}-{what}", _until)


def _until(text: str | None) -> float | None:
    """Seconds until a date in RFC 3339."""
    try:
        date = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return max(0.0, (date - datetime.now(UTC)).total_seconds()) if date.tzinfo else None


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
