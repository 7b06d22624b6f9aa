"""Prompt templates, each beside the function that renders it and the one that parses its reply."""

import json
from pathlib import Path
from string import Template
from typing import Any

_HERE = Path(__file__).parent


def read_template(name: str) -> Template:
    """The template file `name`.txt of this directory."""
    return Template((_HERE / f"{name}.txt").read_text(encoding="utf-8").strip())


def object_in(reply: str) -> dict[str, Any] | str:
    """The JSON object from the reply's first `{` to its last `}`, or why there is none.

    The reasons: "empty", "refused", "not_json", "cut_off" (the JSON stops in the middle).
    """
    start, end = reply.find("{"), reply.rfind("}") + 1
    if not reply.strip():
        return "empty"
    if start < 0:
        return "refused" if _sounds_like_refusal(reply) else "not_json"
    if end <= start:
        return "cut_off"
    found = reply[start:end]
    try:
        value = json.loads(found)
    except json.JSONDecodeError as error:
        stopped_early = error.pos >= len(found) or error.msg.startswith("Unterminated")
        return "cut_off" if stopped_early else "not_json"
    except (ValueError, RecursionError):  # a number of 5,000 digits, ten thousand brackets
        return "not_json"
    assert isinstance(value, dict), f"JSON that opens with a brace is an object, not {value!r}"
    return value


def storable(text: str) -> str:
    """The text without lone surrogates, which JSON escapes can carry and UTF-8 cannot."""
    return text.encode("utf-8", "replace").decode()


_REFUSALS = ("i can't", "i cannot", "i can not", "i'm sorry", "i am sorry", "i'm unable", "i won't")


def _sounds_like_refusal(reply: str) -> bool:
    return reply.strip().lower().replace("’", "'").startswith(_REFUSALS)
