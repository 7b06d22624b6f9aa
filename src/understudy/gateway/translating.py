"""What the translators to other makers' protocols have in common, all on OpenAI's side of it."""

import json
import time
from typing import Any, Literal

from understudy.config.service import Service
from understudy.gateway import answers
from understudy.gateway.calls import Call, Refused
from understudy.services.base import Usage

Finish = Literal["stop", "length", "tool_calls", "content_filter"]
_CANNOT = ("audio", "logprobs", "top_logprobs", "functions", "function_call", "prediction")


class Events:
    """Server-sent events that come in parts (html.spec.whatwg.org, section 9.2)."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, part: bytes) -> list[dict[str, Any]]:
        """The data of the events that are whole now."""
        *lines, self._rest = (self._rest + part).split(b"\n")
        data = (line[5:].strip() for line in lines if line.startswith(b"data:"))
        found = (json.loads(text) for text in data if text and text != answers.DONE)
        return [event for event in found if isinstance(event, dict)]


def check(body: dict[str, Any], maker: str) -> None:
    """Refuse what cannot be said to a maker, rather than leave it out in silence."""
    for name in _CANNOT:
        if body.get(name):
            raise Refused(400, "unsupported_parameter", f"{name} cannot be passed on to {maker}.")
    if body.get("n") not in (None, 1):
        raise Refused(400, "unsupported_parameter", f"n={body['n']}: {maker} gives one answer.")


def most_output(body: dict[str, Any], service: Service) -> int:
    """The limit of the answer, by the request or by conf/service."""
    for name in ("max_completion_tokens", "max_tokens"):
        if isinstance(limit := body.get(name), int):
            return limit
    return service.max_output_tokens


def stops(body: dict[str, Any]) -> list[str]:
    """The stop strings."""
    stop = body.get("stop") or []
    return [stop] if isinstance(stop, str) else stop


def parts(content: Any) -> list[dict[str, Any]]:
    """The parts of a turn's content, whose text may stand alone."""
    if content is None:
        return []
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content else []
    return [part if isinstance(part, dict) else {"type": "text", "text": part} for part in content]


def text(content: Any) -> str:
    """The text of a turn's content."""
    return "".join(part["text"] for part in parts(content) if part.get("type") == "text")


def image(part: dict[str, Any]) -> tuple[str | None, str]:
    """(media type, base64 data) of an image in a data: URL, or (None, URL)."""
    url = part["image_url"]["url"]
    head, comma, data = url.partition(",")
    if head.startswith("data:") and head.endswith(";base64") and comma:
        return head[5:-7], data
    return None, url


def unknown_part(part: dict[str, Any], maker: str) -> Refused:
    """For a part that has no counterpart."""
    message = f"A part of type {part.get('type')} cannot be passed on to {maker}."
    return Refused(400, "unsupported_parameter", message)


def schema(body: dict[str, Any], maker: str) -> dict[str, Any] | None:
    """The JSON schema that the answer must follow, if one is asked for."""
    wanted = body.get("response_format") or {"type": "text"}
    if wanted["type"] == "text":
        return None
    if wanted["type"] != "json_schema":
        message = f"response_format {wanted['type']} cannot be passed on to {maker}."
        raise Refused(400, "unsupported_parameter", message)
    found: dict[str, Any] = wanted["json_schema"]["schema"]
    return found


def functions(body: dict[str, Any], maker: str) -> list[dict[str, Any]]:
    """The functions among the tools."""
    tools = body.get("tools") or []
    if odd := [tool for tool in tools if tool.get("type") != "function"]:
        message = f"A tool of type {odd[0].get('type')} cannot be passed on to {maker}."
        raise Refused(400, "unsupported_parameter", message)
    return [tool["function"] for tool in tools]


def tool_call(id_: str, name: str, arguments: str, **more: Any) -> dict[str, Any]:
    """A tool call of an answer."""
    function = {"name": name, "arguments": arguments}
    return {"id": id_, "type": "function", "function": function} | more


def usage(found: Usage) -> dict[str, Any]:
    """Tokens as OpenAI writes them."""
    return {
        "prompt_tokens": found.input,
        "completion_tokens": found.output,
        "total_tokens": found.input + found.output,
        "prompt_tokens_details": {"cached_tokens": found.cached},
        "completion_tokens_details": {"reasoning_tokens": found.reasoning},
    }


def completion(
    id_: str, model: str, content: str, tools: list[dict[str, Any]], finish: Finish, used: Usage
) -> dict[str, Any]:
    """A whole answer."""
    message: dict[str, Any] = {"role": "assistant", "content": content or None, "refusal": None}
    if tools:
        message["tool_calls"] = tools
    elif not content:
        message["content"] = ""
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
    head = {"id": id_, "object": "chat.completion", "created": int(time.time()), "model": model}
    return head | {"choices": [choice], "usage": usage(used)}


class Chunks:
    """The chunks of one streamed answer."""

    def __init__(self, call: Call) -> None:
        options = call.body.get("stream_options")
        self._wants_usage = isinstance(options, dict) and options.get("include_usage") is True
        self._created = int(time.time())
        self.id, self.model = call.id, call.model or ""

    def delta(self, finish: Finish | None = None, **delta: Any) -> bytes:
        """A piece of the answer."""
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return self._event(choices=[choice])

    def end(self, used: Usage) -> bytes:
        """What follows the last piece."""
        last = self._event(choices=[], usage=usage(used)) if self._wants_usage else b""
        return last + b"data: " + answers.DONE + b"\n\n"

    def _event(self, **more: Any) -> bytes:
        head = {"id": self.id, "object": "chat.completion.chunk", "created": self._created}
        return b"data: " + answers.dumps(head | {"model": self.model} | more) + b"\n\n"
