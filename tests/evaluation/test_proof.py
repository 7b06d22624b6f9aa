"""Claims of the proof that were once false: each is a world in which the promise broke."""

from typing import Any

from support.evaluations import verdict
from understudy.evaluation.decision import Pairs, decide, pair
from understudy.evaluation.scores import METRICS, mean_over_prompts, pool


def word(differences: list[float], groups: list[str] | None = None) -> str:
    panel = {f"p{i}": d for i, d in enumerate(differences)}
    clusters = dict(zip(panel, groups or panel, strict=True))
    pairs: Any = dict.fromkeys(METRICS, Pairs(panel, {"j": panel}, panel, None, 1.0))
    return decide(pairs, clusters).decision


def test_fifty_equal_prompts_cannot_exclude_five_failures_in_a_hundred() -> None:
    assert word([0.0] * 50) == "INCONCLUSIVE"  # 0.95^50 = .077: no failure is seen that often


def test_a_hundred_prompts_with_two_failures_cannot_exclude_five() -> None:
    assert word([-100.0] * 2 + [0.0] * 98) == "INCONCLUSIVE"  # P(X <= 2) = .118 at 5 %


def test_ten_conversations_cannot_migrate_however_many_prompts_they_have() -> None:
    assert word([1.0, -1.0] * 50, [f"g{i // 10}" for i in range(100)]) == "INCONCLUSIVE"


def test_a_missing_answer_of_a_prompt_that_has_others_is_at_its_worst() -> None:
    local = {"a": [verdict("p", 0, 0, 90), verdict("p", 1, 0, None)]}
    service = {"a": [verdict("p", 0, 0, 80), verdict("p", 1, 0, 80)]}
    assert pair(local, service, ["p"], "precision").worst == {"p": 45.0 - 80.0}


def test_a_judge_that_is_silent_on_a_prompt_is_at_its_worst() -> None:
    local = {"a": [verdict("p", 0, 0, 90)], "b": [verdict("p", 0, 0, None)]}
    service = {"a": [verdict("p", 0, 0, 80)], "b": [verdict("p", 0, 0, 80)]}
    found = pair(local, service, ["p"], "precision")
    assert found.worst == {"p": (10.0 - 80.0) / 2}


def test_fifty_perfect_scores_do_not_prove_a_mean_of_100() -> None:
    pooled = pool([verdict(f"p{i}", 0, 0, 100) for i in range(50)], "precision")
    found = mean_over_prompts(pooled, {f"p{i}": f"p{i}" for i in range(50)})
    # One failure in a hundred is unseen in 61 % of such samples, so it must be inside.
    assert found.low is not None
    assert found.low <= 99
    assert found.high == 100
