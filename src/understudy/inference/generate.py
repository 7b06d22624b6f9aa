"""Sample answers from a causal LM in batches, each answer independent of its batch.

The only randomness of an answer is a stream of uniform numbers keyed by (seed, prompt, k): its
step-th number picks the step-th token. So an answer depends neither on the batch it is in nor on
what was generated before a crash.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from transformers.cache_utils import DynamicLayer


@dataclass(frozen=True)
class Wanted:
    """One answer to be sampled."""

    prompt_id: str
    k: int
    ids: tuple[int, ...]  # the prompt's tokens


@dataclass(frozen=True)
class Sampling:
    """How; a temperature of 0 is greedy."""

    seed: int
    temperature: float
    max_new_tokens: int
    stop_ids: frozenset[int]
    stop_texts: tuple[str, ...]


@dataclass
class Generated:
    """What came out; the stop token is neither in `text` nor counted in `tokens`."""

    tokens: list[int] = field(default_factory=list)
    text: str = ""
    is_stopped: bool = False


def uniforms(seed: int, prompt_id: str, k: int, count: int) -> np.ndarray[Any, Any]:
    """The first `count` numbers in [0, 1) of the stream of one answer."""
    key = hashlib.sha256(f"{seed}\0{prompt_id}\0{k}".encode()).digest()[:16]
    stream = np.random.Philox(key=np.frombuffer(key, dtype="<u8").astype(np.uint64))
    return np.random.Generator(stream).random(count)


def generate(
    model: Any, tokenizer: Any, batch: Sequence[Wanted], sampling: Sampling
) -> list[Generated]:
    """One answer per request, in order."""
    with torch.inference_mode():
        results = _generate(model, tokenizer, batch, sampling)
    return [finish(result, tokenizer, sampling) for result in results]


def finish(result: Generated, tokenizer: Any, sampling: Sampling) -> Generated:
    """Give the answer its text, cut before a stop string."""
    result.text = decode(tokenizer, result.tokens)
    for stop in sampling.stop_texts:
        result.text = result.text.partition(stop)[0]
    return result


def _generate(
    model: Any, tokenizer: Any, batch: Sequence[Wanted], sampling: Sampling
) -> list[Generated]:
    device = model.device
    results = [Generated() for _ in batch]
    noise = None
    if sampling.temperature > 0:
        drawn = [uniforms(sampling.seed, r.prompt_id, r.k, sampling.max_new_tokens) for r in batch]
        noise = torch.from_numpy(np.stack(drawn)).to(device)  # (B, steps)
    alive = torch.arange(len(batch), device=device)  # rows of the batch still being generated
    logits, cache, mask = read_prompts(model, batch)
    _make_room(cache, sampling.max_new_tokens)
    for step in range(sampling.max_new_tokens):
        tokens = pick(logits, sampling.temperature, None if noise is None else noise[alive, step])
        going = _append(tokens.tolist(), alive.tolist(), results, tokenizer, sampling)
        if not any(going) or step + 1 == sampling.max_new_tokens:
            break
        if sum(going) <= len(going) // 2:  # stopped rows cost time until they are taken out
            kept = torch.tensor([i for i, is_going in enumerate(going) if is_going], device=device)
            alive, tokens, mask = alive[kept], tokens[kept], mask[kept]
            cache.batch_select_indices(kept)
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
        logits, cache = forward(model, tokens[:, None], mask, cache)
    return results


def read_prompts(model: Any, batch: Sequence[Any]) -> tuple[Any, Any, Any]:
    """Last logits, cache and mask of each request, which has `ids`; equal prompts are read once."""
    prompts = list(dict.fromkeys(one.ids for one in batch))
    width = max(map(len, prompts))
    ids = torch.zeros(len(prompts), width, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):  # padded on the left, under a mask: any id will do
        ids[row, width - len(prompt) :] = torch.tensor(prompt)
        mask[row, width - len(prompt) :] = 1
    ids, mask = ids.to(model.device), mask.to(model.device)
    logits, cache = forward(model, ids, mask, None)
    index = {prompt: row for row, prompt in enumerate(prompts)}
    owners = torch.tensor([index[one.ids] for one in batch], device=model.device)
    cache.batch_select_indices(owners)
    return logits[owners], cache, mask[owners]


class _RoomyLayer(DynamicLayer):  # type: ignore[misc]
    """A cache layer with room for the tokens to come.

    The stock one copies itself whole at every token: two thirds of the time on a CPU.
    """

    def __init__(self, filled: DynamicLayer, tokens: int) -> None:
        super().__init__()
        self.dtype, self.device, self.is_initialized = filled.dtype, filled.device, True
        self._rooms = tuple(  # (B, heads, T + tokens, width)
            torch.cat([part, part.new_zeros(*part.shape[:2], tokens, part.shape[3])], dim=2)
            for part in (filled.keys, filled.values)
        )
        self._show(filled.keys.shape[2])

    def update(self, key_states: Any, value_states: Any, *_: Any, **__: Any) -> tuple[Any, Any]:
        start = self.keys.shape[2]
        end = start + key_states.shape[2]
        for room, states in zip(self._rooms, (key_states, value_states), strict=True):
            room[:, :, start:end] = states
        self._show(end)
        return self.keys, self.values

    def batch_select_indices(self, indices: Any) -> None:
        self._rooms = tuple(room[indices] for room in self._rooms)
        self._show(self.keys.shape[2])

    def _show(self, end: int) -> None:
        self.keys, self.values = (room[:, :, :end] for room in self._rooms)


def _make_room(cache: Any, tokens: int) -> None:
    for index, layer in enumerate(cache.layers):
        if type(layer) is DynamicLayer:  # sliding windows and the like keep their own ways
            cache.layers[index] = _RoomyLayer(layer, tokens)


def forward(model: Any, ids: Any, mask: Any, cache: Any) -> tuple[Any, Any]:
    """Logits (B, V) after the last token of `ids` (B, T), and the cache that now holds them."""
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)[:, -ids.shape[1] :]
    output = model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=positions,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    return output.logits[:, -1], output.past_key_values


def pick(logits: Any, temperature: Any, noise: Any) -> Any:
    """The next token of each row: where its number falls in the cumulated probabilities.

    One number per token, unlike Gumbel noise, which needs one per vocabulary entry.
    """
    if noise is None:
        return logits.argmax(dim=-1)
    if logits.dtype != torch.float64:
        logits = logits.float()
    cumulated = (logits / temperature).softmax(dim=-1).cumsum(dim=-1, dtype=torch.float64)
    target = noise[:, None] * cumulated[:, -1:]
    tokens = torch.searchsorted(cumulated, target, right=True)[:, 0]
    return tokens.clamp(max=logits.shape[-1] - 1)


def _append(
    tokens: list[int],
    alive: list[int],
    results: list[Generated],
    tokenizer: Any,
    sampling: Sampling,
) -> list[bool]:
    """Give each living row its token; which of them go on."""
    for row, token in zip(alive, tokens, strict=True):
        result = results[row]
        if result.is_stopped:
            continue
        if token in sampling.stop_ids:
            result.is_stopped = True
            continue
        result.tokens.append(token)
        if sampling.stop_texts:
            text = decode(tokenizer, result.tokens)
            result.is_stopped = any(stop in text for stop in sampling.stop_texts)
    return [not results[row].is_stopped for row in alive]


def decode(tokenizer: Any, tokens: list[int]) -> str:
    """The text of an answer, exactly as generated."""
    text: str = tokenizer.decode(
        tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False
    )
    return text
