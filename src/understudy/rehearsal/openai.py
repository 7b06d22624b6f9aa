"""The OpenAI wire: chat completions; also spoken by vLLM, Ollama and other servers."""

import time
from typing import Any

from aiohttp import web

from understudy.rehearsal.wire import Asked, Refused, Said, text_of
from understudy.services.base import Room

_CODES = {
    "too_many": ("rate_limit_error", "rate_limit_exceeded"),
    "quota": ("insufficient_quota", "insufficient_quota"),
    "bad_key": ("invalid_request_error", "invalid_api_key"),
    "no_model": ("invalid_request_error", "model_not_found"),
    "too_long": ("invalid_request_error", "context_length_exceeded"),
    "broken": ("server_error", None),
    "busy": ("server_error", None),
}  # kind → (type, code)


class OpenAI:
    """POST /v1/chat/completions."""

    name = family = "openai"

    def key(self, request: web.Request) -> str | None:
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        return key if scheme.lower() == "bearer" and key else None

    def asked(self, body: dict[str, Any], model: str | None) -> Asked:
        roles = {"developer": "system"}
        messages = tuple(
            {"role": roles.get(m["role"], m["role"]), "content": text_of(m["content"])}
            for m in body["messages"]
        )
        limit = body.get("max_completion_tokens", body.get("max_tokens"))
        effort = body.get("reasoning_effort")
        return Asked(body["model"], messages, limit, effort not in (None, "none", "minimal"))

    def reply(self, said: Said, model: str, id_: str) -> dict[str, Any]:
        is_refusal = said.finish == "refusal"
        message = {
            "role": "assistant",
            "content": None if is_refusal else said.text,
            "refusal": said.text if is_refusal else None,
        }
        finish = {"length": "length", "blocked": "content_filter"}.get(said.finish, "stop")
        usage = said.usage
        return {
            "id": f"chatcmpl-{id_}",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": model,
            "choices": [
                {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
            ],
            "usage": {
                "prompt_tokens": usage.input,
                "completion_tokens": usage.output,
                "total_tokens": usage.input + usage.output,
                "prompt_tokens_details": {"cached_tokens": usage.cached},
                "completion_tokens_details": {"reasoning_tokens": usage.reasoning},
            },
        }

    def error(self, refused: Refused, id_: str) -> tuple[int, dict[str, Any]]:
        kind, code = _CODES.get(refused.kind, ("invalid_request_error", None))
        error = {"message": str(refused), "type": kind, "param": None, "code": code}
        return refused.status, {"error": error}

    def headers(self, id_: str, room: Room | None) -> dict[str, str]:
        headers = {"x-request-id": id_}
        if room is None:
            return headers
        for name, limit, left, reset in (
            ("requests", room.requests_per_minute, room.requests_left, room.requests_reset_s),
            ("tokens", room.tokens_per_minute, room.tokens_left, room.tokens_reset_s),
        ):
            if limit is not None:
                headers[f"x-ratelimit-limit-{name}"] = str(limit)
                headers[f"x-ratelimit-remaining-{name}"] = str(left)
                headers[f"x-ratelimit-reset-{name}"] = _duration(reset or 0.0)
        return headers


def _duration(seconds: float) -> str:
    """Seconds as OpenAI's headers write them: 12ms, 1.5s, 6m0s."""
    if seconds < 1:
        return f"{seconds * 1000:.0f}ms"
    minutes, rest = divmod(seconds, 60)
    return f"{minutes:.0f}m{rest:.0f}s" if minutes else f"{rest:.3f}s"
