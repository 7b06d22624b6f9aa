"""One exchange with a service as logs hold it, whatever the service and whatever wraps it.

`Dialect` is how a maker writes requests and responses; those of each maker stand in the `log.py` of
its folder. Logs wrap what was sent and what came back:

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
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from understudy.data import tools
from understudy.data.rejects import BadRow, NotWanted
from understudy.records import Message, Tool, ToolCall
from understudy.services.providers import dialogue

Values = dialogue.Values

TOOL_ANSWER = "a tool call that the log does not hold"
CUT_OFF = "the answer is cut off"
REFUSED = "refused or filtered"
FAILED = "the call failed"
NO_END = "a stream without its end"
SEVERAL = "several answers to one request"
NOT_READY = "the answer was not ready yet"
OTHER_CALL = "a call of another kind than a chat"
NO_STATE = "the prompt continues one that is not in the log"

_KEYS = ("custom_id", "request_id", "requestId", "key", "call_id")
_REQUESTS = ("request", "body", "params", "kwargs", "request_body", "requestBody", "reqPayload")
_RESPONSES = (
    *("response", "result", "chunk", "event", "data", "chunks", "events", "completion"),
    *("response_body", "responseBody", "respPayload"),
)
_NO_THOUGHTS = "kept without the thoughts beside the answer"
_THOUGHT_FIELDS = ("reasoning_content", "reasoning", "thinking")
_OF_TURN = {  # known, and no words
    *("role", "from", "content", "value", "parts", "id", "type", "status", "timestamp", "refusal"),
    *("created_at", "annotations", "tool_calls", "function_call", "audio", "weight", "train"),
    *("tool_call_id", "toolCalls"),
    *(
        "loss",
        "additional_kwargs",
        "response_metadata",
        "usage_metadata",
        "cache_control",
        "prefix",
    ),
}
_OTHER_TOOLS = "kept without the tools that the service runs itself"
_OTHER_FORM = "kept without the form that the request asks of the answer"
_FIELDS = ("data", "event", "id", "retry")  # of an event stream
_STARTS = (":", "\ufeff", *(f"{field}:" for field in _FIELDS))
_NO_ANSWER = "a request without its answer"
_ODD_ANSWER = "a response of no known shape"
_NO_REQUEST = "an answer without its request"


class AnswerText(NamedTuple):
    """The text that the model wrote, and the tools that it called."""

    text: str
    model: str | None
    calls: tuple[ToolCall, ...] = ()

    @property
    def turn(self) -> Message:
        """The answer as the last turn of a conversation."""
        return dialogue.answered(self.text, self.calls)


class LoggedExchange(NamedTuple):
    """A conversation that ends with the answer."""

    messages: list[Message]
    model: str | None
    terms: str | None  # of whom; null = not known
    facts: tuple[Values, ...]  # where to look for ratings, tags and ids
    left: tuple[str, ...] = ()  # what of the request a conversation cannot hold
    tools: list[Tool] | None = None
    response_format: Values | None = None


class Dialect(NamedTuple):
    """How a service writes its requests and responses.

    `answers` also knows the chunks of a stream. `answer` gets one response, or chunks in order,
    and raises NotWanted with the reason when no text was wanted of it.
    """

    name: str
    terms: str | None  # whose; null where others speak the same format
    asks: Callable[[Values], bool]
    answers: Callable[[Values], bool]
    ended: Callable[[list[Values]], bool]
    prompt: Callable[[Values], list[Message]]
    answer: Callable[[list[Values]], AnswerText]


class Envelope(NamedTuple):
    """What one line holds of an exchange."""

    key: str | None  # the log's own name of the exchange
    answer_id: str | None  # the service's
    request: Values | None
    bodies: list[Values]
    failed: bool
    is_odd: bool  # there is a response, and it is none of this dialect's
    values: Values

    def is_whole(self, dialect: Dialect) -> bool:
        """Whether no other line can belong to it."""
        is_answered = bool(self.bodies) and dialect.ended(self.bodies)
        return self.request is not None and (self.failed or self.is_odd or is_answered)


def unwrap(values: Values, dialect: Dialect) -> Envelope:
    """The request and the response bodies of a line; BadRow when it holds neither."""
    request = next((body for name in _REQUESTS if (body := _request(values.get(name)))), None)
    if request is None and dialect.asks(values):
        request = values
    bodies, failed = [values] if dialect.answers(values) else [], _has_failed(values)
    is_odd = False
    if not bodies:
        found = (values[name] for name in _RESPONSES if values.get(name) is not None)
        for value in found:
            more, more_failed = _bodies(value)
            known = [body for body in more if dialect.answers(body)]
            if not known and not more_failed and isinstance(value, str) and value.strip():
                known = [said for said in [_said(value)] if dialect.answers(said)]
            is_odd = is_odd or (not known and bool(more))
            bodies += known
            failed = failed or more_failed
    if request is None and not bodies and not failed:
        raise BadRow(f"holds neither request nor response of {dialect.name}")
    given = next((values[name] for name in _KEYS if values.get(name)), None)
    if given is None and not (bodies and bodies[0] is values):
        given = values.get("id")
    key = str(given) if isinstance(given, str | int) else None
    is_odd = is_odd and not bodies
    return Envelope(key, _answer_id(bodies), request, bodies, failed, is_odd, values)


def join(parts: Sequence[tuple[Envelope, Dialect]]) -> LoggedExchange:
    """The exchange of one or more lines; NotWanted says what is missing or unfit."""
    bodies, ids = list[Values](), set[str]()
    asked: tuple[Values, Dialect] | None = None
    answered: Dialect | None = None
    for part, dialect in parts:
        bodies += part.bodies
        if part.request and asked is None:
            asked = part.request, dialect
        if part.bodies and answered is None:
            answered = dialect
        if part.answer_id:
            ids.add(part.answer_id)
    if answered is None:
        if any(part.failed for part, _ in parts):
            raise NotWanted(FAILED)
        raise NotWanted(_ODD_ANSWER if any(part.is_odd for part, _ in parts) else _NO_ANSWER)
    if asked is None:
        raise NotWanted(_NO_REQUEST)
    if len(ids) > 1:
        raise NotWanted(SEVERAL)
    request, dialect = asked
    messages, answer = dialect.prompt(request), answered.answer(bodies)
    if messages and messages[-1]["role"] == "assistant":
        if answered.name != "anthropic" or "tool_calls" in messages[-1]:
            raise NotWanted("the prompt ends with an assistant turn")
        begun = dialogue.text(messages.pop()["content"] or "")  # what the answer continues
        answer = answer._replace(text=begun + answer.text)
    offered, form = asked_for(request)
    return LoggedExchange(
        messages=tools.numbered([*messages, answer.turn]),
        model=dialogue.first_text([answer.model or request.get("model")]),
        terms=answered.terms,
        facts=(*(part.values for part, _ in parts), request, bodies[-1]),
        left=_left(request, bodies, offered, form),
        tools=offered.tools,
        response_format=form,
    )


def _left(
    request: Values, bodies: Sequence[Values], offered: tools.Offered, form: Values | None
) -> tuple[str, ...]:
    """What a row cannot hold of an exchange."""
    left = fields_left(request.get("messages"))
    if offered.has_others:
        left.add(_OTHER_TOOLS)
    if form is None and _asks_for(request.get("response_format")):
        left.add(_OTHER_FORM)
    if any(map(_has_thought, bodies)):
        left.add(_NO_THOUGHTS)
    return tuple(left)


_ASKING = {"tools", "functions", "toolConfig", "text", "output_format", "response_format"}
_ASKING |= {"config", "generationConfig", "generation_config"}


def asked_for(request: Values) -> tuple[tools.Offered, Values | None]:
    """Return the tools that a request offers and the form that it asks of its answer."""
    if _ASKING.isdisjoint(request):  # as most are
        return tools.Offered(None, False), None
    config: Values = {}
    for name in ("config", "generationConfig", "generation_config"):  # Gemini's
        config |= request[name] if isinstance(request.get(name), dict) else {}
    lists = (request.get("tools"), request.get("functions"), config.get("tools"))
    converse = request.get("toolConfig")
    given = [one for one in (*lists, converse) if one not in (None, [], {})]
    text_of = request.get("text")  # of the Responses API
    written = request.get("output_format") or request.get("response_format")
    form = tools.form_of(written or (text_of.get("format") if isinstance(text_of, dict) else None))
    schemas = ("responseJsonSchema", "response_json_schema", "responseSchema", "response_schema")
    schema = next((config[name] for name in schemas if isinstance(config.get(name), dict)), None)
    if form is None and "application/json" in (
        config.get("responseMimeType"),
        config.get("response_mime_type"),
    ):
        form = tools.form_of(
            {"type": "json_object"}
            if schema is None
            else {"type": "json_schema", "schema": tools.lower(schema)}
        )
    return tools.offered(given[0]) if given else tools.Offered(None, False), form


def fields_left(messages: Any) -> set[str]:
    """Return what a conversation cannot hold of turns, in OpenAI's form."""
    given = messages if isinstance(messages, list) else ()
    if not any(isinstance(turn, dict) and len(turn) > 2 for turn in given):
        return set()
    return {
        _NO_THOUGHTS if name in _THOUGHT_FIELDS else f"kept without {name} of the turns"
        for turn in given
        if isinstance(turn, dict)
        for name, value in turn.items()
        if name not in _OF_TURN and value not in (None, "", [], {})
    }


def _has_thought(body: Values) -> bool:
    """Whether a response, or a chunk of one, holds what the model thought beside its answer."""
    choices, found = body.get("choices"), list[Any]()
    for choice in choices if isinstance(choices, list) else ():
        turn = (choice.get("message") or choice.get("delta")) if isinstance(choice, dict) else None
        if isinstance(turn, dict) and any(turn.get(name) for name in _THOUGHT_FIELDS):
            return True
    if choices is not None:  # OpenAI's form, which most logs have
        return False
    for name in ("content", "output"):
        found += body[name] if isinstance(body.get(name), list) else ()
    for candidate in body["candidates"] if isinstance(body.get("candidates"), list) else ():
        content = candidate.get("content") if isinstance(candidate, dict) else None
        parts = content.get("parts") if isinstance(content, dict) else None
        found += parts if isinstance(parts, list) else ()
    found.append(body.get("delta"))
    return any(isinstance(part, dict) and _is_thought(part) for part in found)


def _is_thought(part: Values) -> bool:
    if part.get("thought") is True or part.get("type") in ("thinking", "thinking_delta"):
        return True
    return part.get("type") == "reasoning" and bool(part.get("summary") or part.get("content"))


def find(facts: Iterable[Values], path: str) -> Any:
    """The first value at a dotted path in the facts or their metadata; None where there is none.

    A list of {name, value} objects, as scores are often kept, is entered by name.
    """
    steps = path.split(".")
    for fact in facts:
        for root in (fact, fact.get("metadata")):
            value: Any = root
            for step in steps:
                value = _step(value, step)
                if value is None:
                    break
            else:
                return value
    return None


def _asks_for(value: Any) -> bool:
    return bool(value) and not (isinstance(value, dict) and value.get("type") == "text")


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
        events = stream_events(value)
        return ([_said(value)] if events is None else events), False
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
    has_error = has_error or values.get("status") == "failure"  # LiteLLM's
    return is_bad or has_error or values.get("type") in ("errored", "canceled", "expired")


def _parsed(value: Any) -> Any:
    """A JSON text as what it means; other values as they are."""
    if isinstance(value, str) and value[:1] in ("{", "["):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def _said(text: str) -> Values:
    """A text that a log gives as the whole response."""
    return {"choices": [{"index": 0, "message": {"content": text}}]}


def stream_events(text: str) -> list[Values] | None:
    """Return the data of a server-sent event stream; None for a text that is no such stream.

    The grammar is that of html.spec.whatwg.org, section 9.2.5: every line is a comment or a known
    field; only CR, LF or both end a line. Of texts that fit it, those are streams of which one
    event holds a JSON object. Raises BadRow where another event does not.
    """
    if not text.lstrip().startswith(_STARTS):
        return None
    found, data, is_odd = list[Values](), list[str](), False
    for line in (*re.split("\r\n|\n|\r", text.lstrip().removeprefix("\ufeff")), ""):
        name, _, value = line.partition(":")
        if name not in ("", *_FIELDS):
            return None
        if name == "data":
            data.append(value.removeprefix(" "))
        if line or not data:
            continue
        event = _object("\n".join(data))
        # A log that dropped the empty lines has one event a line.
        events = [event] if event is not None else [_object(one) for one in data if _is_said(one)]
        is_odd = is_odd or None in events
        found += [event for event in events if event is not None]
        data = []
    if found and is_odd:
        raise BadRow("has an event stream with an event that is not JSON")
    return found or None


def _is_said(data: str) -> bool:
    return data.strip() not in ("", "[DONE]")


def _object(text: str) -> Values | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


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


def _step(value: Any, step: str) -> Any:
    if isinstance(value, dict):
        return value.get(step)
    if isinstance(value, list):
        named = (item for item in value if isinstance(item, dict) and item.get("name") == step)
        return next((item.get("value") for item in named), None)
    return None
