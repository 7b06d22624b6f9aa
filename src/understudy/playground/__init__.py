"""Generated tasks whose answers an exact rule can check: rehearsal without cost.

Four have answers in words; those of `tools` are tool calls. Nothing here calls a model; `generate`
invents pairs from a seed, `grade` is the rule.
"""

from __future__ import annotations

import random
from types import ModuleType

from understudy.playground import classification, closed_qa, coding, summarization, tools
from understudy.playground.pairs import Grade, TaskPair

__all__ = [
    "TASKS",
    "Grade",
    "TaskPair",
    "flawed",
    "generate",
    "grade",
    "identify",
    "reference",
    "tools",
]

TASKS = ("summarization", "classification", "coding", "closed_qa")
_MODULES: dict[str, ModuleType] = {
    "summarization": summarization,
    "classification": classification,
    "coding": coding,
    "closed_qa": closed_qa,
}


def generate(task: str, seed: int, start: int, count: int) -> list[TaskPair]:
    """Return pairs start … start + count - 1; pair i depends only on (task, seed, i)."""
    assert task in _MODULES, f"no playground task {task!r}; there are {', '.join(TASKS)}"
    # Seeding with a string goes through SHA-512, so every process draws the same pairs.
    return [
        _MODULES[task].generate(random.Random(f"{task}/{seed}/{i}"))
        for i in range(start, start + count)
    ]


def identify(instruction: str) -> str | None:
    """Return the task whose instruction this whole text is, None for any other text."""
    for task, module in _MODULES.items():
        if module.reference(instruction) is not None:
            return task
    return None


def reference(instruction: str) -> str | None:
    """Return the correct answer, worked out from the instruction's text alone."""
    task = identify(instruction)
    return None if task is None else str(_MODULES[task].reference(instruction))


def grade(instruction: str, answer: str) -> Grade | None:
    """Apply the task's rule to an answer; None if this is no playground instruction."""
    for module in _MODULES.values():
        result: Grade | None = module.grade(instruction, answer)
        if result is not None:
            return result
    return None


def flawed(instruction: str, rng: random.Random) -> str:
    """Return a plausible imperfect answer to a playground instruction."""
    task = identify(instruction)
    assert task is not None, f"not a playground instruction: {instruction[:80]!r}"
    return str(_MODULES[task].flawed(instruction, rng))
