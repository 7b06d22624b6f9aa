"""OpenAI's chat completions and batches; also of every server that speaks the same protocol."""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final

import openai
from openai.types import Batch

from understudy.config import Service
from understudy.records import Message, dumps
from understudy.services.base import (
    BatchState,
    CallFailed,
    Fate,
    Finish,
    Reply,
    Request,
    Room,
    Usage,
    error_in,
)
from understudy.services.providers import Endpoint
from understudy.services.providers.adapter import (
    USED_UP,
    Connections,
    SdkAdapter,
    answer_in,
    calls_of,
    check_ended,
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
_ENDS = (*_FINISH, "stop", "eos", "eos_token", "end_turn", "stop_sequence", "tool_calls")
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
                        if line and (found := _outcome(self.service, line)) is not None:
                            yield found


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
        "messages": [_turn(message) for message in request.messages],
        limit: service.max_output_tokens,
    }
    if request.tools:
        body["tools"] = list(request.tools)
    if service.temperature is not None:
        body["temperature"] = service.temperature
    if service.reasoning is not None:
        body["reasoning_effort"] = service.reasoning
    if request.schema is not None and service.structured:
        schema = {"name": "reply", "strict": True, "schema": request.schema}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    return body


def _turn(message: Message) -> dict[str, Any]:
    text = message["content"]
    made = {"role": message["role"], "content": None if text is None else sendable(text)}
    if calls := message.get("tool_calls"):
        made["tool_calls"] = [
            {"id": call["id"], "type": "function"}
            | {"function": {"name": call["name"], "arguments": dumps(call["arguments"])}}
            for call in calls
        ]
    return made | ({"tool_call_id": message["tool_call_id"]} if message["role"] == "tool" else {})


def reply_of(
    service: Service, body: dict[str, Any], request_id: str | None, room: Room | None = None
) -> Reply:
    """The reply in the body of a chat completion."""
    with reading(service):
        if not body["choices"]:
            raise ValueError("no choices are in it")
        choice = body["choices"][0]
        message = choice["message"]
        reason = (choice.get("finish_reason") or "").partition(":")[0]  # content_filter: RECITATION
        content = message.get("content") or ""
        given = content if isinstance(content, list) else []  # some of which may be reasoning
        parts = [{"type": "text", "text": p} if isinstance(p, str) else p for p in given]
        refused = (part["refusal"] for part in parts if part.get("type") == "refusal")
        refusal = message.get("refusal") or "".join(refused)
        said = (part["text"] for part in parts if part.get("type") in ("text", "output_text"))
        text = refusal or ("".join(said) if parts else content)
        if not isinstance(text, str):
            raise TypeError("its content is no text")
        if reason == "error":
            raise ValueError("the answer broke off with an error that it does not name")
        if not _calls_tools(message):
            check_ended(text, reason or None, _ENDS)
        finish = "refusal" if refusal else _FINISH.get(reason, "stop")
        functions = [call["function"] for call in message.get("tool_calls") or ()]
        calls = calls_of((one["name"], one["arguments"]) for one in functions)
        usage = _usage(body.get("usage"))
        id_ = request_id or body.get("id")
        return Reply(text, finish, usage, body.get("model"), id_, room, calls)


def _calls_tools(message: dict[str, Any]) -> bool:
    return bool(message.get("tool_calls") or message.get("function_call"))


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


def _outcome(service: Service, line: str) -> tuple[str, Reply | CallFailed] | None:
    """One line of an output or error file; None for one that names no item, which is asked anew."""
    try:
        item = json.loads(line)
        id_ = item["custom_id"]
    except (ValueError, KeyError, TypeError):
        return None
    try:
        with reading(service):
            return id_, _of_item(service, item)
    except CallFailed as failure:
        return id_, failure


def _of_item(service: Service, item: dict[str, Any]) -> Reply | CallFailed:
    response, name = item.get("response") or {}, service.name
    status, body = response.get("status_code"), response.get("body")
    said, told = error_in(body), body.get("error") if isinstance(body, dict) else None
    if isinstance(told, dict) and told.get("code") in _BLOCKED:
        return Reply("", "blocked", Usage())
    if status is None:  # expired or cancelled before its turn
        words, _ = error_in(item) or ("it was not answered", None)
        return CallFailed(f"service {name}: {words}", "heal")
    if status == 200:
        return reply_of(service, answer_in(service, body), response.get("request_id"))
    words = said[0] if said is not None else ""
    return CallFailed(f"service {name}: {status} {words}", fate_of(status))
