"""The Gemini wire: generateContent."""

from typing import Any

from aiohttp import web

from understudy.rehearsal.wire import Asked, Refused, Said, text_of
from understudy.services.base import Room

_STATUS = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 404: "NOT_FOUND"}
_STATUS |= {429: "RESOURCE_EXHAUSTED", 500: "INTERNAL", 503: "UNAVAILABLE", 529: "UNAVAILABLE"}
_RPC = "type.googleapis.com/google.rpc"


class Google:
    """POST /v1/models/MODEL:generateContent."""

    name = family = "google"

    def key(self, request: web.Request) -> str | None:
        return request.headers.get("x-goog-api-key") or request.query.get("key") or None

    def asked(self, body: dict[str, Any], model: str | None) -> Asked:
        if model is None:
            model = str(body["model"]).removeprefix("models/")
        system = body.get("systemInstruction")
        messages = [{"role": "system", "content": text_of(system["parts"])}] if system else []
        roles = {"model": "assistant"}
        for content in body["contents"]:
            role = content.get("role", "user")
            text = text_of(content["parts"])
            messages.append({"role": roles.get(role, role), "content": text})
        config = body.get("generationConfig") or {}
        thinking = config.get("thinkingConfig") or {}
        # The SDK writes these in snake case, and the real server takes both.
        budgets = ("thinkingBudget", "thinking_budget", "thinkingLevel", "thinking_level")
        reasons = any(map(thinking.get, budgets))
        return Asked(model, tuple(messages), config.get("maxOutputTokens"), reasons)

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
        if said.text:
            content["parts"] = [{"text": said.text}]
        finish = "MAX_TOKENS" if said.finish == "length" else "STOP"
        return wrapped | {"candidates": [{"content": content, "finishReason": finish, "index": 0}]}

    def error(self, refused: Refused, id_: str) -> tuple[int, dict[str, Any]]:
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

    def headers(self, id_: str, room: Room | None) -> dict[str, str]:
        return {}  # Gemini's say nothing of limits, and its request id is in the body
