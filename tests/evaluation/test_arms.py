"""Both arms: quality and dollars by what prompts are about, and when judging is paid back."""

import pytest

from understudy.evaluation.arms import arms

PROMPTS = [f"p{n}" for n in range(40)]
TOPICS = {prompt: "mails" if n < 30 else "tickets" for n, prompt in enumerate(PROMPTS)}
GROUPS = {prompt: f"g{n // 2}" for n, prompt in enumerate(PROMPTS)}
POINTS = {prompt: -1.0 if TOPICS[prompt] == "mails" else 3.0 for prompt in PROMPTS}


def test_every_topic_has_its_quality_and_its_dollars() -> None:
    local = {"mails": (30, 0.03), "tickets": (10, 0.02)}
    service = {"mails": (30, 0.3), "tickets": (10, 0.01)}
    found = arms(POINTS, GROUPS, TOPICS, local, service, judging_usd=1.3)
    assert found.whole.difference.mean == pytest.approx(0.0)
    assert found.whole.difference.clusters == 20
    assert found.whole.saved_usd == pytest.approx((0.31 - 0.05) / 40)
    assert [(arm.topic, arm.prompts, arm.difference.mean) for arm in found.topics] == [
        ("mails", 30, -1.0),
        ("tickets", 10, 3.0),
    ]
    assert [arm.saved_usd for arm in found.topics] == pytest.approx([0.009, -0.001])
    first, *rest = found.lines
    assert "local $1.2500, service $7.7500 per 1,000 answers" in first
    assert "judging has cost $1.3000, which is saved after 200 answers" in first
    assert rest[0].startswith("  of 'mails', 30 prompts: -1.00")
    assert "local $2.0000, service $1.0000" in rest[1]


def test_what_was_not_told_is_not_taken_for_nothing() -> None:
    found = arms(POINTS, GROUPS, TOPICS, {}, {"mails": (30, 0.3)}, 0.0)
    assert (found.whole.local_usd, found.whole.saved_usd) == (None, None)
    assert "local not told" in found.lines[0]
    assert "gateway.local_prices" in found.lines[0]
    one = arms(POINTS, GROUPS, dict.fromkeys(PROMPTS, "all"), {}, {}, 0.0)
    assert (one.topics, one.lines) == ((), [])


def test_a_move_that_saves_nothing_is_said() -> None:
    found = arms(POINTS, GROUPS, TOPICS, {"mails": (1, 2.0)}, {"mails": (1, 1.0)}, 0.5)
    assert "moving saves nothing" in found.lines[0]
