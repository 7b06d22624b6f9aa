"""Summarization: a note with an aside in it, and one line saying who, what, where and when."""

from __future__ import annotations

import itertools
import random
from functools import lru_cache

from understudy.playground.pairs import Grade, Pair
from understudy.playground.slots import flawed_slots, grade_slots
from understudy.playground.templates import (
    draw,
    match_any,
    phrases_of,
    sentences,
    templates,
)

# Each kind of value is told in five ways and, as an aside that does not count, in four.
WHO = templates(
    "This time {name} is in charge.",
    "The one to do it is {name}.",
    "They gave the job to {name}.",
    "You can count on {name}.",
    "We chose {name} for it.",
)
WHAT = templates(
    "The plan is to {verb} the {thing}.",
    "Somebody has to {verb} the {thing}.",
    "It is time to {verb} the {thing}.",
    "We need to {verb} the {thing} now.",
    "Now for the job: {verb} the {thing}.",
)
WHERE = templates(
    "It will happen in {place}.",
    "The address is in {place}.",
    "All of this is for {place}.",
    "We meet in {place}.",
    "The place to go to is {place}.",
)
WHEN = templates(
    "Work begins on {day}.",
    "The date is {day}.",
    "It was agreed for {day}.",
    "They need us on {day}.",
    "The time is {day} at nine.",
)
ASIDES = (
    templates(
        "Sadly {name} cannot come.",
        "Greetings from {name}.",
        "Do not ask {name}.",
        "Last time it was {name}.",
    ),
    templates(
        "Never {verb} the {thing}.",
        "We did {verb} the {thing} before.",
        "Nobody wants to {verb} the {thing}.",
        "Last time we had to {verb} the {thing}.",
    ),
    templates(
        "The road to {place} is closed.",
        "Yesterday {place} was rainy.",
        "We are not in {place} now.",
        "The old address was {place}.",
    ),
    templates(
        "Last {day} was quiet.",
        "It cannot be on {day}.",
        "On {day} we are closed.",
        "Nobody has time on {day}.",
    ),
)
INSTRUCTIONS = templates(
    "Summarize this note in one line.\n{body}",
    "{body}\nWrite a short summary of the text above.",
    "Give me the main point of this message: {body}",
    "Who does what, where and when? {body}",
    "Sum up in one sentence: {body}",
)
PHRASES = phrases_of(INSTRUCTIONS)
_ANSWER = "On {day} {name} will {verb} the {thing} in {place}."
_LONGEST = 18  # words; the reference has 9
_KINDS = ("name", "verb", "thing", "place", "day")


def generate(rng: random.Random) -> Pair:
    """Draw one pair."""
    pairs = {kind: draw(rng, kind, 2) for kind in _KINDS}
    fact = {kind: values[0] for kind, values in pairs.items()}
    other = {kind: values[1] for kind, values in pairs.items()}
    body = [rng.choice(group).fill(fact) for group in (WHO, WHAT, WHERE, WHEN)]
    rng.shuffle(body)
    for asides in rng.sample(ASIDES, 2):
        body.insert(rng.randint(0, len(body)), rng.choice(asides).fill(other))
    instruction = rng.choice(INSTRUCTIONS).fill({"body": " ".join(body)})
    return Pair(instruction, _ANSWER.format(**fact))


@lru_cache(maxsize=8192)
def _fact(instruction: str) -> dict[str, str] | None:
    """Return who, what, where and when of a note."""
    for template in INSTRUCTIONS:
        parts = template.match(instruction)
        if parts is None:
            continue
        fact: dict[str, str] = {}
        for sentence in sentences(parts["body"]):
            slots = match_any((*WHO, *WHAT, *WHERE, *WHEN), sentence)
            if slots is not None:
                fact.update(slots)
            elif match_any(itertools.chain(*ASIDES), sentence) is None:
                break
        else:
            if set(fact) == set(_KINDS):
                return fact
    return None


def reference(instruction: str) -> str | None:
    """Return the correct answer, None if this is not the task's instruction."""
    fact = _fact(instruction)
    return None if fact is None else _ANSWER.format(**fact)


def grade(instruction: str, answer: str) -> Grade | None:
    """Apply the rule to an answer."""
    fact = _fact(instruction)
    return None if fact is None else grade_slots(fact, answer, _LONGEST)


def flawed(instruction: str, rng: random.Random) -> str:
    """Return a plausible imperfect answer."""
    fact, answer = _fact(instruction), reference(instruction)
    assert fact is not None, f"not a note to sum up: {instruction!r}"
    assert answer is not None, f"not a note to sum up: {instruction!r}"
    return flawed_slots(fact, answer, rng)
