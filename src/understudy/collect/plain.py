"""Pairs and messages without a service around them, as data/formats.py reads them.

messages   `messages`, whose last turn is the answer; content may be a list of text parts
pairs      `prompt` or `instruction` (with an `input`), and `response`, `output` or `completion`
"""

import json
from typing import Any

from understudy.data import formats
from understudy.data.formats import BadRow, NotWanted
from understudy.services.providers import log
from understudy.services.providers.log import LoggedExchange, Values


def has_messages(values: Values) -> bool:
    """Whether the row is a conversation that ends with an answer."""
    turns = values.get("messages")
    if isinstance(turns, str):
        return turns.lstrip().startswith("[")
    last = turns[-1] if isinstance(turns, list) and turns else None
    return isinstance(last, dict) and last.get("role") == "assistant"


def has_pair(values: Values) -> bool:
    """Whether the row has a prompt and a response, both text."""
    return all(
        any(isinstance(values.get(name), str) for name in names)
        for names in (formats.PROMPTS, formats.RESPONSES)
    )


def of_messages(values: Values) -> LoggedExchange:
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
    if isinstance(last, dict) and (last.get("tool_calls") or last.get("function_call")):
        raise NotWanted(log.TOOL_ANSWER)
    return LoggedExchange(
        log.turns(messages), log.first_text([values.get("model")]), None, (values,)
    )


def of_pair(values: Values) -> LoggedExchange:
    """The exchange of a prompt and a response."""
    try:
        messages = formats.conversation(values, "pairs")
    except BadRow:  # an empty cell is no broken line
        raise NotWanted("without prompt or response") from None
    return LoggedExchange(messages, log.first_text([values.get("model")]), None, (values,))
