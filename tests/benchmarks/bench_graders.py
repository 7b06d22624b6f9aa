"""Gradings per second of every grader that needs no sandbox, and of those that do.

    python tests/benchmarks/bench_graders.py

Best of three, by CPU time; code and SQL by the clock. The wish is 20,000 a second of simple ones:
exact, label, contains, number and json on short answers, half of them right.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from understudy.config import grader as settings
from understudy.evaluation import graders
from understudy.evaluation.graders import Case
from understudy.playground.sandbox import Sandbox

LABELS = [f"{what}_{how}" for what in ("card", "cash", "top_up") for how in ("lost", "late", "fee")]
SIGNS: list[settings.Ignored] = ["case", "space", "punctuation"]
CALL = '[{"name": "weather", "arguments": {"city": "Rome", "days": 3}}]'
# Settings, a right answer that is the reference, and a wrong one.
SIMPLE: dict[str, tuple[settings.Grader, str, str]] = {
    "exact": (settings.Exact("exact", ["space"]), "card_lost", "card_late"),
    "label": (settings.Label("label", LABELS, {}), "card_lost", "I think it is card_late."),
    "contains": (settings.Contains("contains", ["case", "space"]), "Rome", "It is in Paris."),
    "number": (settings.Number("number", 0, 1e-6, "point", {}), "#### 72", "So there are 73 left."),
    "json": (
        settings.Json("json", [], "any_order", False, None),
        '{"date": "23 August", "people": 9}',
        '{"date": "24 August", "people": 9}',
    ),
    "tool_calls": (settings.ToolCalls("tool_calls", SIGNS), CALL, CALL.replace("3", "4")),
    "text_overlap": (
        settings.TextOverlap("text_overlap", "token_f1", "rouge_l"),
        "the cat sat on the mat",
        "a dog sat on the mat",
    ),
}


def timed(rule: graders.Rule, cases: list[Case], times: int, clock: Callable[[], float]) -> float:
    """Gradings per second, the best of three."""
    best = float("inf")
    for _ in range(3):
        began = clock()
        for _ in range(times):
            for case in cases:
                rule(case)
        best = min(best, clock() - began)
    return times * len(cases) / best


def main() -> None:
    """Print a line per grader."""
    with Sandbox() as sandbox, tempfile.TemporaryDirectory() as folder:
        for name, (config, right, wrong) in SIMPLE.items():
            rule = graders.made(config, [], sandbox)
            cases = [Case([], right, {}, answer) for answer in (right, wrong)]
            print(f"{name:<14}{timed(rule, cases, 5000, time.process_time):>10,.0f} a second")
        import sqlite3

        database = Path(folder, "a.sqlite")
        sqlite3.connect(database).execute("CREATE TABLE t (a)").connection.close()
        prompt = [{"role": "user", "content": "?"}]
        tests = {"test": "assert f(1) == 2"}
        for rule, case in (
            (
                graders.made(settings.Code("code", 5, 512), [], sandbox),
                Case(prompt, "", tests, "def f(x): return x + 1"),
            ),
            (
                graders.made(settings.Sql("sql", 5, 512, str(database)), [], sandbox),
                Case(prompt, "SELECT a FROM t", {}, "SELECT a FROM t"),
            ),
        ):
            name = "code" if case.expected else "sql"
            print(f"{name:<14}{timed(rule, [case], 50, time.perf_counter):>10,.0f} a second")


if __name__ == "__main__":
    main()
