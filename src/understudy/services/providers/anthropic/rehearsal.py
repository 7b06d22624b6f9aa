"""Anthropic as the rehearsal plays it: messages and message batches."""

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

from aiohttp import web

from understudy.services.base import Room
from understudy.services.providers.anthropic import inbound
from understudy.services.providers.rehearsal_base import (
    AskedCall,
    BatchItem,
    CallRefused,
    ItemResult,
    PlayedBatch,
    PlayedProvider,
    Said,
    asked_of,
    broken,
    json_lines,
    limits_in,
    pieces,
    sse,
)

_ERRORS = {
    "too_many": (429, "rate_limit_error"),
    "quota": (402, "billing_error"),
    "bad_key": (401, "authentication_error"),
    "no_model": (404, "not_found_error"),
    "no_path": (404, "not_found_error"),
    "broken": (500, "api_error"),
    "busy": (529, "overloaded_error"),
}  # kind → (status, type)
_CUSTOM_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")


class PlayedAnthropic(PlayedProvider):
    """POST /v1/messages and /v1/messages/batches."""

    name = "anthropic"
    call_path = "/v1/messages"
    submit_path = batches_path = "/v1/messages/batches"
    batch_prefix = "msgbatch"
    paging = ("limit", "after_id", 20)

    def key(self, request: web.Request) -> str | None:
        bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
        return request.headers.get("x-api-key") or bearer or None

    def asked(self, body: dict[str, Any], model: str | None) -> AskedCall:
        thinking = body.get("thinking", {}).get("type", "disabled")
        limit = {"max_tokens": int(body["max_tokens"])}
        return asked_of(inbound.chat_request(body) | limit, thinking != "disabled")

    def reply(self, said: Said, model: str, id_: str) -> dict[str, Any]:
        stops = {"length": "max_tokens", "refusal": "refusal", "blocked": "refusal"}
        is_stopped = said.finish in ("refusal", "blocked")
        category = "general_harms" if said.finish == "blocked" else None
        details = {"type": "refusal", "category": category, "explanation": None}
        usage = said.usage
        content: list[dict[str, Any]] = [{"type": "text", "text": said.text}] if said.text else []
        if said.call is not None:
            name, arguments = said.call
            content.append(
                {"type": "tool_use", "id": f"toolu_{id_}", "name": name, "input": arguments}
            )
        stop = "tool_use" if said.call else stops.get(said.finish, "end_turn")
        return {
            "id": f"msg_{id_}",
            "type": "message",
            "role": "assistant",
            "model": model,
            "content": content,
            "stop_reason": stop,
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

    def events(self, reply: dict[str, Any], body: dict[str, Any]) -> bytes:
        ends = ("stop_reason", "stop_sequence", "stop_details")
        begun = reply | {"content": [], "usage": reply["usage"] | {"output_tokens": 1}}
        told: list[dict[str, Any]] = [
            {"type": "message_start", "message": begun | dict.fromkeys(ends)}
        ]
        for index, block in enumerate(reply["content"]):
            is_text = block["type"] == "text"
            empty: dict[str, Any] = {"text": ""} if is_text else {"input": {}}
            told.append(
                {"type": "content_block_start", "index": index, "content_block": block | empty}
            )
            for piece in pieces(block["text"] if is_text else json.dumps(block["input"])):
                delta = {"type": "text_delta", "text": piece}
                if not is_text:
                    delta = {"type": "input_json_delta", "partial_json": piece}
                told.append({"type": "content_block_delta", "index": index, "delta": delta})
            told.append({"type": "content_block_stop", "index": index})
        stop = {name: reply[name] for name in ends}
        told.append({"type": "message_delta", "delta": stop, "usage": reply["usage"]})
        told.append({"type": "message_stop"})
        return b"".join(sse(event, event["type"]) for event in told)

    def error(self, refused: CallRefused, id_: str) -> tuple[int, dict[str, Any]]:
        status, kind = _ERRORS.get(refused.kind, (refused.status, "invalid_request_error"))
        error = {"type": kind, "message": str(refused)}
        status = refused.status if refused.kind == "busy" else status
        return status, {"type": "error", "error": error, "request_id": id_}

    def headers(self, id_: str, room: Room | None) -> dict[str, str]:
        headers = {"request-id": id_}
        for of, limit, left, reset_s in limits_in(room):
            when = datetime.now(UTC) + timedelta(seconds=reset_s)
            headers[f"anthropic-ratelimit-{of}-limit"] = limit
            headers[f"anthropic-ratelimit-{of}-remaining"] = left
            headers[f"anthropic-ratelimit-{of}-reset"] = f"{when:%Y-%m-%dT%H:%M:%S.%fZ}"
        return headers

    def submitted(self, body: bytes, model: str | None) -> tuple[list[BatchItem], dict[str, Any]]:
        wanted = json.loads(body)["requests"]
        if not all(_CUSTOM_ID.fullmatch(one["custom_id"]) for one in wanted):
            raise CallRefused(400, "bad_request", f"A custom id matches {_CUSTOM_ID.pattern}.")
        return [self.item(one["custom_id"], one["params"]) for one in wanted], {}

    def about(self, batch: PlayedBatch, origin: str) -> dict[str, Any]:
        counts = {"succeeded": batch.count(None), "errored": batch.count("failed")}
        counts |= {"expired": batch.count("expired"), "canceled": 0}
        counts["processing"] = len(batch.items) - sum(counts.values())
        results = f"{origin}/{self.name}{self.batches_path}/{batch.id}/results"
        return {
            "id": batch.id,
            "type": "message_batch",
            "processing_status": "ended" if batch.ended else "in_progress",
            "request_counts": counts,
            "created_at": _date(batch.created),
            "expires_at": _date(batch.created, days=1),
            "ended_at": _date(batch.ended) if batch.ended else None,
            "results_url": results if batch.ended else None,
            "archived_at": None,
            "cancel_initiated_at": None,
        }

    def page(self, batches: list[dict[str, Any]], has_more: bool) -> dict[str, Any]:
        ends = {"first_id": batches[0]["id"], "last_id": batches[-1]["id"]} if batches else {}
        return {"data": batches, "has_more": has_more, **ends}

    def add_to(self, router: web.UrlDispatcher, root: str) -> None:
        """Serve the results of batches."""
        path = f"{root}{self.batches_path}/{{id}}/results"
        router.add_get(path, self._results, name=f"{self.name}.results")

    async def _results(self, request: web.Request) -> web.Response:
        batch = self.props.batch(request.match_info["id"], self.key(request) or "")
        if batch.ended is None:
            raise CallRefused(404, "no_path", f"Batch {batch.id} has no results yet.")
        lines = [
            {"custom_id": result.item.custom_id, "result": self._result(result)}
            for result in batch.results
        ]
        return web.Response(body=json_lines(lines), content_type="application/x-jsonl")

    def _result(self, result: ItemResult) -> dict[str, Any]:
        if result.fault == "expired":
            return {"type": "expired"}
        if result.said is None:
            return {"type": "errored", "error": self.error(broken(), result.id)[1]}
        message = self.reply(result.said, result.item.asked.model, result.id)
        return {"type": "succeeded", "message": message}


play = PlayedAnthropic


def _date(seconds: float, days: int = 0) -> str:
    return (datetime.fromtimestamp(seconds, UTC) + timedelta(days=days)).isoformat()
