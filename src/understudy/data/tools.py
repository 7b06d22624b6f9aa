"""Tool calls, their results and the tools on offer: every maker's form → ours; pure functions.

call     {"id", "name", "arguments": object}, whatever wraps it: OpenAI's `function` with arguments
         as text, Anthropic's `input`, Gemini's and LangChain's `args`, Converse's `toolUse`
result   {"role": "tool", "tool_call_id", "content": text}
tool     {"type": "function", "function": {"name", "description", "parameters": a JSON schema}}

Ids are numbered anew in each conversation, so that what was said twice is the same twice. Tools
that a service runs by itself (web search, code interpreters) are no functions: a local model has
no one to run them.
"""

import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from understudy.data.rejects import BadRow, NotWanted
from understudy.records import Message, Tool, ToolCall, dumps

NO_OBJECT = "a tool call whose arguments are no JSON object"
NO_CALL = "a tool's result without its call"
OWN_TOOLS = "a tool that the service runs itself"
ROLES = ("tool", "function", "ipython")  # of turns that say what came of a call
FIELDS = {"tool_calls", "tool_call_id", "function_call", "name"}  # of turns that call or answer
_NAMES = ("name", "toolName", "tool_name")
_ARGUMENTS = ("arguments", "input", "args", "parameters")
_IDS = ("call_id", "toolUseId", "tool_use_id", "toolCallId", "tool_call_id", "callId", "id")
_RESULTS = ("output", "result", "response", "content")
_SCHEMAS = (
    *("parameters", "input_schema", "inputSchema", "parametersJsonSchema", "args_schema"),
    "parameters_json_schema",
)
_DECLARED = ("functionDeclarations", "function_declarations")


class Offered(NamedTuple):
    """The functions of a request, and whether it offers anything else."""

    tools: list[Tool] | None
    has_others: bool


def call(value: Any) -> ToolCall:
    """Return one call; NotWanted for arguments that nobody can read, BadRow where it is none."""
    inner = _inside(value, "function", "toolUse", "functionCall", "function_call", "tool_call")
    name = _first(inner, _NAMES)
    if not isinstance(name, str) or not name:
        raise BadRow("has a tool call without a name")
    given = _first(inner, _ARGUMENTS)
    if isinstance(given, str):
        try:
            given = json.loads(given) if given.strip() else {}
        except (ValueError, RecursionError):
            raise NotWanted(NO_OBJECT) from None
    if given is None:
        given = {}
    if not isinstance(given, dict):
        raise NotWanted(NO_OBJECT)
    own = _first(inner, _IDS) or _first(value, _IDS)
    return {"id": str(own) if own else None, "name": name, "arguments": given}


def calls_of(turn: dict[str, Any]) -> list[ToolCall]:
    """Return the calls that a turn has beside its content, in OpenAI's or LangChain's form."""
    listed = turn.get("tool_calls") or turn.get("toolCalls")
    if isinstance(listed, list) and listed:
        for one in listed:
            if isinstance(one, dict) and one.get("type") == "custom":
                raise NotWanted(NO_OBJECT)  # OpenAI's calls in free text
        return [call(one) for one in listed]
    if isinstance(turn.get("function_call"), dict):
        return [call(turn["function_call"])]
    more = turn.get("additional_kwargs")
    return calls_of(more) if isinstance(more, dict) else []


def calls_in(answer: str) -> list[ToolCall]:
    """Return the calls of an answer that is a JSON list of them and nothing else, else []."""
    try:
        listed = json.loads(answer)
        return [call(one) for one in listed] if isinstance(listed, list) else []
    except (ValueError, RecursionError, BadRow, NotWanted):
        return []


def result(value: dict[str, Any], content: Any) -> Message:
    """Return the turn of a tool's result; `content` is what it said, in any form."""
    inner = _inside(value, "toolResult", "functionResponse", "function_response")
    made: Message = {"role": "tool", "content": said(content), "tool_call_id": None}
    # `name` is for `numbered` alone: what answers a call without an id names it.
    return made | {"tool_call_id": _first(inner, _IDS), "name": _first(inner, _NAMES)}


def of_sharegpt(turn: dict[str, Any]) -> dict[str, Any]:
    """Return a turn of ShareGPT as one of a chat service; calls stand in its text as JSON."""
    if "from" not in turn or "role" in turn:
        return turn
    role, value = turn["from"], turn.get("value")
    if role != "function_call":
        return turn | {"role": "tool" if role == "observation" else role, "content": value}
    try:
        called = json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        raise NotWanted(NO_OBJECT) from None
    calls = called if isinstance(called, list) else [called]
    return turn | {"role": "assistant", "content": None, "tool_calls": calls}


def content_of(value: dict[str, Any]) -> Any:
    """Return what a part that is a tool's result holds of it."""
    inner = _inside(value, "toolResult", "functionResponse", "function_response")
    return _first(inner, _RESULTS)


def said(content: Any) -> str:
    """Return a tool's result as text; NotWanted where it holds an image."""
    if isinstance(content, str):
        return content
    if isinstance(content, dict) and content.keys() == {"type", "value"}:  # of the AI SDK
        return said(content["value"])
    if isinstance(content, list) and content and all(map(_is_part, content)):
        return "".join(_said_by(part) for part in content)
    return "" if content is None else dumps(content)


def numbered(messages: Sequence[Message]) -> list[Message]:
    """Return the turns with new ids: call00000, call00001, … (nine signs, as Mistral asks for).

    A result without an id answers the oldest open call of its name, or the oldest of all. Results
    in other order than their calls stay so. NotWanted where a result has no call.
    """
    if not any("tool_calls" in turn or turn["role"] == "tool" for turn in messages):
        return list(messages)
    made, count = list[Message](), 0
    waiting: list[tuple[Any, str, str]] = []  # (the id given, its name, its new id) of open calls
    for turn in messages:
        if turn["role"] == "tool":
            own, name = turn.get("tool_call_id"), turn.get("name")
            found = next((one for one in waiting if own and one[0] == own), None)
            if found is None:
                found = next((one for one in waiting if name in (None, one[1])), None)
            if found is None:
                raise NotWanted(NO_CALL)
            waiting.remove(found)
            kept = {key: value for key, value in turn.items() if key != "name"}
            made.append(kept | {"tool_call_id": found[2]})
            continue
        if turn.get("tool_calls"):
            calls = []
            for one in turn["tool_calls"]:
                new = f"call{count:05}"
                waiting.append((one["id"], one["name"], new))
                calls.append(one | {"id": new})
                count += 1
            turn = turn | {"tool_calls": calls}
        made.append(turn)
    return made


def offered(value: Any) -> Offered:
    """Return the tools of a request, of a list in any maker's form or its JSON text."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return Offered(None, True)
    found, others = list[Tool](), False
    for one in _each(value):
        about = _inside(one, "function", "toolSpec")
        name = _first(about, _NAMES)
        is_own = one.get("type") not in (None, "function", "custom", "object")
        if not isinstance(name, str) or is_own:
            others = True
            continue
        if one.get("type") == "custom" and _first(about, _SCHEMAS) is None:
            others = True  # OpenAI's tools that take free text; Anthropic's have a schema
            continue
        schema = _first(about, _SCHEMAS)
        schema = schema["json"] if isinstance(schema, dict) and "json" in schema else schema
        words = about.get("description")
        function: dict[str, Any] = {"name": name}
        function |= {"description": words} if isinstance(words, str) and words else {}
        function["parameters"] = lower(schema) if isinstance(schema, dict) else _NOTHING
        found.append({"type": "function", "function": function})
    return Offered(found or None, others)


_NOTHING = {"type": "object", "properties": {}}


def form_of(value: Any) -> dict[str, Any] | None:
    """Return the form that a request asks of its answer, as OpenAI's `response_format` has it."""
    if not isinstance(value, dict) or value.get("type") not in ("json_object", "json_schema"):
        return None
    if value["type"] == "json_object" or isinstance(value.get("json_schema"), dict):
        return value
    if not isinstance(value.get("schema"), dict):
        return None
    inner = {key: one for key, one in value.items() if key != "type" and one is not None}
    return {"type": "json_schema", "json_schema": {"name": "answer"} | inner}


def _each(value: Any) -> Iterator[dict[str, Any]]:
    """The tools of a list, of Gemini's lists within it, or by name as some tracers have them."""
    listed = value
    if isinstance(value, dict):
        is_named = all(isinstance(one, dict) for one in value.values())
        listed = value.get("tools") or (
            [v | {"name": k} for k, v in value.items()] if is_named else [value]
        )
    for one in listed if isinstance(listed, list) else ():
        if not isinstance(one, dict):
            continue
        declared = next((one[name] for name in _DECLARED if isinstance(one.get(name), list)), None)
        if declared is None:
            yield one
        else:
            yield from (function for function in declared if isinstance(function, dict))


def lower(schema: Any) -> Any:
    """Return a schema whose types are JSON's: Gemini writes STRING and OBJECT."""
    if isinstance(schema, list):
        return [lower(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: one.lower() if key == "type" and isinstance(one, str) and one.isupper() else lower(one)
        for key, one in schema.items()
    }


def _is_part(part: Any) -> bool:
    return isinstance(part, dict) and (
        isinstance(part.get("type"), str) or part.keys() <= {"text", "json"}
    )


def _said_by(part: dict[str, Any]) -> str:
    for name in ("text", "content", "value"):
        if isinstance(part.get(name), str) and part.get("type", "text").endswith("text"):
            return str(part[name])
    kind = str(part.get("type"))
    if any(word in kind for word in ("image", "audio", "file", "document", "video", "media")):
        raise NotWanted("not text alone (image, audio or file)")
    return dumps(part["json"] if part.keys() == {"json"} else part)


def _inside(value: Any, *names: str) -> dict[str, Any]:
    """The object in a wrapper of one of these names, or the value itself."""
    if not isinstance(value, dict):
        raise BadRow(f"has a tool call or result that is a {type(value).__name__}, not an object")
    return next((value[name] for name in names if isinstance(value.get(name), dict)), value)


def _first(value: Any, names: Sequence[str]) -> Any:
    found = (value.get(name) for name in names)
    return next((one for one in found if one is not None), None)


def is_of_call(turn: dict[str, Any]) -> bool:
    """Whether a turn calls a tool or answers its call."""
    role = turn.get("role", turn.get("from"))
    is_call = role in (*ROLES, "function_call", "observation")
    return is_call or bool(turn.get("tool_calls") or turn.get("function_call"))


def is_empty(turn: Message) -> bool:
    """Whether a turn says nothing; a call says enough, and a tool may have nothing to say."""
    if turn.get("tool_calls") or turn["role"] == "tool":
        return False
    return not turn["content"].strip()
