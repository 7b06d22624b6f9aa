"""What a row of somebody else's file means: pure functions from its columns to a conversation.

messages   `messages`, a list of {role, content}; the last turn is the assistant's
pairs      `prompt` or `instruction` (with an `input`, if any), and `response`, `output` or
           `completion`; `system` if there is one
llamaduo   the published LlamaDuo schema: `generator, prompt_id, seed_prompt, messages, category,
           prompt`; rows whose generator is not "Human" were synthesised
"""

import json
from collections.abc import Collection, Sequence
from typing import Any

from understudy.data.reading import Raw
from understudy.errors import BadInput
from understudy.records import Message, SplitName

PROMPTS = ("prompt", "instruction")
RESPONSES = ("response", "output", "completion")
USUAL = {  # column for -> its usual names, the first one present counts
    "id": ("id", "prompt_id"),
    "group": ("group_id", "conversation_id", "document_id", "user_id"),
    "split": ("split",),
    "licence": ("licence", "license"),
    "category": ("category",),
}
HUMAN = "Human"
_ROLES = ("system", "user", "assistant")
_SPLITS: dict[str, SplitName] = {
    **{"train": "train", "training": "train", "test": "test", "holdout": "holdout"},
    **{"validation": "validation", "valid": "validation", "val": "validation", "dev": "validation"},
}


class BadRow(Exception):
    """Why a row cannot be used."""


class NotWanted(Exception):
    """Why a good row is none of ours, e.g. because a model wrote it."""


def columns(rows: Sequence[Raw]) -> list[str]:
    """The column names of a file, in order of appearance; BadInput when no row has any."""
    names = list(dict.fromkeys(name for row in rows for name in row.values or ()))
    if not names:
        raise BadInput(f"{rows[0].place} {rows[0].problem or 'has no column'}")
    return names


def detect(names: Collection[str], where: str, wanted: str = "auto") -> str:
    """The format of a file with these columns; BadInput when it is none, or not `wanted`."""
    fitting = []
    if "messages" in names:
        if "generator" in names and ("seed_prompt" in names or "prompt_id" in names):
            fitting.append("llamaduo")
        fitting.append("messages")
    if any(name in names for name in PROMPTS) and any(name in names for name in RESPONSES):
        fitting.append("pairs")
    if not fitting or wanted not in ("auto", *fitting):
        asked = "" if wanted == "auto" else f", so it is not of format={wanted}"
        raise BadInput(
            f"{where} has the columns {', '.join(names)}{asked}; needed are "
            f"messages, or {' or '.join(PROMPTS)} together with "
            f"{', '.join(RESPONSES[:-1])} or {RESPONSES[-1]}"
        )
    return fitting[0] if wanted == "auto" else wanted


def column(kind: str, given: str | None, names: Collection[str], where: str) -> str | None:
    """The column that holds `kind`: the given one, else the first usual name that is there."""
    if given is None:
        return next((name for name in USUAL[kind] if name in names), None)
    if given not in names:
        raise BadInput(f"{where} has no column {given}; its columns are {', '.join(names)}")
    return given


def conversation(values: dict[str, Any], kind: str) -> list[Message]:
    """The messages of a row, ending with the wanted answer; BadRow says what is wrong."""
    turns = _pair(values) if kind == "pairs" else _messages(values.get("messages"))
    roles = [turn["role"] for turn in turns]
    if roles[-1:] != ["assistant"]:
        raise BadRow(f"ends with the turn of {roles[-1] if roles else 'nobody'}, not assistant")
    if roles[-2:-1] != ["user"]:
        raise BadRow("has no user turn before the last answer")
    if "system" in roles[1:]:
        raise BadRow("has a system turn that is not the first")
    if empty := [turn["role"] for turn in turns if not turn["content"].strip()]:
        raise BadRow(f"has an empty {empty[0]} turn")
    return turns


def split_of(value: Any) -> SplitName | None:
    """The split that a user's word for it means (`test_sft` is test); None stays None."""
    if value is None:
        return None
    if (name := str(value).casefold().partition("_")[0]) not in _SPLITS:
        raise BadRow(f"has the split {value!r}, which is none of train, validation, test, holdout")
    return _SPLITS[name]


def text(values: dict[str, Any], name: str) -> str:
    """A column that must be text."""
    if not isinstance(value := values.get(name), str):
        raise BadRow(
            f"has no text in {name}" if value is None else f"has no text, but {name}={value!r}"
        )
    return value


def _pair(values: dict[str, Any]) -> list[Message]:
    prompt, response = (
        text(values, next((name for name in names if values.get(name) is not None), names[0]))
        for names in (PROMPTS, RESPONSES)
    )
    if more := values.get("input"):  # as in the Alpaca data
        prompt = f"{prompt}\n\n{more}"
    system = values.get("system")
    return [
        *([{"role": "system", "content": str(system)}] if system else []),
        {"role": "user", "content": prompt},
        {"role": "assistant", "content": response},
    ]


def _messages(value: Any) -> list[Message]:
    if isinstance(value, str):  # a CSV cell
        try:
            value = json.loads(value)
        except json.JSONDecodeError:
            raise BadRow("has messages that are neither a list nor JSON") from None
    if not isinstance(value, list) or not all(isinstance(turn, dict) for turn in value):
        raise BadRow("has messages that are no list of {role, content}")
    for turn in value:
        if turn.get("role") not in _ROLES:
            raise BadRow(f"has a turn of role {turn.get('role')!r}; known are {', '.join(_ROLES)}")
        if not isinstance(turn.get("content"), str):
            raise BadRow(f"has a {turn['role']} turn without text")
    return [{"role": turn["role"], "content": turn["content"]} for turn in value]
