"""python: a function of the user's, in the sandbox.

    def grade(prompt: str, reference: str, answer: str, expected: dict) -> float: ...

gives the precision, 0 to 100, or True and False; with `similarity` (precision, similarity). None,
or an exception, leaves the answer unscored. It may import what this Python has installed, and
reads, writes and calls nothing else.
"""

import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from understudy.config.grader import Python
from understudy.errors import BadInput
from understudy.evaluation.graders import MOST, Case, Graded, Outcome, Rule, Ungraded
from understudy.playground.sandbox import Sandbox
from understudy.records import Coverage, written


def make(settings: Python, train: Sequence[Coverage], sandbox: Sandbox) -> Rule:
    """Return the rule; raise BadInput where there is no such file."""
    assert settings.function is not None, "checked when it was composed"
    name, _, function = settings.function.rpartition(":")
    path = Path(name).expanduser()
    try:
        source = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"graders.*.function={settings.function}: {error}") from None

    installed = [path for path in sys.path if Path(path).name.endswith("-packages")]

    def rule(case: Case) -> Outcome:
        prompt = "\n\n".join(map(written, case.prompt))
        ran = sandbox.run(
            "grade",
            seconds=settings.seconds,
            memory_mb=settings.memory_mb,
            source=source,
            file=path.name,
            call=function,
            inputs=[prompt, case.reference, case.answer, case.expected],
            paths=installed,
        )
        if ran.status != "ok":
            return Ungraded("grader_error", f"{settings.function}: {ran.detail}")
        return scored(ran.value, settings.similarity)

    return rule


def scored(value: Any, has_similarity: bool) -> Outcome:
    """Return what a function's value says."""
    given = value if has_similarity and isinstance(value, list | tuple) else [value]
    scores = [MOST * one if isinstance(one, bool) else one for one in given]
    is_whole = len(scores) == 1 + has_similarity
    if not is_whole or not all(
        isinstance(one, int | float) and math.isfinite(one) and 0 <= one <= 100 for one in scores
    ):
        wanted = "(precision, similarity), each" if has_similarity else "a number"
        return Ungraded(
            "grader_error", f"it gave {value!r}"[:200] + f", not {wanted} from 0 to 100"
        )
    return Graded(float(scores[0]), float(scores[1]) if has_similarity else None)
