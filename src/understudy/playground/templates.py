"""Sentence templates that can be filled and read back: `{colour}` or `{colour2}` holds a colour."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Mapping
from functools import cached_property

from understudy.playground.words import VOCABULARY

SLOT = re.compile(r"\{([a-z_]+)(\d*)\}")
_WORDS = {kind: frozenset(words) for kind, words in VOCABULARY.items()}


class Template:
    """One phrasing; slots that are no vocabulary kind (`{body}`) hold free text."""

    def __init__(self, text: str) -> None:
        self.text = text

    def fill(self, slots: Mapping[str, str]) -> str:
        return SLOT.sub(lambda found: slots[found[1] + found[2]], self.text)

    def match(self, text: str) -> dict[str, str] | None:
        """Return the slots' values when the whole text is this phrasing."""
        found = self._pattern.fullmatch(text)
        if found is None:
            return None
        slots = found.groupdict()
        for slot, value in slots.items():
            kind = slot.rstrip("0123456789")
            if kind in _WORDS and value not in _WORDS[kind]:
                return None
        return slots

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        parts, end = [], 0
        for found in SLOT.finditer(self.text):
            parts.append(re.escape(self.text[end : found.start()]))
            kind, slot = found[1], found[1] + found[2]
            parts.append(f"(?P<{slot}>{'[A-Za-z0-9]+' if kind in _WORDS else '.+'})")
            end = found.end()
        parts.append(re.escape(self.text[end:]))
        return re.compile("".join(parts), re.DOTALL)


def templates(*texts: str) -> tuple[Template, ...]:
    """Make several phrasings of one thing."""
    return tuple(Template(text) for text in texts)


def match_any(choices: Iterable[Template], text: str) -> dict[str, str] | None:
    """Return the slots of the first phrasing that is the whole text."""
    return next((slots for t in choices if (slots := t.match(text)) is not None), None)


def draw(rng: random.Random, kind: str, count: int) -> list[str]:
    """Draw distinct words of a kind."""
    return rng.sample(VOCABULARY[kind], count)


def sentences(text: str) -> list[str]:
    """Split a passage after each full stop or question mark."""
    return re.split(r"(?<=[.?]) ", text)
