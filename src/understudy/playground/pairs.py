"""What the playground hands out, and the rule of the tasks whose answers copy values.

The rule: every expected value, and no other, is there.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from typing import NamedTuple

from understudy.playground.words import VOCABULARY

_WORD = re.compile(r"[A-Za-z]+|[0-9]+")
_NOUN = {"n": "number", "objects": "things", "thing": "thing"}


class TaskPair(NamedTuple):
    """An instruction and its correct response."""

    instruction: str
    response: str


class Grade(NamedTuple):
    """The rule's decision on one answer; quality is 0..1 with partial credit per slot."""

    passed: bool
    quality: float
    reason: str


def grade_slots(expected: Mapping[str, str], answer: str, longest: int) -> Grade:
    """Check an answer of at most `longest` words for the expected value of each kind."""
    words = _WORD.findall(answer)
    right, complaints, strays = 0, [], 0
    for kind, value in expected.items():
        vocabulary = set(VOCABULARY[kind])
        found = {word for word in words if word in vocabulary}
        noun = _NOUN.get(kind, kind)
        right += value in found
        strays += bool(found - {value})
        if not found:
            complaints.append(f"the {noun} {value} is missing")
        elif value not in found:
            complaints.append(f"the {noun} should be {value}, not {min(found)}")
        elif found != {value}:
            complaints.append(f"it also names {min(found - {value})}, a wrong {noun}")
    too_long = len(words) > longest
    if too_long:
        complaints.append(f"it has {len(words)} words where {longest} are enough")
    if not complaints:
        return Grade(True, 1.0, "Every value asked for is there and right.")
    extra = strays - (len(expected) - right) if strays > len(expected) - right else 0
    quality = right / len(expected) - 0.1 * extra - 0.2 * too_long
    reason = complaints[0][0].upper() + "; ".join(complaints)[1:] + "."
    return Grade(False, max(0.0, min(0.95, quality)), reason)


def flawed_slots(expected: Mapping[str, str], answer: str, rng: random.Random) -> str:
    """Spoil a correct answer: other values, a dropped value, a cut, or padding."""
    words = answer.split(" ")
    how = rng.choice(("one", "one", "two", "three", "drop", "cut", "pad"))
    if how == "cut":
        # At most the first half: the last slots stand at the end of every answer.
        return " ".join(words[: rng.randint(1, max(1, len(words) // 2))])
    if how == "drop":
        dropped = rng.choice([*expected.values()])
        return " ".join(word for word in words if word.strip(".,") != dropped)
    if how == "pad":
        return f"{answer} I hope that this helps you, and {answer} Ask me again if you need more."
    for kind in rng.sample(sorted(expected), {"one": 1, "two": 2, "three": 3}[how]):
        other = rng.choice([w for w in VOCABULARY[kind] if w != expected[kind]])
        answer = re.sub(rf"\b{re.escape(expected[kind])}\b", other, answer)
    return answer
