"""OpenAI's older completions as its chat completions, and back, for clients of `/v1/completions`.

The prompt is what the user says: who answers has learnt to answer turns. A service that knows the
path itself gets the bytes as they came.
Source: developers.openai.com/api/reference/resources/completions.
"""

from typing import Any

from understudy.services.base import Usage
from understudy.services.providers.openai import chat
from understudy.services.providers.translation import CannotSay, Events, Wire

NAME = "completions"
WIRE: Wire = "openai"
SPEAKERS: tuple[str, ...] = ("openai", "openai_compatible")
PATH = "/completions"
WANTED = "prompt"
HIDES_USAGE = True
_USUAL_TOKENS = 16  # max_tokens where a request gives none
_SETTINGS = (
    *("model", "temperature", "top_p", "stream", "n", "stop", "seed", "user", "logit_bias"),
    *("presence_penalty", "frequency_penalty"),
)
_STOPS = ("length", "content_filter")  # others: stop


def chat_request(body: dict[str, Any], notes: list[str] | None = None) -> dict[str, Any]:
    """Return a request as one for a chat completion; raises CannotSay."""
    prompt = body["prompt"]
    if isinstance(prompt, list) and len(prompt) == 1:
        (prompt,) = prompt
    if not isinstance(prompt, str):
        message = "prompt is no text: several prompts, or token ids, cannot be passed on."
        raise CannotSay("unsupported_parameter", message)
    if body.get("logprobs") is not None:  # 0 asks for those of the tokens that were chosen
        raise CannotSay("unsupported_parameter", "logprobs cannot be passed on.")
    for name in ("echo", "suffix"):
        if body.get(name):
            raise CannotSay("unsupported_parameter", f"{name} cannot be passed on.")
    if body.get("best_of") not in (None, body.get("n") or 1):
        raise CannotSay("unsupported_parameter", "best_of cannot be passed on.")
    made: dict[str, Any] = {name: body[name] for name in _SETTINGS if body.get(name) is not None}
    made["messages"] = [{"role": "user", "content": prompt}]
    given = body.get("max_tokens")
    made["max_tokens"] = _USUAL_TOKENS if given is None else given
    if body.get("stream"):
        made["stream_options"] = {"include_usage": True}
    return made


def answer(status: int, body: bytes, request: dict[str, Any], call_id: str) -> tuple[int, bytes]:
    """Return status and body of a chat completion, or of an error in its place."""
    if status >= 300:
        return status, body  # errors are the same
    return chat.translated(status, body, _answer, chat.error)


def _answer(values: dict[str, Any]) -> dict[str, Any]:
    choices = []
    for choice in values["choices"]:
        message = choice["message"]
        said = chat.text(message.get("content")) or message.get("refusal") or ""
        choices.append(_choice(choice.get("index", 0), said, _stop(choice) or "stop"))
    return _head(values) | {"choices": choices, "usage": values.get("usage")}


def _head(values: dict[str, Any]) -> dict[str, Any]:
    id_ = str(values.get("id") or "").removeprefix("chatcmpl-")
    made = {"id": f"cmpl-{id_}", "object": "text_completion", "created": values.get("created") or 0}
    return made | {"model": values.get("model") or ""}


def _choice(index: int, said: str, stop: str | None) -> dict[str, Any]:
    return {"text": said, "index": index, "logprobs": None, "finish_reason": stop}


def _stop(choice: dict[str, Any]) -> str | None:
    reason = choice.get("finish_reason")
    return reason if reason in (None, *_STOPS) else "stop"


class CompletionChunks:
    """Chunks of a chat completion as those of a completion."""

    def __init__(self, request: dict[str, Any]) -> None:
        self._events, self._wants_usage = Events(), chat.shows_usage(request)
        self._has_begun = False

    def feed(self, part: bytes) -> bytes:
        """Return what the client gets for whole lines of the stream."""
        return b"".join(map(self._chunk, self._events.feed(part)))

    def end(self) -> bytes:
        """Return what ends the completion."""
        return b"data: [DONE]\n\n" if self._has_begun else b""

    def broken(self, message: str) -> bytes:
        """Return what a client gets in place of the rest."""
        return _event(chat.error(502, "upstream_broke_off", message))

    def _chunk(self, chunk: dict[str, Any]) -> bytes:
        self._has_begun = True
        if "error" in chunk:
            return _event({"error": chunk["error"]})
        choices = []
        for choice in chunk.get("choices") or ():
            said, stop = (choice.get("delta") or {}).get("content") or "", _stop(choice)
            if said or stop:
                choices.append(_choice(choice.get("index", 0), said, stop))
        made = _event(_head(chunk) | {"choices": choices}) if choices else b""
        if self._wants_usage and isinstance(chunk.get("usage"), dict):
            made += _event(_head(chunk) | {"choices": [], "usage": chunk["usage"]})
        return made


def _event(values: dict[str, Any]) -> bytes:
    return b"data: " + chat.dumps(values) + b"\n\n"


def events(request: dict[str, Any], call_id: str) -> CompletionChunks:
    """Return a translator of one streamed answer to a request."""
    return CompletionChunks(request)


def as_chat(content: bytes, is_stream: bool) -> bytes | None:
    """Return an answer that went through as a chat completion, as which it is kept."""
    found = Events().feed(content + b"\n") if is_stream else [chat.loads(content)]
    choices = [one for values in found for one in values.get("choices") or () if not one["index"]]
    said = "".join(choice["text"] for choice in choices)
    stop = next((one["finish_reason"] for one in choices if one.get("finish_reason")), None)
    message = {"role": "assistant", "content": said}
    choice = {"index": 0, "message": message, "finish_reason": stop}
    return chat.dumps(found[0] | {"object": "chat.completion", "choices": [choice]})


def usage_in(content: bytes, is_stream: bool) -> Usage | None:
    """Return the tokens that an answer says it took; None where it does not say."""
    return chat.usage_in(content, is_stream)


is_end, has_ended = chat.is_end, chat.has_ended
