"""Gemini's generateContent and batches, through google-genai."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import httpx2
from google import genai
from google.genai import errors, types

from understudy.config import Service
from understudy.services.base import BatchState, CallFailed, Fate, Finish, Reply, Request, Usage
from understudy.services.connections import Connections
from understudy.services.responses import (
    USED_UP,
    duration,
    fate_of,
    lost,
    object_in,
    reading,
    refused,
    sendable,
)

_FINISH: dict[str, Finish] = {  # others: stop
    "MAX_TOKENS": "length",
    "CONTINUATION": "length",
    **dict.fromkeys(("SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT"), "blocked"),
    **dict.fromkeys(("SPII", "LANGUAGE", "ESCALATION", "MODEL_ARMOR"), "blocked"),
}
_STOP_STATUS = ("FAILED_PRECONDITION", "PERMISSION_DENIED", "UNAUTHENTICATED", "NOT_FOUND")
# google.rpc.Code of an item of a batch; others heal
_FATES: dict[int, Fate] = {3: "row", 5: "stop", 7: "stop", 8: "wait", 11: "row", 16: "stop"}
_ID = "key"  # in an item's metadata


class Google:
    """POST models/MODEL:generateContent; `structured` sends response_json_schema."""

    def __init__(self, service: Service, base_url: str, key: str) -> None:
        self._service = service
        self._http, self._client = _client(service, base_url, key)

    async def complete(self, request: Request) -> Reply:
        """Answer one request, or raise CallFailed."""
        service = self._service
        contents, config = body_of(service, request)
        config.should_return_http_response = True  # the body as it is: we read it ourselves
        with _calling(service):
            async with asyncio.timeout(service.timeout_s):
                response = await self._client.aio.models.generate_content(
                    model=service.model, contents=contents, config=config
                )
        raw = response.sdk_http_response
        assert raw is not None, "should_return_http_response was set"
        return reply_of(service, object_in(service, raw.headers or {}, raw.body or ""))

    async def close(self) -> None:
        """Close the connections."""
        await _close(self._http, self._client)


class GoogleBatch:
    """Requests inline (20 MB at most); the label is the display name, ids are in the metadata."""

    most_requests = 50_000
    most_bytes = 20_000_000

    def __init__(self, service: Service, base_url: str, key: str) -> None:
        self._service = service
        self._http, self._client = _client(service, base_url, key)

    async def submit(self, requests: Sequence[tuple[str, Request]], label: str) -> str:
        """Start the batch."""
        source: Any = []
        for id_, request in requests:
            contents, config = body_of(self._service, request)
            item = types.InlinedRequest(contents=contents, config=config, metadata={_ID: id_})
            source.append(item)
        with _calling(self._service), reading(self._service):
            batch = await self._client.aio.batches.create(
                model=self._service.model, src=source, config={"display_name": label}
            )
            return _state(batch).id

    async def poll(self, batch_id: str) -> BatchState:
        """How far a batch is."""
        with _calling(self._service), reading(self._service):
            return _state(await self._client.aio.batches.get(name=batch_id))

    async def recent(self, since: float) -> list[BatchState]:
        """The batches created at or after `since`, newest first."""
        found: list[BatchState] = []
        with _calling(self._service), reading(self._service):
            async for batch in await self._client.aio.batches.list(config={"page_size": 100}):
                state = _state(batch)
                if state.created is not None and state.created < since:
                    break
                found.append(state)
        return found

    async def results(self, batch_id: str) -> AsyncIterator[tuple[str, Reply | CallFailed]]:
        """(custom id, outcome) of an ended batch; raises CallFailed when it failed as a whole."""
        with _calling(self._service), reading(self._service):
            batch = await self._client.aio.batches.get(name=batch_id)
            if batch.error is not None:
                fate = _FATES.get(batch.error.code or 0, "heal")
                raise CallFailed(f"service {self._service.name}: {batch.error.message}", fate)
            for item in (batch.dest and batch.dest.inlined_responses) or []:
                yield (item.metadata or {})[_ID], self._outcome(item)

    def _outcome(self, item: types.InlinedResponse) -> Reply | CallFailed:
        service = self._service
        if item.response is None:
            code = (item.error and item.error.code) or 0
            why = (item.error and item.error.message) or "it was not answered"
            return CallFailed(f"service {service.name}: {why}", _FATES.get(code, "heal"))
        body = item.response.model_dump(mode="json", by_alias=True, exclude_none=True)
        try:
            return reply_of(service, body)
        except CallFailed as failure:
            return failure

    async def close(self) -> None:
        """Close the connections."""
        await _close(self._http, self._client)


def body_of(
    service: Service, request: Request
) -> tuple[types.ContentListUnion, types.GenerateContentConfig]:
    """The turns and the settings of a call; thoughts count towards max_output_tokens."""
    system = [sendable(m["content"]) for m in request.messages if m["role"] == "system"]
    turns: Any = [
        types.Content(
            role="model" if m["role"] == "assistant" else "user",
            parts=[types.Part(text=sendable(m["content"]))],
        )
        for m in request.messages
        if m["role"] != "system"
    ]
    config = types.GenerateContentConfig(
        max_output_tokens=service.max_output_tokens,
        automatic_continuation=False,  # the SDK's default sends, and pays for, further calls
    )
    if system:
        config.system_instruction = "\n\n".join(system)
    if service.temperature is not None:
        config.temperature = service.temperature
    if isinstance(service.reasoning, int):
        config.thinking_config = types.ThinkingConfig(thinking_budget=service.reasoning)
    elif service.reasoning == "none":
        config.thinking_config = types.ThinkingConfig(thinking_budget=0)
    elif service.reasoning is not None:
        level = types.ThinkingLevel(service.reasoning.upper())
        config.thinking_config = types.ThinkingConfig(thinking_level=level)
    if request.schema is not None and service.structured:
        config.response_mime_type = "application/json"
        config.response_json_schema = request.schema
    return turns, config


def reply_of(service: Service, body: dict[str, Any]) -> Reply:
    """The reply in a response; Gemini declines in plain text, so nothing finishes as a refusal."""
    with reading(service):
        about = (
            usage_of(body.get("usageMetadata")),
            body.get("modelVersion"),
            body.get("responseId"),
        )
        if not body.get("candidates"):
            body["promptFeedback"]["blockReason"]  # or KeyError: neither answered nor blocked
            return Reply("", "blocked", *about)
        candidate = body["candidates"][0]
        parts = (candidate.get("content") or {}).get("parts") or []
        text = "".join(part.get("text") or "" for part in parts if not part.get("thought"))
        return Reply(text, _FINISH.get(candidate.get("finishReason", ""), "stop"), *about)


def usage_of(counts: dict[str, Any] | None) -> Usage | None:
    """Gemini counts thoughts beside the answer; both are billed as output."""
    if not counts or "promptTokenCount" not in counts:
        return None
    thoughts = counts.get("thoughtsTokenCount") or 0
    return Usage(
        input=counts["promptTokenCount"],
        cached=counts.get("cachedContentTokenCount") or 0,
        output=(counts.get("candidatesTokenCount") or 0) + thoughts,
        reasoning=thoughts,
    )


def _client(service: Service, base_url: str, key: str) -> tuple[httpx2.AsyncClient, genai.Client]:
    # Our own HTTP client, because through aiohttp the SDK repeats lost calls by itself.
    http = Connections(service)
    options = types.HttpOptions(
        base_url=base_url, timeout=int(service.timeout_s * 1000), httpx_async_client=http
    )
    return http, genai.Client(api_key=key, vertexai=False, http_options=options)


async def _close(http: httpx2.AsyncClient, client: genai.Client) -> None:
    await client.aio.aclose()
    client.close()
    await http.aclose()


@contextmanager
def _calling(service: Service) -> Iterator[None]:
    """Turn whatever goes wrong between us and the provider into CallFailed."""
    try:
        yield
    except errors.APIError as error:
        response: Any = error.response  # of httpx2, as our own HTTP client is
        wait = next((d.get("retryDelay") for d in _details(error, "RetryInfo")), None)
        message = (USED_UP if _is_used_up(error) else "") + (error.message or "")
        raise refused(service, response, _fate(error), message, duration(wait)) from None
    except (httpx2.HTTPError, TimeoutError) as error:
        raise lost(service, error) from None


def _is_used_up(error: errors.APIError) -> bool:
    """A daily quota does not heal in this run."""
    failures = _details(error, "QuotaFailure")
    quotas = [each.get("quotaId", "") for failure in failures for each in failure["violations"]]
    return any("PerDay" in quota for quota in quotas)


def _fate(error: errors.APIError) -> Fate:
    """What to do; a bad key comes as a 400."""
    is_bad_key = any(d.get("reason") == "API_KEY_INVALID" for d in _details(error, "ErrorInfo"))
    if is_bad_key or error.status in _STOP_STATUS or _is_used_up(error):
        return "stop"
    return fate_of(error.code)


def _details(error: errors.APIError, kind: str) -> list[dict[str, Any]]:
    """The details of one google.rpc type."""
    body = error.details if isinstance(error.details, dict) else {}
    details = body.get("error", {}).get("details") or []
    return [detail for detail in details if detail.get("@type", "").endswith(f"rpc.{kind}")]


def _state(batch: types.BatchJob) -> BatchState:
    assert batch.name is not None, "a batch has a name"
    created = batch.create_time.timestamp() if batch.create_time else None
    return BatchState(batch.name, batch.display_name, batch.done, None, created)
