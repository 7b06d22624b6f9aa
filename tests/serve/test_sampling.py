"""The next token of each answer is drawn as its own request asks, whoever is in the batch."""

import random
from typing import Any

import pytest
import torch

from understudy.pipeline.asked import Asked
from understudy.serve.sampling import Turn, sample


def test_top_p_draws_from_the_likeliest_tokens_only_and_in_their_proportions() -> None:
    shares = torch.tensor([0.1, 0.4, 0.05, 0.3, 0.15])
    asked = Asked(ids=(1,), max_tokens=1, top_p=0.65)
    draw = random.Random(0)
    turns = [Turn(asked, [], draw.random()) for _ in range(8000)]
    tokens, _ = sample(shares.log().expand(len(turns), -1), turns)
    assert set(tokens) == {1, 3}
    assert tokens.count(1) / len(tokens) == pytest.approx(4 / 7, abs=0.02)


def test_requests_of_all_kinds_are_sampled_in_one_step_as_each_alone() -> None:
    torch.manual_seed(0)
    logits = torch.randn(6, 50, dtype=torch.float64)
    kinds: list[dict[str, Any]] = [
        *({"temperature": 0.0}, {"temperature": 0.5}, {"top_p": 0.5}, {"presence": 1.0}),
        *({"bias": {7: 50.0}, "temperature": 0.0}, {"top_logprobs": 2}),
    ]
    turns = [
        Turn(Asked(ids=(1,), max_tokens=9, **kind), [3, 3, 4], (n + 0.5) / 6)
        for n, kind in enumerate(kinds)
    ]
    together = sample(logits, turns)
    apart = [sample(logits[n : n + 1], turns[n : n + 1]) for n in range(6)]
    assert together[0] == [tokens[0] for tokens, _ in apart]
    assert together[1] == [told[0] for _, told in apart]
    assert together[0][4] == 7


def test_a_bias_to_a_token_that_the_model_has_no_logit_for_is_left_out() -> None:
    asked = Asked(ids=(1,), max_tokens=1, temperature=0.0, bias={2: 5.0, 9: 5.0})
    assert sample(torch.zeros(1, 4), [Turn(asked, [], 0.0)])[0] == [2]
