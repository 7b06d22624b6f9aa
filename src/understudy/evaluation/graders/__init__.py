"""Rules that score an answer: one small file each, made from its config and the train rows.

`made` looks up a grader's file by its kind; `make` there returns a function of a `Case`. A rule
says `Graded` of what it could read and `Ungraded` of what nobody can score: a reference that is
none of its kind, tests that are not there, its own failure. An *answer* that cannot be read (no
JSON, no number) is wrong, which is a score of 0.
"""

import importlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from understudy.config.grader import Grader
from understudy.errors import UnderstudyError
from understudy.playground.sandbox import Sandbox
from understudy.prompts.calls import Call
from understudy.records import Coverage, Message

MOST = 100.0


class Case(NamedTuple):
    """What is graded, and what against."""

    prompt: list[Message]
    reference: str
    expected: dict[str, Any]  # of the row; {} where it has nothing but the reference
    answer: str
    # The calls of the reference and of the answer, where the row offers tools or calls them: what
    # only looks like a call is then none, for no client would get it as one.
    wanted: list[Call] | None = None
    given: list[Call] | None = None


class Graded(NamedTuple):
    """The scores of one answer, 0 to 100, and why not 100."""

    precision: float
    similarity: float | None = None
    reason: str | None = None
    labels: tuple[str, str | None] | None = None  # the wanted and the given one, of a closed set


class Ungraded(NamedTuple):
    """Why an answer has no score: a word for tables, and a sentence."""

    status: str
    reason: str


Outcome = Graded | Ungraded
Rule = Callable[[Case], Outcome]


def made(settings: Grader, train: Sequence[Coverage], sandbox: Sandbox) -> Rule:
    """Return the rule of a grader; it never raises but for a mistake of the user's."""
    home = importlib.import_module(f"{__name__}.{settings.kind}")
    rule: Rule = home.make(settings, train, sandbox)

    def safe(case: Case) -> Outcome:
        try:
            return rule(case)
        except UnderstudyError:
            raise
        except Exception as error:
            # Whatever a model writes, one odd answer must not end the stage.
            return Ungraded("grader_error", f"{type(error).__name__}: {error}"[:500])

    return safe


RIGHT = Graded(MOST)


def wrong(reason: str) -> Graded:
    """Return a score of 0."""
    return Graded(0.0, reason=reason)


def shown(text: str, most: int = 80) -> str:
    """Return a text as a reason quotes it."""
    return repr(text if len(text) <= most else f"{text[:most]}…")
