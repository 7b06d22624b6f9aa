"""Tools of a chat: shown to the model as its chat template does, and the calls that it answers.

A call that is forced (`tool_choice` required, or a function) is decoded under a JSON schema, after
what the template writes before a call. In a free answer calls are read as in answers that are
judged (`prompts/chat.py`).
"""

import json
import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from understudy.data.tools import offered
from understudy.prompts import chat
from understudy.records import Message, Tool
from understudy.serve.fields import refuse

_NAME = re.compile(r"[\w.:/-]{1,128}")
_PROBE = {"probe_key": "probe_value"}
_NAMED = ("properties", "patternProperties", "$defs", "definitions")
_VALUES = ("const", "enum", "default", "examples")  # no schemas, whatever they hold


class CallForm(NamedTuple):
    """How a chat template writes a call: what stands before it, and its JSON."""

    prefix: str
    shape: dict[str, Any]  # its keys in order; the name and the arguments are None
    name: str  # the keys that hold them
    arguments: str
    is_list: bool


_LIST = CallForm("", {"name": None, "arguments": None}, "name", "arguments", True)


class ToolUse(NamedTuple):
    """What a request says of tools."""

    tools: list[Tool]
    choice: str  # "none" | "auto" | "required" | "named"
    names: tuple[str, ...]  # that may be called

    @property
    def is_forced(self) -> bool:
        """Whether the answer must be a call."""
        return self.choice in ("required", "named")


def tool_use(tools: Sequence[Any], choice: Any) -> ToolUse:
    """What a request's `tools` and `tool_choice` say; Rejected where they are wrong."""
    for place, tool in enumerate(tools):
        function = tool.get("function") if isinstance(tool, dict) else None
        if not isinstance(function, dict) or tool.get("type") != "function":
            refuse(f"tools.{place}", f"tools.{place} is no function; only functions are supported")
        if not isinstance(function.get("name"), str) or not _NAME.fullmatch(function["name"]):
            refuse(f"tools.{place}", f"tools.{place}: function.name is no name")
        if not isinstance(function.get("parameters", {}), dict | None):
            refuse(f"tools.{place}", f"tools.{place}: function.parameters is no JSON schema")
    try:
        known = offered(list(tools)).tools or []
    except RecursionError:
        refuse("tools", "the parameters of tools are nested too deeply")
    names = tuple(tool["function"]["name"] for tool in known)
    if choice is None:
        choice = "auto" if tools else "none"
    if isinstance(choice, dict):
        named = choice.get("function")
        wanted = str(named.get("name")) if isinstance(named, dict) else ""
        if choice.get("type") != "function" or wanted not in names:
            refuse("tool_choice", f"tool_choice names no function of tools: {json.dumps(choice)}")
        return ToolUse(known, "named", (wanted,))
    if choice not in ("none", "auto", "required"):
        refuse("tool_choice", f"tool_choice={choice!r} is none of none, auto, required")
    if choice == "required" and not tools:
        refuse("tool_choice", "tool_choice=required needs tools")
    return ToolUse(known, choice if known else "none", names)


# --- the prompt ------------------------------------------------------------------------------


@lru_cache(maxsize=4)
def form_of(tokenizer: Any) -> CallForm:
    """How the chat template writes a call, found by letting it write one."""
    call = {"id": "call00000", "name": "probe_tool", "arguments": _PROBE}
    asked: Message = {"role": "user", "content": "x"}
    answer: Message = {"role": "assistant", "content": None, "tool_calls": [call]}
    tool = {"type": "function", "function": {"name": "other", "description": "", "parameters": {}}}
    texts = []
    for messages, is_open in (([asked], True), ([asked, answer], False)):
        shown = chat.rendered(tokenizer.chat_template, messages, [tool])
        how = {"tools": shown.tools, "add_generation_prompt": is_open, "tokenize": False}
        try:
            texts.append(tokenizer.apply_chat_template(shown.messages, **how))
        except Exception:  # of a template, which is anybody's program
            return _LIST
    begin, whole = texts
    said = whole[len(_common(begin, whole)) :]
    for found in re.finditer(r"[\[{]", said):
        try:
            value, _ = json.JSONDecoder().raw_decode(said, found.start())
        except ValueError:
            continue
        inner = value[0] if isinstance(value, list) and value else value
        if not isinstance(inner, dict):
            continue
        keys = {json.dumps(one): key for key, one in inner.items()}
        name, arguments = keys.get('"probe_tool"'), keys.get(json.dumps(_PROBE))
        if name is not None and arguments is not None:
            shape = inner | {name: None, arguments: None}
            prefix = said[: found.start()]
            return CallForm(prefix, shape, name, arguments, isinstance(value, list))
    return _LIST


def _common(a: str, b: str) -> str:
    size = next((n for n, pair in enumerate(zip(a, b, strict=False)) if pair[0] != pair[1]), len(a))
    return a[:size]


def schema_of(use: ToolUse, form: CallForm) -> str:
    """The JSON schema of a forced call, as the template would have written it."""
    calls: list[dict[str, Any]] = []
    kept: dict[str, Any] = {}
    for place, tool in enumerate(use.tools):
        function = tool["function"]
        if function["name"] not in use.names:
            continue
        taken = function["parameters"]
        if taken in ({}, {"type": "object"}, {"type": "object", "properties": {}}):
            taken = {"type": "object", "additionalProperties": False}  # a function without any
        kept[f"tool{place}"] = _moved(taken, f"#/$defs/tool{place}")
        fields = {key: _constant(value) for key, value in form.shape.items()}
        fields[form.name] = {"const": function["name"]}
        fields[form.arguments] = {"$ref": f"#/$defs/tool{place}"}
        calls.append(
            {
                "type": "object",
                "properties": fields,
                "required": list(fields),
                "additionalProperties": False,
            }
        )
    call: dict[str, Any] = calls[0] if len(calls) == 1 else {"anyOf": calls}
    if form.is_list:
        call = {"type": "array", "items": call, "minItems": 1, "maxItems": 1}
    return json.dumps({**call, "$defs": kept})


def _constant(value: Any) -> dict[str, Any]:
    if value == "call00000":  # Mistral's ids
        return {"type": "string", "pattern": "^[a-zA-Z0-9]{9}$"}
    return {"const": value}


def _moved(schema: Any, place: str) -> Any:
    """The schema with its references to itself as they are from `place`."""
    if isinstance(schema, list):
        return [_moved(one, place) for one in schema]
    if not isinstance(schema, dict):
        return schema
    made: dict[str, Any] = {}
    for key, one in schema.items():
        if key in _NAMED and isinstance(one, dict):  # whose keys are names, not keywords
            made[key] = {name: _moved(inner, place) for name, inner in one.items()}
        else:
            made[key] = one if key in _VALUES else _moved(one, place)
    target = made.get("$ref")
    if isinstance(target, str) and target.startswith("#"):
        made["$ref"] = place + target[1:]
    return made


# --- the answer ------------------------------------------------------------------------------


@dataclass
class AnswerReader:
    """Tells one answer's words from its calls while it grows."""

    use: ToolUse
    form: CallForm
    template: str  # of the chat
    calls: int = 0  # found so far
    _text: str = ""
    _told: int = 0  # characters of it

    def add(self, text: str, is_last: bool) -> tuple[str, list[dict[str, Any]]]:
        """The words that are certain now, and the calls, which come with the last part."""
        if self.use.choice == "none":
            return text, []
        self._text += text
        if self.use.is_forced:
            return "", self._made(self._forced()) if is_last else []
        told = self._told
        if not is_last:
            self._told = max(told, chat.words_so_far(self.template, self._text))
            return self._text[told : self._told], []
        found = chat.heard(self.template, self._text, self.use.tools)
        if not found.calls:
            return self._text[told:], []
        pairs = [(call["name"], _json(call["arguments"])) for call in found.calls]
        return found.text[len(self._text[:told].lstrip()) :], self._made(pairs)

    def _forced(self) -> list[tuple[str, str]]:
        """The call under the schema; of one that is cut off, what there is of its arguments."""
        try:
            value = json.loads(self._text)
        except ValueError:
            name = re.search(rf'"{self.form.name}":\s*"([^"]*)"', self._text)
            if name is None:
                return []
            cut = re.split(rf'"{self.form.arguments}":\s*', self._text, maxsplit=1)
            return [(name[1], cut[1] if len(cut) > 1 else "")]
        call = value[0] if self.form.is_list else value
        return [(call[self.form.name], _json(call[self.form.arguments]))]

    def _made(self, pairs: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
        made = [
            {
                "id": f"call_{uuid.uuid4().hex[:24]}",
                "type": "function",
                "function": {"name": name, "arguments": arguments},
            }
            for name, arguments in pairs
        ]
        self.calls += len(made)
        return made

    def finish(self, finish: str | None) -> str | None:
        """The reason of the end as OpenAI says it: "stop" for a function that was named."""
        is_call = self.calls and finish == "stop" and self.use.choice != "named"
        return "tool_calls" if is_call else finish


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
