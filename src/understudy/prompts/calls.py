"""Tool calls in a text, in the forms that models write; a pure function.

    [{"name": "f", "arguments": {"a": 1}}]        JSON, one or a list, `parameters` or `args`, too;
                                                  in `function`, `tool_calls` or `function_call`
    <tool_call>{"name": ...}</tool_call>          Hermes, Qwen: one JSON a block
    [TOOL_CALLS] [...]   <|python_tag|> ...       Mistral, Llama
    <function=f>{"a": 1}</function>               Llama 3
    [f(a=1), g(b="x")]                            Python, as BFCL asks for, and Gemma's tool_code

each also in fences. What stands around calls is no part of them.
"""

import ast
import json
import re
import warnings
from collections.abc import Collection, Iterator, Sequence
from typing import Any, NamedTuple

from understudy.prompts.fences import fenced

_BLOCK = re.compile(r"<tool_call>(.*?)(?:</tool_call>|\Z)", re.DOTALL)
_FUNCTION = re.compile(r"<function=([\w.\-]+)>(.*?)(?:</function>|\Z)", re.DOTALL)
_MARKS = ("[TOOL_CALLS]", "<|python_tag|>", "<|tool_calls|>")
_ARGUMENTS = ("arguments", "parameters", "args", "input")
_WORDS = {"true": True, "false": False, "null": None, "none": None}
_MOST = 100_000  # characters of a text that are read
_TRIES = 50  # places where JSON could begin
_DECODER = json.JSONDecoder()


class Call(NamedTuple):
    """One call; a Python call's arguments without a name are numbered: "0", "1", …"""

    name: str
    arguments: dict[str, Any]


def read_calls(text: str, known: Collection[str] = ()) -> list[Call]:
    """Return the calls of a text; [] where there is none. `known` are the tools' names.

    A name alone ({"f": {"a": 1}}, {"name": "f"}) makes a call only if it is known.
    """
    text = text[:_MOST].strip()
    for part in _parts(text):
        if calls := _calls(part, known):
            return calls
    return []


def _parts(text: str) -> Iterator[str]:
    """What of a text may be calls, the surest first."""
    if blocks := _BLOCK.findall(text):
        yield "\n".join(blocks)
    if functions := _FUNCTION.findall(text):
        calls = [{"name": name, "arguments": _loads(body)} for name, body in functions]
        yield json.dumps(calls)
    for mark in _MARKS:
        if mark in text:
            yield text.partition(mark)[2].strip()
    yield text
    if (inner := fenced(text, "json", "python", "py", "tool_code", "tool_call")) is not None:
        yield inner


def _calls(text: str, known: Collection[str]) -> list[Call]:
    """The calls in JSON values one after the other, with or without words between; else Python."""
    found: list[Call] = []
    place = tries = 0
    while tries < _TRIES and (begin := _next(text, place)) >= 0:
        tries += 1
        try:
            value, place = _DECODER.raw_decode(text, begin)
        except (ValueError, RecursionError):
            place = begin + 1
            continue
        found += _of_json(value, known)
    return found or _of_python(text, known)


def _next(text: str, start: int) -> int:
    places = [at for sign in "{[" if (at := text.find(sign, start)) >= 0]
    return min(places, default=-1)


def _of_json(value: Any, known: Collection[str], depth: int = 0) -> list[Call]:
    if depth > 4:
        return []
    if isinstance(value, list):
        return [call for one in value for call in _of_json(one, known, depth + 1)]
    if not isinstance(value, dict):
        return []
    for wrap in ("tool_calls", "function_call", "function"):
        if isinstance(value.get(wrap), dict | list):
            return _of_json(value[wrap], known, depth + 1)
    name = value.get("name")
    if isinstance(name, str):
        given = next((value[key] for key in _ARGUMENTS if key in value), None)
        arguments = _loads(given) if isinstance(given, str) else given
        if isinstance(arguments, dict):
            return [Call(name, arguments)]
        return [Call(name, {})] if name in known and given is None else []
    if value and all(key in known and isinstance(inner, dict) for key, inner in value.items()):
        return [Call(key, inner) for key, inner in value.items()]
    return []


def _loads(text: str) -> Any:
    try:
        return json.loads(text) if text.strip() else {}
    except (ValueError, RecursionError):
        return None


def _of_python(text: str, known: Collection[str]) -> list[Call]:
    """The calls of an expression, of a list of them, or of lines; [] for any other Python."""
    if "(" not in text:
        return []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an odd escape in an answer is not our warning
            body = ast.parse(text).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    calls = []
    for statement in body:
        if not isinstance(statement, ast.Expr | ast.Assign):
            return []
        value = statement.value
        items = value.elts if isinstance(value, ast.List | ast.Tuple) else [value]
        for case in items:
            if (call := _of_node(case)) is None:
                return []
            calls.append(call)
    return calls


def _of_node(node: ast.expr) -> Call | None:
    if not isinstance(node, ast.Call):
        return None
    name = ast.unparse(node.func)
    if name == "print" and len(node.args) == 1:  # as Gemma writes it
        return _of_node(node.args[0])
    if not re.fullmatch(r"[\w.\-]+", name):
        return None
    pairs: list[tuple[str | None, ast.expr]] = [(str(n), one) for n, one in enumerate(node.args)]
    pairs += [(one.arg, one.value) for one in node.keywords]
    arguments = {}
    for key, value in pairs:
        try:
            arguments[key or "**"] = _literal(value)
        except (ValueError, TypeError, RecursionError, MemoryError):
            arguments[key or "**"] = ast.unparse(value)  # an expression is no value but its text
    return Call(name, arguments)


def _literal(node: ast.expr) -> Any:
    if isinstance(node, ast.Name) and node.id.casefold() in _WORDS:
        return _WORDS[node.id.casefold()]
    if isinstance(node, ast.List | ast.Tuple):
        return [_literal(one) for one in node.elts]
    if isinstance(node, ast.Dict):
        keys = [None if key is None else str(_literal(key)) for key in node.keys]
        values = map(_literal, node.values)
        return {str(key): value for key, value in zip(keys, values, strict=True)}
    return ast.literal_eval(node)


def named(call: Call, order: Sequence[str]) -> Call:
    """Return a call whose arguments without a name have those of a tool's parameters, in order."""
    arguments = {
        order[int(key)] if key.isdigit() and int(key) < len(order) else key: value
        for key, value in call.arguments.items()
    }
    return Call(call.name, arguments)
