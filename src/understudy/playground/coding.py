"""Coding: a described Python function; the rule runs the answer and never compares text."""

from __future__ import annotations

import ast
import random
import re
from functools import lru_cache
from typing import Any

from understudy.playground.pairs import Grade, TaskPair
from understudy.playground.sandbox import run_python
from understudy.playground.templates import (
    Template,
    draw,
    match_any,
    templates,
)
from understudy.playground.words import PARAMETERS

INSTRUCTIONS = templates(
    "Write a Python function named {function} that takes {inputs} and returns {result}.",
    "Define {function} in Python. Its input is {inputs}. It must return {result}.",
    "I need Python code: {function} gets {inputs} and gives back {result}.",
    "Given {inputs}, return {result}. Call the Python function {function}.",
)
# What the functions compute, and four ways to say each of it.
BEHAVIOURS: dict[str, tuple[Template, ...]] = {
    "{left} + {right} + {n}": templates(
        "{left} plus {right} plus {n}",
        "the sum of {left}, {right} and {n}",
        "{left} and {right} and {n} all together",
        "{n} on top of {left} and {right} added up",
    ),
    "{left} + {right} - {n}": templates(
        "{left} plus {right} minus {n}",
        "the sum of {left} and {right}, less {n}",
        "{n} below the sum of {left} and {right}",
        "{left} and {right} added up, {n} taken away",
    ),
    "{left} - {right} + {n}": templates(
        "{left} minus {right} plus {n}",
        "{n} more than {left} minus {right}",
        "the gap from {right} to {left}, with {n} on top",
        "{left} without {right} but with {n}",
    ),
    "{left} - {right} - {n}": templates(
        "{left} minus {right} minus {n}",
        "{left} with {right} and {n} taken away",
        "the gap from {right} to {left}, less {n}",
        "{left} without {right} and without {n}",
    ),
    "{left} * {right} + {n}": templates(
        "{left} times {right} plus {n}",
        "the product of {left} and {right}, with {n} added",
        "{n} above {left} times {right}",
        "{left} multiplied by {right}, then {n} more",
    ),
    "{left} * {right} - {n}": templates(
        "{left} times {right} minus {n}",
        "the product of {left} and {right}, less {n}",
        "{n} below {left} times {right}",
        "{left} multiplied by {right}, then {n} fewer",
    ),
    "max({left}, {right}) + {n}": templates(
        "the larger of {left} and {right}, plus {n}",
        "{n} more than the larger of {left}, {right}",
        "the maximum of {left} and {right}, then {n} more",
        "whichever of {left} and {right} is on top, with {n} added",
    ),
    "max({left}, {right}) - {n}": templates(
        "the larger of {left} and {right}, minus {n}",
        "{n} less than the larger of {left}, {right}",
        "the maximum of {left} and {right}, then {n} fewer",
        "whichever of {left} and {right} is on top, {n} taken away",
    ),
    "min({left}, {right}) + {n}": templates(
        "the smaller of {left} and {right}, plus {n}",
        "{n} more than the smaller of {left}, {right}",
        "the minimum of {left} and {right}, then {n} more",
        "whichever of {left} and {right} is least, with {n} added",
    ),
    "min({left}, {right}) - {n}": templates(
        "the smaller of {left} and {right}, minus {n}",
        "{n} less than the smaller of {left}, {right}",
        "the minimum of {left} and {right}, then {n} fewer",
        "whichever of {left} and {right} is least, {n} taken away",
    ),
    "[v for v in {list} if v > {n}]": templates(
        "the {list} above {n}",
        "only those {list} that are more than {n}",
        "all {list} over {n}",
        "the {list} that beat {n}",
    ),
    "[v for v in {list} if v < {n}]": templates(
        "the {list} below {n}",
        "only those {list} that are less than {n}",
        "all {list} under {n}",
        "the {list} that stay short of {n}",
    ),
    "sum(v for v in {list} if v > {n})": templates(
        "the sum of the {list} above {n}",
        "the total of all {list} that are more than {n}",
        "what the {list} over {n} come to",
        "the {list} that beat {n}, added up",
    ),
    "sum(v for v in {list} if v < {n})": templates(
        "the sum of the {list} below {n}",
        "the total of all {list} that are less than {n}",
        "what the {list} under {n} come to",
        "the {list} that stay short of {n}, added up",
    ),
    "[v + {n} for v in {list}]": templates(
        "all {list} with {n} added",
        "each of the {list} plus {n}",
        "the {list}, every one raised by {n}",
        "the {list} moved up by {n}",
    ),
    "[v - {n} for v in {list}]": templates(
        "all {list} with {n} taken away",
        "each of the {list} minus {n}",
        "the {list}, every one cut by {n}",
        "the {list} moved down by {n}",
    ),
    "[v * {n} for v in {list}]": templates(
        "all {list} times {n}",
        "each of the {list} multiplied by {n}",
        "the {list}, every one made {n} times as large",
        "the {list} scaled by {n}",
    ),
}
_ANSWER = "def {function}({parameters}):\n    return {expression}"
_FENCE = re.compile(r"\A\s*```(?:python)?\n(.*?)\n?```\s*\Z", re.DOTALL)
_PAIR, _LIST = Template("{left} and {right}"), Template("{list}")


def generate(rng: random.Random) -> TaskPair:
    """Draw one pair."""
    expression = rng.choice(list(BEHAVIOURS))
    left, right = rng.choice(PARAMETERS)
    slots = {kind: draw(rng, kind, 1)[0] for kind in ("function", "n", "list")}
    slots |= {"left": left, "right": right}
    slots["inputs"] = (_LIST if "{list}" in expression else _PAIR).fill(slots)
    slots["result"] = rng.choice(BEHAVIOURS[expression]).fill(slots)
    instruction = rng.choice(INSTRUCTIONS).fill(slots)
    answer = reference(instruction)
    assert answer is not None, f"a generated instruction does not parse: {instruction!r}"
    return TaskPair(instruction, answer)


@lru_cache(maxsize=8192)
def _asked(instruction: str) -> tuple[str, str, str] | None:
    """Return the function's name, its parameters and the expression it computes."""
    outer = match_any(INSTRUCTIONS, instruction)
    if outer is None:
        return None
    inputs = match_any((_PAIR, _LIST), outer["inputs"])
    for expression, wordings in BEHAVIOURS.items():
        slots = match_any(wordings, outer["result"])
        if not slots or not inputs or not inputs.items() <= slots.items():
            continue
        if "list" in slots or (slots["left"], slots["right"]) in PARAMETERS:
            parameters = ", ".join(inputs.values())
            return outer["function"], parameters, expression.format(**slots)
    return None


def reference(instruction: str) -> str | None:
    """Return the correct answer, None if this is not the task's instruction."""
    asked = _asked(instruction)
    if asked is None:
        return None
    return _ANSWER.format(function=asked[0], parameters=asked[1], expression=asked[2])


@lru_cache(maxsize=65536)
def grade(instruction: str, answer: str) -> Grade | None:
    """Apply the rule to an answer."""
    asked = _asked(instruction)
    if asked is None:
        return None
    function, parameters, expression = asked
    code = fenced[1] if (fenced := _FENCE.match(answer)) else answer
    inputs = _inputs(expression, 2 if "," in parameters else 1)
    outcome = run_python(code, function, inputs)
    if outcome.status == "syntax":
        return Grade(False, 0.1 * ("def " in code), f"It is not Python: {outcome.detail}.")
    if outcome.status == "no function":
        return Grade(False, 0.2, f"It defines no function named {function}.")
    if outcome.status != "ok":
        return Grade(False, 0.1, f"The code does not run: {outcome.detail}.")
    wanted = [_compute(expression, parameters, values) for values in inputs]
    right = [result.value == value for result, value in zip(outcome.results, wanted, strict=True)]
    if all(right):
        return Grade(True, 1.0, f"It returns {expression} on all {len(inputs)} inputs tried.")
    first = right.index(False)
    got = outcome.results[first]
    said = got.error or f"returns {got.value!r}"
    where = f"{function}({', '.join(map(repr, inputs[first]))})"
    quality = 0.4 + 0.4 * sum(right) / len(right)
    return Grade(False, quality, f"{where} should be {wanted[first]!r}, but {said[:80]}.")


def flawed(instruction: str, rng: random.Random) -> str:
    """Return a plausible imperfect answer."""
    asked, answer = _asked(instruction), reference(instruction)
    assert asked is not None, f"not a coding prompt: {instruction!r}"
    assert answer is not None, f"not a coding prompt: {instruction!r}"
    function, _, expression = asked
    number = re.findall(r"\d+", expression)[-1]
    near = str(int(number) + rng.choice((-1, 1)))
    swaps = {" + ": " - ", " - ": " + ", " > ": " < ", " < ": " >= ", "max": "min", " * ": " + "}
    sign = rng.choice([s for s in swaps if s in expression])
    return rng.choice(
        (
            answer.replace(expression, expression.replace(number, near)),
            answer.replace(expression, expression.replace(sign, swaps[sign])),
            answer.replace(function, function[::-1]),
            answer.replace("return ", "print(") + ")",
            answer[: rng.randint(8, len(answer) - len(expression))],
            answer.replace(":\n", "\n"),
            f"Sure, here it is. {answer}",
        )
    )


def _inputs(expression: str, arity: int) -> list[tuple[Any, ...]]:
    """Return arguments on which near misses of the expression differ."""
    n = int(re.findall(r"\d+", expression)[-1])
    if arity == 2:
        return [(3, 5), (7, 2), (-4, 9), (0, 0), (n, n + 1), (100, 37)]
    return [([1, n, n + 1, n - 1, 150, -3],), ([],), ([n + 2, n + 7, 5],), ([n, n],)]


def _compute(expression: str, parameters: str, values: tuple[Any, ...]) -> Any:
    """Evaluate one of our own expressions; answers go to the sandbox instead."""
    names = dict(zip(parameters.split(", "), values, strict=True))
    tree = ast.parse(expression, mode="eval")
    return eval(
        compile(tree, "<playground>", "eval"), {"max": max, "min": min, "sum": sum, **names}
    )
