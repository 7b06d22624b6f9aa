"""text_overlap: how much of the reference's wording is in the answer, 0 to 100.

token_f1  F1 over words, as SQuAD counts it (Rajpurkar et al. 2016), but with articles
rouge_l   F1 of the longest common subsequence of words (Lin 2004)
chrf      F2 over character n-grams up to 6 (Popović 2015), by sacrebleu
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence

from understudy.config.grader import Overlap, TextOverlap
from understudy.errors import BadInput
from understudy.evaluation.graders import Case, Graded, Outcome, Rule, Ungraded
from understudy.playground.sandbox import Sandbox
from understudy.records import Coverage

_WORD = re.compile(r"\w+")  # signs are no wording


def make(settings: TextOverlap, train: Sequence[Coverage], sandbox: Sandbox) -> Rule:
    """Return the rule."""
    precision, similarity = _measure(settings.precision), _measure(settings.similarity)

    def rule(case: Case) -> Outcome:
        if not _words(case.reference):
            return Ungraded("no_reference", "the reference has no words")
        texts = case.reference, case.answer
        return Graded(precision(*texts), similarity(*texts))

    return rule


def _measure(name: Overlap) -> Callable[[str, str], float]:
    return _chrf() if name == "chrf" else {"token_f1": token_f1, "rouge_l": rouge_l}[name]


def _words(text: str) -> list[str]:
    return _WORD.findall(text.casefold())


def token_f1(reference: str, answer: str) -> float:
    """Harmonic mean of the shares of words that both have, each word as often as it stands."""
    wanted, given = _words(reference), _words(answer)
    if not wanted or not given:
        return 0.0
    shared = (Counter(wanted) & Counter(given)).total()
    return 200.0 * shared / (len(wanted) + len(given))


def rouge_l(reference: str, answer: str) -> float:
    """Harmonic mean of the shares of words that stand in both in the same order."""
    from rapidfuzz.distance import LCSseq

    wanted, given = _words(reference), _words(answer)
    if not wanted or not given:
        return 0.0
    return 200.0 * int(LCSseq.similarity(wanted, given)) / (len(wanted) + len(given))


def _chrf() -> Callable[[str, str], float]:
    try:
        from sacrebleu.metrics.chrf import CHRF
    except ModuleNotFoundError:
        raise BadInput("chrf needs sacrebleu: pip install 'understudy[graders]'") from None
    chrf = CHRF()
    return lambda reference, answer: float(chrf.sentence_score(answer, [reference]).score)
