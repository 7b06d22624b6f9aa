"""Tool calls: an errand in words, and the calls that run it, of a few tools that never change.

A quarter of the errands are two, which are two calls in one turn. What is to be handed over stands
in quotes or brackets: after a space the tiny model's tokenizer spells it otherwise than in JSON,
and what looks like copying would be learning to spell. Things have different first letters, since
it copies piece by piece. Beside the other tasks: its answers are calls, so the grader `tool_calls`
is its rule, and no offline service plays it.
"""

from __future__ import annotations

import random
from typing import Any, NamedTuple

from understudy.playground.templates import Template, templates
from understudy.playground.words import COLOURS, FEW_OBJECTS, FEW_THINGS, NUMBERS

TASK = "tools"
_TWICE = 0.25  # of the errands
_PARAMETERS: dict[str, dict[str, str]] = {  # tool -> parameter -> type
    "paint": {"thing": "string", "colour": "string"},
    "send": {"n": "integer", "objects": "string"},
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
_WORDS = {"thing": FEW_THINGS, "objects": FEW_OBJECTS, "colour": COLOURS, "n": NUMBERS}
_ERRANDS: dict[str, tuple[Template, ...]] = {
    "paint": templates(
        'Paint the "{thing}" "{colour}".',
        'The "{thing}" should be "{colour}".',
        'Make the "{thing}" "{colour}".',
        'I want the "{thing}" in "{colour}".',
    ),
    "send": templates(
        'Send "{objects}" ({n}).',
        'We need "{objects}" ({n}).',
        'I want "{objects}" ({n}).',
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
        kinds = _PARAMETERS[tool]
        slots = {what: rng.choice(_WORDS[what]) for what in kinds}
        words.append(rng.choice(_ERRANDS[tool]).fill(slots))
        given = {
            what: int(slots[what]) if kind == "integer" else slots[what]
            for what, kind in kinds.items()
        }
        calls.append((tool, given))
    return Errand(" ".join(words), tuple(calls))
