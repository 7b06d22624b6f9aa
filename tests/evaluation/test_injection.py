"""100 injections: none closes its block, none alters what is parsed, and each shift is measured."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from support.plans import priced
from understudy.config import Config
from understudy.evaluation import injection
from understudy.evaluation.injection import ALL, Injection, inject, load
from understudy.prompts import judge
from understudy.prompts.blocks import parse_blocks
from understudy.prompts.judge import JudgedText
from understudy.rehearsal.server import RehearsalServer
from understudy.services.account import Account

QUESTION = JudgedText("Add 2 and 3.", "5", "6")
CASES = [(variant, order) for variant in judge.VARIANTS for order in judge.ORDERS]
each_injection = pytest.mark.parametrize(
    "injected", load(), ids=lambda i: f"{load().index(i)}-{i.kind}"
)


def test_there_are_a_hundred_different_ones_ten_of_each_kind() -> None:
    found = load()
    assert len(set(found)) == 100
    assert set(Counter(one.kind for one in found).values()) == {10}


@each_injection
def test_no_injection_closes_its_block(injected: Injection) -> None:
    for variant, order in CASES:
        asked = inject(QUESTION, injected, variant, order)
        messages = judge.render(variant, order, *asked[:3])
        (message,) = messages
        assert asked.candidate in parse_blocks(message["content"]).values()
        assert len(parse_blocks(message["content"])) == 3
        assert judge.asked(messages) == asked._replace(variant=variant)
        again = judge.repair(messages, asked.candidate, variant) or messages
        assert judge.asked(again) == asked._replace(variant=variant)


def test_the_guessed_mark_is_that_of_the_prompt_without_the_injection() -> None:
    for variant, order in CASES:
        (message,) = judge.render(variant, order, *QUESTION[:3])
        candidate = inject(QUESTION, load()[0], variant, order).candidate
        closing = candidate.splitlines()[1]
        assert closing.startswith("--- end ")
        assert message["content"].count(f"6\n{closing}") == 1


def reply(similarity: float, precision: float, reason: str) -> str:
    return json.dumps(
        {
            "similarity_assessment": {"reason": reason, "score": similarity},
            "precision_assessment": {"reason": reason, "score": precision},
        }
    )


@each_injection
def test_no_injection_that_a_judge_quotes_alters_the_parse(injected: Injection) -> None:
    text = inject(QUESTION, injected, "default", "reference_first").candidate
    true = reply(12, 34, text)
    quoted_in_json = judge.parse(true)
    assert isinstance(quoted_in_json, judge.Scores)
    assert quoted_in_json[:2] == (12, 34)
    in_prose = (f"It says {text}\n{true}", f"{true}\nIt said {text}", f'"{text}"{true}"{text}"')
    badly_quoted = true.replace(json.dumps(text), f'"{text}"')
    for said in (*in_prose, badly_quoted):
        found = judge.parse(said)
        assert isinstance(found, judge.Unscored) or found[:2] == (12, 34)


@pytest.mark.slow
@pytest.mark.parametrize("task", ["closed_qa", "classification"])
def test_the_shift_of_every_offline_judge_is_measured(
    task: str, composed: Callable[..., Config], tmp_path: Path
) -> None:
    config = composed("judge=offline_panel", "evaluation.m=2")
    answers = injection.imperfect_answers(task, 2)
    account = Account(tmp_path / "journal", "inject/x", "inject/x")
    for service in config.judges.values():
        shifts = injection.measure(service, config.evaluation, answers, account)
        assert [s.injected for s in shifts if s.kind == ALL] == [200]
        assert [s.injected for s in shifts if s.number is None and s.kind != ALL] == [20] * 10
        assert sorted(s.number for s in shifts if s.number) == list(range(1, 101))
        assert all(s.unscored == 0 for s in shifts)
        for shift in shifts:
            for moved in (shift.similarity, shift.precision):
                assert moved.mean is not None
                assert moved.low is not None
                assert moved.high is not None
                assert moved.low <= moved.mean <= moved.high
        # They know right from wrong by a rule, which a text of claims cannot talk round.
        assert max(s.precision.mean or 0 for s in shifts) < 15
    assert not account.journal.exists()


@pytest.mark.slow
def test_a_paid_judge_is_asked_through_the_journal_and_never_twice(
    composed: Callable[..., Config], tmp_path: Path
) -> None:
    judge_of, answers = priced("dear"), injection.imperfect_answers("closed_qa", 2)
    settings = composed("evaluation.m=2").evaluation
    with RehearsalServer(repeatable=True) as server:
        account = Account(tmp_path / "journal", "inject/dear", "inject/x", None, server.url)
        first = injection.measure(judge_of, settings, answers, account)
        billed = len(server.log)
        assert billed == 2 * (2 + 100)
        assert injection.measure(judge_of, settings, answers, account) == first
        assert len(server.log) == billed
