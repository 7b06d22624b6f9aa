"""Which format a file of logs has, and what a line of each means.

A service's own formats are known to its folder in services/providers/. Beside them:

langfuse   observations and traces (collect/langfuse.py)
bedrock, langsmith, tensorzero   collect/wrappers.py
opentelemetry   spans and log records (collect/opentelemetry.py)
messages   `messages`, whose last turn is the answer; content may be a list of text parts
pairs      `prompt` or `instruction` (with an `input`), and `response`, `output` or `completion`
"""

import json
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

from understudy.collect import langfuse, opentelemetry, wrappers
from understudy.config.source import Columns
from understudy.data import formats, tools
from understudy.data.rejects import BadRow, NotWanted
from understudy.services import providers
from understudy.services.providers import dialogue, log
from understudy.services.providers.log import Dialect, LoggedExchange, Values, unwrap

# In the order in which their shapes are tried: what others than its maker speak tells least.
DIALECTS: list[Dialect] = sorted(
    (one for module in providers.parts("log").values() for one in module.DIALECTS),
    key=lambda dialect: dialect.terms is None,
)
TALKS_AT = (*formats.MESSAGES, "contents")  # the last as files to tune Gemini with have it
SYSTEMS = ("system", "systemInstruction", "system_instruction")
_ENVELOPES = frozenset((*opentelemetry.ENVELOPES, "observations"))
_ANSWERERS = ("assistant", "gpt", "model", "function_call")
_MEANINGFUL = Columns(context="context", history="history")
_USERS = ("group_id", "user_id", "userId", "user", "end_user", "input_user", "safety_identifier")
_OF_SPANS = ("gen_ai.conversation.id", "session.id", "user.id", "enduser.id")
_TALKS = ("session_id", "sessionId", "conversation_id", "conversationId", "thread_id", "chat_id")


class Format(NamedTuple):
    """How the lines of a file are read: as what a service wrote, or each as a whole exchange."""

    name: str
    dialect: Dialect | None
    read: Callable[[Values], LoggedExchange] | None
    groups: tuple[str, ...]  # where the id of a user or conversation stands, first found counts
    group_names: frozenset[str]  # the same


def records(values: Values) -> list[Values]:
    """Return what a line holds: itself, or what an envelope of OTLP or a trace lists."""
    if _ENVELOPES.isdisjoint(values):
        return [values]
    found = opentelemetry.records(values)
    found = langfuse.records(values) if found is None else found
    return [values] if found is None else found


def detect(lines: Iterable[Values]) -> Format | None:
    """Return the format of the first line that tells."""
    rows = (values for line in lines for values in records(line))
    return next((found for values in rows if (found := recognise(values))), None)


def recognise(values: Values) -> Format | None:
    """Return the format of a line; None when it could be of any, or is of none."""
    if wrapper := wrappers.name_of(values):
        return FORMATS[wrapper]
    if langfuse.is_observation(values):
        return FORMATS["langfuse"]
    if _has_pair(values):
        return FORMATS["pairs"]
    opened = []
    for dialect in DIALECTS:
        try:
            opened.append((dialect, unwrap(values, dialect)))
        except BadRow:
            continue
    for dialect, envelope in opened:
        if envelope.bodies:
            return FORMATS[dialect.name]
    if _has_messages(values):
        return FORMATS["messages"]
    if isinstance(values.get("params"), dict):  # a request of Anthropic's batches
        return FORMATS["anthropic"]
    for dialect, envelope in opened:
        if envelope.request is not None and dialect.asks(envelope.request):
            return FORMATS[dialect.name]
    return None


def logged_as(values: Values) -> str | None:
    """Return the format of a line that is certainly a call of a service; None of any other."""
    form = recognise(values)
    if form is None or form.name in ("messages", "pairs"):
        return None
    if form.dialect is not None:
        call = unwrap(values, form.dialect)
        has_request = call.request is not None and call.request is not values
        if not (call.bodies and (has_request or "custom_id" in values)):
            return None
    return form.name


def _observation(values: Values) -> LoggedExchange:
    return langfuse.exchange(values, DIALECTS)


def _has_messages(values: Values) -> bool:
    """Whether the row is a conversation that ends with an answer."""
    turns = next((values[name] for name in TALKS_AT if values.get(name)), None)
    if isinstance(turns, str):
        return turns.lstrip().startswith("[")
    last = turns[-1] if isinstance(turns, list) and turns else None
    return isinstance(last, dict) and last.get("role", last.get("from")) in _ANSWERERS


def _has_pair(values: Values) -> bool:
    """Whether the row has a prompt and a response, both text or messages."""
    values = _as_text(values)
    sides = [
        next((values[name] for name in names if isinstance(values.get(name), str | list)), None)
        for names in (formats.PROMPTS, formats.RESPONSES)
    ]
    return all(isinstance(side, str) or (side and isinstance(side[0], dict)) for side in sides)


def _as_text(values: Values) -> Values:
    """A row whose answer is a number or a truth value, with the answer as JSON writes it."""
    name = next((n for n in formats.RESPONSES if not formats.is_missing(values.get(n))), None)
    if name is None or not isinstance(values[name], int | float):
        return values
    return values | {name: json.dumps(values[name])}


def _messages(values: Values) -> LoggedExchange:
    """The exchange of a row with messages; a CSV cell holds them as JSON."""
    messages: Any = next((values[name] for name in TALKS_AT if values.get(name)), None)
    if isinstance(messages, str) and isinstance(messages := formats.loaded(messages), str):
        raise BadRow("has messages that are neither a list nor JSON")
    if not isinstance(messages, list):
        raise BadRow("has no list of messages")
    turns = tools.numbered(dialogue.turns([_with_role(turn) for turn in messages]))
    told = formats.weight_of(turn for turn in messages if isinstance(turn, dict))
    if told is not None:
        turns = formats.conversation({"messages": messages}, "messages", Columns(weight=told))
    system = next(
        (values[name] for name in SYSTEMS if not formats.is_missing(values.get(name))), ""
    )
    if turns[:1] and turns[0]["role"] != "system":
        turns = dialogue.with_system(formats.spoken(system, "system"), turns)
    offered, form = log.asked_for(values)
    return LoggedExchange(
        messages=turns,
        model=dialogue.first_text([values.get("model")]),
        terms=None,
        facts=(values,),
        left=tuple(log.fields_left(messages)),
        tools=offered.tools,
        response_format=form,
    )


def _with_role(turn: Any) -> Any:
    """A turn of ShareGPT as one of a chat service."""
    return tools.of_sharegpt(turn) if isinstance(turn, dict) else turn


def _pair(values: Values) -> LoggedExchange:
    """The exchange of a prompt and a response."""
    try:
        messages = formats.conversation(_as_text(values), "pairs", _MEANINGFUL)
    except BadRow:
        if _has_messages(values):  # a line of another format
            raise
        raise NotWanted("without prompt or response") from None  # an empty cell breaks no line
    return LoggedExchange(messages, dialogue.first_text([values.get("model")]), None, (values,))


def _of(
    name: str,
    dialect: Dialect | None,
    read: Callable[[Values], LoggedExchange] | None,
    *groups: str,
) -> Format:
    groups = tuple(dict.fromkeys((*_USERS, *_TALKS, *groups)))
    return Format(name, dialect, read, groups, frozenset(groups))


FORMATS = {
    one.name: one
    for one in (
        *(_of(dialect.name, dialect, None) for dialect in reversed(DIALECTS)),
        _of("langfuse", None, _observation),
        *(
            _of(read.__name__, None, partial(read, dialects=DIALECTS))
            for read in (wrappers.bedrock, wrappers.langsmith, wrappers.tensorzero)
        ),
        _of("opentelemetry", None, partial(wrappers.spans, dialects=DIALECTS), *_OF_SPANS),
        _of("messages", None, _messages, *formats.USUAL["group"]),
        _of("pairs", None, _pair, *formats.USUAL["group"]),
    )
}
