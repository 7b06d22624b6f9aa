"""The measures of near-duplicates as others compute them, and texts of invented words."""

import random
import string
from functools import cache
from typing import Any


@cache
def _scorer() -> Any:
    from rouge_score.rouge_scorer import RougeScorer  # and nltk: two seconds, so not at collection

    return RougeScorer(["rougeL"], use_stemmer=False)


def rouge(first: str, second: str) -> float:
    return float(_scorer().score(first, second)["rougeL"].fmeasure)


def word_jaccard(first: str, second: str) -> float:
    from rouge_score.tokenize import tokenize

    a, b = set(tokenize(first, None)), set(tokenize(second, None))
    return len(a & b) / len(a | b) if a | b else 0.0


def prose(count: int, seed: int) -> str:
    rng = random.Random(seed)
    return " ".join("".join(rng.choices(string.ascii_lowercase, k=6)) for _ in range(count))
