"""Observations and traces of Langfuse, from its blob storage, its UI or its API.

langfuse.com/docs/api-and-data-platform/features/blob-storage-export-fields (snake_case, `input` and
`output` are text that may hold JSON) and …/export-from-ui (camelCase, CSV holds nested values as
JSON). Input and output are what some SDK saw: a request or response of a service, messages, those
of OpenTelemetry (`parts`) or LangChain (`generations`, `kwargs`), or plain text. Only observations
of type GENERATION are exchanges with a model.
"""

import json
from collections.abc import Sequence
from typing import Any

from understudy.data.formats import BadRow, NotWanted
from understudy.records import Message, dumps
from understudy.services.providers import log
from understudy.services.providers.log import Dialect, LoggedExchange, Values

_TRACES = ("traceId", "trace_id", "sessionId", "session_id", "projectId", "project_id")
_MODELS = ("provided_model_name", "model", "providedModelName", "internal_model_id")
_WRAPPED = ("messages", "generations", "message", "kwargs", "data")
_TEXTS = ("text", "completion", "output", "output_text", "response", "generated_text", "value")
# What stands beside the text of an answer; beside other keys the text is a part of an object.
_BESIDE = {
    *("role", "type", "id", "index", "name", "model", "usage", "usage_metadata", "metadata", "lc"),
    *("finish_reason", "finishReason", "stop_reason", "response_metadata", "additional_kwargs"),
    *("generation_info", "llm_output", "run", "reasoning", "reasoning_content", "annotations"),
    *("refusal", "tool_calls", "invalid_tool_calls", "created", "object", "status", "thought"),
}
_AROUND = _BESIDE | {*_WRAPPED, "text"}
_BLOCKS = {"text", "output_text", "thinking", "reasoning", "tool_use", "tool_call", "tool-call"}


def is_observation(values: Values) -> bool:
    """Whether this is a row of an export."""
    return "input" in values and "output" in values and any(name in values for name in _TRACES)


def exchange(values: Values, dialects: Sequence[Dialect]) -> LoggedExchange:
    """Return the exchange of an observation, or of a trace with input and output."""
    kind = values.get("type", "GENERATION")
    if kind != "GENERATION":
        raise NotWanted("not a generation but a step around it")
    if values.get("level") == "ERROR":
        raise NotWanted(log.FAILED)
    given, made = loaded(values.get("input")), loaded(values.get("output"))
    if given in (None, "", [], {}) or made in (None, "", [], {}):
        raise NotWanted("without input or output")
    messages = prompt(given, dialects)
    model = log.first_text(values.get(name) for name in _MODELS)
    facts = (values, given) if isinstance(given, dict) else (values,)
    metadata = loaded(values.get("metadata"))
    if isinstance(metadata, dict):
        facts = (*facts, metadata)
    turn: Message = {"role": "assistant", "content": answer(values.get("output"), dialects)}
    return LoggedExchange([*messages, turn], model or None, None, facts)


def prompt(given: Any, dialects: Sequence[Dialect]) -> list[Message]:
    """Return the turns of an input."""
    if isinstance(given, str):
        return [{"role": "user", "content": given}]
    if isinstance(given, list):
        turns = given[0] if len(given) == 1 and isinstance(given[0], list) else given
        if any(isinstance(turn, str) for turn in turns):
            raise NotWanted("messages that their logger wrote as one text each")
        return log.turns([_unpacked(turn) for turn in turns])
    if not isinstance(given, dict):
        raise BadRow("has an input that is neither text nor messages")
    listed = given.get("messages")
    if isinstance(listed, list) and any(isinstance(turn, str | list) for turn in listed):
        return prompt(listed, dialects)
    for dialect in dialects:
        if dialect.asks(given):
            return dialect.prompt(given)
    if "role" in given:
        return log.turns([given])
    raise NotWanted("an input that is no prompt")


def answer(output: Any, dialects: Sequence[Dialect]) -> str:
    """Return the text of an output; an object that only holds values is an answer in JSON."""
    made = loaded(output)
    found = _text(made, dialects)
    if found is not None:
        return found
    if isinstance(made, dict | list):
        return output if isinstance(output, str) else dumps(made)
    raise NotWanted("an output that is no text")


def _text(made: Any, dialects: Sequence[Dialect]) -> str | None:
    """The text of an answer however it is wrapped; None where nothing tells that it is wrapped."""
    if isinstance(made, str):
        return made
    if isinstance(made, list) and made:
        turns = [_unpacked(item) for item in made]
        if all(isinstance(turn, dict) and "role" in turn for turn in turns):
            return _text(turns[-1], dialects)  # of a whole conversation, the last turn
        if all(isinstance(turn, dict) and turn.get("type") in _BLOCKS for turn in turns):
            return _content(turns)
        return _text(turns[0], dialects) if len(turns) == 1 and made[0] != {} else None
    if not isinstance(made, dict):
        return None
    for dialect in dialects:
        if dialect.answers(made):
            return dialect.answer([made]).text
    made = _unpacked(made)
    if log.has_tool_call(made):
        raise NotWanted(log.TOOL_ANSWER)
    content = made.get("content", made.get("parts"))
    if isinstance(content, str | list) and (
        "parts" in made or made.keys() <= _BESIDE | {"content"}
    ):
        return _content(content)
    if isinstance(content, dict) and "parts" in content:
        return _content(content["parts"])
    for name in _WRAPPED:
        if isinstance(made.get(name), dict | list) and made.keys() <= _AROUND:
            return _text(made[name], dialects)
    named = [name for name in _TEXTS if isinstance(made.get(name), str)]
    if len(named) == 1 and made.keys() <= _BESIDE | {named[0]}:
        return str(made[named[0]])
    return None


def _content(content: Any) -> str:
    try:
        return log.text(content)
    except NotWanted as reason:
        raise NotWanted(
            log.TOOL_ANSWER if str(reason) == log.TOOL_PROMPT else str(reason)
        ) from None


def _unpacked(turn: Any) -> Any:
    """A message of LangChain, which `lc` marks or whose `type` is its role, as others write it."""
    if not isinstance(turn, dict):
        return turn
    if "lc" in turn and isinstance(turn.get("kwargs"), dict):
        turn = turn["kwargs"]
    kind = str(turn.get("type", "")).removesuffix("MessageChunk").removesuffix("Message").lower()
    if "role" not in turn and "content" in turn and kind in ("ai", "human", "system", "tool"):
        return turn | {"role": kind}
    return turn


def loaded(value: Any) -> Any:
    """The meaning of a text that holds JSON; other values as they are."""
    if isinstance(value, str) and value.strip()[:1] in ("{", "[", '"'):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value
