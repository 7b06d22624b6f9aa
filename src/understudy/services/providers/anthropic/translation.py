"""Chat completions of OpenAI as messages of Anthropic, and back: texts, images, tools, streams.

Sources: docs.anthropic.com/en/api/messages and /messages-streaming, as typed in the official SDK
(anthropic 2.11, types/message_create_params.py, types/raw_message_stream_event.py).
"""

import json
from typing import Any

from understudy.config.service import Service
from understudy.services.base import Usage
from understudy.services.providers.anthropic.calls import usage_of
from understudy.services.providers.openai import chat
from understudy.services.providers.openai.chat import Chunks, Finish
from understudy.services.providers.translation import BrokenOff, CannotSay, Events

_NAME = "Anthropic"
_VERSION = "2023-06-01"
_HOTTEST = 1  # OpenAI takes a temperature of up to 2
_FINISH: dict[str, Finish] = {  # others: stop
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
_CHOICES = {"auto": "auto", "required": "any", "none": "none"}


def path(body: dict[str, Any], service: Service) -> str:
    """Return the path of a call below the base URL."""
    return "/v1/messages"


def headers(key: str) -> dict[str, str]:
    """Return the headers that carry the key."""
    return {"x-api-key": key, "anthropic-version": _VERSION}


def request(
    body: dict[str, Any], service: Service, notes: list[str] | None = None
) -> dict[str, Any]:
    """Return the body of a call, adding to `notes` what was adapted; raises CannotSay."""
    notes = [] if notes is None else notes
    chat.check(body, _NAME)
    system, turns = list[str](), list[dict[str, Any]]()
    for turn in chat.turns(body, _NAME, notes):
        if chat.is_system(turn):
            system.append(chat.system(turn, _NAME))
            continue
        made = _turn(turn)
        if turns and turns[-1]["role"] == made["role"]:  # all results of tools must stand together
            turns[-1]["content"] += made["content"]
        else:
            turns.append(made)
    sent = {
        "model": service.model,
        "max_tokens": chat.most_output(body, service),
        "messages": turns,
    }
    if system:
        sent["system"] = "\n\n".join(system)
    for name in ("temperature", "top_p", "top_k", "stream"):
        if body.get(name) is not None:
            sent[name] = body[name]
    if (body.get("temperature") or 0) > _HOTTEST:
        sent["temperature"] = _HOTTEST
        notes.append(f"temperature: {_NAME} takes {_HOTTEST} at most, which it is sent for more")
    if stop := chat.stops(body):
        if not all(text.strip() for text in stop):
            message = f"stop: {_NAME} takes no stop string of white space only."
            raise CannotSay("unsupported_parameter", message)
        sent["stop_sequences"] = stop
    if functions := chat.functions(body, _NAME):
        sent["tools"] = [_tool(function) for function in functions]
        if choice := _choice(body):
            sent["tool_choice"] = choice
    return sent | _beside(body, notes) | _settings(body, service)


def _beside(body: dict[str, Any], notes: list[str]) -> dict[str, Any]:
    """Return who asks, and how urgently."""
    chat.leave_out(body, _NAME, ("seed", "verbosity"), notes)
    metadata, made = body.get("metadata") or {}, dict[str, Any]()
    user = body.get("safety_identifier") or body.get("user") or metadata.get("user_id")
    if user:
        made["metadata"] = {"user_id": str(user)}
    if metadata.keys() - {"user_id"}:
        notes.append(f"metadata: {_NAME} takes a user_id only, so the rest is left out")
    tier = body.get("service_tier")
    if tier in ("auto", "default", "standard_only"):
        made["service_tier"] = "auto" if tier == "auto" else "standard_only"
    else:
        chat.leave_out(body, _NAME, ("service_tier",), notes)
    return made


def response(body: dict[str, Any], call_id: str) -> dict[str, Any]:
    """Return a message as a chat completion."""
    blocks = body["content"]
    text = "".join(block["text"] for block in blocks if block["type"] == "text")
    tools = [
        chat.tool_call(block["id"], block["name"], json.dumps(block["input"]))
        for block in blocks
        if block["type"] == "tool_use"
    ]
    if not blocks and body.get("stop_reason") is None:
        raise LookupError("it neither says anything nor why")
    finish = _FINISH.get(body.get("stop_reason") or "", "stop")
    used = usage_of(body.get("usage")) or Usage()
    return chat.completion(body["id"], body["model"], text, tools, finish, used)


def error(body: dict[str, Any], status: int) -> dict[str, Any]:
    """Return an error as OpenAI's."""
    return chat.error_of(status, body["error"]["type"], body["error"]["message"])


def stream(request: dict[str, Any], call_id: str) -> "MessageStream":
    """Return a translator of one streamed answer to a request."""
    return MessageStream(Chunks(request, call_id))


class MessageStream:
    """Events of a message as chunks of a chat completion."""

    def __init__(self, chunks: Chunks) -> None:
        self._events, self._chunks = Events(), chunks
        self._counts: dict[str, Any] = {}
        self._tools = -1  # index of the tool call that is being said
        self._finish: Finish = "stop"

    @property
    def usage(self) -> Usage | None:
        """The tokens, as far as they are known."""
        return usage_of(self._counts)

    def feed(self, part: bytes) -> bytes:
        """Return what the client gets for a part of the body; raises BrokenOff."""
        return b"".join(map(self._said, self._events.feed(part)))

    def _said(self, event: dict[str, Any]) -> bytes:
        match event["type"]:
            case "message_start":
                message = event["message"]
                self._chunks.id, self._chunks.model = message["id"], message["model"]
                self._counts |= message["usage"]
                return self._chunks.delta(role="assistant", content="")
            case "content_block_start" if event["content_block"]["type"] == "tool_use":
                block = event["content_block"]
                self._tools += 1
                call = chat.tool_call(block["id"], block["name"], "")
                return self._chunks.delta(tool_calls=[{"index": self._tools} | call])
            case "content_block_delta":
                delta = event["delta"]
                if delta["type"] == "text_delta":
                    return self._chunks.delta(content=delta["text"])
                if delta["type"] == "input_json_delta":
                    function = {"arguments": delta["partial_json"]}
                    call = {"index": self._tools, "function": function}
                    return self._chunks.delta(tool_calls=[call])
            case "message_delta":
                self._counts |= event["usage"]
                self._finish = _FINISH.get(event["delta"].get("stop_reason") or "", "stop")
            case "message_stop":
                return self._chunks.delta(self._finish) + self._chunks.end(self.usage or Usage())
            case "error":
                error = event["error"]
                raise BrokenOff(str(error["type"]), str(error.get("message") or ""))
        return b""


def _turn(turn: dict[str, Any]) -> dict[str, Any]:
    if turn["role"] == "tool":
        found = chat.parts(turn["content"], _NAME)
        are_texts = all(part["type"] == "text" for part in found)
        content = chat.text(found) if are_texts else [_block(part) for part in found]
        result = {"type": "tool_result", "tool_use_id": turn["tool_call_id"], "content": content}
        return {"role": "user", "content": [result]}
    found = chat.parts(turn.get("content"), _NAME)
    blocks = [_block(part) for part in found if part["type"] != "text" or part["text"]]
    for call in turn.get("tool_calls") or ():
        function = call["function"]
        arguments = json.loads(function["arguments"] or "{}")
        block = {"type": "tool_use", "id": call["id"], "name": function["name"]}
        blocks.append(block | {"input": arguments})
    return {"role": turn["role"], "content": blocks}


def _block(part: dict[str, Any]) -> dict[str, Any]:
    if part["type"] == "text":
        return {"type": "text", "text": part["text"]}
    kind, data = chat.image(part)
    if kind is None:
        return {"type": "image", "source": {"type": "url", "url": data}}
    return {"type": "image", "source": {"type": "base64", "media_type": kind, "data": data}}


def _tool(function: dict[str, Any]) -> dict[str, Any]:
    parameters = function.get("parameters") or {"type": "object", "properties": {}}
    made = {"name": function["name"], "input_schema": parameters}
    if function.get("description"):
        made["description"] = function["description"]
    return made


def _choice(body: dict[str, Any]) -> dict[str, Any] | None:
    wanted = body.get("tool_choice")
    is_single = body.get("parallel_tool_calls") is False
    if isinstance(wanted, dict):
        choice: dict[str, Any] = {"type": "tool", "name": wanted["function"]["name"]}
    elif wanted is not None or is_single:
        choice = {"type": _CHOICES[wanted or "auto"]}
    else:
        return None
    if is_single and choice["type"] != "none":
        choice["disable_parallel_tool_use"] = True
    return choice


def _settings(body: dict[str, Any], service: Service) -> dict[str, Any]:
    """Return how much it thinks, and the form of its answer."""
    made: dict[str, Any] = {}
    output: dict[str, Any] = {}
    effort = body.get("reasoning_effort") or service.reasoning
    if isinstance(effort, int):
        made["thinking"] = {"type": "enabled", "budget_tokens": effort}
    elif effort in ("none", "minimal"):
        made["thinking"] = {"type": "disabled"}
    elif effort is not None:
        output["effort"] = effort
    if (schema := chat.schema(body, _NAME)) is not None:
        output["format"] = {"type": "json_schema", "schema": schema}
    return made | ({"output_config": output} if output else {})
