"""One exchange with a service: its conversation, and what is known besides."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from understudy.data.formats import BadRow, NotWanted
from understudy.records import Message

Values = dict[str, Any]

TOOL_ANSWER = "the answer is a tool call"
TOOL_PROMPT = "the prompt has tool calls"
NOT_TEXT = "not text alone (image, audio or file)"
CUT_OFF = "the answer is cut off"
REFUSED = "refused or filtered"
FAILED = "the call failed"
NO_END = "a stream without its end"
SEVERAL = "several answers to one request"
NO_STATE = "the prompt continues one that is not in the log"

_ROLES = {
    **{"system": "system", "developer": "system", "user": "user", "human": "user"},
    **{"assistant": "assistant", "model": "assistant", "ai": "assistant"},
}
_TOOL_ROLES = {"tool", "function", "ipython"}
_TEXT_PARTS = {"text", "input_text", "output_text"}
_THOUGHTS = {"thinking", "redacted_thinking", "reasoning"}
_TOOL_PARTS = {"tool_use", "tool_result", "server_tool_use", "tool_call", "tool-call"}


class Answer(NamedTuple):
    """The text that the model wrote."""

    text: str
    model: str | None


class Exchange(NamedTuple):
    """A conversation that ends with the answer."""

    messages: list[Message]
    model: str | None
    terms: str | None  # of whom; null = not known
    facts: tuple[Values, ...]  # where to look for ratings, tags and ids


class Maker(NamedTuple):
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
    answer: Callable[[list[Values]], Answer]


def mapping(value: Any, what: str) -> Values:
    """A value that must be an object; BadRow says what it is instead."""
    if not isinstance(value, dict):
        raise BadRow(f"has {what} that is {_kind(value)}, not an object")
    return value


def listed(value: Any, what: str) -> list[Any]:
    """A value that must be a list, or nothing."""
    if value is None:
        return []
    if not isinstance(value, list):
        raise BadRow(f"has {what} that is {_kind(value)}, not a list")
    return value


def text(content: Any) -> str:
    """The text of a turn: a string, or the text parts of a list; thoughts are left out."""
    if isinstance(content, str):
        return content
    return "".join(_part(part) for part in listed(content, "content"))


def turns(messages: Any) -> list[Message]:
    """The turns of a conversation with our role names; leading system turns become one."""
    made: list[Message] = []
    for turn in listed(messages, "messages"):
        turn = mapping(turn, "a turn")
        name = str(turn.get("role"))
        if name in _TOOL_ROLES or turn.get("tool_calls") or turn.get("function_call"):
            raise NotWanted(TOOL_PROMPT)
        if name not in _ROLES:
            raise BadRow(f"has a turn of role {name[:40]!r}")
        made.append({"role": _ROLES[name], "content": text(turn.get("content"))})
    return with_system("", made)


def with_system(system: str, messages: list[Message]) -> list[Message]:
    """The conversation after one system turn that holds `system` and the leading ones."""
    first = next((n for n, turn in enumerate(messages) if turn["role"] != "system"), len(messages))
    if not system and first <= 1:
        return messages
    parts = [system, *(turn["content"] for turn in messages[:first])]
    merged = "\n\n".join(part for part in parts if part)
    return [{"role": "system", "content": merged}, *messages[first:]]


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


def _step(value: Any, step: str) -> Any:
    if isinstance(value, dict):
        return value.get(step)
    if isinstance(value, list):
        named = (item for item in value if isinstance(item, dict) and item.get("name") == step)
        return next((item.get("value") for item in named), None)
    return None


def _part(part: Any) -> str:
    if isinstance(part, str):
        return part
    kind = str(mapping(part, "a part of a turn").get("type", "text"))
    if kind in _THOUGHTS:
        return ""
    if kind in _TOOL_PARTS:
        raise NotWanted(TOOL_PROMPT)
    if kind not in _TEXT_PARTS:
        raise NotWanted(NOT_TEXT)
    if not isinstance(words := part.get("text"), str):
        raise BadRow("has a text part without text")
    return words


def _kind(value: Any) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"
