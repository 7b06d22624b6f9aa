"""The next token of answers that are decoded together, each sampled as its own request asks."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from understudy.inference import generate
from understudy.pipeline.asked import Asked, Logprob


class Turn(NamedTuple):
    """One answer's next token: how it is sampled, what was said, and its uniform number."""

    asked: Asked
    tokens: list[int]
    noise: float


def sample(logits: Any, turns: Sequence[Turn]) -> tuple[list[int], list[Logprob | None]]:
    """A token per row of `logits` (B, V), and its log-probability where it is asked for."""
    told: list[Logprob | None] = [None] * len(turns)
    wanted = [row for row, turn in enumerate(turns) if turn.asked.top_logprobs is not None]
    raw: Any = logits[wanted].float().log_softmax(dim=-1) if wanted else None
    changed = [row for row, turn in enumerate(turns) if _changes(turn.asked)]
    if changed:
        logits = logits.clone()
    for row in changed:
        _penalize(logits[row], turns[row])
    tokens = _pick(logits, turns)
    for place, row in enumerate(wanted):
        told[row] = _logprob(raw[place], tokens[row], turns[row].asked.top_logprobs or 0)
    return tokens, told


def _changes(asked: Asked) -> bool:
    return bool(asked.presence or asked.frequency or asked.bias)


def _penalize(logits: Any, turn: Turn) -> None:
    """Penalties of OpenAI's API: per token said before, and per time that it was said."""
    asked = turn.asked
    if turn.tokens and (asked.presence or asked.frequency):
        said, counts = np.unique(turn.tokens, return_counts=True)
        loss = asked.presence + asked.frequency * counts
        logits[said] -= torch.as_tensor(loss, dtype=logits.dtype, device=logits.device)
    for token, bias in asked.bias.items():
        if token < len(logits):  # a tokenizer may know more tokens than the model
            logits[token] += bias


def _pick(logits: Any, turns: Sequence[Turn]) -> list[int]:
    drawn = [row for row, turn in enumerate(turns) if turn.asked.temperature > 0]
    if not drawn:
        tokens: list[int] = generate.pick(logits, 0.0, None).tolist()
        return tokens
    options = [turns[row].asked for row in drawn]
    device = logits.device
    kind = logits.dtype if logits.dtype == torch.float64 else torch.float32
    temperatures = torch.tensor([[one.temperature] for one in options], device=device, dtype=kind)
    noise = torch.tensor([turns[row].noise for row in drawn], device=device, dtype=torch.float64)
    chosen = logits[drawn].to(kind)
    if any(one.top_p < 1 for one in options):
        top_p = torch.tensor([[one.top_p] for one in options], device=device, dtype=kind)
        chosen = _nucleus(chosen, temperatures, top_p)
    picked = generate.pick(chosen, temperatures, noise).tolist()
    if len(drawn) == len(turns):
        return list(picked)
    tokens = generate.pick(logits, 0.0, None).tolist()
    for row, token in zip(drawn, picked, strict=True):
        tokens[row] = token
    return tokens


def _nucleus(logits: Any, temperatures: Any, top_p: Any) -> Any:
    """Keep the likeliest tokens that together reach `top_p` (arXiv 1904.09751, 3.1)."""
    shares, order = (logits / temperatures).softmax(dim=-1).sort(dim=-1, descending=True)
    is_out = (shares.cumsum(dim=-1) - shares >= top_p) & (top_p < 1)
    return logits.masked_fill(is_out.scatter(-1, order, is_out), -torch.inf)


def _logprob(row: Any, token: int, top: int) -> Logprob:
    values, tokens = row.topk(top) if top else (row[:0], row[:0])
    likeliest = list(zip(map(int, tokens.tolist()), values.tolist(), strict=True))
    return Logprob(token, float(row[token]), likeliest)
