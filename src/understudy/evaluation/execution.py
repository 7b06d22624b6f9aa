"""With `task.execute_code=true`: the share of answers whose Python runs at all.

It says nothing of what the code does; a rule or a judge does. See sandbox.py for what is allowed.
"""

import re
from collections.abc import Sequence
from typing import Any

from understudy.evaluation.statistics.intervals import cluster_rate
from understudy.playground.sandbox import run_python
from understudy.records import Answer

_FENCE = re.compile(r"```(?:python|py)?\n(.*?)```", re.DOTALL)


def executes(answers: Sequence[Answer]) -> dict[str, Any] | None:
    """The rate (0 to 1) of given answers that load as Python without an error or a timeout."""
    given = [answer for answer in answers if answer.finish != "error"]
    if not given:
        return None
    # Asked for no function: "no function" then means that all of the code was run.
    states = [run_python(code(answer.text), "", []).status for answer in given]
    passed = [state == "no function" for state in states]
    found = cluster_rate(passed, [answer.group_id for answer in given])
    limits = {"rate": found.mean, "low": found.low, "high": found.high}
    return {"n": len(given), "passed": sum(passed), **limits}


def code(text: str) -> str:
    """The fenced blocks of an answer, or all of it where there are none."""
    return "\n".join(_FENCE.findall(text)) or text
