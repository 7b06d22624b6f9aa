"""OpenAI's chat completions, as clients of the gateway send and read them.

Where a service speaks this protocol itself, its answers go through as they are, and only their
usage and their end are looked at. For other makers this is one side of the translation.
"""

import json
import re
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeGuard

from understudy.config.service import Service
from understudy.services.base import Usage, error_in
from understudy.services.providers.translation import CannotSay

Finish = Literal["stop", "length", "tool_calls", "content_filter"]

LIMITS = ("max_completion_tokens", "max_tokens")  # of a request; the first that is given counts
_CANNOT = (
    *("audio", "logprobs", "top_logprobs", "functions", "function_call", "prediction"),
    *("web_search_options", "frequency_penalty", "presence_penalty", "logit_bias"),
)
_CODES = {401: "invalid_api_key", 402: "insufficient_quota", 404: "model_not_found"}
_CODES[429] = "rate_limit_exceeded"
_NO_CHOICES = re.compile(rb'"choices"\s*:\s*\[\s*\]')
_DONE = b"[DONE]"  # what ends a stream; a client reads no further
_TAIL = 1 << 16  # bytes; the usage stands in one of the last events


def dumps(values: dict[str, Any]) -> bytes:
    """Return compact JSON; half a surrogate pair stays an escape."""
    return json.dumps(values, separators=(",", ":")).encode()


def loads(content: bytes) -> Any:
    """Return what JSON in UTF-8 means; None where it is none."""
    try:
        return json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError):
        return None


# --- answers that go through ---------------------------------------------------------------------


def usage_in(content: bytes, is_stream: bool) -> Usage | None:
    """Return the tokens that an answer says it took; None where it does not say."""
    if not is_stream:
        return _usage(loads(content))
    lines = reversed(content[-_TAIL:].split(b"\n"))
    events = (loads(x[5:]) for x in lines if x.startswith(b"data:") and b'"usage"' in x)
    return next((found for event in events if (found := _usage(event)) is not None), None)


def shows_usage(body: dict[str, Any]) -> bool:
    """Return whether a request wants its stream to end with the usage."""
    options = body.get("stream_options")
    return isinstance(options, dict) and options.get("include_usage") is True


def asking_usage(raw: bytes, body: dict[str, Any]) -> bytes:
    """Return the body of a request that asks for the usage as well, else byte for byte as it is."""
    if "stream_options" not in body:
        return raw.rstrip()[:-1] + b',"stream_options":{"include_usage":true}}'
    options = body["stream_options"]
    if options is not None and not isinstance(options, dict):
        return raw  # the service says what is wrong with it
    return dumps(body | {"stream_options": (options or {}) | {"include_usage": True}})


class UsageHider:
    """Takes the event out of a stream that holds the usage alone, which nobody asked for."""

    def __init__(self) -> None:
        self._is_after = False  # the blank line that ends the event comes next

    def feed(self, lines: bytes) -> bytes:
        """Return what the client gets of these whole lines."""
        if not self._is_after and b'"usage"' not in lines:
            return lines
        return b"".join(line for line in lines.splitlines(keepends=True) if not self._hides(line))

    def _hides(self, line: bytes) -> bool:
        if self._is_after and not line.strip():
            self._is_after = False
            return True
        self._is_after = (
            line.startswith(b"data:")
            and b'"usage"' in line
            and _NO_CHOICES.search(line) is not None
            and _usage(loads(line[5:])) is not None
        )
        return self._is_after


def is_end(lines: bytes) -> bool:
    """Return whether a stream ends in these whole lines; an answer may speak of [DONE] as well."""
    return _DONE in lines and any(
        line.startswith(b"data:") and line[5:].strip() == _DONE for line in lines.split(b"\n")
    )


def stream_error(lines: bytes) -> str | None:
    """Return the words of the first error among the events in these whole lines of a stream."""
    if b'"error"' not in lines and b"event" not in lines and b'"choices"' in lines:
        return None
    is_error = False
    for line in lines.split(b"\n"):
        name, _, value = line.strip(b"\r").partition(b":")
        value = value.strip()
        if name == b"event":
            is_error = value == b"error"
        if name == b"data" and value:
            found = error_in(values := loads(value))
            if found is not None:
                return found[0]
            if is_error:
                return str(values or value.decode("utf-8", "replace"))[:300]
    return None


def has_ended(stream: bytes) -> bool:
    """Return whether a stream says that its answer is whole: by [DONE], or why it finished."""
    tail = stream[-_TAIL:]
    lines = [line[5:].strip() for line in tail.split(b"\n") if line.startswith(b"data:")]
    return _DONE in lines or any(
        _finish(loads(line)) for line in reversed(lines) if b'"finish_reason"' in line
    )


def _finish(event: Any) -> bool:
    choices = event.get("choices") if isinstance(event, dict) else None
    return isinstance(choices, list) and any(
        isinstance(choice, dict) and choice.get("finish_reason") for choice in choices
    )


def _usage(body: Any) -> Usage | None:
    counts = body.get("usage") if isinstance(body, dict) else None
    return counted(counts) if isinstance(counts, dict) else None


def counted(counts: dict[str, Any]) -> Usage | None:
    """Return the tokens in counts, as chat completions or Responses call them."""
    is_chat = "prompt_tokens" in counts
    prompt, answer = ("prompt", "completion") if is_chat else ("input", "output")
    if not _is_count(heard := counts.get(f"{prompt}_tokens")):
        return None
    said = counts.get(f"{answer}_tokens")
    return Usage(
        input=heard,
        cached=min(_detail(counts, f"{prompt}_tokens_details", "cached_tokens"), heard),
        output=said if _is_count(said) else 0,
        reasoning=_detail(counts, f"{answer}_tokens_details", "reasoning_tokens"),
    )


def _detail(counts: dict[str, Any], group: str, name: str) -> int:
    details = counts.get(group)
    found = details.get(name) if isinstance(details, dict) else None
    return found if _is_count(found) else 0


def _is_count(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53


# --- requests ------------------------------------------------------------------------------------


def check(body: dict[str, Any], maker: str, takes: Sequence[str] = ()) -> None:
    """Refuse what a maker cannot be told and what changes the answer; it `takes` some of it."""
    for name in _CANNOT:
        if body.get(name) and name not in takes:
            raise _cannot(name, maker)
    if body.get("n") not in (None, 1):
        raise CannotSay("unsupported_parameter", f"n={body['n']}: {maker} gives one answer.")


def leave_out(body: dict[str, Any], maker: str, names: Sequence[str], notes: list[str]) -> None:
    """Note what a maker cannot be told and what an answer is as good without."""
    notes += [f"{name}: {maker} takes none, so it is left out" for name in names if body.get(name)]


def turns(body: dict[str, Any], maker: str, notes: list[str]) -> list[dict[str, Any]]:
    """Return the turns, without those of the assistant that say nothing, which makers refuse."""
    found = []
    for turn in body["messages"]:
        content = parts(turn.get("content"))
        said = any(part.get("type") != "text" or part["text"].strip() for part in content)
        if turn["role"] == "assistant" and not (said or turn.get("tool_calls")):
            notes.append(f"an empty turn: {maker} takes none, so it is left out")
        else:
            found.append(turn)
    return found


def system(turn: dict[str, Any], maker: str) -> str:
    """Return the text of a turn that instructs the model; raises CannotSay for anything else."""
    found = parts(turn["content"], maker)
    if odd := next((part["type"] for part in found if part["type"] != "text"), None):
        raise _cannot(f"A part of type {odd} in a system turn", maker)
    return text(found)


def is_system(turn: dict[str, Any]) -> bool:
    """Return whether a turn instructs the model."""
    return turn["role"] in ("system", "developer")


def most_output(body: dict[str, Any], service: Service) -> int:
    """Return the limit of the answer, by the request or by conf/service."""
    given = (body.get(name) for name in LIMITS)
    return next((limit for limit in given if isinstance(limit, int)), service.max_output_tokens)


def stops(body: dict[str, Any]) -> list[str]:
    """Return the stop strings."""
    stop = body.get("stop") or []
    return [stop] if isinstance(stop, str) else stop


def parts(content: Any, maker: str = "") -> list[dict[str, Any]]:
    """Return the parts of a turn's content; a string is one part.

    With a maker's name, raises CannotSay where one is neither text nor image.
    """
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content else []
    found = [
        one if isinstance(one, dict) else {"type": "text", "text": one} for one in content or ()
    ]
    for part in found:
        if maker and part.get("type") not in ("text", "image_url"):
            raise _cannot(f"A part of type {part.get('type')}", maker)
    return found


def text(content: Any) -> str:
    """Return the text of a turn's content."""
    return "".join(part["text"] for part in parts(content) if part.get("type") == "text")


def image(part: dict[str, Any]) -> tuple[str | None, str]:
    """Return (media type, base64 data) of an image in a data: URL, or (None, URL)."""
    url = part["image_url"]["url"]
    head, comma, data = url.partition(",")
    if head.startswith("data:") and head.endswith(";base64") and comma:
        return head[5:-7], data
    return None, url


def schema(body: dict[str, Any], maker: str) -> dict[str, Any] | None:
    """Return the JSON schema that the answer must follow, if one is asked for."""
    wanted = body.get("response_format") or {"type": "text"}
    if wanted["type"] == "text":
        return None
    if wanted["type"] != "json_schema":
        raise _cannot(f"response_format {wanted['type']}", maker)
    found: dict[str, Any] = wanted["json_schema"]["schema"]
    return found


def functions(body: dict[str, Any], maker: str) -> list[dict[str, Any]]:
    """Return the functions among the tools; raises CannotSay where there are other tools."""
    tools = body.get("tools") or []
    for tool in tools:
        if tool.get("type") != "function":
            raise _cannot(f"A tool of type {tool.get('type')}", maker)
    return [tool["function"] for tool in tools]


def _cannot(what: str, maker: str) -> CannotSay:
    return CannotSay("unsupported_parameter", f"{what} cannot be passed on to {maker}.")


# --- answers that are made -----------------------------------------------------------------------


def error(status: int, code: str, message: str) -> dict[str, Any]:
    """Return the body of an error."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    kind = {402: "insufficient_quota", 429: "rate_limit_error"}.get(status, kind)
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def error_of(status: int, kind: str, message: str) -> dict[str, Any]:
    """Return a maker's error as OpenAI says it; `kind` where OpenAI has no code for the status."""
    return error(status, _CODES.get(status, kind), message)


def translated(
    status: int,
    body: bytes,
    made: Callable[[dict[str, Any]], dict[str, Any]],
    error_in: Callable[[int, str, str], dict[str, Any]],
) -> tuple[int, bytes]:
    """Return status and body of an answer, or of an error in its place, as a protocol has them."""
    values = loads(body)
    if status >= 300:
        said = values.get("error") if isinstance(values, dict) else None
        words = said.get("message") if isinstance(said, dict) else said
        words = words or body[:300].decode("utf-8", "replace")
        return status, dumps(error_in(status, _CODES.get(status, "") or "", str(words)))
    try:
        return status, dumps(made(values))
    except (ValueError, LookupError, TypeError, AttributeError) as odd:
        return 502, dumps(error_in(502, "", f"The answer cannot be read: {odd!r}."))


def tool_call(id_: str, name: str, arguments: str, **more: Any) -> dict[str, Any]:
    """Return a tool call of an answer."""
    function = {"name": name, "arguments": arguments}
    return {"id": id_, "type": "function", "function": function} | more


def completion(
    id_: str, model: str, content: str, tools: list[dict[str, Any]], finish: Finish, used: Usage
) -> dict[str, Any]:
    """Return a whole answer."""
    message: dict[str, Any] = {"role": "assistant", "content": content or None, "refusal": None}
    if tools:
        message["tool_calls"] = tools
    elif not content:
        message["content"] = ""
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
    head = {"id": id_, "object": "chat.completion", "created": int(time.time()), "model": model}
    return head | {"choices": [choice], "usage": counts(used)}


class Chunks:
    """The chunks of one streamed answer."""

    def __init__(self, request: dict[str, Any], id_: str) -> None:
        model = request.get("model")
        self._wants_usage = shows_usage(request)
        self._created = int(time.time())
        self.id, self.model = id_, model if isinstance(model, str) else ""

    def delta(self, finish: Finish | None = None, **delta: Any) -> bytes:
        """Return a piece of the answer."""
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return self._event(choices=[choice])

    def end(self, used: Usage) -> bytes:
        """Return what follows the last piece."""
        last = self._event(choices=[], usage=counts(used)) if self._wants_usage else b""
        return last + b"data: " + _DONE + b"\n\n"

    def _event(self, **more: Any) -> bytes:
        head = {"id": self.id, "object": "chat.completion.chunk", "created": self._created}
        return b"data: " + dumps(head | {"model": self.model} | more) + b"\n\n"


def counts(used: Usage) -> dict[str, Any]:
    """Return the tokens as OpenAI counts them."""
    return {
        "prompt_tokens": used.input,
        "completion_tokens": used.output,
        "total_tokens": used.input + used.output,
        "prompt_tokens_details": {"cached_tokens": used.cached},
        "completion_tokens_details": {"reasoning_tokens": used.reasoning},
    }
