"""Summarization: a note about plans, and one line saying who, what, where and when.

The line also says in which region the place is, which only the pairs teach.
"""

from __future__ import annotations

import random
from functools import lru_cache

from understudy.playground.pairs import Grade, TaskPair, flawed_slots, grade_slots
from understudy.playground.templates import (
    draw,
    match_any,
    sentences,
    templates,
)
from understudy.playground.words import REGION_OF

# Two people are named with a job each; another sentence says whose job it will be.
OFFERS = templates(
    "Maybe {name} could {verb} the {thing}.",
    "One plan is that {name} will {verb} the {thing}.",
    "They need {name} to {verb} the {thing}.",
    "Give {name} the job to {verb} the {thing}.",
    "We told {name} to {verb} the {thing}.",
)
CHOICES = templates(
    "This time {name} is in charge.",
    "The one to do it is {name}.",
    "We chose {name} now.",
    "You can count on {name}.",
    "It was agreed with {name}.",
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
ASIDES = templates(
    "The road to {place} is closed.",
    "Yesterday {place} was rainy.",
    "We are not in {place} now.",
    "Last {day} was quiet.",
    "It cannot be on {day}.",
    "On {day} we are closed.",
)
INSTRUCTIONS = templates(
    "Summarize this note in one line.\n{body}",
    "{body}\nWrite a short summary of the text above.",
    "Give me the main point of this message: {body}",
    "Who does what, where and when? {body}",
    "Sum up in one sentence: {body}",
)
_ANSWER = "On {day} {name} will {verb} the {thing} in {place}, {region}."
_LONGEST = 18  # words; the reference has 10
_KINDS = ("name", "verb", "thing", "place", "day")


def generate(rng: random.Random) -> TaskPair:
    """Draw one pair."""
    columns = [draw(rng, kind, 2) for kind in _KINDS]
    cases = [dict(zip(_KINDS, values, strict=True)) for values in zip(*columns, strict=True)]
    fact, other = cases
    body = [rng.choice(group).fill(fact) for group in (CHOICES, WHERE, WHEN)]
    rng.shuffle(body)
    offers = [rng.choice(OFFERS).fill(slots) for slots in cases]
    rng.shuffle(offers)
    body.insert(rng.randint(0, len(body)), rng.choice(ASIDES).fill(other))
    instruction = rng.choice(INSTRUCTIONS).fill({"body": " ".join(offers + body)})
    answer = reference(instruction)
    assert answer is not None, f"a generated instruction does not parse: {instruction!r}"
    return TaskPair(instruction, answer)


@lru_cache(maxsize=8192)
def _fact(instruction: str) -> dict[str, str] | None:
    """Return who, what, where and when of a note."""
    for template in INSTRUCTIONS:
        parts = template.match(instruction)
        fact = _read(sentences(parts["body"])) if parts else None
        if fact is not None:
            return fact
    return None


def _read(body: list[str]) -> dict[str, str] | None:
    jobs: dict[str, dict[str, str]] = {}
    fact: dict[str, str] = {}
    for sentence in body:
        if offer := match_any(OFFERS, sentence):
            jobs[offer["name"]] = offer
        elif told := match_any((*CHOICES, *WHERE, *WHEN), sentence):
            fact |= told
        elif match_any(ASIDES, sentence) is None:
            return None
    fact |= jobs.get(fact.get("name", ""), {})
    return fact | {"region": REGION_OF[fact["place"]]} if set(fact) == set(_KINDS) else None


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
