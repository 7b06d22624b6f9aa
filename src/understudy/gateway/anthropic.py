"""Chat completions of OpenAI as messages of Anthropic, and back: texts, images, tools, streams.

Sources: docs.anthropic.com/en/api/messages and /messages-streaming, as typed in the official SDK
(anthropic 2.11, types/message_create_params.py, types/raw_message_stream_event.py).
"""

import json
from typing import Any

from understudy.config.service import Service
from understudy.gateway import translating
from understudy.gateway.calls import Call
from understudy.gateway.replies import error_body
from understudy.gateway.translating import Chunks, Events, Finish
from understudy.gateway.upstream import Lost
from understudy.services.base import Usage
from understudy.services.providers.anthropic.calls import usage_of

_NAME = "Anthropic"
_VERSION = "2023-06-01"
_FINISH: dict[str, Finish] = {  # others: stop
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
_CHOICES = {"auto": "auto", "required": "any", "none": "none"}


class Anthropic:
    """POST /v1/messages."""

    def path(self, body: dict[str, Any], service: Service) -> str:
        """Below the base URL."""
        return "/v1/messages"

    def headers(self, key: str) -> dict[str, str]:
        """With the key."""
        return {"x-api-key": key, "anthropic-version": _VERSION}

    def request(self, body: dict[str, Any], service: Service) -> dict[str, Any]:
        """The body of a call; raises Refused for what Anthropic cannot be told."""
        translating.check(body, _NAME)
        turns = body["messages"]
        system = [translating.text(t["content"]) for t in turns if _is_system(t)]
        made: dict[str, Any] = {
            "model": service.model,
            "max_tokens": translating.most_output(body, service),
            "messages": _merged([_turn(turn) for turn in turns if not _is_system(turn)]),
        }
        if system:
            made["system"] = "\n\n".join(system)
        for name in ("temperature", "top_p", "stream"):
            if body.get(name) is not None:
                made[name] = body[name]
        if stop := translating.stops(body):
            made["stop_sequences"] = stop
        if functions := translating.functions(body, _NAME):
            made["tools"] = [_tool(function) for function in functions]
            if choice := _choice(body):
                made["tool_choice"] = choice
        return made | _settings(body, service)

    def response(self, body: dict[str, Any], call: Call) -> dict[str, Any]:
        """A message as a chat completion."""
        blocks = body["content"]
        text = "".join(block["text"] for block in blocks if block["type"] == "text")
        tools = [
            translating.tool_call(block["id"], block["name"], json.dumps(block["input"]))
            for block in blocks
            if block["type"] == "tool_use"
        ]
        finish = _FINISH.get(body.get("stop_reason") or "", "stop")
        used = usage_of(body.get("usage")) or Usage()
        return translating.completion(body["id"], body["model"], text, tools, finish, used)

    def error(self, body: dict[str, Any]) -> dict[str, Any]:
        """An error as OpenAI's."""
        found = body["error"]
        made: dict[str, Any] = json.loads(error_body(400, found["type"], found["message"]))
        return made

    def stream(self, call: Call) -> "Stream":
        """A translator of one streamed answer."""
        return Stream(call)


class Stream:
    """Events of a message as chunks of a chat completion."""

    def __init__(self, call: Call) -> None:
        self._events, self._chunks = Events(), Chunks(call)
        self._counts: dict[str, Any] = {}
        self._tools = -1  # index of the tool call that is being said
        self._finish: Finish = "stop"

    @property
    def usage(self) -> Usage | None:
        """The tokens, as far as they are known."""
        return usage_of(self._counts)

    def feed(self, part: bytes) -> bytes:
        """What the client gets for a part of the body."""
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
                call = translating.tool_call(block["id"], block["name"], "")
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
                raise Lost(str(event["error"]["type"]), may_be_billed=True)
        return b""


def _is_system(turn: dict[str, Any]) -> bool:
    return turn["role"] in ("system", "developer")


def _turn(turn: dict[str, Any]) -> dict[str, Any]:
    if turn["role"] == "tool":
        content = translating.text(turn["content"])
        result = {"type": "tool_result", "tool_use_id": turn["tool_call_id"], "content": content}
        return {"role": "user", "content": [result]}
    blocks = [_block(part) for part in translating.parts(turn.get("content"))]
    for call in turn.get("tool_calls") or ():
        function = call["function"]
        arguments = json.loads(function["arguments"] or "{}")
        block = {"type": "tool_use", "id": call["id"], "name": function["name"]}
        blocks.append(block | {"input": arguments})
    return {"role": turn["role"], "content": blocks}


def _block(part: dict[str, Any]) -> dict[str, Any]:
    if part.get("type") == "text":
        return {"type": "text", "text": part["text"]}
    if part.get("type") != "image_url":
        raise translating.unknown_part(part, _NAME)
    kind, data = translating.image(part)
    if kind is None:
        return {"type": "image", "source": {"type": "url", "url": data}}
    source = {"type": "base64", "media_type": kind, "data": data}
    return {"type": "image", "source": source}


def _merged(turns: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Turns of one role in a row as one: all tool results must stand together."""
    made: list[dict[str, Any]] = []
    for turn in turns:
        if made and made[-1]["role"] == turn["role"]:
            made[-1]["content"] += turn["content"]
        else:
            made.append(turn)
    return made


def _tool(function: dict[str, Any]) -> dict[str, Any]:
    made = {"name": function["name"], "input_schema": function.get("parameters")}
    made["input_schema"] = made["input_schema"] or {"type": "object", "properties": {}}
    if function.get("description"):
        made["description"] = function["description"]
    return made


def _choice(body: dict[str, Any]) -> dict[str, Any] | None:
    wanted = body.get("tool_choice")
    if isinstance(wanted, dict):
        choice = {"type": "tool", "name": wanted["function"]["name"]}
    elif wanted is not None or body.get("parallel_tool_calls") is False:
        choice = {"type": _CHOICES[wanted or "auto"]}
    else:
        return None
    is_single = body.get("parallel_tool_calls") is False and choice["type"] != "none"
    return choice | ({"disable_parallel_tool_use": True} if is_single else {})


def _settings(body: dict[str, Any], service: Service) -> dict[str, Any]:
    """How much it thinks, and the form of its answer."""
    made: dict[str, Any] = {}
    output: dict[str, Any] = {}
    effort = body.get("reasoning_effort") or service.reasoning
    if isinstance(effort, int):
        made["thinking"] = {"type": "enabled", "budget_tokens": effort}
    elif effort in ("none", "minimal"):
        made["thinking"] = {"type": "disabled"}
    elif effort is not None:
        output["effort"] = effort
    if (schema := translating.schema(body, _NAME)) is not None:
        output["format"] = {"type": "json_schema", "schema": schema}
    return made | ({"output_config": output} if output else {})
