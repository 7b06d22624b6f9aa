"""Which format a file of logs has, and what a line of each means.

A service's own formats are known to its folder in services/providers/. Beside them:

langfuse   observations and traces from the blob storage, the UI or the API of Langfuse
           (langfuse.com/docs/api-and-data-platform/features/blob-storage-export-fields, snake_case,
           `input` and `output` are text that may hold JSON; …/export-from-ui, camelCase, CSV holds
           nested values as JSON). Input and output are what the SDK saw: messages, a request or
           response of a service, or plain text. Only observations of type GENERATION are exchanges
           with a model.
messages   `messages`, whose last turn is the answer; content may be a list of text parts
pairs      `prompt` or `instruction` (with an `input`), and `response`, `output` or `completion`
"""

import json
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from understudy.data import formats
from understudy.data.formats import BadRow, NotWanted
from understudy.records import Message
from understudy.services.providers import log
from understudy.services.providers.anthropic.log import DIALECT as ANTHROPIC
from understudy.services.providers.google.log import DIALECT as GEMINI
from understudy.services.providers.log import Dialect, LoggedExchange, Values, unwrap
from understudy.services.providers.openai.log import CHAT, RESPONSES

# In the order in which their shapes are tried: from the most telling to the least.
DIALECTS = (RESPONSES, GEMINI, ANTHROPIC, CHAT)
_USERS = ("group_id", "user_id", "userId", "user", "end_user", "input_user", "safety_identifier")
_TALKS = ("session_id", "sessionId", "conversation_id", "conversationId", "thread_id", "chat_id")
_TRACES = ("traceId", "trace_id", "sessionId", "session_id", "projectId", "project_id")


class Format(NamedTuple):
    """How the lines of a file are read: as what a service wrote, or each as a whole exchange."""

    name: str
    dialect: Dialect | None
    read: Callable[[Values], LoggedExchange] | None
    groups: tuple[str, ...]  # where the id of a user or conversation stands, first found counts
    group_names: frozenset[str]  # the same


def detect(lines: Iterable[Values]) -> Format | None:
    """Return the format of the first line that tells."""
    return next((found for values in lines if (found := recognise(values))), None)


def recognise(values: Values) -> Format | None:
    """Return the format of a line; None when it could be of any, or is of none."""
    if _is_observation(values):
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


def _is_observation(values: Values) -> bool:
    """Whether this is a row of an export."""
    return "input" in values and "output" in values and any(name in values for name in _TRACES)


def _observation(values: Values) -> LoggedExchange:
    """The exchange of an observation, or of a trace with input and output."""
    kind = values.get("type", "GENERATION")
    if kind != "GENERATION":
        raise NotWanted("not a generation but a step around it")
    if values.get("level") == "ERROR":
        raise NotWanted(log.FAILED)
    given, made = _loaded(values.get("input")), _loaded(values.get("output"))
    if given in (None, "", [], {}) or made in (None, "", [], {}):
        raise NotWanted("without input or output")
    messages = _prompt(given)
    names = ("provided_model_name", "model", "providedModelName", "internal_model_id")
    model = log.first_text(values.get(name) for name in names)
    facts = (values, given) if isinstance(given, dict) else (values,)
    metadata = _loaded(values.get("metadata"))
    if isinstance(metadata, dict):
        facts = (*facts, metadata)
    turn: Message = {"role": "assistant", "content": _answer(made)}
    return LoggedExchange([*messages, turn], model or None, None, facts)


def _prompt(given: Any) -> list[Message]:
    if isinstance(given, str):
        return [{"role": "user", "content": given}]
    if isinstance(given, list):
        return log.turns(given)
    if not isinstance(given, dict):
        raise BadRow("has an input that is neither text nor messages")
    for dialect in DIALECTS:
        if dialect.asks(given):
            return dialect.prompt(given)
    if "role" in given:
        return log.turns([given])
    raise NotWanted("an input that is no prompt")


def _answer(made: Any) -> str:
    if isinstance(made, list) and len(made) == 1 and isinstance(made[0], dict):
        made = made[0]  # a list of one message
    if isinstance(made, str):
        return made
    if not isinstance(made, dict):
        raise NotWanted("an output that is no text")
    for dialect in DIALECTS:
        if dialect.answers(made):
            return dialect.answer([made]).text
    if log.has_tool_call(made):
        raise NotWanted(log.TOOL_ANSWER)
    if "content" not in made:
        raise NotWanted("an output that is no text")
    blocks = made["content"] if isinstance(made["content"], list) else []
    if any("tool" in str(block.get("type")) for block in blocks if isinstance(block, dict)):
        raise NotWanted(log.TOOL_ANSWER)
    return log.text(made["content"])


def _loaded(value: Any) -> Any:
    """The meaning of a text that holds JSON; other values as they are."""
    if isinstance(value, str) and value.strip()[:1] in ("{", "[", '"'):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def _has_messages(values: Values) -> bool:
    """Whether the row is a conversation that ends with an answer."""
    turns = values.get("messages")
    if isinstance(turns, str):
        return turns.lstrip().startswith("[")
    last = turns[-1] if isinstance(turns, list) and turns else None
    return isinstance(last, dict) and last.get("role") == "assistant"


def _has_pair(values: Values) -> bool:
    """Whether the row has a prompt and a response, both text."""
    return all(
        any(isinstance(values.get(name), str) for name in names)
        for names in (formats.PROMPTS, formats.RESPONSES)
    )


def _messages(values: Values) -> LoggedExchange:
    """The exchange of a row with messages; a CSV cell holds them as JSON."""
    messages: Any = values.get("messages")
    if isinstance(messages, str):
        try:
            messages = json.loads(messages)
        except (ValueError, RecursionError):
            raise BadRow("has messages that are neither a list nor JSON") from None
    if not isinstance(messages, list):
        raise BadRow("has no list of messages")
    last = messages[-1] if messages else None
    if isinstance(last, dict) and log.has_tool_call(last):
        raise NotWanted(log.TOOL_ANSWER)
    model = log.first_text([values.get("model")])
    return LoggedExchange(log.turns(messages), model, None, (values,))


def _pair(values: Values) -> LoggedExchange:
    """The exchange of a prompt and a response."""
    try:
        messages = formats.conversation(values, "pairs")
    except BadRow:  # an empty cell is no broken line
        raise NotWanted("without prompt or response") from None
    return LoggedExchange(messages, log.first_text([values.get("model")]), None, (values,))


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
        _of("messages", None, _messages, *formats.USUAL["group"]),
        _of("pairs", None, _pair, *formats.USUAL["group"]),
    )
}
