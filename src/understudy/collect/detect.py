"""Which format a file of logs has, told from its first lines."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from understudy.collect import langfuse, plain
from understudy.collect.langfuse import DIALECTS
from understudy.data import formats
from understudy.data.formats import BadRow
from understudy.services.providers.log import Dialect, LoggedExchange, Values, unwrap

_USERS = ("group_id", "user_id", "userId", "user", "end_user", "input_user", "safety_identifier")
_TALKS = ("session_id", "sessionId", "conversation_id", "conversationId", "thread_id", "chat_id")


class Format(NamedTuple):
    """How the lines of a file are read: as what a service wrote, or each as a whole exchange."""

    name: str
    dialect: Dialect | None
    read: Callable[[Values], LoggedExchange] | None
    groups: tuple[str, ...]  # where the id of a user or conversation stands, first found counts
    group_names: frozenset[str]  # the same


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
        _of("langfuse", None, langfuse.of),
        _of("messages", None, plain.of_messages, *formats.USUAL["group"]),
        _of("pairs", None, plain.of_pair, *formats.USUAL["group"]),
    )
}


def recognise(values: Values) -> Format | None:
    """The format of a line; None when it could be of any, or is of none."""
    if langfuse.is_observation(values):
        return FORMATS["langfuse"]
    if plain.has_pair(values):
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
    if plain.has_messages(values):
        return FORMATS["messages"]
    if isinstance(values.get("params"), dict):  # a request of Anthropic's batches
        return FORMATS["anthropic"]
    for dialect, envelope in opened:
        if envelope.request is not None and dialect.asks(envelope.request):
            return FORMATS[dialect.name]
    return None


def detect(lines: Iterable[Values]) -> Format | None:
    """The format of the first line that tells."""
    return next((found for values in lines if (found := recognise(values))), None)
