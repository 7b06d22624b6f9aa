"""What the trainer is fed, the checks on it, and what is read from its log history."""

from pathlib import Path
from typing import Any

import pytest

from support import tiny_model
from understudy.errors import BadInput, Internal
from understudy.models import load
from understudy.training.checkpoints import best, is_stale
from understudy.training.data import (
    IGNORED,
    Conversation,
    Encoded,
    check_batch,
    conversations,
    encode,
    plan_steps,
)

PROMPT, ANSWER, STOP = [5, 6, 9, 7], [8, 8], 9
IDS = [*PROMPT, *ANSWER, STOP]
KNOWN = [Encoded(tuple(IDS), len(PROMPT))]


def test_a_right_batch_passes_the_check() -> None:
    check_batch([Conversation(IDS, [IGNORED] * 4 + [8, 8, 9])], STOP, KNOWN)


@pytest.mark.parametrize(
    ("ids", "labels", "sentence"),
    [
        (IDS, [IGNORED] * 7, "fully masked"),
        (IDS, [IGNORED] * 4 + [8, 8, IGNORED], "no stop token"),
        (IDS, IDS, "is on tokens 0 to 6, not on 4 to 6"),
        (IDS, [IGNORED, *IDS[1:]], "is on tokens 1 to 6"),
        (IDS[1:], [IGNORED] * 3 + [8, 8, 9], "none of the encoded rows"),
    ],
)
def test_a_batch_that_would_teach_the_wrong_tokens_is_refused(
    ids: list[int], labels: list[int], sentence: str
) -> None:
    right = Conversation(IDS, [IGNORED] * 4 + [8, 8, 9])
    with pytest.raises((Internal, BadInput), match=sentence):
        check_batch([right, Conversation(ids, labels)], STOP, KNOWN)


def test_packed_conversations_are_told_apart_by_their_positions() -> None:
    import torch

    batch = {
        "input_ids": torch.tensor([[1, 2, 3, 4, 5]]),
        "labels": torch.tensor([[IGNORED, 2, IGNORED, 4, 5]]),
        "position_ids": torch.tensor([[0, 1, 0, 1, 2]]),
    }
    assert list(conversations(batch)) == [
        Conversation([1, 2], [IGNORED, 2]),
        Conversation([3, 4, 5], [IGNORED, 4, 5]),
    ]


def test_the_loss_is_on_the_last_answer_and_its_stop_token_and_nothing_after(base: Path) -> None:
    config = tiny_model.build(base)
    tokenizer = load.tokenizer(config.model)
    stop = load.stop_id(tokenizer, config.model)
    row = tiny_model.row("r", "What is the colour?", "red")
    turns = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hello you"}]
    row.messages[:0] = turns
    one = encode(row, tokenizer, stop)
    assert one is not None
    trained = [label for label in one.labels if label != IGNORED]
    assert tokenizer.decode(trained) == f"red{tiny_model.STOP}"


def test_a_row_that_does_not_begin_with_its_prompt_is_left_out(base: Path) -> None:
    config = tiny_model.build(base)
    tokenizer = load.tokenizer(config.model)
    stop = load.stop_id(tokenizer, config.model)
    tokenizer.chat_template += "{% if add_generation_prompt %} Now:{% endif %}"
    assert encode(tiny_model.row("r", "What is it?", "red"), tokenizer, stop) is None


@pytest.mark.parametrize(
    ("changes", "total", "checkpoints"),
    [
        ({}, 6, {2, 4, 6}),  # ten rows in batches of four, twice
        ({"trainer__epochs": 0.5}, 2, {1, 2}),
        ({"trainer__min_steps": 10}, 10, {4, 7, 10}),
        ({"trainer__min_steps": 10, "trainer__max_steps": 4}, 4, {2, 3, 4}),
        ({"trainer__evaluations": 1}, 6, {6}),
        ({"trainer__evaluations": 100}, 6, {1, 2, 3, 4, 5, 6}),
    ],
)
def test_steps_follow_epochs_within_their_bounds(
    changes: dict[str, Any], total: int, checkpoints: set[int]
) -> None:
    assert plan_steps(10, tiny_model.build(None, **changes).trainer) == (total, checkpoints)


def test_a_loss_that_is_no_number_is_never_the_best() -> None:
    losses = [3.0, float("nan"), 2.0, 2.0, float("inf")]
    history = [{"step": float(i), "eval_loss": loss} for i, loss in enumerate(losses)]
    assert best(history) == (2, 2.0)
    assert is_stale(history, patience=2)
    assert not is_stale(history, patience=3)
