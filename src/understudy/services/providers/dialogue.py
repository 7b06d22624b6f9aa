"""The turns of a conversation in the forms that makers and tracers write, as ours.

Content may be a text or a list of parts; of these text stays, thoughts are left out, calls and
results of tools become `tool_calls` and turns of their own, and anything else is refused.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from understudy.data import tools
from understudy.data.rejects import BadRow, NotWanted
from understudy.records import Message, ToolCall

Values = dict[str, Any]

OWN_TOOLS = tools.OWN_TOOLS
NOT_TEXT = "not text alone (image, audio or file)"
_ROLES = {
    **{"system": "system", "developer": "system", "user": "user", "human": "user"},
    **{"assistant": "assistant", "model": "assistant", "ai": "assistant", "gpt": "assistant"},
}
_TOOL_ROLES = {"tool", "function", "ipython"}
_MEDIA = ("image", "audio", "video", "file", "document", "upload", "media", "blob")
_TEXT_PARTS = {"text", "input_text", "output_text"}
_THOUGHTS = {"thinking", "redacted_thinking", "reasoning"}
_CALLS = {"tool_use", "tool_call", "tool-call", "function_call", "toolUse", "functionCall"}
_TOLD = {"tool_result", "tool-result", "tool_call_response", "function_response", "toolResult"}
_TOLD |= {"functionResponse", "function_call_output"}


class TurnParts(NamedTuple):
    """What the parts of a turn amount to."""

    text: str
    calls: list[ToolCall]
    results: list[Message]  # turns of their own


def mapping(value: Any, what: str) -> Values:
    """Return a value that must be an object; BadRow says what it is instead."""
    if not isinstance(value, dict):
        raise BadRow(f"has {what} that is {_kind(value)}, not an object")
    return value


def listed(value: Any, what: str) -> list[Any]:
    """Return a value that must be a list, or nothing."""
    if value is None:
        return []
    if not isinstance(value, list):
        raise BadRow(f"has {what} that is {_kind(value)}, not a list")
    return value


def first_text(values: Iterable[Any]) -> str | None:
    """Return the first of some values that is text."""
    return next((value for value in values if isinstance(value, str)), None)


def text(content: Any) -> str:
    """The text of a turn: a string, or the text parts of a list; thoughts are left out."""
    if isinstance(content, str):
        return content
    return "".join(_part(part) for part in listed(content, "content"))


def turns(messages: Any) -> list[Message]:
    """The turns of a conversation with our role names; leading system turns become one.

    Results of tools stand before what a user says in the same turn. Ids of calls stay as they are.
    """
    made: list[Message] = []
    for turn in listed(messages, "messages"):
        turn = mapping(turn, "a turn")
        name = str(turn.get("role"))
        content = (
            turn["parts"]
            if turn.get("content") is None and "parts" in turn
            else turn.get("content")
        )
        if name in _TOOL_ROLES:
            made += _results(turn, content)
            continue
        if name not in _ROLES:
            raise BadRow(f"has a turn of role {name[:40]!r}")
        found = parts(content)
        made += found.results
        if _ROLES[name] == "assistant" and (calls := [*found.calls, *tools.calls_of(turn)]):
            # Some tracers write a call both as a part and beside the content.
            made.append(answered(found.text, found.calls or calls))
        elif found.text or not found.results:
            made.append({"role": _ROLES[name], "content": found.text})
    return with_system("", made)


def answered(words: str, calls: Sequence[ToolCall]) -> Message:
    """Return an assistant's turn of words and calls; content is null where there are calls only."""
    if not calls:
        return {"role": "assistant", "content": words}
    return {"role": "assistant", "content": words or None, "tool_calls": list(calls)}


def _results(turn: Values, content: Any) -> list[Message]:
    """The results in a turn of a tool: itself, or its parts."""
    is_typed = isinstance(content, list) and all(isinstance(part, dict) for part in content)
    found = parts(content).results if is_typed and any(map(_tells, content)) else []
    return found or [tools.result(turn, content)]


def _tells(part: Values) -> bool:
    return str(part.get("type")) in _TOLD or not _TOLD.isdisjoint(part)


def parts(content: Any) -> TurnParts:
    """The text, the calls and the results in the content of a turn; NotWanted for anything else."""
    if content is None or isinstance(content, str):
        return TurnParts(content or "", [], [])
    found = TurnParts("", [], [])
    for part in listed(content, "content"):
        kind = str(part.get("type", "")) if isinstance(part, dict) else ""
        if kind in _CALLS or (isinstance(part, dict) and not kind and not _CALLS.isdisjoint(part)):
            found.calls.append(tools.call(part))
        elif isinstance(part, dict) and _tells(part):
            found.results.append(tools.result(part, tools.content_of(part)))
        else:
            found = found._replace(text=found.text + _part(part))
    return found


def has_tool_call(turn: Values) -> bool:
    """Whether a turn, in OpenAI's form, calls a tool."""
    if turn.get("tool_calls") or turn.get("function_call"):
        return True
    more = turn.get("additional_kwargs")  # LangChain's
    return isinstance(more, dict) and has_tool_call(more)


def with_system(system: str, messages: list[Message]) -> list[Message]:
    """The conversation after one system turn that holds `system` and the leading ones."""
    first = next((n for n, turn in enumerate(messages) if turn["role"] != "system"), len(messages))
    if not system and first <= 1:
        return messages
    words = [system, *(turn["content"] for turn in messages[:first])]
    merged = "\n\n".join(part for part in words if part)
    return [{"role": "system", "content": merged}, *messages[first:]]


def _part(part: Any) -> str:
    if isinstance(part, str):
        return part
    part = mapping(part, "a part of a turn")
    kind = str(part.get("type", part.get("block_type", "text")))
    if kind in _THOUGHTS or "reasoningContent" in part:
        return ""
    if kind not in _TEXT_PARTS or not _CALLS.isdisjoint(part):
        raise NotWanted(OWN_TOOLS if "tool" in kind or kind in _CALLS else of_kind(kind))
    if not isinstance(words := part.get("text", part.get("content", part.get("value"))), str):
        raise BadRow("has a text part without text")
    return words


def of_kind(kind: str) -> str:
    """Return the reason that a part of a turn gives which is no text."""
    return NOT_TEXT if any(word in kind for word in _MEDIA) else f"a part of kind {kind[:30]}"


def _kind(value: Any) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"
