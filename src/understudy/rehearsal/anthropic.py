"""The Anthropic wire: messages."""

from datetime import UTC, datetime, timedelta
from typing import Any

from aiohttp import web

from understudy.rehearsal.wire import Asked, Refused, Said, text_of
from understudy.services.base import Room

_ERRORS = {
    "too_many": (429, "rate_limit_error"),
    "quota": (402, "billing_error"),
    "bad_key": (401, "authentication_error"),
    "no_model": (404, "not_found_error"),
    "no_path": (404, "not_found_error"),
    "broken": (500, "api_error"),
    "busy": (529, "overloaded_error"),
}  # kind → (status, type)


class Anthropic:
    """POST /v1/messages."""

    name = family = "anthropic"

    def key(self, request: web.Request) -> str | None:
        bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
        return request.headers.get("x-api-key") or bearer or None

    def asked(self, body: dict[str, Any], model: str | None) -> Asked:
        system = (
            [{"role": "system", "content": text_of(body["system"])}] if "system" in body else []
        )
        spoken = [{"role": m["role"], "content": text_of(m["content"])} for m in body["messages"]]
        thinking = body.get("thinking", {}).get("type", "disabled")
        messages = (*system, *spoken)
        return Asked(body["model"], messages, int(body["max_tokens"]), thinking != "disabled")

    def reply(self, said: Said, model: str, id_: str) -> dict[str, Any]:
        stops = {"length": "max_tokens", "refusal": "refusal", "blocked": "refusal"}
        is_stopped = said.finish in ("refusal", "blocked")
        category = "general_harms" if said.finish == "blocked" else None
        details = {"type": "refusal", "category": category, "explanation": None}
        usage = said.usage
        return {
            "id": f"msg_{id_}",
            "type": "message",
            "role": "assistant",
            "model": model,
            "content": [{"type": "text", "text": said.text}] if said.text else [],
            "stop_reason": stops.get(said.finish, "end_turn"),
            "stop_sequence": None,
            "stop_details": details if is_stopped else None,
            "usage": {
                "input_tokens": usage.input - usage.cached,
                "cache_creation_input_tokens": 0,
                "cache_read_input_tokens": usage.cached,
                "output_tokens": usage.output,
                "output_tokens_details": {"thinking_tokens": usage.reasoning},
            },
        }

    def error(self, refused: Refused, id_: str) -> tuple[int, dict[str, Any]]:
        status, kind = _ERRORS.get(refused.kind, (refused.status, "invalid_request_error"))
        error = {"type": kind, "message": str(refused)}
        status = refused.status if refused.kind == "busy" else status
        return status, {"type": "error", "error": error, "request_id": id_}

    def headers(self, id_: str, room: Room | None) -> dict[str, str]:
        headers = {"request-id": id_}
        if room is None:
            return headers
        for name, limit, left, reset in (
            ("requests", room.requests_per_minute, room.requests_left, room.requests_reset_s),
            ("tokens", room.tokens_per_minute, room.tokens_left, room.tokens_reset_s),
        ):
            if limit is not None:
                when = datetime.now(UTC) + timedelta(seconds=reset or 0.0)
                headers[f"anthropic-ratelimit-{name}-limit"] = str(limit)
                headers[f"anthropic-ratelimit-{name}-remaining"] = str(left)
                headers[f"anthropic-ratelimit-{name}-reset"] = f"{when:%Y-%m-%dT%H:%M:%S.%fZ}"
        return headers
