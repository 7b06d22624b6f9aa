"""Chat completions of OpenAI as generateContent of Gemini, and back: texts, images, tools, streams.

Sources: ai.google.dev/api/generate-content, as typed in the official SDK (google-genai 3.4,
types.py); the place of a thought's signature is that of Google's own OpenAI-compatible endpoint
(ai.google.dev/gemini-api/docs/thought-signatures, "OpenAI compatibility").
"""

import json
from typing import Any

from understudy.config.service import Service
from understudy.services.base import Usage
from understudy.services.providers.google.calls import usage_of
from understudy.services.providers.openai import chat
from understudy.services.providers.openai.chat import Chunks, Finish
from understudy.services.providers.translation import BrokenOff, CannotSay, Events

_NAME = "Gemini"
_SETTINGS = {
    **{"temperature": "temperature", "top_p": "topP", "top_k": "topK", "seed": "seed"},
    **{"frequency_penalty": "frequencyPenalty", "presence_penalty": "presencePenalty"},
}  # of a request → of generationConfig
_STOPS = ("STOP", "FINISH_REASON_UNSPECIFIED", "OTHER")  # others: content_filter
_TIERS = {"default": "standard", "flex": "flex", "priority": "priority"}  # auto: its own default
_CHOICES = {"auto": "AUTO", "required": "ANY", "none": "NONE"}


def path(body: dict[str, Any], service: Service) -> str:
    """Return the path of a call below the base URL."""
    is_stream = body.get("stream") is True
    verb = "streamGenerateContent?alt=sse" if is_stream else "generateContent"
    return f"/v1beta/models/{service.model}:{verb}"


def headers(key: str) -> dict[str, str]:
    """Return the headers that carry the key."""
    return {"x-goog-api-key": key}


def request(
    body: dict[str, Any], service: Service, notes: list[str] | None = None
) -> dict[str, Any]:
    """Return the body of a call, adding to `notes` what was adapted; raises CannotSay."""
    notes = [] if notes is None else notes
    chat.check(body, _NAME, takes=("frequency_penalty", "presence_penalty"))
    chat.leave_out(body, _NAME, ("metadata", "verbosity"), notes)
    system, contents, names = list[str](), list[dict[str, Any]](), dict[str, str]()
    for turn in chat.turns(body, _NAME, notes):
        if chat.is_system(turn):
            system.append(chat.system(turn, _NAME))
            continue
        made = _turn(turn, names)
        if contents and contents[-1]["role"] == made["role"]:
            contents[-1]["parts"] += made["parts"]  # all results of tools stand together
        else:
            contents.append(made)
    sent: dict[str, Any] = {"contents": contents, "generationConfig": _config(body, service)}
    if tier := _TIERS.get(body.get("service_tier") or ""):
        sent["serviceTier"] = tier
    if system:
        sent["systemInstruction"] = {"parts": [{"text": "\n\n".join(system)}]}
    if functions := chat.functions(body, _NAME):
        sent["tools"] = [{"functionDeclarations": [_declared(one) for one in functions]}]
        if calling := _calling(body):
            sent["toolConfig"] = {"functionCallingConfig": calling}
    return sent


def response(body: dict[str, Any], call_id: str) -> dict[str, Any]:
    """Return a response as a chat completion."""
    said, finish = _said(body, call_id, 0)
    if not said and finish in (None, "stop"):
        raise LookupError("it neither says anything nor why")
    tools = said.pop("tool_calls", [])
    tools = [{k: v for k, v in one.items() if k != "index"} for one in tools]
    used = usage_of(body.get("usageMetadata")) or Usage()
    id_, model = body.get("responseId") or call_id, body.get("modelVersion") or ""
    ended = "tool_calls" if tools and finish == "stop" else finish or "stop"
    return chat.completion(id_, model, said.get("content", ""), tools, ended, used)


def error(body: dict[str, Any], status: int) -> dict[str, Any]:
    """Return an error as OpenAI's."""
    return chat.error_of(status, body["error"]["status"], body["error"]["message"])


def stream(request: dict[str, Any], call_id: str) -> "GeminiStream":
    """Return a translator of one streamed answer to a request."""
    return GeminiStream(Chunks(request, call_id))


class GeminiStream:
    """Responses in parts as chunks of a chat completion."""

    def __init__(self, chunks: Chunks) -> None:
        self._id = chunks.id
        self._events, self._chunks = Events(), chunks
        self._counts: dict[str, Any] = {}
        self._tools = 0
        self._has_begun = False

    @property
    def usage(self) -> Usage | None:
        """The tokens, as far as they are known."""
        return usage_of(self._counts)

    def feed(self, part: bytes) -> bytes:
        """Return what the client gets for a part of the body; raises BrokenOff."""
        return b"".join(map(self._event, self._events.feed(part)))

    def _event(self, event: dict[str, Any]) -> bytes:
        if "error" in event:
            error = event["error"]
            raise BrokenOff(str(error["status"]), str(error.get("message") or ""))
        self._counts = event.get("usageMetadata") or self._counts
        self._chunks.id = event.get("responseId") or self._id
        self._chunks.model = event.get("modelVersion") or self._chunks.model
        delta, finish = _said(event, self._id, self._tools)
        self._tools += len(delta.get("tool_calls", ()))
        if not self._has_begun:
            delta = {"role": "assistant"} | delta
            self._has_begun = True
        made = self._chunks.delta(**delta) if delta else b""
        if finish is not None:
            ended: Finish = "tool_calls" if self._tools and finish == "stop" else finish
            made += self._chunks.delta(ended) + self._chunks.end(self.usage or Usage())
        return made


def _said(body: dict[str, Any], id_: str, tools: int) -> tuple[dict[str, Any], Finish | None]:
    """Return text and tool calls of a response or a part of one, and how it ended, if it did."""
    if not body.get("candidates"):
        is_blocked = "blockReason" in (body.get("promptFeedback") or {})
        return {}, "content_filter" if is_blocked else None
    candidate = body["candidates"][0]
    found = (candidate.get("content") or {}).get("parts") or []
    said: dict[str, Any] = {}
    if text := "".join(part.get("text") or "" for part in found if not part.get("thought")):
        said["content"] = text
    calls = [
        {"index": tools + n} | _called(part, f"call_{id_}_{tools + n}")
        for n, part in enumerate(part for part in found if "functionCall" in part)
    ]
    if calls:
        said["tool_calls"] = calls
    reason = candidate.get("finishReason")
    if reason is None:
        return said, None
    if reason == "MAX_TOKENS":
        return said, "length"
    return said, "stop" if reason in _STOPS else "content_filter"


def _called(part: dict[str, Any], id_: str) -> dict[str, Any]:
    function, more = part["functionCall"], dict[str, Any]()
    if signature := part.get("thoughtSignature"):
        more["extra_content"] = {"google": {"thought_signature": signature}}
    arguments = json.dumps(function.get("args") or {})
    return chat.tool_call(function.get("id") or id_, function["name"], arguments, **more)


def _turn(turn: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    """Return a turn; `names` remembers which function a call id means."""
    if turn["role"] == "tool":
        name = names.get(turn["tool_call_id"])
        if name is None:
            message = f"The tool call {turn['tool_call_id']} is in no turn before its result."
            raise CannotSay("invalid_request", message)
        found = chat.parts(turn["content"], _NAME)
        result: dict[str, Any] = {"name": name, "response": {"result": chat.text(found)}}
        if images := [_part(part) for part in found if part["type"] != "text"]:
            result["parts"] = images
        return {"role": "user", "parts": [{"functionResponse": result}]}
    found = chat.parts(turn.get("content"), _NAME)
    parts = [_part(part) for part in found if part["type"] != "text" or part["text"]]
    for call in turn.get("tool_calls") or ():
        function = call["function"]
        names[call["id"]] = function["name"]
        arguments = json.loads(function["arguments"] or "{}")
        part: dict[str, Any] = {"functionCall": {"name": function["name"], "args": arguments}}
        extra = (call.get("extra_content") or {}).get("google") or {}
        if signature := extra.get("thought_signature"):
            part["thoughtSignature"] = signature
        parts.append(part)
    return {"role": "model" if turn["role"] == "assistant" else "user", "parts": parts}


def _part(part: dict[str, Any]) -> dict[str, Any]:
    if part["type"] == "text":
        return {"text": part["text"]}
    kind, data = chat.image(part)
    if kind is None:
        return {"fileData": {"fileUri": data}}
    return {"inlineData": {"mimeType": kind, "data": data}}


def _declared(function: dict[str, Any]) -> dict[str, Any]:
    made = {"name": function["name"], "description": function.get("description") or ""}
    if parameters := function.get("parameters"):
        made["parametersJsonSchema"] = parameters
    return made


def _calling(body: dict[str, Any]) -> dict[str, Any] | None:
    wanted = body.get("tool_choice")
    if isinstance(wanted, dict):
        return {"mode": "ANY", "allowedFunctionNames": [wanted["function"]["name"]]}
    return None if wanted is None else {"mode": _CHOICES[wanted]}


def _config(body: dict[str, Any], service: Service) -> dict[str, Any]:
    made: dict[str, Any] = {"maxOutputTokens": chat.most_output(body, service)}
    for ours, theirs in _SETTINGS.items():
        if body.get(ours) is not None:
            made[theirs] = body[ours]
    if stop := chat.stops(body):
        made["stopSequences"] = stop
    effort = body.get("reasoning_effort") or service.reasoning
    if isinstance(effort, int) or effort == "none":
        made["thinkingConfig"] = {"thinkingBudget": 0 if effort == "none" else effort}
    elif effort is not None:
        made["thinkingConfig"] = {"thinkingLevel": effort.upper()}
    if (schema := chat.schema(body, _NAME)) is not None:
        made |= {"responseMimeType": "application/json", "responseJsonSchema": schema}
    return made
