"""What one cell of a verdict table says: a score, a winner, or why there is none.

A score may stand as a number, `8/10`, `8 out of 10`, `85 %`, `4 - good`, `Score: 7`, stars, yes and
no, or a word of a five-point scale of agreement.
"""

import math
import re
from typing import Any, NamedTuple

EMPTY = "empty cell"
UNREADABLE = "no score in the text"
SEVERAL = "several numbers in the text"
_NOTHING = {"", "na", "n/a", "nan", "none", "null", "-", "–", "—", "?", "missing", "unscored"}
_LIKERT = {
    **{"strongly disagree": 1, "disagree": 2, "neither agree nor disagree": 3, "neutral": 3},
    **{"undecided": 3, "agree": 4, "strongly agree": 5},
    **{"very poor": 1, "poor": 2, "fair": 3, "good": 4, "very good": 5, "excellent": 5},
}
_TRUTH = {
    **dict.fromkeys(("true", "yes", "pass"), 1.0),
    **dict.fromkeys(("false", "no", "fail"), 0.0),
}
_LONGEST = 80  # characters of a text that may hold a score
_NUMBER = r"[-+]?\d+(?:[.,]\d+)?"
_FRACTION = re.compile(rf"({_NUMBER})\s*(?:/|out of|of)\s*({_NUMBER})", re.I)
_FIRST = {
    "a",
    "1",
    "model_a",
    "modela",
    "system_a",
    "first",
    "left",
    "output_1",
    "response_a",
    "[[a]]",
}
_SECOND = {
    "b",
    "2",
    "model_b",
    "modelb",
    "system_b",
    "second",
    "right",
    "output_2",
    "response_b",
    "[[b]]",
}
_TIES = {"c", "0", "tie", "tied", "draw", "both", "neither", "equal", "same", "[[c]]", "bothbad"}


class CellScore(NamedTuple):
    """A score, the top of its scale where the cell says it, or why there is no score."""

    score: float | None
    top: float | None = None
    reason: str = ""


def score(value: Any) -> CellScore:
    """Read a cell; a missing or unreadable one has a reason."""
    if value is None:
        return CellScore(None, reason=EMPTY)
    if isinstance(value, int | float):
        number = float(value)
        return CellScore(number) if math.isfinite(number) else CellScore(None, reason=EMPTY)
    text = str(value).strip()
    folded = text.casefold()
    if folded in _NOTHING:
        return CellScore(None, reason=EMPTY)
    try:
        number = float(text)
    except ValueError:
        return _of_text(text, folded)
    return CellScore(number) if math.isfinite(number) else CellScore(None, reason=EMPTY)


def _of_text(text: str, folded: str) -> CellScore:
    if folded in _LIKERT:
        return CellScore(float(_LIKERT[folded]), 5.0)
    if folded in _TRUTH:
        return CellScore(_TRUTH[folded], 1.0)
    if set(text) <= set("★☆⭐") and text:
        return CellScore(float(len(text) - text.count("☆")), 5.0)
    if len(text) > _LONGEST:
        return CellScore(None, reason=UNREADABLE)
    fractions = _FRACTION.findall(text)
    if len(fractions) == 1 and _plain(fractions[0][1]) > 0:
        return CellScore(_plain(fractions[0][0]), _plain(fractions[0][1]))
    # A digit within a word, as in gpt-4, is no score.
    numbers = re.findall(rf"(?<![\w.-]){_NUMBER}(?![\w])", text)
    if len(numbers) == 1:
        return CellScore(_plain(numbers[0]), 100.0 if re.search(r"\d\s*%", text) else None)
    return CellScore(None, reason=SEVERAL if numbers else UNREADABLE)


def _plain(text: str) -> float:
    return float(text.replace(",", "."))


def winner(value: Any, first: Any = None, second: Any = None) -> CellScore:
    """1 where the first of two wins, 0 where the second does, 0.5 for a tie.

    `first` and `second` are the names of the two, one of which the cell may hold.
    """
    if value is None or str(value).strip().casefold() in _NOTHING - {"-"}:
        return CellScore(None, reason=EMPTY)
    if value in (first, second):
        return CellScore(float(value == first))
    folded = str(value).strip().casefold().removesuffix(".0")
    if folded == "1.5":  # between 1 and 2
        return CellScore(0.5)
    if folded in _FIRST:
        return CellScore(1.0)
    if folded in _SECOND:
        return CellScore(0.0)
    if folded in _TIES or folded.startswith(("tie", "both")):
        return CellScore(0.5)
    return CellScore(None, reason="names no winner")
