"""Gemini as the rehearsal plays it: generateContent, and batches with everything inline."""

import json
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from understudy.services.providers.google import inbound
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
    pieces,
    sse,
)

_STATUS = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 404: "NOT_FOUND"}
_STATUS |= {429: "RESOURCE_EXHAUSTED", 500: "INTERNAL", 503: "UNAVAILABLE", 529: "UNAVAILABLE"}
_RPC = "type.googleapis.com/google.rpc"
_BATCH_TYPE = "type.googleapis.com/google.ai.generativelanguage.v1main.GenerateContentBatch"
_INLINE_LIMIT = 20 << 20  # bytes of an inline batch


class PlayedGoogle(PlayedProvider):
    """POST /v1/models/MODEL:generateContent, its stream, and batches.

    The headers say nothing of limits, and the request's id is in the body.
    """

    name = "google"
    call_path = "/{version}/models/{model:[^/]+}:generateContent"
    submit_path = "/{version}/models/{model:[^/]+}:batchGenerateContent"
    batches_path = "/{version}/batches"
    batch_prefix = "b"
    paging = ("pageSize", "pageToken", 100)

    def key(self, request: web.Request) -> str | None:
        return request.headers.get("x-goog-api-key") or request.query.get("key") or None

    def asked(self, body: dict[str, Any], model: str | None) -> AskedCall:
        if model is None:
            model = str(body["model"]).removeprefix("models/")
        config = body.get("generationConfig") or {}
        thinking = config.get("thinkingConfig") or {}
        # The SDK writes these in snake case, and the real server takes both.
        budgets = ("thinkingBudget", "thinking_budget", "thinkingLevel", "thinking_level")
        reasons = any(map(thinking.get, budgets))
        return asked_of(inbound.chat_request(body | {"model": model}), reasons)

    def wires(self) -> list[PlayedWire]:
        path = self.call_path.replace(":generateContent", ":streamGenerateContent")
        return [*super().wires(), PlayedWire(path, "stream", self.asked, self._streamed)]

    def _streamed(self, said: Said, model: str, id_: str, body: dict[str, Any]) -> bytes:
        """The parts of an answer; the reason and the tokens come with the last."""
        reply = self.reply(said, model, id_)
        if not said.text or "candidates" not in reply:
            return sse(reply)
        (candidate,) = reply["candidates"]
        head = {name: reply[name] for name in ("modelVersion", "responseId")}
        *first, last = pieces(said.text)
        told = []
        for piece in first:
            content = {"role": "model", "parts": [{"text": piece}]}
            told.append(head | {"candidates": [{"content": content, "index": 0}]})
        content = {"role": "model", "parts": [{"text": last}, *candidate["content"]["parts"][1:]]}
        told.append(reply | {"candidates": [candidate | {"content": content}]})
        return b"".join(map(sse, told))

    def reply(self, said: Said, model: str, id_: str) -> dict[str, Any]:
        usage = said.usage
        counts = {
            "promptTokenCount": usage.input,
            "candidatesTokenCount": usage.output - usage.reasoning,
            "totalTokenCount": usage.input + usage.output,
            "cachedContentTokenCount": usage.cached,
            "thoughtsTokenCount": usage.reasoning,
        }
        wrapped: dict[str, Any] = {"modelVersion": model, "responseId": id_}
        wrapped["usageMetadata"] = {name: count for name, count in counts.items() if count}
        if said.finish == "blocked":
            return wrapped | {"promptFeedback": {"blockReason": "SAFETY"}}
        content: dict[str, Any] = {"role": "model"}
        if said.text or said.call:
            content["parts"] = [{"text": said.text}] if said.text else []
        if said.call is not None:
            name, arguments = said.call
            content["parts"].append({"functionCall": {"name": name, "args": arguments}})
        finish = "MAX_TOKENS" if said.finish == "length" else "STOP"
        return wrapped | {"candidates": [{"content": content, "finishReason": finish, "index": 0}]}

    def error(self, refused: CallRefused, id_: str) -> tuple[int, dict[str, Any]]:
        details: list[dict[str, Any]] = []
        status, code = refused.status, _STATUS.get(refused.status, "UNKNOWN")
        if refused.kind == "bad_key":
            status, code = 400, "INVALID_ARGUMENT"
            details = [{"@type": f"{_RPC}.ErrorInfo", "reason": "API_KEY_INVALID"}]
        elif refused.kind in ("too_many", "quota"):
            per = "Day" if refused.kind == "quota" else "Minute"
            violation = {"quotaId": f"GenerateRequestsPer{per}PerProjectPerModel"}
            details = [{"@type": f"{_RPC}.QuotaFailure", "violations": [violation]}]
        if refused.retry_after_s is not None:
            delay = f"{refused.retry_after_s:.3f}s"
            details.append({"@type": f"{_RPC}.RetryInfo", "retryDelay": delay})
        error = {"code": status, "message": str(refused), "status": code, "details": details}
        return status, {"error": error}

    def submitted(self, body: bytes, model: str | None) -> tuple[list[BatchItem], dict[str, Any]]:
        """Read a batch's body; its items are named by their places."""
        if len(body) > _INLINE_LIMIT:
            raise CallRefused(400, "bad_request", "An inline batch is limited to 20 MB.")
        wanted = json.loads(body)["batch"]
        inline = wanted["inputConfig"]["requests"]["requests"]
        items = [self.item(str(n), entry["request"], model) for n, entry in enumerate(inline)]
        metadata = [entry.get("metadata") for entry in inline]
        return items, {"displayName": wanted.get("displayName", ""), "metadata": metadata}

    def about(self, batch: PlayedBatch, origin: str) -> dict[str, Any]:
        """The batch as a long-running operation."""
        metadata: dict[str, Any] = {
            "@type": _BATCH_TYPE,
            "model": f"models/{batch.items[0].asked.model}",
            "displayName": batch.facts["displayName"],
            "state": "BATCH_STATE_RUNNING",
            "createTime": _date(batch.created),
            "updateTime": _date(batch.ended or batch.created),
            "batchStats": {"requestCount": str(len(batch.items))},
            "name": f"batches/{batch.id}",
        }
        about: dict[str, Any] = {"name": f"batches/{batch.id}", "metadata": metadata}
        if batch.ended is None:
            return about
        responses = [
            ({"metadata": own} if own else {}) | self._response(result)
            for result, own in zip(batch.results, batch.facts["metadata"], strict=True)
        ]
        output = {"inlinedResponses": {"inlinedResponses": responses}}
        metadata |= {"state": "BATCH_STATE_SUCCEEDED", "endTime": _date(batch.ended)}
        metadata["output"] = output
        return about | {"done": True, "response": output}

    def page(self, batches: list[dict[str, Any]], has_more: bool) -> dict[str, Any]:
        token = {"nextPageToken": _id(batches[-1])} if has_more else {}
        return {"operations": batches} | token

    def _response(self, result: ItemResult) -> dict[str, Any]:
        if result.said is not None:
            return {"response": self.reply(result.said, result.item.asked.model, result.id)}
        code, message = (4, "Deadline expired.") if result.fault == "expired" else (13, "Internal.")
        return {"error": {"code": code, "message": message}}


play = PlayedGoogle


def _id(about: dict[str, Any]) -> str:
    return str(about["name"]).removeprefix("batches/")


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
