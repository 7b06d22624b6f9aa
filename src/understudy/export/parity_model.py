"""Measure a model: how it reads prompts, where it stops, and the logits of its first tokens.

KL(judged ‖ exported) = Σ p (log p - log q) over the whole vocabulary, in double precision, at each
of the first tokens of the judged model's greedy answer, which both models are given.
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from understudy.export.parity import TOP, Distance, Greedy, Reading, Stops
from understudy.models import load
from understudy.records import Coverage

if TYPE_CHECKING:
    from understudy.inference import Sampling

_SHORTER = {"float32": ("bfloat16", "float16"), "float16": (), "bfloat16": ()}


class Answer(NamedTuple):
    """One greedy answer of the judged model."""

    text: str
    is_stopped: bool  # else it was cut off
    tokens: tuple[int, ...]  # the first ones, a stop token included
    logits: Any  # (T, V) fp32 on the CPU, before each of `tokens`


def read(tokenizer: Any, rows: Sequence[Coverage]) -> list[Reading]:
    """Each prompt in the tokenizer's chat template."""
    readings = []
    for row in rows:
        ids = load.chat_ids(tokenizer, row.prompt, row.id, add_generation_prompt=True)
        text = tokenizer.apply_chat_template(row.prompt, add_generation_prompt=True, tokenize=False)
        readings.append(Reading(row.id, text, tuple(ids)))
    return readings


def stops_of(path: Path) -> Stops:
    """What the generation defaults in `path` stop at."""
    from transformers import GenerationConfig

    if not (path / "generation_config.json").is_file():
        return Stops(frozenset(), frozenset())
    found = GenerationConfig.from_pretrained(path)
    own = found.eos_token_id
    ids = own if isinstance(own, list) else [own]
    return Stops(frozenset(ids) - {None}, frozenset(found.stop_strings or ()))


def stored_dtypes(path: Path) -> Counter[str]:
    """Dtype → number of floating-point tensors, from the heads of the files."""
    from safetensors import safe_open

    names = {"F32": "float32", "F16": "float16", "BF16": "bfloat16", "F64": "float64"}
    found: Counter[str] = Counter()
    for file in sorted(path.glob("*.safetensors")):
        with safe_open(file, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118
                kind = tensors.get_slice(name).get_dtype()
                found[names.get(kind, kind)] += 1
    return found


def damage(path: Path, dtype: str) -> str | None:
    """What the values in the files betray: that they overflowed, or were rounded on the way."""
    import torch

    if not all(bool(tensor.isfinite().all()) for tensor in _tensors(path)):
        most = torch.finfo(getattr(torch, dtype)).max
        return f"some values are beyond {most:.4g}, where {dtype} ends"
    for shorter in _SHORTER[dtype]:
        if all(_fits(tensor, shorter) for tensor in _tensors(path)):
            return f"they are {dtype} by name, but every value is rounded to {shorter}"
    return None


def _tensors(path: Path) -> Iterator[Any]:
    from safetensors import safe_open

    for file in sorted(path.glob("*.safetensors")):
        with safe_open(file, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118
                yield tensors.get_tensor(name)


def _fits(tensor: Any, dtype: str) -> bool:
    import torch

    short = tensor.to(getattr(torch, dtype))
    return bool((short.to(tensor.dtype) == tensor).all())


def answers(
    model: Any, tokenizer: Any, prompts: Sequence[Reading], sampling: "Sampling", tokens: int
) -> list[Answer]:
    """The model's greedy answers, with the logits of their first tokens."""
    from understudy.inference import PromptSample
    from understudy.inference.decode import generate

    greedy = replace(sampling, temperature=0.0)
    found = []
    for prompt in prompts:  # one at a time: no padding, and no batch to differ by
        (made,) = generate(
            model, tokenizer, [PromptSample(prompt.prompt_id, "", prompt.ids, (0,))], greedy
        )
        logits = _logits(model, prompt.ids, made.tokens[: tokens - 1])
        first = (*made.tokens[: tokens - 1], int(logits[-1].argmax()))
        found.append(Answer(made.text, made.is_stopped, first, logits))
    return found


def distance(model: Any, prompts: Sequence[Reading], judged: Sequence[Answer]) -> Distance:
    """How far `model` is from the judged one on the judged one's answers."""
    divergences: list[tuple[float, str]] = []
    agreed = 0
    for prompt, answer in zip(prompts, judged, strict=True):
        logits = _logits(model, prompt.ids, answer.tokens[:-1])
        for place, value in enumerate(_kl(answer.logits, logits).tolist()):
            divergences.append((value, f"token {place} of prompt {prompt.prompt_id}"))
        agreed += int((logits.argmax(-1) == answer.logits.argmax(-1)).sum())
    worst, where = max(divergences, key=lambda one: math.inf if math.isnan(one[0]) else one[0])
    total = len(divergences)
    mean = sum(value for value, _ in divergences) / total
    return Distance(mean, worst, where, agreed / total, total)


def greedy(prompt: Reading, answer: Answer) -> Greedy:
    """The answer as a server would tell it."""
    log_p = answer.logits.double().log_softmax(-1)
    top = log_p.topk(min(TOP, log_p.shape[-1])).values.tolist()
    count = len(prompt.ids)
    return Greedy(prompt.prompt_id, answer.text, answer.is_stopped, count, answer.tokens, top)


def _logits(model: Any, prompt: Sequence[int], answer: Sequence[int]) -> Any:
    """Logits (T + 1, V) before each token of the answer and after its last."""
    import torch

    with torch.inference_mode():
        ids = torch.tensor([[*prompt, *answer]], device=model.device)
        return model(input_ids=ids, logits_to_keep=len(answer) + 1).logits[0].float().cpu()


def _kl(judged: Any, other: Any) -> Any:
    """KL divergence of each row, in nats; rows that only rounding parts may come out below 0."""
    log_p, log_q = judged.double().log_softmax(-1), other.double().log_softmax(-1)
    return (log_p.exp() * (log_p - log_q)).sum(-1)
