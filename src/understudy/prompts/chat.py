"""A conversation with tools as a chat template takes it, and the model's answer as calls again.

What a template knows of tools tells its family (`family`):

hermes    Qwen, SmolLM3, Hermes: <tool_call>{"name": …, "arguments": {…}}</tool_call>, one a call
llama     Llama 3.1 and 3.2: {"name": …, "parameters": {…}} and nothing else; the template takes one
          call a turn, so of several we write the text ourselves, one a line
mistral   [TOOL_CALLS] [{"name": …, "arguments": {…}}]
other     a template that takes tools in a form of its own: answers are read by every form we know
          (prompts/calls.py)
own       a template that knows no tools, as the tiny model's and that of most small bases: tools
          stand as JSON lines at the head of the conversation, a call is a JSON list after what is
          said, and results are told by the user. Training teaches the form, so it is short.

A conversation without tools and calls is none of this module's business: it goes to the template
as it is, so its tokens stay what they were.
"""

import json
import re
from collections.abc import Collection, Sequence
from typing import Any, Literal, NamedTuple

from understudy.prompts.calls import read_calls
from understudy.records import Message, Tool, ToolCall, dumps, written

Family = Literal["hermes", "llama", "mistral", "other", "own"]
_OWN_HEAD = "Tools that you may call, by answering with a JSON list of calls:"
_TAKES_TOOLS = re.compile(r"\{%-?[^%]*\btools\b")
_BLOCK = re.compile(r"<tool_call>(.*?)</tool_call>", re.DOTALL)
_DECODER = json.JSONDecoder()


class Rendered(NamedTuple):
    """What is given to a template; `tools` only where it takes them."""

    messages: list[dict[str, Any]]
    tools: list[Tool] | None


class Heard(NamedTuple):
    """An answer: its words, and the calls after them."""

    text: str
    calls: list[ToolCall]


def family(template: str) -> Family:
    """Return the family of a chat template, by how it writes calls."""
    if _TAKES_TOOLS.search(template) is None:
        return "own"
    if "<tool_call>" in template:
        return "hermes"
    if "[TOOL_CALLS]" in template:
        return "mistral"
    return "llama" if '"parameters": ' in template or "python_tag" in template else "other"


def has_tools(messages: Sequence[Message], tools: Sequence[Tool] | None) -> bool:
    """Whether a conversation offers, calls or quotes a tool."""
    return bool(tools) or any("tool_calls" in turn or turn["role"] == "tool" for turn in messages)


def rendered(template: str, messages: list[Message], tools: list[Tool] | None) -> Rendered:
    """Return a conversation in the form that a template takes; without tools as it is."""
    if not has_tools(messages, tools):
        return Rendered(messages, None)
    kind = family(template)
    if kind == "own":
        return Rendered(_own(messages, tools or ()), None)
    made: list[dict[str, Any]] = []
    names: dict[str, str] = {}
    for turn in messages:
        turn = turn | {"content": turn["content"] or ""}
        calls = turn.pop("tool_calls", ())
        names |= {one["id"]: one["name"] for one in calls}
        if kind == "llama" and len(calls) > 1:
            lines = [{"name": one["name"], "parameters": one["arguments"]} for one in calls]
            turn["content"] = "\n".join(filter(None, [turn["content"], *map(_spaced, lines)]))
        elif calls:
            turn["tool_calls"] = [
                {"id": one["id"], "type": "function"}
                | {"function": {"name": one["name"], "arguments": one["arguments"]}}
                for one in calls
            ]
        if turn["role"] == "tool":
            turn["name"] = names.get(turn["tool_call_id"], "")
        made.append(turn)
    return Rendered(made, list(tools) if tools else None)


def heard(template: str, text: str, tools: Sequence[Tool] | None) -> Heard:
    """Return the words and calls of a model's answer; an answer that makes no whole call is words.

    Ids are numbered as `data/tools.py` numbers those of rows.
    """
    known = {tool["function"]["name"] for tool in tools or ()}
    words, pairs = _READERS[family(template)](text, known)
    calls = [
        {"id": f"call{n:05}", "name": name, "arguments": given}
        for n, (name, given) in enumerate(pairs)
    ]
    return Heard(words if calls else text, calls)


def words_so_far(template: str, text: str) -> int:
    """Return how many characters of an answer under way are words, however it goes on.

    Blanks before what may be calls are not counted, as `heard` drops them. Of a template whose
    form of calls is not known, that is none: any part of the answer may be a call.
    """
    lead = len(text) - len(text.lstrip())
    seen = f"\n{text[lead:]}"  # the begin of the text is that of a line
    marks = _MARKS[family(template)]
    places = [place for mark in marks if (place := seen.find(mark)) >= 0]
    held = max(
        (n for mark in marks for n in range(len(mark)) if seen.endswith(mark[:n])), default=0
    )
    words = seen[1 : min(places, default=len(seen) - held)].rstrip()
    return lead + len(words) if words else 0


# What calls begin with; "" is everywhere.
_MARKS: dict[Family, tuple[str, ...]] = {
    **{"hermes": ("<tool_call>",), "llama": ("\n{", "<|python_tag|>")},
    **{"mistral": ("[TOOL_CALLS]", "\n["), "own": ("\n[",), "other": ("",)},
}

_Pairs = list[tuple[str, dict[str, Any]]]


def _hermes(text: str, known: Collection[str]) -> tuple[str, _Pairs]:
    found = [_pair(_loads(block), "arguments") for block in _BLOCK.findall(text)]
    if None in found:
        return text, []
    return text.partition("<tool_call>")[0].strip(), [one for one in found if one is not None]


def _llama(text: str, known: Collection[str]) -> tuple[str, _Pairs]:
    """JSON objects to the end of the text, with words on lines of their own before them."""
    body = text.replace("<|python_tag|>", "").strip()
    place = 0 if body.startswith("{") else body.find("\n{") + 1
    if not body.startswith("{", place):
        return text, []
    words, found, at = body[:place].strip(), _Pairs(), place
    while at < len(body):
        try:
            value, at = _DECODER.raw_decode(body, at)
        except (ValueError, RecursionError):
            return text, []
        if (pair := _pair(value, "parameters")) is None:
            return text, []
        found.append(pair)
        at += len(body[at:]) - len(body[at:].lstrip("; \n\t"))
    return words, found


def _mistral(text: str, known: Collection[str]) -> tuple[str, _Pairs]:
    words, mark, body = text.partition("[TOOL_CALLS]")
    words, body = (words.strip(), body) if mark else ("", text)
    return _listed(body, text, words)


def _listed(body: str, text: str, words: str) -> tuple[str, _Pairs]:
    values = _loads(body)
    if not isinstance(values, list) or not values:
        return text, []
    found = [_pair(value, "arguments") for value in values]
    return (text, []) if None in found else (words, [one for one in found if one is not None])


def _read_own(text: str, known: Collection[str]) -> tuple[str, _Pairs]:
    """A list that is the last line or lines of the text."""
    body = text.strip()
    places = [0] if body.startswith("[") else []
    places += [match.start() + 1 for match in re.finditer(r"\n\[", body)]
    for place in places:
        words, found = _listed(body[place:], text, body[:place].strip())
        if found:
            return words, found
    return text, []


def _any(text: str, known: Collection[str]) -> tuple[str, _Pairs]:
    return "", [(call.name, call.arguments) for call in read_calls(text, known)]


_READERS = {
    **{"hermes": _hermes, "llama": _llama, "mistral": _mistral},
    **{"other": _any, "own": _read_own},
}


def _pair(value: Any, arguments: str) -> tuple[str, dict[str, Any]] | None:
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        return None
    given = value.get(arguments, {})
    return (value["name"], given) if isinstance(given, dict) else None


def _loads(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _spaced(value: Any) -> str:
    """JSON as templates write it: with a space after each comma and colon."""
    return json.dumps(value, ensure_ascii=False)


def _own(messages: Sequence[Message], tools: Sequence[Tool]) -> list[dict[str, Any]]:
    """The turns as words alone: neighbours of one role become one turn, as some templates want."""
    made: list[dict[str, Any]] = []
    names: dict[str, str] = {}
    for turn in messages:
        role, words = turn["role"], written(turn)
        names |= {one["id"]: one["name"] for one in turn.get("tool_calls", ())}
        if role == "tool":
            role = "user"
            words = dumps({"name": names.get(turn["tool_call_id"], ""), "result": turn["content"]})
        if made and made[-1]["role"] == role == "user":
            made[-1]["content"] += f"\n{words}"
        else:
            made.append({"role": role, "content": words})
    if tools:
        head = "\n".join([_OWN_HEAD, *(dumps(tool["function"]) for tool in tools)])
        first = made[0]["content"]
        # No role is added, for not every template has one for it.
        is_system = made[0]["role"] == "system"
        made[0]["content"] = f"{first}\n\n{head}" if is_system else f"{head}\n\n{first}"
    return made
