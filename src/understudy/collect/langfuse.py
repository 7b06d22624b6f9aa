"""Observations and traces of Langfuse, from its blob storage, its UI or its API.

langfuse.com/docs/api-and-data-platform/features/blob-storage-export-fields (snake_case, `input` and
`output` are text that may hold JSON) and …/export-from-ui (camelCase, CSV holds nested values as
JSON). Input and output are what some SDK saw: a request or response of a service, messages, those
of OpenTelemetry (`parts`) or LangChain (`generations`, `kwargs`), or plain text. Only observations
of type GENERATION are exchanges with a model.
"""

import ast
import json
import re
from collections.abc import Sequence
from typing import Any

from understudy.data import tools
from understudy.data.rejects import NotWanted
from understudy.records import Message, Tool, dumps
from understudy.services.providers import dialogue, log
from understudy.services.providers.log import AnswerText, Dialect, LoggedExchange, Values

_TRACES = ("traceId", "trace_id", "sessionId", "session_id", "projectId", "project_id")
_OF_TRACE = ("sessionId", "session_id", "userId", "user_id", "tags")  # that observations lack
_MODELS = ("provided_model_name", "model", "providedModelName", "internal_model_id")
_WRAPPED = ("messages", "generations", "message", "kwargs", "data", "output")
_TEXTS = ("text", "completion", "output", "output_text", "response", "generated_text", "value")
_TOOLS_AT = ("tools", "functions", "gen_ai.tool.definitions", "llm.request.functions")
_TOOLS_IN = (  # below which a tracer writes what a call was made with
    *("modelParameters", "model_parameters", "input", "inputs", "invocation_params", "attributes"),
    *("extra", "metadata", "tool_params"),
)
_ASKS = ("prompt", "input", "text", "query", "question", "message")
# What stands beside the text of an answer; beside other keys the text is a part of an object.
_BESIDE = {
    *("role", "type", "id", "index", "name", "model", "usage", "usage_metadata", "metadata", "lc"),
    *("finish_reason", "finishReason", "stop_reason", "response_metadata", "additional_kwargs"),
    *("generation_info", "llm_output", "run", "reasoning", "reasoning_content", "annotations"),
    *("refusal", "tool_calls", "invalid_tool_calls", "created", "object", "status", "thought"),
    *("event.name", "gen_ai.message.index", "gen_ai.system", "author", "timestamp", "meta"),
    *("raw", "token_usage", "tokenUsage", "cached", "logprobs", "stopReason", "metrics", "example"),
    *("toolCalls", "toolResults", "files", "sources", "warnings", "providerMetadata", "steps"),
    *(
        "blocks",
        "reasoningText",
        "tool_call_chunks",
        "function_call",
        "audio",
        "block_type",
        "parsed",
    ),
    *(
        "invocation_id",
        "actions",
        "partial",
        "system_fingerprint",
        "service_tier",
        "safety_ratings",
    ),
}
_TELLING = {  # of these, one at least beside a text says that it is an answer's
    *("role", "finish_reason", "finishReason", "stop_reason", "usage", "usage_metadata", "lc"),
    *("response_metadata", "additional_kwargs", "generation_info", "llm_output", "event.name"),
    *("token_usage", "toolCalls", "tool_calls", "logprobs", "invocation_id", "parts"),
}
_AROUND = _BESIDE | {*_WRAPPED, "text"}
_BLOCKS = {"text", "output_text", "thinking", "reasoning", "tool_use", "tool_call", "tool-call"}
_STRING = r"('(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|None)"
_SAID = re.compile(rf"\bcontent={_STRING}", re.DOTALL)
_ROLE = re.compile(r"\brole=(?:'(\w+)'|<\w+\.(\w+):)|^(Human|AI|System|Tool)Message(?:Chunk)?\(")
_CALLS = re.compile(r"\b(?:tool_calls|function_call)=(?!None|\[\]|\(\))")


def is_observation(values: Values) -> bool:
    """Whether this is a row of an export."""
    return "input" in values and "output" in values and any(name in values for name in _TRACES)


def records(values: Values) -> list[Values] | None:
    """Return the observations of a trace that lists them, with its user and session.

    A trace without any generation is one record more, for its own input and output are all there
    is. None for what is no such trace.
    """
    listed = values.get("observations")
    if not isinstance(listed, list) or not all(isinstance(item, dict) for item in listed):
        return None
    trace = values["trace"] if isinstance(values.get("trace"), dict) else values
    known = {name: trace[name] for name in _OF_TRACE if trace.get(name)}
    found = [known | {n: v for n, v in item.items() if v is not None} for item in listed]
    found = [{"input": None, "output": None} | item for item in found]
    if not any(item.get("type") == "GENERATION" for item in found) and trace.get("output"):
        own = {name: value for name, value in trace.items() if name != "observations"}
        found.append({"input": None, "traceId": trace.get("id")} | own)
    return found


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
    if made == "None" and isinstance(given, str):  # beside "assistant: None" for a tool call
        raise NotWanted("an output that its logger wrote as None")
    model = dialogue.first_text(values.get(name) for name in _MODELS)
    facts = (values, given) if isinstance(given, dict) else (values,)
    metadata = loaded(values.get("metadata"))
    if isinstance(metadata, dict):
        facts = (*facts, metadata)
    return whole(values.get("input"), values.get("output"), model or None, facts, dialects)


def whole(
    asked: Any, made: Any, model: str | None, facts: tuple[Values, ...], dialects: Sequence[Dialect]
) -> LoggedExchange:
    """Return the exchange of an input and an output; the tools stand in the input or in `facts`."""
    messages = [*prompt(asked, dialects), answer(made, dialects).turn]
    offered = tools.Offered(_offers_among(loaded(asked)), False)
    for fact in facts:
        places = (fact, *(loaded(fact.get(name)) for name in _TOOLS_IN))
        for place in places:
            if isinstance(place, dict) and offered.tools is None:
                found = next((place[name] for name in _TOOLS_AT if place.get(name)), None)
                offered = tools.offered(loaded(found)) if found is not None else offered
    return LoggedExchange(tools.numbered(messages), model, None, facts, tools=offered.tools)


def _offers_among(given: Any) -> list[Tool] | None:
    """The tools that stand among the turns of an input, as LangChain's handler logs them."""
    listed = given if isinstance(given, list) else ()
    return tools.offered([turn["content"] for turn in listed if _offers(turn)]).tools


def prompt(written: Any, dialects: Sequence[Dialect]) -> list[Message]:
    """Return the turns of an input; one that only holds values is a prompt in JSON."""
    given = loaded(loaded(written))  # a text that is JSON may have been written as JSON again
    if isinstance(given, list):
        turns = given[0] if len(given) == 1 and isinstance(given[0], list) else given
        if all(isinstance(turn, str) for turn in turns):
            return _of_texts(turns)
        return dialogue.turns([_unpacked(turn) for turn in turns if not _offers(turn)])
    if isinstance(given, dict):
        listed = given.get("messages")
        if isinstance(listed, list) and listed:
            turns = prompt(listed, dialects)
            return dialogue.with_system(_system(given), turns)
        for dialect in dialects:
            if dialect.asks(given):
                return dialect.prompt(given)
        if "role" in given:
            return dialogue.turns([_unpacked(given)])
        named = [name for name in _ASKS if isinstance(given.get(name), str)]
        if len(named) == 1 and given.keys() <= _BESIDE | {named[0], "system", "messages"}:
            said: list[Message] = [{"role": "user", "content": given[named[0]]}]
            return dialogue.with_system(_system(given), said)
    text = written if isinstance(written, str) else dumps(given)
    return [{"role": "user", "content": given if isinstance(given, str) else text}]


def _system(given: Values) -> str:
    return system if isinstance(system := given.get("system"), str) else ""


def _offers(turn: Any) -> bool:
    """Whether a turn is none, but the definition of a tool, as LangChain's handler logs it."""
    content = turn.get("content") if isinstance(turn, dict) else None
    return isinstance(content, dict) and "function" in content and turn.get("role") == "tool"


def _of_texts(texts: Sequence[str]) -> list[Message]:
    """The turns of a list of texts: one prompt, or messages as Python shows its objects."""
    if len(texts) == 1 and not _SAID.search(texts[0]):
        return [{"role": "user", "content": texts[0]}]
    turns = list[Message]()
    for text in texts:
        role, said = _ROLE.search(text), _SAID.search(text)
        if role is None or said is None:
            raise NotWanted("messages that their logger wrote as one text each")
        name = next(part for part in role.groups() if part).casefold()
        if name == "tool" or _CALLS.search(text) or said[1] == "None":
            raise NotWanted("tool calls that their logger wrote as Python shows them")
        turns += dialogue.turns([{"role": name, "content": ast.literal_eval(said[1])}])
    return dialogue.with_system("", turns)


def answer(output: Any, dialects: Sequence[Dialect]) -> AnswerText:
    """Return what an output says; an object that only holds values is an answer in JSON."""
    made = loaded(output)
    found = _said(loaded(made), dialects)
    if found is not None:
        return found
    if isinstance(made, str):
        return AnswerText(made, None)
    if isinstance(made, dict | list):
        return AnswerText(output if isinstance(output, str) else dumps(made), None)
    raise NotWanted("an output that is no text")


def _said(made: Any, dialects: Sequence[Dialect]) -> AnswerText | None:
    """What an answer says however it is wrapped; None where nothing tells that it is wrapped."""
    if isinstance(made, str):
        return AnswerText(made, None)
    if isinstance(made, list) and made:
        turns = [_unpacked(item) for item in made]
        if all(isinstance(turn, dict) and "role" in turn for turn in turns):
            return _said(turns[-1], dialects)  # of a whole conversation, the last turn
        if all(isinstance(turn, dict) and turn.get("type") in _BLOCKS for turn in turns):
            return _content(turns)
        return _said(turns[0], dialects) if len(turns) == 1 and made[0] != {} else None
    if not isinstance(made, dict):
        return None
    for dialect in dialects:
        if dialect.answers(made):
            return dialect.answer([made])
    made = _unpacked(made)
    content = made.get("content", made.get("parts"))
    if calls := tools.calls_of(made):
        words = content if isinstance(content, str | list) else made.get("text")
        return AnswerText(dialogue.parts(words).text, None, tuple(calls))
    if isinstance(content, str | list) and ("parts" in made or _is_answer(made, "content")):
        return _content(content)
    if isinstance(content, dict) and "parts" in content:
        return _content(content["parts"])
    for name in _WRAPPED:
        if isinstance(made.get(name), dict | list) and made.keys() <= _AROUND:
            return _said(made[name], dialects)
    named = [name for name in _TEXTS if isinstance(made.get(name), str)]
    if "finish_reason" in made and isinstance(made.get("message"), str):
        named.append("message")
    if len(named) == 1 and _is_answer(made, named[0]):
        return AnswerText(str(made[named[0]]), None)
    return None


def _is_answer(made: Values, name: str) -> bool:
    """Whether the text of this name is an answer, and no part of an object that is the answer."""
    others = made.keys() - {name}
    kind = str(made.get("type", ""))
    is_kind = kind in _BLOCKS or kind.removesuffix("Chunk").endswith("Generation")  # LangChain's
    is_told = not others or not _TELLING.isdisjoint(others) or is_kind
    return is_told and others <= _BESIDE


def _content(content: Any) -> AnswerText:
    found = dialogue.parts(content)
    return AnswerText(found.text, None, tuple(found.calls))


def _unpacked(turn: Any) -> Any:
    """A message of another library as chat services write it.

    `lc` marks those of LangChain, or their `type` is the role; LlamaIndex has `blocks`; Pydantic AI
    and Semantic Kernel wrap a choice's `message`; Strands writes the parts as JSON.
    """
    if not isinstance(turn, dict):
        return turn
    if "lc" in turn and isinstance(turn.get("kwargs"), dict):
        turn = turn["kwargs"]
    if isinstance(turn.get("message"), dict) and "content" not in turn:
        turn = turn["message"]
    kind = str(turn.get("type", "")).removesuffix("MessageChunk").removesuffix("Message").lower()
    if "role" not in turn and "content" in turn and kind in ("ai", "human", "system", "tool"):
        turn = turn | {"role": kind}
    if isinstance(role := turn.get("role"), str):
        turn = turn | {"role": role.removeprefix("MessageRole.").lower()}
    content = turn.get("content")
    if content is None and isinstance(turn.get("blocks"), list):
        return turn | {"content": turn["blocks"]}
    parts = loaded(content) if isinstance(content, str) and content.startswith('[{"') else None
    if isinstance(parts, list) and all(isinstance(part, dict) and _is_part(part) for part in parts):
        return turn | {"content": parts}
    return turn


def _is_part(part: Values) -> bool:
    is_typed = part.get("type") in {*_BLOCKS, "image_url", "input_text"}
    return is_typed or part.keys() in ({"text"}, {"toolUse"}, {"toolResult"})


def loaded(value: Any) -> Any:
    """The meaning of a text that holds JSON; other values as they are."""
    if isinstance(value, str) and value.strip()[:1] in ("{", "[", '"'):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value
