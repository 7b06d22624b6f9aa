"""Messages of Anthropic as chat completions of OpenAI, and back, for clients of Anthropic's SDK.

The other way round than `translation`: what such a client asks goes to a local model, or to another
maker's service. Anthropic's own service gets the bytes as they came. Needs no SDK.
Sources: docs.anthropic.com/en/api/messages and /messages-streaming.
"""

import json
from typing import Any

from understudy.services.base import Usage
from understudy.services.providers.anthropic.errors import error
from understudy.services.providers.anthropic.usage import usage_of
from understudy.services.providers.openai import chat
from understudy.services.providers.translation import CannotSay, Events, Wire

NAME = "messages"
WIRE: Wire = "anthropic"
SPEAKERS: tuple[str, ...] = ("anthropic",)
PATH = "/v1/messages"
WANTED = "messages"
HIDES_USAGE = False
_STOPS = {"length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}
_CHOICES = {"auto": "auto", "any": "required", "none": "none"}
_THOUGHTS = ("thinking", "redacted_thinking")
_SETTINGS = ("model", "max_tokens", "temperature", "top_p", "top_k", "stream")


# --- requests ------------------------------------------------------------------------------------


def chat_request(body: dict[str, Any], notes: list[str] | None = None) -> dict[str, Any]:
    """Return a request as one for a chat completion; raises CannotSay."""
    made: dict[str, Any] = {name: body[name] for name in _SETTINGS if body.get(name) is not None}
    turns: list[dict[str, Any]] = []
    if body.get("system"):
        turns.append({"role": "system", "content": _text(body["system"])})
    for turn in body["messages"]:
        turns += _turns(turn["role"], turn["content"])
    made["messages"] = turns
    if body.get("stream"):
        made["stream_options"] = {"include_usage": True}  # its own streams always end with it
    if body.get("stop_sequences"):
        made["stop"] = body["stop_sequences"]
    if body.get("tools"):
        made["tools"] = [_tool(tool) for tool in body["tools"]]
    if choice := body.get("tool_choice"):
        named = choice["type"] == "tool"
        function = {"type": "function", "function": {"name": choice.get("name")}}
        made["tool_choice"] = function if named else _CHOICES[choice["type"]]
        if choice.get("disable_parallel_tool_use"):
            made["parallel_tool_calls"] = False
    if user := (body.get("metadata") or {}).get("user_id"):
        made["user"] = user
    form = (body.get("output_config") or {}).get("format") or {}
    if form.get("type") == "json_schema":
        schema = {"name": "answer", "schema": form["schema"]}
        made["response_format"] = {"type": "json_schema", "json_schema": schema}
    return made


def _turns(role: str, content: Any) -> list[dict[str, Any]]:
    """Return a turn as turns of OpenAI's: each result of a tool is one of its own."""
    if isinstance(content, str):
        return [{"role": role, "content": content}]
    results, parts, calls = [], list[dict[str, Any]](), list[dict[str, Any]]()
    for block in content:
        match block["type"]:
            case "tool_result":
                said = block.get("content") or ""
                if not isinstance(said, str):
                    said = _joined([_part(one) for one in said])
                results.append(
                    {"role": "tool", "tool_call_id": block["tool_use_id"], "content": said}
                )
            case "tool_use":
                arguments = json.dumps(block["input"])
                calls.append(chat.tool_call(block["id"], block["name"], arguments))
            case kind if kind not in _THOUGHTS:
                parts.append(_part(block))
    if not parts and not calls:
        return results
    turn: dict[str, Any] = {"role": role, "content": _joined(parts) or None}
    return [*results, turn | ({"tool_calls": calls} if calls else {})]


def _joined(parts: list[dict[str, Any]]) -> Any:
    """Return parts of a turn, as one text where they are texts."""
    if all(part["type"] == "text" for part in parts):
        return "".join(part["text"] for part in parts)
    return parts


def _part(block: dict[str, Any]) -> dict[str, Any]:
    if block["type"] == "text":
        return {"type": "text", "text": block["text"]}
    if block["type"] != "image" or block["source"]["type"] not in ("base64", "url"):
        raise CannotSay("unsupported_parameter", f"A block of type {block['type']} is Anthropic's.")
    source = block["source"]
    url = source.get("url") or f"data:{source['media_type']};base64,{source['data']}"
    return {"type": "image_url", "image_url": {"url": url}}


def _text(system: Any) -> str:
    return system if isinstance(system, str) else "\n\n".join(block["text"] for block in system)


def _tool(tool: dict[str, Any]) -> dict[str, Any]:
    if tool.get("type") not in (None, "custom"):
        raise CannotSay("unsupported_parameter", f"The tool {tool['type']} is Anthropic's own.")
    function = {"name": tool["name"], "parameters": tool["input_schema"]}
    if tool.get("description"):
        function["description"] = tool["description"]
    return {"type": "function", "function": function}


# --- answers that are made -----------------------------------------------------------------------


def answer(status: int, body: bytes, request: dict[str, Any], call_id: str) -> tuple[int, bytes]:
    """Return status and body of a chat completion, or of an error in its place, as Anthropic's."""
    return chat.translated(status, body, _answer, error)


def events(request: dict[str, Any], call_id: str) -> "AnswerEvents":
    """Return a translator of one streamed answer."""
    return AnswerEvents()


def _answer(values: dict[str, Any]) -> dict[str, Any]:
    choice = values["choices"][0]
    message = choice["message"]
    content: list[dict[str, Any]] = []
    if text := chat.text(message.get("content")) or message.get("refusal"):
        content.append({"type": "text", "text": text})
    for call in message.get("tool_calls") or ():
        function = call["function"]
        arguments = json.loads(function.get("arguments") or "{}")
        used = {"type": "tool_use", "id": call["id"], "name": function["name"]}
        content.append(used | {"input": arguments})
    made = _message(values.get("id"), values.get("model"), content)
    made["stop_reason"] = _STOPS.get(choice.get("finish_reason") or "", "end_turn")
    return made | {"usage": _counts(chat.counted(values.get("usage") or {}))}


def _message(id_: Any, model: Any, content: list[dict[str, Any]]) -> dict[str, Any]:
    made = {"id": f"msg_{id_}", "type": "message", "role": "assistant", "model": model or ""}
    return made | {"content": content, "stop_reason": None, "stop_sequence": None}


def _counts(used: Usage | None) -> dict[str, Any]:
    used = used or Usage()
    return {
        "input_tokens": used.input - used.cached,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": used.cached,
        "output_tokens": used.output,
    }


class AnswerEvents:
    """Chunks of a chat completion as the events of a message."""

    def __init__(self) -> None:
        self._events = Events()
        self._has_begun = False
        self._index = -1  # of the block that is open
        self._open = ""  # text or tool_use
        self._stop = "end_turn"
        self._usage: Usage | None = None

    def feed(self, part: bytes) -> bytes:
        """Return what the client gets for whole lines of the stream."""
        return b"".join(map(self._said, self._events.feed(part)))

    def end(self) -> bytes:
        """Return what ends the message."""
        if not self._has_begun:
            return b""
        delta = {"stop_reason": self._stop, "stop_sequence": None}
        counts = _counts(self._usage)
        ended = _event("message_delta", delta=delta, usage=counts)
        return self._close() + ended + _event("message_stop")

    def broken(self, message: str) -> bytes:
        """Return what a client gets in place of the rest."""
        return _event("error", error=error(502, "", message)["error"])

    def _said(self, chunk: dict[str, Any]) -> bytes:
        if "error" in chunk:
            said = chunk["error"]
            return self.broken(str(said.get("message") if isinstance(said, dict) else said))
        made = b""
        if not self._has_begun:
            self._has_begun = True
            message = _message(chunk.get("id"), chunk.get("model"), [])
            made += _event("message_start", message=message | {"usage": _counts(None)})
        if isinstance(chunk.get("usage"), dict):
            self._usage = chat.counted(chunk["usage"])
        for choice in chunk.get("choices") or ():
            delta = choice.get("delta") or {}
            if delta.get("content"):
                text = {"type": "text_delta", "text": delta["content"]}
                made += self._begin("text", {"type": "text", "text": ""}) + self._delta(text)
            for call in delta.get("tool_calls") or ():
                made += self._call(call)
            if reason := choice.get("finish_reason"):
                self._stop = _STOPS.get(reason, "end_turn")
        return made

    def _call(self, call: dict[str, Any]) -> bytes:
        made, function = b"", call.get("function") or {}
        if call.get("id"):
            made = self._close()
            block = {
                "type": "tool_use",
                "id": call["id"],
                "name": function.get("name"),
                "input": {},
            }
            made += self._begin("tool_use", block)
        if function.get("arguments"):
            piece = {"type": "input_json_delta", "partial_json": function["arguments"]}
            made += self._delta(piece)
        return made

    def _begin(self, kind: str, block: dict[str, Any]) -> bytes:
        if self._open == kind:
            return b""
        made = self._close()
        self._index, self._open = self._index + 1, kind
        return made + _event("content_block_start", index=self._index, content_block=block)

    def _delta(self, delta: dict[str, Any]) -> bytes:
        return _event("content_block_delta", index=self._index, delta=delta)

    def _close(self) -> bytes:
        if not self._open:
            return b""
        self._open = ""
        return _event("content_block_stop", index=self._index)


def _event(kind: str, **more: Any) -> bytes:
    return b"event: " + kind.encode() + b"\ndata: " + chat.dumps({"type": kind} | more) + b"\n\n"


# --- answers that go through ---------------------------------------------------------------------


def as_chat(content: bytes, is_stream: bool) -> bytes | None:
    """Return None: logs of this protocol are read as they are."""
    return None


def usage_in(content: bytes, is_stream: bool) -> Usage | None:
    """Return the tokens that a message says it took; None where it does not say."""
    counts: dict[str, Any] = {}
    for event in _events(content) if is_stream else [chat.loads(content)]:
        for place in (event, event.get("message")) if isinstance(event, dict) else ():
            if isinstance(place, dict) and isinstance(place.get("usage"), dict):
                counts |= place["usage"]
    return usage_of(counts)


def _events(content: bytes) -> list[Any]:
    lines = (line for line in content.split(b"\n") if line.startswith(b"data:"))
    return [chat.loads(line[5:]) for line in lines if b'"usage"' in line]


def is_end(lines: bytes) -> bool:
    """Return whether a stream ends in these whole lines."""
    return any(
        line.startswith(b"data:") and (chat.loads(line[5:]) or {}).get("type") == "message_stop"
        for line in lines.split(b"\n")
        if b'"message_stop"' in line
    )


has_ended = is_end
