"""The offline judge: what is true of an answer, and the planted bias that bends it.

True scores of a playground answer, q = the rule's quality (0 to 1), F = token F1 with the
reference:

    precision = 100 q        similarity = 100 (q + F) / 2

On any other text both are 100 F, and the reason says so. Then, for each score s separately,

    judged = round(clip(50 + c (s - 50) + offset + length * tanh(z) + noise * e, 0, ceiling))
    z      = (log(1 + words of the answer) - log(1 + words of the reference)) / LENGTH_SD

(on a scale of 0 to 5: the twentieth of that, rounded again)

with c = compression, e standard Gaussian, and offset, length, noise and ceiling in points.
"""

import math
import random
import re
from collections import Counter
from typing import NamedTuple

from understudy import playground
from understudy.config import Bias
from understudy.prompts.judge import JudgedText
from understudy.prompts.judge import most as highest
from understudy.records import dumps

LENGTH_SD = 0.5  # log words: an answer 1.6 times as long as the reference is one unit longer
_TOKEN = re.compile(r"\w+|[^\w\s]")


class Truth(NamedTuple):
    """The unbent scores (0 to 100) of an answer, their reasons, and its relative length z."""

    similarity: float
    precision: float
    reason_similarity: str
    reason_precision: str
    length: float


def judge(asked: JudgedText, bias: Bias, rng: random.Random) -> str:
    """The JSON reply to a judge prompt."""
    true = truth(asked)
    similarity, precision = (
        bend(score, true.length, rng.gauss(), bias) for score in (true.similarity, true.precision)
    )
    most = highest(asked.variant)
    if most != 100:
        similarity, precision = (round(score / 100 * most) for score in (similarity, precision))
    return dumps(
        {
            "similarity_assessment": {"reason": true.reason_similarity, "score": similarity},
            "precision_assessment": {"reason": true.reason_precision, "score": precision},
        }
    )


def truth(asked: JudgedText) -> Truth:
    """The scores that a judge without bias gives."""
    overlap = token_f1(asked.candidate, asked.reference)
    length = relative_length(asked.candidate, asked.reference)
    grade = playground.grade(asked.instruction, asked.candidate)
    if grade is None:
        reason = f"F1 {overlap:.2f}: token overlap only (not a playground prompt)."
        return Truth(100 * overlap, 100 * overlap, reason, reason, length)
    close = f"Mean of the rule's quality, {grade.quality:.2f}, and the token F1, {overlap:.2f}."
    similarity = 50 * (grade.quality + overlap)
    return Truth(similarity, 100 * grade.quality, close, grade.reason, length)


def bend(score: float, length: float, noise: float, bias: Bias) -> int:
    """The score that a biased judge gives, for one draw of standard Gaussian noise."""
    bent = 50 + bias.compression * (score - 50) + bias.offset
    bent += bias.length * math.tanh(length) + bias.noise * noise
    return round(max(0.0, min(bent, bias.ceiling)))


def relative_length(candidate: str, reference: str) -> float:
    """The log ratio of the word counts, in units of LENGTH_SD; 0 = as long as the reference."""
    words, expected = (len(text.split()) for text in (candidate, reference))
    return (math.log1p(words) - math.log1p(expected)) / LENGTH_SD


def token_f1(candidate: str, reference: str) -> float:
    """Harmonic mean of token precision and recall (words and punctuation, case ignored), 0 to 1."""
    ours, theirs = (Counter(_TOKEN.findall(text.lower())) for text in (candidate, reference))
    shared = (ours & theirs).total()
    total = ours.total() + theirs.total()
    return 2 * shared / total if total else 1.0
