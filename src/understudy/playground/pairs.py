"""What the playground hands out: a pair to learn from, and a grade for an answer."""

from __future__ import annotations

from typing import NamedTuple


class Pair(NamedTuple):
    """An instruction and its correct response."""

    instruction: str
    response: str


class Grade(NamedTuple):
    """The rule's decision on one answer; quality is 0..1 with partial credit per slot."""

    passed: bool
    quality: float
    reason: str
