"""How logs wrap what was sent and what came back, whatever the service.

one line          {"request": …, "response": …}; the response may be {"status_code", "body"}, a
                  list of chunks, the text of a server-sent event stream, or the answer as text
stored            the response itself, with `messages` beside (OpenAI's stored completions)
batch input       {"custom_id", "body"} of OpenAI, {"custom_id", "params"} of Anthropic,
                  {"key", "request"} of Gemini
batch output      {"custom_id", "response": {"status_code", "body"}, "error"} of OpenAI,
                  {"custom_id", "result": {"type", "message"}} of Anthropic, {"key", "response"} of
                  Gemini
chunk logs        a line per chunk, wrapped ({"request_id", "chunk"}) or bare

Sources: the guides to batches of the three services (platform.openai.com/docs/guides/batch,
docs.anthropic.com/en/api/retrieving-message-batch-results,
ai.google.dev/gemini-api/docs/batch-api).
Halves of one exchange bear the same `custom_id`, `request_id`, `key` or `id`; without one, what
follows a request belongs to it.
"""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from understudy.collect import exchange
from understudy.collect.exchange import Answer, Exchange, Maker, Values, mapping
from understudy.data.formats import BadRow, NotWanted

_KEYS = ("custom_id", "request_id", "requestId", "key", "call_id")
_REQUESTS = ("request", "body", "params", "kwargs")
_RESPONSES = ("response", "result", "chunk", "event", "data", "chunks", "events", "completion")
_NO_ANSWER = "a request without its answer"
_NO_REQUEST = "an answer without its request"


class Envelope(NamedTuple):
    """What one line holds of an exchange."""

    key: str | None  # the log's own name of the exchange
    answer_id: str | None  # the service's
    request: Values | None
    bodies: list[Values]
    failed: bool
    values: Values

    def is_whole(self, maker: Maker) -> bool:
        """Whether no other line can belong to it."""
        is_answered = bool(self.bodies) and maker.ended(self.bodies)
        return self.request is not None and (self.failed or is_answered)


def unwrap(values: Values, maker: Maker) -> Envelope:
    """The request and the response bodies of a line; BadRow when it holds neither."""
    request = next((body for name in _REQUESTS if (body := _request(values.get(name)))), None)
    if request is None and maker.asks(values):
        request = values
    bodies, failed = [values] if maker.answers(values) else [], _has_failed(values)
    if not bodies:
        found = (values[name] for name in _RESPONSES if values.get(name) is not None)
        for value in found:
            more, more_failed = _bodies(value)
            bodies += [body for body in more if maker.answers(body)]
            failed = failed or more_failed
    if request is None and not bodies and not failed:
        raise BadRow(f"holds neither request nor response of {maker.name}")
    given = next((values[name] for name in _KEYS if values.get(name)), None)
    if given is None and not (bodies and bodies[0] is values):
        given = values.get("id")
    key = str(given) if isinstance(given, str | int) else None
    return Envelope(key, _answer_id(bodies), request, bodies, failed, values)


def join(parts: Sequence[tuple[Envelope, Maker]]) -> Exchange:
    """The exchange of one or more lines; NotWanted says what is missing or unfit."""
    bodies = [body for part, _ in parts for body in part.bodies]
    asked = next(((part.request, maker) for part, maker in parts if part.request), None)
    if not bodies:
        has_failed = any(part.failed for part, _ in parts)
        raise NotWanted(exchange.FAILED if has_failed else _NO_ANSWER)
    if asked is None:
        raise NotWanted(_NO_REQUEST)
    if len({part.answer_id for part, _ in parts if part.answer_id}) > 1:
        raise NotWanted(exchange.SEVERAL)
    answered = next(maker for part, maker in parts if part.bodies)
    request, maker = asked
    messages, answer = maker.prompt(request), answered.answer(bodies)
    if messages and messages[-1]["role"] == "assistant":
        if answered.name != "anthropic":
            raise NotWanted("the prompt ends with an assistant turn")
        begun = messages.pop()["content"]  # what the answer continues
        answer = Answer(begun + answer.text, answer.model)
    model = answer.model or request.get("model")
    return Exchange(
        messages=[*messages, {"role": "assistant", "content": answer.text}],
        model=model if isinstance(model, str) else None,
        terms=answered.terms,
        facts=(*(part.values for part, _ in parts), request, bodies[-1]),
    )


def _request(value: Any) -> Values | None:
    """The body of a request, out of an HTTP request if it is one."""
    value = _parsed(value)
    if not isinstance(value, dict):
        return None
    return _request(value["body"]) if "body" in value else value


def _bodies(value: Any) -> tuple[list[Values], bool]:
    """The bodies in what a log calls the response, and whether the call failed."""
    value = _parsed(value)
    if isinstance(value, str):
        if value.lstrip()[:5] in ("data:", "event"):
            return _events(value), False
        return [{"choices": [{"index": 0, "message": {"content": value}}]}], False
    if isinstance(value, list):
        pairs = [_bodies(item) for item in value if isinstance(item, dict)]
        return [body for bodies, _ in pairs for body in bodies], any(bad for _, bad in pairs)
    if not isinstance(value, dict):
        return [], False
    failed = _has_failed(value)
    for name in ("body", "message"):  # an HTTP response; a batch result of Anthropic
        if isinstance(value.get(name), dict | str) and ("status_code" in value or "type" in value):
            if name == "message" and value.get("type") != "succeeded":
                continue
            return ([], True) if failed else _bodies(value[name])
    return ([], True) if failed else ([value], False)


def _has_failed(values: Values) -> bool:
    code = values.get("status_code", 200)
    is_bad = isinstance(code, int) and code >= 400
    has_error = bool(values.get("error")) and values.get("type") != "error"
    return is_bad or has_error or values.get("type") in ("errored", "canceled", "expired")


def _parsed(value: Any) -> Any:
    """A JSON text as what it means; other values as they are."""
    if isinstance(value, str) and value[:1] in ("{", "["):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def _events(stream: str) -> list[Values]:
    """The data of server-sent events (html.spec.whatwg.org, section 9.2)."""
    found = []
    for line in stream.splitlines():
        if line.startswith("data:") and (data := line[5:].strip()) not in ("", "[DONE]"):
            try:
                found.append(mapping(json.loads(data), "an event"))
            except (ValueError, RecursionError):
                raise BadRow("has an event stream with an event that is not JSON") from None
    return found


def _answer_id(bodies: list[Values]) -> str | None:
    """The id that the service gave its answer; most events of a stream have none."""
    for body in bodies:
        nested = body.get("response") or body.get("message")
        places = (body, nested if isinstance(nested, dict) else {})
        for name in ("id", "responseId", "response_id"):
            for place in places:
                if isinstance(found := place.get(name), str) and found:
                    return found
    return None
