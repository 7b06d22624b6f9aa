"""What the stand-in calls, and the JSON that it fills a schema with: by plain rules, no model.

A tool is called when it must be, or when the prompt has a word of its name, its description or its
arguments, and no result of it is there yet. Values come from the prompt where they can: a choice
that it names, its first number, its text.
"""

import json
import re
from typing import Any

from understudy.services.providers.rehearsal_base import AskedCall, SaidCall

_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
_WORD = re.compile(r"[a-z]{3,}")
_LONGEST = 200  # characters of a text
_DEEPEST = 8  # of objects within objects; a schema can hold itself


def due(asked: AskedCall) -> SaidCall | None:
    """Return the call that a stand-in makes; None where it answers in words."""
    if not asked.tools or asked.choice == "none":
        return None
    prompt = _prompt(asked)
    is_free = asked.choice == "auto"
    if is_free and asked.messages[-1]["role"] == "tool":
        return None
    named = [tool for tool in asked.tools if tool["name"] == asked.choice]
    scored = [(_shared(tool, prompt), tool) for tool in named or asked.tools]
    score, tool = max(scored, key=lambda pair: pair[0])  # the first of equals
    if is_free and not score:
        return None
    made = example(tool.get("parameters") or {}, prompt)
    return SaidCall(tool["name"], made if isinstance(made, dict) else {})


def written(asked: AskedCall, text: str) -> str:
    """Return the text, or JSON that fits the schema that is asked for where it is none."""
    if asked.schema is None:
        return text
    try:
        is_object = isinstance(json.loads(text), dict)
    except ValueError:
        is_object = False
    return text if is_object else json.dumps(example(asked.schema, _prompt(asked)))


def example(schema: Any, prompt: str, root: Any = None, depth: int = 0) -> Any:
    """Return a value that fits a JSON schema; what cannot be read off the prompt is made up."""
    root = schema if root is None else root
    if not isinstance(schema, dict) or depth > _DEEPEST:
        return None
    if ref := schema.get("$ref"):
        found = root
        for name in str(ref).split("/")[1:]:
            found = found[name]
        return example(found, prompt, root, depth + 1)
    if "const" in schema:
        return schema["const"]
    if options := schema.get("enum"):
        return next((one for one in options if str(one).lower() in prompt.lower()), options[0])
    for name in ("anyOf", "oneOf", "allOf"):
        if options := schema.get(name):
            told = next((one for one in options if one.get("type") != "null"), options[0])
            return example(told, prompt, root, depth + 1)
    kinds = schema.get("type", "object" if "properties" in schema else "string")
    kind = (
        next((one for one in kinds if one != "null"), "null") if isinstance(kinds, list) else kinds
    )
    if kind == "object":
        wanted, fields = schema.get("required", ()), schema.get("properties") or {}
        return {
            name: example(field, prompt, root, depth + 1)
            for name, field in fields.items()
            if name in wanted
        }
    if kind == "array":
        items = example(schema.get("items") or {"type": "string"}, prompt, root, depth + 1)
        return [items] * max(1, schema.get("minItems", 1))
    return _simple(str(kind), schema, prompt)


def _simple(kind: str, schema: dict[str, Any], prompt: str) -> Any:
    if kind in ("integer", "number"):
        found = _NUMBER.search(prompt)
        value = float(found[0]) if found else 1.0
        value = max(value, float(schema.get("minimum", value)))
        value = min(value, float(schema.get("maximum", value)))
        return int(value) if kind == "integer" or value.is_integer() else value
    if kind == "string":
        text = prompt[: min(_LONGEST, schema.get("maxLength", _LONGEST))]
        return text.ljust(schema.get("minLength", 0), ".")
    return True if kind == "boolean" else None


def _prompt(asked: AskedCall) -> str:
    said = (turn["content"] for turn in reversed(asked.messages) if turn["role"] == "user")
    return next(said, "")


def _shared(tool: dict[str, Any], prompt: str) -> int:
    names = (tool.get("parameters") or {}).get("properties") or {}
    told = f"{tool['name']} {tool.get('description') or ''} {' '.join(names)}"
    words = set(_WORD.findall(told.lower().replace("_", " ")))
    return len(words & set(_WORD.findall(prompt.lower())))
