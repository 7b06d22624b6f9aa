"""label: the answer names the reference's label and no other of a closed set.

An answer is a label if it is one, apart from case and from what is neither letter nor digit
("Card arrival." is card_arrival), or if exactly one label or alias stands in it as words: first in
its first line that is not empty, then in all of it. A label within a longer one that is there
("refund" in "refund_not_showing_up") does not count. What a negation says is not understood:
"not spam" names spam.
"""

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

from understudy.config.grader import Label
from understudy.errors import BadInput
from understudy.evaluation.graders import MOST, Case, Graded, Outcome, Rule, Ungraded, shown
from understudy.playground.sandbox import Sandbox
from understudy.records import Coverage

_NOT_WORD = re.compile(r"[\W_]+")
_MANY = 1000  # different labels of train rows: no closed set


def make(settings: Label, train: Sequence[Coverage], sandbox: Sandbox) -> Rule:
    """Return the rule; raise BadInput for no labels, for too many, and for an alias of none."""
    labels = settings.labels or sorted({row.response.strip() for row in train})
    names = _names(labels, settings.aliases)

    def rule(case: Case) -> Outcome:
        reference = case.reference.strip()
        wanted = names.get(_plain(reference))
        known, pattern = names, ours
        if wanted is None:  # a label that no train row has
            wanted = reference
            known = {**names, _plain(reference): reference}
            pattern = _pattern(tuple(known))
        if not _plain(reference):
            return Ungraded("no_reference", "the reference is no label")
        given = known.get(_plain(case.answer))
        said = {given} if given is not None else _said(case.answer, known, pattern)
        if len(said) != 1:
            reason = f"it names {len(said)} labels" if said else "it names no label"
            return Graded(0.0, reason=f"{reason}; wanted is {wanted}", labels=(wanted, None))
        (label,) = said
        if label == wanted:
            return Graded(MOST, labels=(wanted, label))
        reason = f"{shown(label)} is not {shown(wanted)}"
        return Graded(0.0, reason=reason, labels=(wanted, label))

    ours = _pattern(tuple(names))
    return rule


def _names(labels: Iterable[str], aliases: dict[str, str]) -> dict[str, str]:
    """Plain name → label."""
    names = {_plain(label): label for label in labels if _plain(label)}
    if not names:
        raise BadInput("judge=label learns its labels from train rows, and there is none")
    if len(names) > _MANY:
        raise BadInput(
            f"the train rows have {len(names)} different answers, which is no closed set of "
            "labels; choose another grader, or give graders.label.labels=[…]"
        )
    for alias, label in aliases.items():
        if _plain(label) not in names:
            raise BadInput(f"graders.*.aliases.{alias}={label}: there is no label {label}")
        names.setdefault(_plain(alias), names[_plain(label)])
    return names


@lru_cache(maxsize=65536)
def _plain(text: str) -> str:
    """The words of a name, in small letters; signs alone stay as they are."""
    return _NOT_WORD.sub(" ", text).strip().casefold() or text.strip()


@lru_cache(maxsize=64)
def _pattern(names: tuple[str, ...]) -> re.Pattern[str]:
    """Finds the longest names first, as words."""
    longest_first = sorted(names, key=len, reverse=True)
    return re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, longest_first))})(?!\w)")


def _said(answer: str, names: dict[str, str], pattern: re.Pattern[str]) -> set[str]:
    """The labels that stand in an answer: in its first line, else anywhere."""
    first = next((line for line in answer.splitlines() if line.strip()), "")
    for text in (first, answer):
        if found := {names[name] for name in pattern.findall(_plain(text))}:
            return found
    return set()
