"""Tool calls: an errand in words, and the calls that run it, of a few tools that never change.

A quarter of the errands are two, which are two calls in one turn. Words to hand over stand in
quotes, as JSON has them: the tiny model's tokenizer spells a word otherwise after a space, and what
looks like copying would be learning to spell. Beside the other tasks: its
answers are calls, so the grader `tool_calls` is its rule, and no offline service plays it.
"""

from __future__ import annotations

import random
from typing import Any, NamedTuple

from understudy.playground.templates import Template, draw, templates

TASK = "tools"
_TWICE = 0.25  # of the errands
_PARAMETERS: dict[str, dict[str, str]] = {  # tool -> parameter -> type
    "paint": {"thing": "string", "colour": "string"},
    "send": {"n": "integer", "objects": "string", "name": "string"},
    "book": {"place": "string", "day": "string"},
}
TOOLS: list[dict[str, Any]] = [
    {
        "type": "function",
        "function": {
            "name": name,
            "parameters": {
                "type": "object",
                "properties": {what: {"type": kind} for what, kind in parameters.items()},
            },
        },
    }
    for name, parameters in _PARAMETERS.items()
]
_ERRANDS: dict[str, tuple[Template, ...]] = {
    "paint": templates(
        'Paint the "{thing}" "{colour}".',
        'The "{thing}" should be "{colour}".',
        'Make the "{thing}" "{colour}".',
    ),
    "send": templates(
        'Send {n} "{objects}" to "{name}".',
        '"{name}" needs {n} "{objects}".',
        'Give "{name}" {n} "{objects}".',
    ),
    "book": templates(
        'Book a room in "{place}" for "{day}".',
        'On "{day}" I sleep in "{place}".',
        'I need a bed in "{place}" on "{day}".',
    ),
}


class Errand(NamedTuple):
    """What is asked, and the calls that do it: name and arguments."""

    instruction: str
    calls: tuple[tuple[str, dict[str, Any]], ...]


def generate(seed: int, start: int, count: int) -> list[Errand]:
    """Return errands start … start + count - 1; errand i depends only on (seed, i)."""
    return [_errand(random.Random(f"{TASK}/{seed}/{i}")) for i in range(start, start + count)]


def _errand(rng: random.Random) -> Errand:
    words, calls = list[str](), list[tuple[str, dict[str, Any]]]()
    for tool in rng.sample(sorted(_PARAMETERS), 2 if rng.random() < _TWICE else 1):
        slots = {what: draw(rng, what, 1)[0] for what in _PARAMETERS[tool]}
        words.append(rng.choice(_ERRANDS[tool]).fill(slots))
        kinds = _PARAMETERS[tool].items()
        given = {
            what: int(slots[what]) if kind == "integer" else slots[what] for what, kind in kinds
        }
        calls.append((tool, given))
    return Errand(" ".join(words), tuple(calls))
