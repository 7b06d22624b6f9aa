"""Langfuse exports: observations and traces, from the blob storage, the UI or the API.

Source: langfuse.com/docs/api-and-data-platform/features/blob-storage-export-fields (snake_case;
`input` and `output` are text that may hold JSON) and …/export-from-ui (camelCase; CSV holds nested
values as JSON). Input and output are what the SDK saw: messages, a request or response of OpenAI,
Anthropic or Gemini, or plain text. Only observations of type GENERATION are exchanges with a model.
"""

import json
from typing import Any

from understudy.data.formats import BadRow, NotWanted
from understudy.records import Message
from understudy.services.providers import log
from understudy.services.providers.anthropic.log import DIALECT as ANTHROPIC
from understudy.services.providers.google.log import DIALECT as GEMINI
from understudy.services.providers.log import Dialect, LoggedExchange, Values
from understudy.services.providers.openai.log import CHAT, RESPONSES

# In the order in which their shapes are tried: from the most telling to the least.
DIALECTS = (RESPONSES, GEMINI, ANTHROPIC, CHAT)
_FAILED = ("ERROR",)
_TRACES = ("traceId", "trace_id", "sessionId", "session_id", "projectId", "project_id")


def is_observation(values: Values) -> bool:
    """Whether this is a row of an export."""
    return "input" in values and "output" in values and any(name in values for name in _TRACES)


def of(values: Values) -> LoggedExchange:
    """The exchange of an observation, or of a trace with input and output."""
    kind = values.get("type", "GENERATION")
    if kind != "GENERATION":
        raise NotWanted("not a generation but a step around it")
    if values.get("level") in _FAILED:
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
    dialect: Dialect | None = next((dialect for dialect in DIALECTS if dialect.answers(made)), None)
    if dialect is not None:
        return dialect.answer([made]).text
    if made.get("tool_calls") or made.get("function_call"):
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
