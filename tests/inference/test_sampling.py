"""The next token of each answer is drawn as its own request asks, whoever is in the batch."""

import random
from typing import Any

import pytest
import torch

from understudy.inference import DecodeRequest, Logprob
from understudy.inference.decode import Detokenizer, Growing, extend


def growing(asked: DecodeRequest, said: list[int], number: float) -> Growing:
    """An answer that has said something, and the number that picks what comes next."""
    noise = [0.0] * len(said) + [number]
    return Growing(asked, Detokenizer(None, (), is_streamed=False), frozenset(), noise, [*said])


def sampled(logits: Any, answers: list[Growing]) -> tuple[list[int], list[Logprob | None]]:
    """The next token of each answer, and its log-probability where it is asked for."""
    extend(answers, logits)
    tokens = [one.tokens[-1] for one in answers]
    return tokens, [one.logprobs[-1] if one.logprobs else None for one in answers]


def test_top_p_draws_from_the_likeliest_tokens_only_and_in_their_proportions() -> None:
    shares = torch.tensor([0.1, 0.4, 0.05, 0.3, 0.15])
    asked = DecodeRequest(ids=(1,), max_tokens=1, top_p=0.65)
    draw = random.Random(0)
    answers = [growing(asked, [], draw.random()) for _ in range(8000)]
    tokens, _ = sampled(shares.log().expand(len(answers), -1), answers)
    assert set(tokens) == {1, 3}
    assert tokens.count(1) / len(tokens) == pytest.approx(4 / 7, abs=0.02)


def test_requests_of_all_kinds_are_sampled_in_one_step_as_each_alone() -> None:
    torch.manual_seed(0)
    logits = torch.randn(6, 50, dtype=torch.float64)
    kinds: list[dict[str, Any]] = [
        *({"temperature": 0.0}, {"temperature": 0.5}, {"top_p": 0.5}, {"presence": 1.0}),
        *({"bias": {7: 50.0}, "temperature": 0.0}, {"top_logprobs": 2}),
    ]

    def answers() -> list[Growing]:
        return [
            growing(DecodeRequest(ids=(1,), max_tokens=9, **kind), [3, 3, 4], (n + 0.5) / 6)
            for n, kind in enumerate(kinds)
        ]

    together = sampled(logits, answers())
    apart = [sampled(logits[n : n + 1], [one]) for n, one in enumerate(answers())]
    assert together[0] == [tokens[0] for tokens, _ in apart]
    assert together[1] == [told[0] for _, told in apart]
    assert together[0][4] == 7


def test_a_bias_to_a_token_that_the_model_has_no_logit_for_is_left_out() -> None:
    asked = DecodeRequest(ids=(1,), max_tokens=1, temperature=0.0, bias={2: 5.0, 9: 5.0})
    assert sampled(torch.zeros(1, 4), [growing(asked, [], 0.0)])[0] == [2]
