"""Classification: a message to a company, and the department that should get it."""

from __future__ import annotations

import random
import re
from collections import Counter
from functools import lru_cache

from understudy.playground.pairs import Grade, TaskPair
from understudy.playground.templates import (
    draw,
    match_any,
    sentences,
    templates,
)
from understudy.playground.words import CUES, LABEL_OF_CUE, LABELS

CONCERNS = templates(
    "I am writing about the {cue} and the {cue2}.",
    "Could you look at the {cue} before the {cue2} is gone?",
    "There is a problem with the {cue} and also with the {cue2}.",
    "First the {cue}, then the {cue2}: what now?",
    "Nobody told us that the {cue} needs a {cue2}.",
    "We saw the {cue} next to the {cue2}.",
)
ASIDES = templates(
    "It was {name} who asked me to write.",
    "I live in {place}.",
    "We have {n} {colour} {objects}.",
    "Please reply by {day}.",
    "The {cue3} is fine.",
    "Never mind the {cue3}.",
)
INSTRUCTIONS = templates(
    "Which department should get this message?\n{body}",
    "Classify the following message.\n{body}",
    "{body}\nWhat is the topic of this message?",
    "Choose one label for this text: {body}",
)
_WORD = re.compile(r"[a-z]+")
_LONGEST = 6  # words; the reference has 1


def generate(rng: random.Random) -> TaskPair:
    """Draw one pair."""
    label, other = rng.sample(LABELS, 2)
    cue, cue2 = rng.sample(CUES[label], 2)
    slots = {kind: draw(rng, kind, 1)[0] for kind in ("name", "place", "n", "colour", "objects")}
    slots |= {"day": draw(rng, "day", 1)[0], "cue": cue, "cue2": cue2}
    slots["cue3"] = rng.choice(CUES[other])
    body = [rng.choice(CONCERNS).fill(slots), rng.choice(ASIDES).fill(slots)]
    rng.shuffle(body)
    return TaskPair(rng.choice(INSTRUCTIONS).fill({"body": " ".join(body)}), label)


@lru_cache(maxsize=8192)
def reference(instruction: str) -> str | None:
    """Return the department that most cue words speak of."""
    for template in INSTRUCTIONS:
        parts = template.match(instruction)
        if parts is None:
            continue
        slots = [match_any((*CONCERNS, *ASIDES), part) for part in sentences(parts["body"])]
        if None in slots:
            continue
        values = [value for found in slots if found for value in found.values()]
        votes = Counter(LABEL_OF_CUE[value] for value in values if value in LABEL_OF_CUE)
        if votes:
            return votes.most_common(1)[0][0]
    return None


def grade(instruction: str, answer: str) -> Grade | None:
    """Apply the rule to an answer."""
    label = reference(instruction)
    if label is None:
        return None
    words = _WORD.findall(answer.lower())
    named = [word for word in words if word in CUES]
    if not named:
        return Grade(False, 0.0, f"No department is named; it should be {label}.")
    if label not in named:
        return Grade(False, 0.1, f"The department should be {label}, not {named[0]}.")
    if set(named) != {label}:
        return Grade(False, 0.4, f"It names {label}, but other departments too.")
    if len(words) > _LONGEST:
        return Grade(False, 0.7, f"{label.capitalize()} is right, but one word was asked for.")
    return Grade(True, 1.0, f"The department is {label}, as it should be.")


def flawed(instruction: str, rng: random.Random) -> str:
    """Return a plausible imperfect answer."""
    label = reference(instruction)
    assert label is not None, f"not a message to classify: {instruction!r}"
    other = rng.choice([name for name in LABELS if name != label])
    return rng.choice(
        (
            other,
            other,
            f"{label} or {other}",
            f"I think that this message should go to {label}, but I am not sure.",
            label[: rng.randint(2, len(label) - 2)],
            "another department",
        )
    )
