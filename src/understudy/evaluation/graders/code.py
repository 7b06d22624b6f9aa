"""code: the answer's Python passes the row's tests, in the sandbox.

`expected.test` holds them: a text, or a list of statements; `expected.entry_point`, if there, names
the function that `check(...)` of the tests gets, as in HumanEval (Chen et al. 2021). The answer is
the code in its fences, else all of it; one that does not define the function itself is taken for
the continuation of the prompt.
"""

import ast
import warnings
from collections.abc import Sequence

from understudy.config.grader import Code
from understudy.evaluation.graders import RIGHT, Case, Outcome, Rule, Ungraded, wrong
from understudy.playground.sandbox import Sandbox
from understudy.prompts.fences import fenced
from understudy.records import Coverage


def make(settings: Code, train: Sequence[Coverage], sandbox: Sandbox) -> Rule:
    """Return the rule."""

    def rule(case: Case) -> Outcome:
        tests = case.expected.get("test")
        tests = "\n".join(map(str, tests)) if isinstance(tests, list) else tests
        if not isinstance(tests, str) or _tree(tests) is None or not tests.strip():
            return Ungraded("no_reference", "the row has no tests (coverage.expected.test)")
        entry = str(case.expected.get("entry_point") or "")
        ran = sandbox.run(
            "tests",
            seconds=settings.seconds,
            memory_mb=settings.memory_mb,
            source=program(case.prompt[-1]["content"], case.answer, entry),
            tests=tests,
            entry=entry,
        )
        if ran.status in ("passed", "failed", "cpu", "died", "error"):
            return RIGHT if ran.status == "passed" else wrong(ran.detail)
        return Ungraded("timeout" if ran.status == "wall" else "grader_error", ran.detail)

    return rule


def program(prompt: str, answer: str, entry: str) -> str:
    """Return the source that is tested."""
    inner = fenced(answer, "python", "py", "python3")
    code = answer if inner is None else inner
    tree, before = _tree(code), fenced(prompt, "python", "py") or prompt
    if not entry:
        return code
    if tree is not None and entry in _defined(tree):
        # The prompt's imports and helpers, where it is Python itself.
        return f"{before}\n{code}" if entry in _defined(_tree(before)) else code
    return f"{before}{code}"


def _tree(source: str) -> ast.Module | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an odd escape in an answer is not our warning
            return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _defined(tree: ast.Module | None) -> set[str]:
    """The names that a module defines or assigns at its top."""
    names = set()
    for node in tree.body if tree is not None else ():
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {one.id for one in node.targets if isinstance(one, ast.Name)}
    return names
