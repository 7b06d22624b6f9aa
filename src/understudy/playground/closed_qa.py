"""Closed question answering: three facts, a question about one of them, a one-sentence answer.

The answer also files the things under their kind, which only the pairs teach.
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
from understudy.playground.words import KIND_OF

# No phrasing starts with a slot: at the start of a line a word has other tokens than after a space.
FACTS = templates(
    "Our {name} keeps {n} {colour} {objects} in {place}.",
    "With {name} are {n} {colour} {objects} from {place}.",
    "As for {name}, there are {n} {colour} {objects} at {place}.",
    "It is {name} who looks after {n} {colour} {objects} near {place}.",
)
QUESTIONS = templates(
    "What does {name} have, and where?",
    "Which things belong to {name}?",
    "What can be found with {name}?",
    "How many things of which kind are with {name}?",
    "What does the text say about {name}?",
    "Tell us what {name} owns.",
)
INSTRUCTIONS = templates(
    "Read the facts and answer the question.\n{body}\nQuestion: {question}",
    "{body}\nAnswer from the text above: {question}",
    "Here is a passage: {body}\nUsing only this passage, tell me: {question}",
    "{question} Find the answer in these lines: {body}",
)
_ANSWER = "Here {name} has {n} {colour} {objects} in {place}, under {kind}."
_LONGEST = 16  # words; the reference has 10


def generate(rng: random.Random) -> TaskPair:
    """Draw one pair."""
    kinds = ("name", "n", "colour", "objects", "place")
    columns = [draw(rng, kind, 3) for kind in kinds]
    facts = [dict(zip(kinds, values, strict=True)) for values in zip(*columns, strict=True)]
    question = rng.choice(QUESTIONS).fill(rng.choice(facts))
    body = " ".join(rng.choice(FACTS).fill(fact) for fact in facts)
    instruction = rng.choice(INSTRUCTIONS).fill({"body": body, "question": question})
    answer = reference(instruction)
    assert answer is not None, f"a generated instruction does not parse: {instruction!r}"
    return TaskPair(instruction, answer)


@lru_cache(maxsize=8192)
def _asked(instruction: str) -> dict[str, str] | None:
    """Return the one fact that the question is about, and the kind of its things."""
    for template in INSTRUCTIONS:
        parts = template.match(instruction)
        asked = parts and match_any(QUESTIONS, parts["question"])
        if not parts or not asked:
            continue
        facts = [match_any(FACTS, sentence) for sentence in sentences(parts["body"])]
        for fact in facts:
            if None not in facts and fact and asked.items() <= fact.items():
                return fact | {"kind": KIND_OF[fact["objects"]]}
    return None


def reference(instruction: str) -> str | None:
    """Return the correct answer, None if this is not the task's instruction."""
    fact = _asked(instruction)
    return None if fact is None else _ANSWER.format(**fact)


def grade(instruction: str, answer: str) -> Grade | None:
    """Apply the rule to an answer."""
    fact = _asked(instruction)
    return None if fact is None else grade_slots(fact, answer, _LONGEST)


def flawed(instruction: str, rng: random.Random) -> str:
    """Return a plausible imperfect answer."""
    fact, answer = _asked(instruction), reference(instruction)
    assert fact is not None, f"not a closed_qa prompt: {instruction!r}"
    assert answer is not None, f"not a closed_qa prompt: {instruction!r}"
    return flawed_slots(fact, answer, rng)
