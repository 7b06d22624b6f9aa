"""The JSON objects in a reply: fences, prose and trailing commas do no harm, nothing is guessed.

Prose may hold braces; an object begins where a brace is followed by a quoted key and a colon. From
there on the text must be JSON to the object's end: where it is not, what follows may be something
that the object quotes, so the whole reply is unreadable.
"""

import json
import re
from typing import Any

_OPENING = re.compile(r'\{\s*(?=["}]|\Z)')
_SPACE = re.compile(r"\s*")
_STRING = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_ATOM = re.compile(r"[-+.\w]+")
_ATOMS: dict[str, Any] = {"true": True, "false": False, "null": None}
_ATOMS |= {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}
_DEEPEST = 32  # brackets in brackets
_REFUSALS = ("i can't", "i cannot", "i can not", "i'm sorry", "i am sorry", "i'm unable", "i won't")


def objects_in(reply: str) -> list[dict[str, Any]] | str:
    """The objects at the top level of a reply, in order, or why there is none.

    The reasons: "empty", "refused", "not_json", "cut_off" (the text ends inside an object),
    "ambiguous" (a key stands twice in an object, with different values).
    """
    found: list[dict[str, Any]] = []
    at = 0
    while opening := _OPENING.search(reply, at):
        reader = _Reader(reply, opening.start())
        try:
            found.append(reader.value())
        except _Unreadable as problem:
            if reader.has_begun or problem.reason == "cut_off":
                return problem.reason
        at = reader.at
    if found:
        return found
    if not reply.strip():
        return "empty"
    return "refused" if sounds_like_refusal(reply) else "not_json"


class _Unreadable(Exception):
    def __init__(self, reason: str = "not_json") -> None:
        self.reason = reason


class _Reader:
    """Reads one JSON value; a comma before a closing bracket and bare line ends are allowed."""

    def __init__(self, text: str, at: int) -> None:
        self._text, self.at = text, at
        self.has_begun = False  # a key and its colon were read

    def value(self, depth: int = 0) -> Any:
        """The value that begins here."""
        if depth > _DEEPEST:
            raise _Unreadable
        match self._next():
            case "{":
                return self._object(depth)
            case "[":
                return self._list(depth)
            case '"':
                return self._string()
        return self._atom()

    def _next(self) -> str:
        """The next character that is no space."""
        self.at = _SPACE.match(self._text, self.at).end()  # type: ignore[union-attr]  # always
        if self.at == len(self._text):
            raise _Unreadable("cut_off")
        return self._text[self.at]

    def _object(self, depth: int) -> dict[str, Any]:
        self.at += 1
        found: dict[str, Any] = {}
        while self._next() != "}":
            if self._next() != '"':
                raise _Unreadable
            key = self._string()
            if self._next() != ":":
                raise _Unreadable
            self.at += 1
            self.has_begun = True
            value = self.value(depth + 1)
            if key in found and found[key] != value:
                raise _Unreadable("ambiguous")
            found[key] = value
            self._comma("}")
        self.at += 1
        return found

    def _list(self, depth: int) -> list[Any]:
        self.at += 1
        found = []
        while self._next() != "]":
            found.append(self.value(depth + 1))
            self._comma("]")
        self.at += 1
        return found

    def _comma(self, end: str) -> None:
        if (here := self._next()) == ",":
            self.at += 1
        elif here != end:
            raise _Unreadable

    def _string(self) -> str:
        token = _STRING.match(self._text, self.at)
        if token is None:
            raise _Unreadable("cut_off")
        self.at = token.end()
        return str(_decoded(token[0]))

    def _atom(self) -> Any:
        token = _ATOM.match(self._text, self.at)
        if token is None:
            raise _Unreadable
        if token.end() == len(self._text):
            raise _Unreadable("cut_off")
        self.at = token.end()
        return _ATOMS[token[0]] if token[0] in _ATOMS else _decoded(token[0])


_DECODER = json.JSONDecoder(strict=False)  # strings may hold bare line ends


def _decoded(token: str) -> Any:
    try:
        return _DECODER.decode(token)
    except ValueError:  # a word, a bad escape, a number of 5,000 digits
        raise _Unreadable from None


def sounds_like_refusal(reply: str) -> bool:
    """Whether a text begins as refusals do."""
    return reply.strip().lower().replace("’", "'").startswith(_REFUSALS)
