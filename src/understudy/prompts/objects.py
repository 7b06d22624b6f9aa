"""The JSON objects in a reply: fences, prose and trailing commas do no harm, nothing is guessed.

Prose may hold braces; an object begins where a brace is followed by a quoted key and a colon. From
there on the text must be JSON to the object's end: where it is not, what follows may be something
that the object quotes, so the whole reply is unreadable.
"""

import json
import re
from typing import Any

_QUOTED = r'"[^"\\]*(?:\\.[^"\\]*)*"'
_OPENING = re.compile(r'\{\s*(?=["}]|\Z)')
_BEGUN = re.compile(rf"\{{\s*(?:\}}|{_QUOTED}\s*:)", re.DOTALL)
_STRING = re.compile(rf"{_QUOTED}(?!\s*\Z)", re.DOTALL)
_CUT_OFF = re.compile(r"[-+.\w]*\s*\Z")  # nothing but the beginning of a value
_TRAILING_COMMA = re.compile(r",\s*[}\]]")
_REFUSALS = ("i can't", "i cannot", "i can not", "i'm sorry", "i am sorry", "i'm unable", "i won't")


class _Ambiguous(Exception):
    """A key stands twice in an object, with different values."""


def objects_in(reply: str) -> list[dict[str, Any]] | str:
    """Return the objects at the top level of a reply, in order, or why there is none.

    The reasons: "empty", "refused", "not_json", "cut_off" (the text ends inside an object),
    "ambiguous" (a key stands twice in an object, with different values).
    """
    found: list[dict[str, Any]] = []
    text, at = reply, 0
    while opening := _OPENING.search(text, at):
        if _BEGUN.match(text, opening.start()) is None:
            if (string := _STRING.match(text, opening.end())) is None:
                return "cut_off"
            at = string.end()
            continue
        try:
            value, at = _DECODER.raw_decode(text, opening.start())
            found.append(value)
        except json.JSONDecodeError as error:
            if (comma := _trailing_comma(text, error.pos)) is not None:
                text, at = f"{text[:comma]} {text[comma + 1 :]}", opening.start()
            elif error.msg.startswith("Unterminated") or _CUT_OFF.match(text, error.pos):
                return "cut_off"
            else:
                return "not_json"
        except _Ambiguous:
            return "ambiguous"
        except (ValueError, RecursionError):  # a number of 5,000 digits
            return "not_json"
    if found:
        return found
    if not reply.strip():
        return "empty"
    return "refused" if sounds_like_refusal(reply) else "not_json"


def _trailing_comma(text: str, place: int) -> int | None:
    """Return where the comma is that made reading fail at `place`, if it ends a list or object."""
    if text[place : place + 1] != ",":  # before Python 3.13 the bracket behind it is named
        place = len(text[:place].rstrip()) - 1
    has_value = text[:place].rstrip()[-1:] not in (",", "[", "{", ":")
    return place if has_value and _TRAILING_COMMA.match(text, place) else None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found and found[key] != value:
            raise _Ambiguous
        found[key] = value
    return found


_DECODER = json.JSONDecoder(strict=False, object_pairs_hook=_object)  # strings may hold line ends


def sounds_like_refusal(reply: str) -> bool:
    """Whether a text begins as refusals do."""
    return reply.strip().lower().replace("’", "'").startswith(_REFUSALS)
