"""Gemini's generateContent and batches, through google-genai."""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any

from google import genai
from google.genai import errors, types

from understudy.config import Service
from understudy.records import Message, Tool
from understudy.services.base import BatchState, CallFailed, Fate, Finish, Reply, Request
from understudy.services.providers import Endpoint
from understudy.services.providers.adapter import (
    USED_UP,
    Connections,
    SdkAdapter,
    calls_of,
    check_ended,
    duration,
    fate_of,
    reading,
    refused,
    sendable,
)
from understudy.services.providers.google.usage import usage_of as usage_of

_FINISH: dict[str, Finish] = {  # others: stop
    "MAX_TOKENS": "length",
    "CONTINUATION": "length",
    **dict.fromkeys(("SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT"), "blocked"),
    **dict.fromkeys(("SPII", "LANGUAGE", "ESCALATION", "MODEL_ARMOR"), "blocked"),
}
_ENDS = (*_FINISH, "STOP")
_STOP_STATUS = ("FAILED_PRECONDITION", "PERMISSION_DENIED", "UNAUTHENTICATED", "NOT_FOUND")
# google.rpc.Code of an item of a batch; others heal
_FATES: dict[int, Fate] = {3: "row", 5: "stop", 7: "stop", 8: "wait", 11: "row", 16: "stop"}
_ID = "key"  # in an item's metadata


class GoogleAdapter(SdkAdapter):
    """POST models/MODEL:generateContent; `structured` sends response_json_schema.

    Batches have their requests inline (20 MB at most), the label as display name, and ids in the
    metadata.
    """

    client: genai.Client
    status_error = sdk_error = errors.APIError
    most_requests = 50_000
    most_bytes = 20_000_000

    def __init__(self, service: Service, client: genai.Client, http: Connections) -> None:
        super().__init__(service, client)
        self._http = http

    async def send(self, request: Request) -> tuple[Mapping[str, str], str]:
        contents, config = body_of(self.service, request)
        config.should_return_http_response = True  # the body as it is: we read it ourselves
        response = await self.client.aio.models.generate_content(
            model=self.service.model, contents=contents, config=config
        )
        raw = response.sdk_http_response
        assert raw is not None, "should_return_http_response was set"
        return raw.headers or {}, raw.body or ""

    def read(self, body: dict[str, Any], headers: Mapping[str, str]) -> Reply:
        return reply_of(self.service, body)

    def failed(self, error: errors.APIError) -> CallFailed:
        response: Any = error.response  # of httpx2, as our own HTTP client is
        wait = next((d.get("retryDelay") for d in _details(error, "RetryInfo")), None)
        message = (USED_UP if _is_used_up(error) else "") + (error.message or "")
        return refused(self.service, response, _fate(error), message, duration(wait))

    async def submit(self, requests: Sequence[tuple[str, Request]], label: str) -> str:
        """Start the batch."""
        source: Any = []
        for id_, request in requests:
            contents, config = body_of(self.service, request)
            item = types.InlinedRequest(contents=contents, config=config, metadata={_ID: id_})
            source.append(item)
        with self.calling(), reading(self.service):
            batch = await self.client.aio.batches.create(
                model=self.service.model, src=source, config={"display_name": label}
            )
            return _state(batch).id

    async def poll(self, batch_id: str) -> BatchState:
        """How far a batch is."""
        with self.calling(), reading(self.service):
            return _state(await self.client.aio.batches.get(name=batch_id))

    async def states(self) -> AsyncIterator[BatchState]:
        async for batch in await self.client.aio.batches.list(config={"page_size": 100}):
            yield _state(batch)

    async def results(self, batch_id: str) -> AsyncIterator[tuple[str, Reply | CallFailed]]:
        """(custom id, outcome) of an ended batch; raises CallFailed when it failed as a whole."""
        with self.calling(), reading(self.service):
            batch = await self.client.aio.batches.get(name=batch_id)
            if batch.error is not None:
                fate = _FATES.get(batch.error.code or 0, "heal")
                raise CallFailed(f"service {self.service.name}: {batch.error.message}", fate)
            for item in (batch.dest and batch.dest.inlined_responses) or []:
                if (id_ := (item.metadata or {}).get(_ID)) is not None:  # else it is asked anew
                    yield id_, self._outcome(item)

    def _outcome(self, item: types.InlinedResponse) -> Reply | CallFailed:
        service = self.service
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
        await self.client.aio.aclose()
        self.client.close()
        await self._http.aclose()


def connect(service: Service, endpoint: Endpoint) -> GoogleAdapter:
    """The adapter of a service."""
    # Our own HTTP client, because through aiohttp the SDK repeats lost calls by itself.
    http = Connections(service)
    options = types.HttpOptions(
        base_url=endpoint.base_url,
        timeout=int(service.timeout_s * 1000),
        httpx_async_client=http,
    )
    client = genai.Client(api_key=endpoint.key, vertexai=False, http_options=options)
    return GoogleAdapter(service, client, http)


def body_of(
    service: Service, request: Request
) -> tuple[types.ContentListUnion, types.GenerateContentConfig]:
    """The turns and the settings of a call; thoughts count towards max_output_tokens."""
    system = [sendable(m["content"]) for m in request.messages if m["role"] == "system"]
    contents: Any = _turns(m for m in request.messages if m["role"] != "system")
    config = types.GenerateContentConfig(
        max_output_tokens=service.max_output_tokens,
        automatic_continuation=False,  # the SDK's default sends, and pays for, further calls
    )
    if request.tools:
        config.tools = [types.Tool(function_declarations=list(map(_tool, request.tools)))]
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
    return contents, config


def _turns(messages: Iterable[Message]) -> list[types.Content]:
    """Turns; all results of one turn's calls stand together in one of the user's."""
    made: list[types.Content] = []
    names: dict[str, str] = {}  # of the functions that calls are of
    for message in messages:
        text, calls = sendable(message["content"] or ""), message.get("tool_calls", ())
        names |= {call["id"]: call["name"] for call in calls}
        parts = [types.Part(text=text)] if text or not calls else []
        if message["role"] == "tool":
            name = names[message["tool_call_id"]]
            result = types.FunctionResponse(name=name, response={"result": text})
            parts = [types.Part(function_response=result)]
            last = made[-1].parts if made else None
            if last and last[0].function_response is not None:
                last += parts
                continue
        parts += [
            types.Part(function_call=types.FunctionCall(name=one["name"], args=one["arguments"]))
            for one in calls
        ]
        role = "model" if message["role"] == "assistant" else "user"
        made.append(types.Content(role=role, parts=parts))
    return made


def _tool(tool: Tool) -> types.FunctionDeclaration:
    function = tool["function"]
    return types.FunctionDeclaration(
        name=function["name"],
        description=function.get("description", ""),
        parameters_json_schema=function["parameters"],
    )


def reply_of(service: Service, body: dict[str, Any]) -> Reply:
    """The reply in a response; Gemini declines in plain text, so nothing finishes as a refusal."""
    with reading(service):
        about = (
            usage_of(body.get("usageMetadata")),
            body.get("modelVersion"),
            body.get("responseId"),
        )
        if not body.get("candidates"):
            if not (body.get("promptFeedback") or {}).get("blockReason"):
                raise ValueError("no candidates are in it")
            return Reply("", "blocked", *about)
        candidate = body["candidates"][0]
        parts = (candidate.get("content") or {}).get("parts") or []
        text = "".join(part.get("text") or "" for part in parts if not part.get("thought"))
        reason = candidate.get("finishReason")
        said = [part["functionCall"] for part in parts if "functionCall" in part]
        if not said:
            check_ended(text, reason, _ENDS)
        calls = calls_of((one["name"], one.get("args") or {}) for one in said)
        return Reply(text, _FINISH.get(reason or "", "stop"), *about, calls=calls)


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
