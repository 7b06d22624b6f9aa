"""contains: the reference stands in the answer; of a row's `expected.contains`, every text does."""

from collections.abc import Sequence

from understudy.config.grader import Contains
from understudy.evaluation.graders import RIGHT, Case, Outcome, Rule, Ungraded, shown, wrong
from understudy.evaluation.graders.texts import normalizer
from understudy.playground.sandbox import Sandbox
from understudy.records import Coverage


def make(settings: Contains, train: Sequence[Coverage], sandbox: Sandbox) -> Rule:
    """Return the rule."""
    normal = normalizer(settings.ignore)

    def rule(case: Case) -> Outcome:
        given = case.expected.get("contains", case.reference)
        wanted = [normal(str(text)) for text in (given if isinstance(given, list) else [given])]
        if not wanted or not all(wanted):
            return Ungraded("no_reference", "there is no text that the answer should contain")
        answer = normal(case.answer)
        missing = next((text for text in wanted if text not in answer), None)
        return RIGHT if missing is None else wrong(f"it does not contain {shown(missing)}")

    return rule
