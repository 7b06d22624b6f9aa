"""Gemini's generateContent as chat completions of OpenAI, and back, for clients of Google's SDK.

The other way round than `translation`; Google's own service gets the bytes as they came. Needs no
SDK. The server takes REST names and snake_case; so does this.
Sources: ai.google.dev/api/generate-content and /api/caching#Schema, and the types of the official
SDK (google-genai, types.py).
"""

import json
import re
from typing import Any

from understudy.services.base import Usage
from understudy.services.providers.google.errors import error
from understudy.services.providers.google.usage import usage_of
from understudy.services.providers.openai import chat
from understudy.services.providers.translation import NOT_STORED, CannotSay, Events, Wire

NAME = "generate_content"
WIRE: Wire = "google"
SPEAKERS: tuple[str, ...] = ("google",)
PATH = ""  # the model is in it
WANTED = "contents"
HIDES_USAGE = False
_SETTINGS = {
    **{"temperature": "temperature", "topP": "top_p", "topK": "top_k", "seed": "seed"},
    **{"maxOutputTokens": "max_tokens", "stopSequences": "stop", "candidateCount": "n"},
    **{"presencePenalty": "presence_penalty", "frequencyPenalty": "frequency_penalty"},
}  # of generationConfig → of a chat completion
_CANNOT = ("responseLogprobs", "logprobs", "speechConfig", "imageConfig", "mediaResolution")
_MODES = {"AUTO": "auto", "ANY": "required", "NONE": "none", "VALIDATED": "auto"}
_ROLES = {"model": "assistant", "system": "system"}  # others: user
_STOPS = {"length": "MAX_TOKENS", "content_filter": "SAFETY"}
_CAPITAL = re.compile(r"(?<!^)([A-Z])")


# --- requests ------------------------------------------------------------------------------------


def chat_request(body: dict[str, Any], notes: list[str] | None = None) -> dict[str, Any]:
    """Return a request as one for a chat completion, noting what is left out; raises CannotSay.

    `model` and `stream`, which stand in the address, are in `body`.
    """
    notes = [] if notes is None else notes
    if _of(body, "cachedContent"):
        raise CannotSay(NOT_STORED, "cachedContent: what is stored only Google's service can read.")
    made: dict[str, Any] = {"model": body.get("model")}
    made["messages"] = _turns(body)
    if body.get("stream"):
        made |= {"stream": True, "stream_options": {"include_usage": True}}
    if _of(body, "safetySettings"):
        notes.append("safetySettings: only Google's service has them, so they are left out")
    config = _of(body, "generationConfig") or {}
    for name in _CANNOT:
        if _of(config, name):
            raise CannotSay("unsupported_parameter", f"{name} cannot be passed on.")
    if any(str(kind).upper() != "TEXT" for kind in _of(config, "responseModalities") or ()):
        raise CannotSay("unsupported_parameter", "responseModalities: text alone can be answered.")
    if _of(config, "thinkingConfig"):
        notes.append("thinkingConfig: left out where another than Google's service answers")
    for theirs, ours in _SETTINGS.items():
        if (value := _of(config, theirs)) is not None:
            made[ours] = value
    if _of(config, "responseMimeType") == "application/json":
        made["response_format"] = _form(config)
    names = [name for tool in _of(body, "tools") or () for name in _functions(tool)]
    if names:
        made["tools"] = [{"type": "function", "function": one} for one in names]
        made |= _calling(body, made["tools"])
    return made


def _of(values: dict[str, Any], name: str) -> Any:
    """Return a value by its REST name, or by the same name in snake_case."""
    found = values.get(name)
    return values.get(_CAPITAL.sub(r"_\1", name).lower()) if found is None else found


def _turns(body: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the turns; results that name no call belong to the open calls of that function."""
    turns: list[dict[str, Any]] = []
    if system := _of(body, "systemInstruction"):
        turns.append({"role": "system", "content": _text(system)})
    waiting: list[tuple[str, str]] = []  # calls without a result: (name, id)
    contents = body["contents"]
    for content in [contents] if isinstance(contents, dict) else contents:
        parts, calls = list[dict[str, Any]](), list[dict[str, Any]]()
        for part in content.get("parts") or ():
            if part.get("thought"):
                continue
            if call := _of(part, "functionCall"):
                id_ = call.get("id") or f"call_{len(turns)}_{len(calls)}"
                waiting.append((call["name"], id_))
                calls.append(chat.tool_call(id_, call["name"], json.dumps(call.get("args") or {})))
            elif result := _of(part, "functionResponse"):
                turns.append(_result(result, waiting))
            else:
                parts.append(_part(part))
        if not parts and not calls:
            continue
        is_text = all(part["type"] == "text" for part in parts)
        said = "".join(part["text"] for part in parts) if is_text else parts
        role = _ROLES.get(content.get("role") or "user", "user")
        turn: dict[str, Any] = {"role": role, "content": said or (None if calls else "")}
        turns.append(turn | ({"tool_calls": calls} if calls else {}))
    return turns


def _result(result: dict[str, Any], waiting: list[tuple[str, str]]) -> dict[str, Any]:
    """Return the result of a call as a turn, and strike the call off those that wait."""
    given, name = result.get("id"), result["name"]
    found = next((one for one in waiting if given in (None, one[1]) and name == one[0]), None)
    if found is not None:
        waiting.remove(found)
    if given is None and found is None:
        message = f"The result of {name} is of no call before it."
        raise CannotSay("invalid_request", message)
    if result.get("parts"):
        raise CannotSay("unsupported_parameter", "Parts of a functionResponse cannot be passed on.")
    said = result.get("response") or {}
    only = next(iter(said.values())) if len(said) == 1 else None
    words = only if isinstance(only, str) else json.dumps(said)
    id_ = given or (found[1] if found else "")
    return {"role": "tool", "tool_call_id": id_, "content": words}


def _part(part: dict[str, Any]) -> dict[str, Any]:
    if isinstance(part.get("text"), str):
        return {"type": "text", "text": part["text"]}
    data, file = _of(part, "inlineData"), _of(part, "fileData")
    kind = str(_of(data or file or {}, "mimeType") or "")
    if data and kind.startswith("image/"):
        url = f"data:{kind};base64,{data['data']}"
    elif file and kind.startswith("image/") and str(_of(file, "fileUri")).startswith("http"):
        url = _of(file, "fileUri")
    else:
        name = next(iter(part), "nothing")
        raise CannotSay("unsupported_parameter", f"A part with {name} {kind} cannot be passed on.")
    return {"type": "image_url", "image_url": {"url": url}}


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "\n\n".join(part["text"] for part in content["parts"])


def _functions(tool: dict[str, Any]) -> list[dict[str, Any]]:
    odd = next((name for name, value in tool.items() if value is not None), "")
    declared = _of(tool, "functionDeclarations")
    if declared is None:
        raise CannotSay("unsupported_parameter", f"The tool {odd} is Google's own.")
    made = []
    for one in declared:
        function = {"name": one["name"], "description": one.get("description") or ""}
        schema = _of(one, "parametersJsonSchema") or json_schema(one.get("parameters"))
        made.append(function | {"parameters": schema or {"type": "object", "properties": {}}})
    return made


def _calling(body: dict[str, Any], tools: list[dict[str, Any]]) -> dict[str, Any]:
    config = _of(_of(body, "toolConfig") or {}, "functionCallingConfig") or {}
    if not config.get("mode"):
        return {}
    choice: Any = _MODES[str(config["mode"]).upper()]
    allowed = _of(config, "allowedFunctionNames") or []
    if len(allowed) == 1 and choice == "required":
        choice = {"type": "function", "function": {"name": allowed[0]}}
    kept = [tool for tool in tools if not allowed or tool["function"]["name"] in allowed]
    return {"tool_choice": choice, "tools": kept}


def _form(config: dict[str, Any]) -> dict[str, Any]:
    schema = _of(config, "responseJsonSchema") or json_schema(_of(config, "responseSchema"))
    if not schema:
        return {"type": "json_object"}
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}


def json_schema(schema: Any) -> Any:
    """Return Google's kind of schema as a JSON schema: types in small letters, null among them."""
    if not isinstance(schema, dict):
        return schema
    made: dict[str, Any] = {}
    for name, value in schema.items():
        match name:
            case "type":
                made["type"] = str(value).lower()
            case "properties":
                made["properties"] = {key: json_schema(one) for key, one in value.items()}
            case "items":
                made["items"] = json_schema(value)
            case "anyOf" | "any_of":
                made["anyOf"] = [json_schema(one) for one in value]
            case "nullable" | "propertyOrdering" | "property_ordering" | "example":
                continue
            case _ if name[:3] in ("min", "max") and isinstance(value, str):
                made[_camel(name)] = int(value)  # 64 bits come as text
            case _:
                made[_camel(name)] = value
    if schema.get("nullable") and "type" in made:
        made["type"] = [made["type"], "null"]
    return made


def _camel(name: str) -> str:
    return re.sub(r"_(\w)", lambda found: found[1].upper(), name)


# --- answers that are made -----------------------------------------------------------------------


def answer(status: int, body: bytes, request: dict[str, Any], call_id: str) -> tuple[int, bytes]:
    """Return status and body of a chat completion, or of an error in its place, as Gemini's."""
    return chat.translated(status, body, lambda values: _answer(values, call_id), error)


def _answer(values: dict[str, Any], call_id: str) -> dict[str, Any]:
    candidates = []
    for choice in values["choices"]:
        message = choice["message"]
        text = chat.text(message.get("content")) or message.get("refusal")
        parts: list[dict[str, Any]] = [{"text": text}] if text else []
        calls = [call["function"] | {"id": call["id"]} for call in message.get("tool_calls") or ()]
        made, stop = _ended(calls, choice.get("finish_reason"))
        parts += made
        candidates.append(_candidate(parts, choice.get("index", 0)) | {"finishReason": stop})
    used = chat.counted(values.get("usage") or {})
    head = {"candidates": candidates, "usageMetadata": counts(used or Usage())}
    return head | {"modelVersion": values.get("model") or "", "responseId": call_id}


def counts(used: Usage) -> dict[str, Any]:
    """Return the tokens as Gemini counts them; thoughts stand beside the answer."""
    made = {
        "promptTokenCount": used.input,
        "candidatesTokenCount": used.output - used.reasoning,
        "totalTokenCount": used.input + used.output,
    }
    more = {"cachedContentTokenCount": used.cached, "thoughtsTokenCount": used.reasoning}
    return made | {name: count for name, count in more.items() if count}


def _candidate(parts: list[dict[str, Any]], index: int = 0) -> dict[str, Any]:
    return {"content": {"role": "model", "parts": parts}, "index": index}


def _ended(calls: list[dict[str, Any]], reason: Any) -> tuple[list[dict[str, Any]], str]:
    """Return the parts of calls and why the answer ended; half a call is none."""
    stop = _STOPS.get(str(reason), "STOP")
    try:
        args = [json.loads(one.get("arguments") or "{}") for one in calls]
    except ValueError:
        return [], "MALFORMED_FUNCTION_CALL" if stop == "STOP" else stop
    named = [{"id": one["id"], "name": one["name"]} for one in calls]
    return [
        {"functionCall": call | {"args": each}} for call, each in zip(named, args, strict=True)
    ], stop


class GeminiEvents:
    """Chunks of a chat completion as responses of Gemini's; a call of a tool comes whole."""

    def __init__(self, call_id: str) -> None:
        self._events, self._id, self._model = Events(), call_id, ""
        self._calls: list[dict[str, Any]] = []
        self._has_begun = False
        self._reason: str | None = None
        self._usage: Usage | None = None

    def feed(self, part: bytes) -> bytes:
        """Return what the client gets for whole lines of the stream."""
        return b"".join(map(self._chunk, self._events.feed(part)))

    def end(self) -> bytes:
        """Return what ends the answer: the calls of tools, the reason and the tokens."""
        if not self._has_begun:
            return b""
        parts, stop = _ended(self._calls, self._reason)
        last = _candidate(parts) | {"finishReason": stop}
        return self._event(last, usageMetadata=counts(self._usage or Usage()))

    def broken(self, message: str) -> bytes:
        """Return what a client gets in place of the rest."""
        return b"data: " + chat.dumps(error(502, "", message)) + b"\r\n\r\n"

    def _chunk(self, chunk: dict[str, Any]) -> bytes:
        if "error" in chunk:
            said = chunk["error"]
            return self.broken(str(said.get("message") if isinstance(said, dict) else said))
        self._has_begun, made = True, b""
        self._model = chunk.get("model") or self._model
        if isinstance(chunk.get("usage"), dict):
            self._usage = chat.counted(chunk["usage"])
        for choice in chunk.get("choices") or ():
            delta = choice.get("delta") or {}
            if words := delta.get("content") or delta.get("refusal"):
                made += self._event(_candidate([{"text": words}]))
            for call in delta.get("tool_calls") or ():
                function = call.get("function") or {}
                if call.get("id"):
                    name = function.get("name") or ""
                    self._calls.append({"id": call["id"], "name": name, "arguments": ""})
                self._calls[-1]["arguments"] += function.get("arguments") or ""
            self._reason = choice.get("finish_reason") or self._reason
        return made

    def _event(self, candidate: dict[str, Any], **more: Any) -> bytes:
        told = {"candidates": [candidate], "modelVersion": self._model, "responseId": self._id}
        return b"data: " + chat.dumps(told | more) + b"\r\n\r\n"


def events(request: dict[str, Any], call_id: str) -> GeminiEvents:
    """Return a translator of one streamed answer to a request."""
    return GeminiEvents(call_id)


# --- answers that go through ---------------------------------------------------------------------


def as_chat(content: bytes, is_stream: bool) -> bytes | None:
    """Return None: logs of this protocol are read as they are."""
    return None


def usage_in(content: bytes, is_stream: bool) -> Usage | None:
    """Return the tokens that a response says it took, the last one of a stream."""
    found = _told(content) if is_stream else [chat.loads(content)]
    counted = [one.get("usageMetadata") for one in found if isinstance(one, dict)]
    return next((usage for one in reversed(counted) if (usage := usage_of(one))), None)


def is_end(lines: bytes) -> bool:
    """Return whether a stream ends in these whole lines: by the reason, with the tokens."""
    return b'"usageMetadata"' in lines and has_ended(lines)


def has_ended(stream: bytes) -> bool:
    """Return whether a stream says that its answer is whole, or that there is none."""
    return any(
        (event.get("promptFeedback") or {}).get("blockReason")
        or any(one.get("finishReason") for one in event.get("candidates") or ())
        for event in _told(stream)
        if isinstance(event, dict)
    )


def _told(content: bytes) -> list[Any]:
    wanted = (b'"usageMetadata"', b'"finishReason"', b'"promptFeedback"')
    lines = (line for line in content.split(b"\n") if line.startswith(b"data:"))
    return [chat.loads(line[5:]) for line in lines if any(name in line for name in wanted)]
