"""regex: the answer matches the reference, or what a pattern finds in both is equal.

Searches have a limit (the library `regex` has, `re` has none): a pattern may need longer than the
universe lasts, and then the answer is unscored.
"""

from collections.abc import Sequence
from typing import Any

from understudy.config.grader import Regex
from understudy.errors import BadInput
from understudy.evaluation.graders import RIGHT, Case, Outcome, Rule, Ungraded, shown, wrong
from understudy.playground.sandbox import Sandbox
from understudy.records import Coverage


def make(settings: Regex, train: Sequence[Coverage], sandbox: Sandbox) -> Rule:
    """Return the rule; raise BadInput for a pattern that is none."""
    import regex

    def found(pattern: Any, text: str) -> Any:
        return pattern.search(text, timeout=settings.seconds)

    def by_reference(case: Case) -> Outcome:
        try:
            pattern = regex.compile(case.reference.strip())
        except regex.error as error:
            return Ungraded("no_reference", f"the reference is no regular expression: {error}")
        if found(pattern, case.answer) is None:
            return wrong(f"it does not match {shown(case.reference)}")
        return RIGHT

    def by_pattern(case: Case) -> Outcome:
        wanted, given = found(ours, case.reference), found(ours, case.answer)
        text = case.reference.strip() if wanted is None else _part(wanted)
        if not text:
            return Ungraded("no_reference", "the pattern finds nothing in the reference")
        if given is None:
            return wrong("the pattern finds nothing in it")
        if _part(given) != text:
            return wrong(f"{shown(_part(given))} is not {shown(text)}")
        return RIGHT

    try:
        ours = None if settings.pattern is None else regex.compile(settings.pattern)
    except regex.error as error:
        raise BadInput(
            f"graders.*.pattern={settings.pattern} is no regular expression: {error}"
        ) from None
    rule = by_reference if ours is None else by_pattern

    def limited(case: Case) -> Outcome:
        try:
            return rule(case)
        except TimeoutError:
            return Ungraded("timeout", f"the search took more than {settings.seconds:g} s")

    return limited


def _part(match: Any) -> str:
    """What the first group found, else the whole match."""
    return str((match[1] if match.re.groups else match[0]) or "").strip()
