"""OpenAI's Responses as its chat completions, and back, for clients of `/v1/responses`.

OpenAI's own service gets the bytes as they came; a local model, or another maker's service, is
asked for a chat completion. Nothing is stored here: what continues a stored response only OpenAI
can answer. Sources: developers.openai.com/api/reference/resources/responses, its page of streaming
events, and their types in the official SDK (openai 3.52, types/responses).
"""

import time
from typing import Any

from understudy.services.base import Usage
from understudy.services.providers.openai import chat
from understudy.services.providers.translation import MADE, NOT_STORED, CannotSay, Events, Wire

NAME = "responses"
WIRE: Wire = "openai"
SPEAKERS: tuple[str, ...] = ("openai", "openai_compatible")
PATH = "/responses"
WANTED = "input"
HIDES_USAGE = False
_SETTINGS = (
    *("model", "temperature", "top_p", "stream", "parallel_tool_calls", "metadata", "user"),
    *("safety_identifier", "service_tier", "prompt_cache_key"),
)
_STORED = ("previous_response_id", "conversation", "prompt", "background")
_TEXTS = ("input_text", "output_text", "text")
_SAYS = {"output_text": "text", "refusal": "refusal"}  # a part of a message → where its words are
_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}
_ENDS = ("response.completed", "response.incomplete", "response.failed")


# --- requests ------------------------------------------------------------------------------------


def chat_request(body: dict[str, Any], notes: list[str] | None = None) -> dict[str, Any]:
    """Return a request as one for a chat completion, noting what is left out; raises CannotSay."""
    notes = [] if notes is None else notes
    if str(body.get("previous_response_id") or "").startswith(MADE.decode()):
        message = "previous_response_id: that answer was made by the gateway, which stores none; "
        raise CannotSay(NOT_STORED, f"{message}send the whole conversation as input.")
    for name in _STORED:
        if body.get(name):
            message = f"{name}: what is stored only OpenAI's own service can read; "
            raise CannotSay(NOT_STORED, f"{message}send the whole conversation as input.")
    if body.get("top_logprobs"):
        raise CannotSay("unsupported_parameter", "top_logprobs cannot be passed on.")
    made: dict[str, Any] = {name: body[name] for name in _SETTINGS if body.get(name) is not None}
    made["messages"] = _turns(body, notes)
    if body.get("max_output_tokens") is not None:
        made["max_tokens"] = body["max_output_tokens"]
    if body.get("stream"):
        made["stream_options"] = {"include_usage": True}  # its own streams always end with it
    if effort := (body.get("reasoning") or {}).get("effort"):
        made["reasoning_effort"] = effort
    if body.get("tools"):
        made["tools"] = [_tool(tool) for tool in body["tools"]]
    if choice := body.get("tool_choice"):
        made["tool_choice"] = _choice(choice)
    text = body.get("text") or {}
    if text.get("verbosity"):
        made["verbosity"] = text["verbosity"]
    form = text.get("format") or {"type": "text"}
    if form["type"] == "json_schema":
        schema = {name: value for name, value in form.items() if name != "type"}
        made["response_format"] = {"type": "json_schema", "json_schema": schema}
    elif form["type"] != "text":
        made["response_format"] = form
    return made


def _turns(body: dict[str, Any], notes: list[str]) -> list[dict[str, Any]]:
    """Return the turns: calls of tools belong to the assistant's turn before them."""
    turns: list[dict[str, Any]] = []
    if body.get("instructions"):
        turns.append({"role": "system", "content": body["instructions"]})
    given = body["input"]
    for item in [{"role": "user", "content": given}] if isinstance(given, str) else given:
        match item.get("type") or "message":
            case "message":
                role = "system" if item["role"] == "developer" else item["role"]
                turns.append({"role": role, "content": _content(item["content"])})
            case "function_call":
                call = chat.tool_call(item["call_id"], item["name"], item["arguments"])
                if not (turns and turns[-1]["role"] == "assistant"):
                    turns.append({"role": "assistant", "content": None})
                turns[-1].setdefault("tool_calls", []).append(call)
            case "function_call_output":
                said = _content(item["output"])
                turns.append({"role": "tool", "tool_call_id": item["call_id"], "content": said})
            case "reasoning":
                notes.append("reasoning of earlier turns: left out; only OpenAI's service reads it")
            case "item_reference":
                message = "An item_reference is to what OpenAI has stored; send the item itself."
                raise CannotSay(NOT_STORED, message)
            case kind:
                message = f"An input item of type {kind} cannot be passed on."
                raise CannotSay("unsupported_parameter", message)
    return turns


def _content(content: Any) -> Any:
    """Return what a turn says, as one text where all of it is text."""
    if isinstance(content, str):
        return content
    parts = [_part(part) for part in content]
    if all(part["type"] == "text" for part in parts):
        return "".join(part["text"] for part in parts)
    return parts


def _part(part: dict[str, Any]) -> dict[str, Any]:
    kind = part["type"]
    if kind in _TEXTS:
        return {"type": "text", "text": part["text"]}
    if kind == "refusal":
        return {"type": "text", "text": part["refusal"]}
    if kind == "input_image" and part.get("image_url"):
        detail = {"detail": part["detail"]} if part.get("detail") else {}
        return {"type": "image_url", "image_url": {"url": part["image_url"], **detail}}
    raise CannotSay("unsupported_parameter", f"A part of type {kind} cannot be passed on.")


def _tool(tool: dict[str, Any]) -> dict[str, Any]:
    if tool["type"] != "function":
        message = f"A tool of type {tool['type']} only OpenAI's own service has."
        raise CannotSay("unsupported_parameter", message)
    names = ("name", "description", "parameters", "strict")
    function = {name: tool[name] for name in names if tool.get(name) is not None}
    return {"type": "function", "function": function}


def _choice(choice: Any) -> Any:
    if isinstance(choice, str):
        return choice
    if choice["type"] != "function":
        message = f"tool_choice of type {choice['type']} cannot be passed on."
        raise CannotSay("unsupported_parameter", message)
    return {"type": "function", "function": {"name": choice["name"]}}


# --- answers that are made -----------------------------------------------------------------------


def answer(status: int, body: bytes, request: dict[str, Any], call_id: str) -> tuple[int, bytes]:
    """Return status and body of a chat completion, or of an error in its place, as a response."""
    if status >= 300:
        return status, body  # errors are the same
    return chat.translated(
        status, body, lambda values: _answer(values, request, call_id), chat.error
    )


def _answer(values: dict[str, Any], request: dict[str, Any], call_id: str) -> dict[str, Any]:
    choice = values["choices"][0]
    message, output = choice["message"], list[dict[str, Any]]()
    calls = message.get("tool_calls") or ()
    said = chat.text(message.get("content"))
    if said or not (calls or message.get("refusal")):
        output.append(_message(call_id, 0, _said("output_text", said)))
    if message.get("refusal"):
        output.append(_message(call_id, len(output), _said("refusal", message["refusal"])))
    for call in calls:
        output.append(_call(call_id, len(output), call) | {"status": "completed"})
    made = _response(request, call_id, values.get("model"))
    used = chat.counted(values.get("usage") or {})
    return _ended(made, output, choice.get("finish_reason"), used)


def _response(request: dict[str, Any], call_id: str, model: Any) -> dict[str, Any]:
    """Return a response that has begun; what a client reads of its request is repeated."""
    made: dict[str, Any] = {
        "id": f"resp_{call_id}",
        "object": "response",
        "created_at": int(time.time()),
        "status": "in_progress",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "model": model or request.get("model") or "",
        "output": [],
        "previous_response_id": None,
        "store": False,
        "usage": None,
    }
    defaults = {
        **{"instructions": None, "max_output_tokens": None, "metadata": {}, "user": None},
        **{"parallel_tool_calls": True, "temperature": 1.0, "top_p": 1.0, "tool_choice": "auto"},
        **{"tools": [], "reasoning": {"effort": None, "summary": None}, "truncation": "disabled"},
        "text": {"format": {"type": "text"}},
    }
    repeated = {
        name: usual if request.get(name) is None else request[name]
        for name, usual in defaults.items()
    }
    return made | repeated


def _ended(
    made: dict[str, Any], output: list[dict[str, Any]], finish: Any, used: Usage | None
) -> dict[str, Any]:
    """Return a response at its end."""
    used, why = used or Usage(), _INCOMPLETE.get(finish or "")
    usage = {
        "input_tokens": used.input,
        "input_tokens_details": {"cached_tokens": used.cached, "cache_write_tokens": used.written},
        "output_tokens": used.output,
        "output_tokens_details": {"reasoning_tokens": used.reasoning},
        "total_tokens": used.input + used.output,
    }
    details = {"reason": why} if why else None
    made |= {"status": "incomplete" if why else "completed", "incomplete_details": details}
    return made | {"output": output, "usage": usage}


def _message(call_id: str, number: int, *content: dict[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {
        "id": f"msg_{call_id}_{number}",
        "type": "message",
        "status": "completed",
    }
    return made | {"role": "assistant", "content": [*content]}


def _said(kind: str, words: str) -> dict[str, Any]:
    more: dict[str, Any] = {"annotations": [], "logprobs": []} if kind == "output_text" else {}
    return {"type": kind, _SAYS[kind]: words, **more}


def _call(call_id: str, number: int, call: dict[str, Any]) -> dict[str, Any]:
    function = call.get("function") or {}
    made = {"id": f"fc_{call_id}_{number}", "type": "function_call", "status": "in_progress"}
    made |= {"call_id": call["id"], "name": function.get("name") or ""}
    return made | {"arguments": function.get("arguments") or ""}


class ResponseEvents:
    """Chunks of a chat completion as the events of a response."""

    def __init__(self, request: dict[str, Any], call_id: str) -> None:
        self._events, self._request, self._id = Events(), request, call_id
        self._response: dict[str, Any] | None = None  # once it has begun
        self._number = 0  # of the next event
        self._output: list[dict[str, Any]] = []
        self._open = ""  # the last item: output_text, refusal or function_call
        self._finish: str | None = None
        self._usage: Usage | None = None

    def feed(self, part: bytes) -> bytes:
        """Return what the client gets for whole lines of the stream."""
        return b"".join(map(self._chunk, self._events.feed(part)))

    def end(self) -> bytes:
        """Return what ends the response."""
        if self._response is None:
            return b""
        made = self._close()
        whole = _ended(self._response, self._output, self._finish, self._usage)
        return made + self._event(f"response.{whole['status']}", response=whole)

    def broken(self, message: str) -> bytes:
        """Return what a client gets in place of the rest."""
        error = chat.error(502, "upstream_broke_off", message)["error"]
        told = {"code": error["code"], "message": message, "param": None, "error": error}
        return self._event("error", **told)

    def _chunk(self, chunk: dict[str, Any]) -> bytes:
        if "error" in chunk:
            said = chunk["error"]
            return self.broken(str(said.get("message") if isinstance(said, dict) else said))
        made = b""
        if self._response is None:
            self._response = _response(self._request, self._id, chunk.get("model"))
            made += self._event("response.created", response=self._response)
            made += self._event("response.in_progress", response=self._response)
        if isinstance(chunk.get("usage"), dict):
            self._usage = chat.counted(chunk["usage"])
        for choice in chunk.get("choices") or ():
            delta = choice.get("delta") or {}
            for kind, words in (
                ("output_text", delta.get("content")),
                ("refusal", delta.get("refusal")),
            ):
                if words:
                    made += self._words(kind, words)
            for call in delta.get("tool_calls") or ():
                made += self._called(call)
            self._finish = choice.get("finish_reason") or self._finish
        return made

    def _words(self, kind: str, words: str) -> bytes:
        made = b""
        if self._open != kind:
            made += self._close()
            empty = _message(self._id, len(self._output)) | {"status": "in_progress"}
            self._open = kind
            self._output.append(empty | {"content": [_said(kind, "")]})
            made += self._event("response.output_item.added", output_index=self._at, item=empty)
            made += self._part("response.content_part.added", part=_said(kind, ""))
        part = self._output[-1]["content"][0]
        part[_SAYS[kind]] += words
        more: dict[str, Any] = {"logprobs": []} if kind == "output_text" else {}
        return made + self._part(f"response.{kind}.delta", delta=words, **more)

    def _called(self, call: dict[str, Any]) -> bytes:
        made = b""
        if call.get("id"):
            made += self._close()
            self._open = "function_call"
            item = _call(self._id, len(self._output), call)
            self._output.append(item | {"arguments": ""})
            added = item | {"arguments": ""}
            made += self._event("response.output_item.added", output_index=self._at, item=added)
        if words := (call.get("function") or {}).get("arguments"):
            self._output[-1]["arguments"] += words
            made += self._item("response.function_call_arguments.delta", delta=words)
        return made

    def _close(self) -> bytes:
        """Return what ends the open item."""
        if not self._open:
            return b""
        kind, item, made = self._open, self._output[-1], b""
        self._open, item["status"] = "", "completed"
        if kind == "function_call":
            made += self._item(
                "response.function_call_arguments.done",
                name=item["name"],
                arguments=item["arguments"],
            )
        else:
            part = item["content"][0]
            words = {_SAYS[kind]: part[_SAYS[kind]]}
            more: dict[str, Any] = {"logprobs": []} if kind == "output_text" else {}
            made += self._part(f"response.{kind}.done", **words, **more)
            made += self._part("response.content_part.done", part=part)
        return made + self._event("response.output_item.done", output_index=self._at, item=item)

    @property
    def _at(self) -> int:
        return len(self._output) - 1

    def _item(self, kind: str, **more: Any) -> bytes:
        return self._event(kind, item_id=self._output[-1]["id"], output_index=self._at, **more)

    def _part(self, kind: str, **more: Any) -> bytes:
        return self._item(kind, content_index=0, **more)

    def _event(self, kind: str, **more: Any) -> bytes:
        told = {"type": kind, "sequence_number": self._number} | more
        self._number += 1
        return b"event: " + kind.encode() + b"\ndata: " + chat.dumps(told) + b"\n\n"


def events(request: dict[str, Any], call_id: str) -> ResponseEvents:
    """Return a translator of one streamed answer to a request."""
    return ResponseEvents(request, call_id)


# --- answers that go through ---------------------------------------------------------------------


def as_chat(content: bytes, is_stream: bool) -> bytes | None:
    """Return None: logs of this protocol are read as they are."""
    return None


def usage_in(content: bytes, is_stream: bool) -> Usage | None:
    """Return the tokens that a response says it took; None where it does not say."""
    found = _last(content) if is_stream else chat.loads(content)
    counts = found.get("usage") if isinstance(found, dict) else None
    return chat.counted(counts) if isinstance(counts, dict) else None


def is_end(lines: bytes) -> bool:
    """Return whether a stream ends in these whole lines."""
    return b'"response.' in lines and _last(lines) is not None


has_ended = is_end


def _last(lines: bytes) -> Any:
    """Return the response of the event that ends a stream; None where it is not there."""
    for line in reversed(lines.split(b"\n")):
        if line.startswith(b"data:") and any(kind.encode() in line for kind in _ENDS):
            event = chat.loads(line[5:])
            if isinstance(event, dict) and event.get("type") in _ENDS:
                return event.get("response") or {}
    return None
