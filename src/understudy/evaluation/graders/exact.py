"""exact: the answer is the reference, apart from what is ignored."""

from collections.abc import Sequence

from understudy.config.grader import Exact
from understudy.evaluation.graders import RIGHT, Case, Outcome, Rule, shown, wrong
from understudy.evaluation.graders.texts import normalizer
from understudy.playground.sandbox import Sandbox
from understudy.records import Coverage


def make(settings: Exact, train: Sequence[Coverage], sandbox: Sandbox) -> Rule:
    """Return the rule."""
    normal = normalizer(settings.ignore)

    def rule(case: Case) -> Outcome:
        if case.answer == case.reference or normal(case.answer) == normal(case.reference):
            return RIGHT
        return wrong(f"it is not {shown(case.reference)}")

    return rule
