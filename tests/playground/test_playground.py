"""The playground: generated tasks with exact rules."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

from understudy import playground
from understudy.playground import coding

OPEN_TASKS = ("summarization", "coding", "closed_qa")
SOURCE = str(Path(playground.__file__).parents[2])
# The coding rule starts a process per answer, so it is shown fewer of them.
GRADED = {"summarization": 3000, "classification": 3000, "closed_qa": 3000, "coding": 60}


@pytest.mark.slow
@pytest.mark.parametrize("task", playground.TASKS)
def test_every_reference_passes_its_own_rule(task: str) -> None:
    for pair in playground.generate(task, 11, 0, GRADED[task]):
        verdict = playground.grade(pair.instruction, pair.response)
        assert verdict is not None
        assert (verdict.passed, verdict.quality) == (True, 1.0), (pair, verdict)


@pytest.mark.slow
def test_every_coding_reference_computes_the_described_function() -> None:
    for pair in playground.generate("coding", 11, 0, 3000):
        asked = coding._asked(pair.instruction)
        assert asked is not None
        name, parameters, expression = asked
        space: dict[str, object] = {}
        exec(pair.response, space)  # our own text, so no sandbox is needed
        for values in coding._inputs(expression, 2 if "," in parameters else 1):
            wanted = coding._compute(expression, parameters, values)
            assert space[name](*values) == wanted  # type: ignore[operator]


@pytest.mark.slow
@pytest.mark.parametrize("task", playground.TASKS)
def test_flawed_answers_fail_the_rule_with_varied_quality(task: str) -> None:
    rng = random.Random(5)
    pairs = playground.generate(task, 12, 0, min(GRADED[task], 1000))
    verdicts = [
        playground.grade(pair.instruction, playground.flawed(pair.instruction, rng))
        for pair in pairs
    ]
    assert all(v is not None and v.reason.endswith(".") for v in verdicts)
    assert sum(v.passed for v in verdicts if v) <= 0.05 * len(verdicts)
    assert len({round(v.quality, 3) for v in verdicts if v}) >= 4
    assert all(0 <= v.quality < 1 for v in verdicts if v and not v.passed)


@pytest.mark.parametrize("task", playground.TASKS)
def test_identify_and_reference_read_the_text_alone(task: str) -> None:
    for pair in playground.generate(task, 13, 0, 1000):
        assert playground.identify(pair.instruction) == task
        assert playground.reference(pair.instruction) == pair.response


def test_other_text_is_not_identified() -> None:
    pair = playground.generate("closed_qa", 1, 0, 1)[0]
    others = [
        "",
        "What is the capital of France?",
        "Write a Python function named zorp that takes a and b and returns their mean.",
        "Summarize this note in one line.\nThe cat sat on the mat.",
        "Classify the following message.\nI love it.",
        pair.instruction + " Thank you.",
        pair.instruction[:-1],
        pair.response,
    ]
    for text in others:
        assert playground.identify(text) is None, text
        assert playground.reference(text) is None
        assert playground.grade(text, "anything") is None


def test_item_i_depends_on_task_seed_and_i_only() -> None:
    for task in playground.TASKS:
        whole = playground.generate(task, 3, 0, 20)
        assert whole[7:12] == playground.generate(task, 3, 7, 5)
        assert whole != playground.generate(task, 4, 0, 20)


def test_another_process_generates_the_same_pairs() -> None:
    program = (
        f"import sys; sys.path.insert(0, {SOURCE!r})\n"
        "from understudy import playground as p\n"
        "print([p.generate(t, 3, 5, 4) for t in p.TASKS], end='')"
    )
    here = str([playground.generate(task, 3, 5, 4) for task in playground.TASKS])
    there = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONHASHSEED": "77"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert there.stdout == here


@pytest.mark.slow
@pytest.mark.parametrize("task", playground.TASKS)
def test_instructions_are_practically_always_distinct(task: str) -> None:
    pairs = playground.generate(task, 0, 0, 3000) + playground.generate(task, 1, 0, 3000)
    assert len({pair.instruction for pair in pairs}) >= 0.999 * len(pairs)


@pytest.mark.parametrize("task", OPEN_TASKS)
def test_answers_of_open_tasks_are_new_ones(task: str) -> None:
    training = {pair.response for pair in playground.generate(task, 1, 0, 4000)}
    test = playground.generate(task, 2, 0, 200)
    assert sum(pair.response not in training for pair in test) >= 190


def test_partial_credit_counts_the_slots_that_are_right() -> None:
    pair = playground.generate("summarization", 0, 0, 1)[0]
    words = pair.response.removesuffix(".").split()
    without_region = playground.grade(pair.instruction, " ".join(words[:-1]))
    empty = playground.grade(pair.instruction, "")
    assert without_region == (False, 5 / 6, f"The region {words[-1]} is missing.")
    assert empty is not None
    assert empty.quality == 0


def test_a_wrong_value_beside_the_right_one_fails() -> None:
    pair = playground.generate("closed_qa", 0, 0, 1)[0]
    other = next(n for n in ("Mara", "Tobin") if n not in pair.instruction)
    verdict = playground.grade(pair.instruction, f"{pair.response} So does {other}.")
    assert verdict is not None
    assert not verdict.passed


def test_code_is_judged_by_what_it_computes() -> None:
    instruction = (
        "Write a Python function named balmak that takes a and b and returns a times b plus 7."
    )
    right = "```python\ndef balmak(x, y):\n    total = 7\n    total += y * x\n    return total\n```"
    verdicts = [
        playground.grade(instruction, answer)
        for answer in (
            right,
            "def balmak(a, b):\n    return a * b + 8",
            "def other(a, b):\n    return a * b + 7",
            "def balmak(a, b):\n    while True: return a * b + 7 +",
        )
    ]
    assert [v.passed for v in verdicts if v] == [True, False, False, False]
    assert "should be 22, but returns 23" in verdicts[1].reason  # type: ignore[union-attr]
