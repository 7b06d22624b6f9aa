"""The one decode loop: the inference stage and the server sample answers from a causal LM with it.

The only randomness of an answer is a stream of uniform numbers keyed by (seed, prompt, k): its
step-th number picks the step-th token. So an answer depends neither on the batch it is in, nor on
when it joined that batch, nor on what was generated before a crash.
"""

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np
import torch

from understudy.inference import DecodeRequest, Generated, Logprob, PromptSample, Sampling
from understudy.inference.caches import FixedRows, Slots, read_prompts
from understudy.inference.forms import Constraint, allow

_CHUNK = 256  # tokens of a prompt whose logits are in memory at once
_PARTIAL = "\ufffd"  # what an unfinished UTF-8 sequence decodes to


def generate(
    model: Any, tokenizer: Any, batch: Sequence[PromptSample], sampling: Sampling
) -> list[Generated]:
    """One answer per sample, in order; equal batches give equal bytes."""
    answers = []
    for one in batch:
        asked = DecodeRequest(
            ids=one.ids,
            max_tokens=sampling.max_new_tokens,
            temperature=sampling.temperature,
            seed=sampling.seed,
        )
        text = Detokenizer(tokenizer, sampling.stop_texts, is_streamed=False)
        noise = noise_of(asked, one.prompt_id, one.k)
        answers.append(Growing(asked, text, sampling.stop_ids, noise))
    with torch.inference_mode():
        room = sampling.max_new_tokens if sampling.shares_start else None
        decoding: Batch[Growing] = Batch(model, lambda: FixedRows(sampling.max_new_tokens), room)
        decoding.join(answers)
        while decoding.rows:
            decoding.step()
    return [finished(tokenizer, one.tokens, one.finish == "stop", sampling) for one in answers]


def finished(tokenizer: Any, tokens: list[int], is_stopped: bool, sampling: Sampling) -> Generated:
    """An answer of the stage: without its stop token, the text cut before a stop string."""
    if is_stopped and tokens and tokens[-1] in sampling.stop_ids:
        tokens = tokens[:-1]
    text = text_of(tokenizer, tokens)
    for stop in sampling.stop_texts:
        text = text.partition(stop)[0]
    return Generated(tokens, text, is_stopped)


def noise_of(asked: DecodeRequest, prompt: str, k: int) -> list[float]:
    """The numbers that pick the tokens of the k-th answer; none where it is greedy."""
    if asked.temperature == 0:
        return []
    drawn: list[float] = uniforms(asked.seed, prompt, k, asked.max_tokens).tolist()
    return drawn


def uniforms(seed: int, prompt: str, k: int, count: int) -> np.ndarray[Any, Any]:
    """The first `count` numbers in [0, 1) of the stream of one answer."""
    key = hashlib.sha256(f"{seed}\0{prompt}\0{k}".encode()).digest()[:16]
    stream = np.random.Philox(key=np.frombuffer(key, dtype="<u8").astype(np.uint64))
    return np.random.Generator(stream).random(count)


@dataclass(eq=False)
class Growing:
    """One answer under way: what is asked, what has come, and why it ended."""

    asked: DecodeRequest
    detokenizer: "Detokenizer"
    stop_ids: frozenset[int]
    noise: Sequence[float]  # the stream of the answer, a number per token, unless it is greedy
    tokens: list[int] = field(default_factory=list)
    logprobs: list[Logprob] = field(default_factory=list)
    text: str = ""  # that the detokenizer is certain of
    finish: str | None = None  # "stop" | "length" | "error", where no token keeps to the form
    is_cancelled: bool = False
    constraint: Constraint | None = None  # the form that the text is held to

    @property
    def is_over(self) -> bool:
        """Whether it gets no more tokens."""
        return self.finish is not None or self.is_cancelled

    @property
    def length(self) -> int:
        """Columns of the cache; the last token is not read yet."""
        return len(self.asked.ids) + len(self.tokens) - 1

    def add(self, token: int, logprob: Logprob | None) -> None:
        """Take the next token, which may be the last."""
        self.tokens.append(token)
        if logprob is not None:
            self.logprobs.append(logprob)
        if token in self.stop_ids:
            self.finish = "stop"
            return
        self.text += self.detokenizer.add(token)
        if self.constraint is not None and not self.constraint.take(token):
            self.finish = "error"
        elif self.detokenizer.is_stopped or (self.constraint and self.constraint.is_whole):
            self.finish = "stop"
        elif len(self.tokens) == self.asked.max_tokens:
            self.finish = "length"


def prompt_logprobs(model: Any, ids: Sequence[int], top: int) -> list[Logprob]:
    """The log-probability of each token of a prompt but the first, in inference mode."""
    found: list[Logprob] = []
    cache = None
    for start in range(0, len(ids) - 1, _CHUNK):
        part = torch.tensor([ids[start : start + _CHUNK]], device=model.device)
        output = model(input_ids=part, past_key_values=cache, use_cache=True)
        cache = output.past_key_values
        wanted = ids[start + 1 : start + 1 + _CHUNK]
        rows = output.logits[0, : len(wanted)].float().log_softmax(dim=-1)  # (T, V)
        told = rows.gather(1, torch.tensor(wanted, device=rows.device)[:, None])[:, 0].tolist()
        values, likeliest = (part.tolist() for part in rows.topk(top, dim=-1))
        found += [
            Logprob(token, value, list(zip(tokens, best, strict=True)))
            for token, value, tokens, best in zip(wanted, told, likeliest, values, strict=True)
        ]
    return found


A = TypeVar("A", bound=Growing)


class Batch(Generic[A]):
    """Answers that are decoded together, in inference mode; they join and leave between two steps.

    A row whose answer is over is computed on, unread, until another answer takes its place or
    half of the rows are such.
    """

    def __init__(
        self, model: Any, new_cache: Callable[[], FixedRows | Slots], room: int | None = None
    ) -> None:
        self.model, self._new_cache = model, new_cache
        self._room = room  # columns to come, where the common start of prompts is read once
        self.clear()

    def clear(self) -> None:
        """Begin anew, without any row."""
        self.rows: list[A] = []
        self._cache = self._new_cache()

    def join(self, answers: Sequence[A]) -> None:
        """Read the prompts of answers and give each its first token."""
        logits, cache, mask = read_prompts(
            self.model, [one.asked.ids for one in answers], self._room
        )
        extend(answers, logits)
        if all(one.is_over for one in answers):
            return
        free = [place for place, row in enumerate(self.rows) if row.is_over][: len(answers)]
        end = len(self.rows) + len(answers) - len(free)
        places = [*free, *range(len(self.rows), end)]
        self._cache.admit(cache, mask, places)
        for place, answer in zip(places, answers, strict=True):
            self.rows[place : place + 1] = [answer]

    def step(self, others_wait: bool = False) -> list[A]:
        """Let answers that are over leave, and give the others a token; returns these."""
        living = [place for place, row in enumerate(self.rows) if not row.is_over]
        answers = [self.rows[place] for place in living]
        if not answers:
            self.clear()
            return []
        if len(living) <= len(self.rows) // 2 and not others_wait:
            self._cache.keep(living)
            self.rows = list(answers)
        elif len(living) < len(self.rows):
            self._cache.forget([place for place, row in enumerate(self.rows) if row.is_over])
        longest = max(one.length for one in answers)
        logits = self._cache.step(self.model, [row.tokens[-1] for row in self.rows], longest)
        if len(answers) < len(self.rows):  # copies rows whole, as an index by a list does not
            logits = logits.index_select(0, torch.tensor(living, device=logits.device))
        extend(answers, logits)
        return answers


def extend(answers: Sequence[Growing], logits: Any) -> None:
    """Give each answer the token that is picked from its row of `logits` (B, V)."""
    told: dict[int, Logprob] = {}
    wanted = [row for row, one in enumerate(answers) if one.asked.top_logprobs is not None]
    raw: Any = logits[wanted].float().log_softmax(dim=-1) if wanted else None
    held = [row for row, one in enumerate(answers) if one.constraint is not None]
    changed = [row for row, one in enumerate(answers) if _is_changed(one)]
    if changed or held:
        logits = logits.clone()
    for row in changed:
        _penalize(logits[row], answers[row])
    allow(logits, held, [one.constraint for one in answers if one.constraint is not None])
    tokens = _pick_each(logits, answers)
    for place, row in enumerate(wanted):
        top = answers[row].asked.top_logprobs or 0
        values, likeliest = raw[place].topk(top) if top else (raw[place, :0],) * 2
        told[row] = Logprob(
            tokens[row],
            float(raw[place, tokens[row]]),
            list(zip(map(int, likeliest.tolist()), values.tolist(), strict=True)),
        )
    for row, one in enumerate(answers):
        one.add(tokens[row], told.get(row))


def _is_changed(answer: Growing) -> bool:
    asked = answer.asked
    too_early = len(answer.tokens) < asked.min_tokens
    return bool(asked.presence or asked.frequency or asked.bias or too_early)


def _penalize(logits: Any, answer: Growing) -> None:
    """Penalties of OpenAI's API: per token said before, and per time that it was said."""
    asked = answer.asked
    if answer.tokens and (asked.presence or asked.frequency):
        said, counts = np.unique(answer.tokens, return_counts=True)
        loss = asked.presence + asked.frequency * counts
        logits[said] -= torch.as_tensor(loss, dtype=logits.dtype, device=logits.device)
    for token, bias in asked.bias.items():
        if token < len(logits):  # a tokenizer may know more tokens than the model
            logits[token] += bias
    if len(answer.tokens) < asked.min_tokens and answer.constraint is None:
        for token in answer.stop_ids:
            if token < len(logits):
                logits[token] = -torch.inf


def _pick_each(logits: Any, answers: Sequence[Growing]) -> list[int]:
    """The next token of each answer, drawn as its own request asks."""
    drawn = [row for row, one in enumerate(answers) if one.asked.temperature > 0]
    tokens: list[int] = []
    if len(drawn) < len(answers):
        tokens = pick(logits, 0.0, None).tolist()
        logits = logits[drawn]
    if not drawn:
        return tokens
    kind = torch.float64 if logits.dtype == torch.float64 else torch.float32
    temperature = _column([answers[row].asked.temperature for row in drawn], kind, logits.device)
    top_p = _column([answers[row].asked.top_p for row in drawn], kind, logits.device)
    if any(answers[row].asked.top_k or answers[row].asked.min_p for row in drawn):
        logits = logits.to(kind, copy=True)
        for place, row in enumerate(drawn):
            _cut(logits[place], answers[row].asked)
    if isinstance(top_p, torch.Tensor) or top_p < 1:
        logits = _nucleus(logits.to(kind), temperature, top_p)
    noise = [answers[row].noise[len(answers[row].tokens)] for row in drawn]
    noises = torch.tensor(noise, device=logits.device, dtype=torch.float64)
    picked: list[int] = pick(logits, temperature, noises).tolist()
    if not tokens:
        return picked
    for row, token in zip(drawn, picked, strict=True):
        tokens[row] = token
    return tokens


def _column(values: list[float], kind: torch.dtype, device: Any) -> Any:
    """What is to be computed with each row: a number for all, or one per row."""
    if values.count(values[0]) == len(values):
        return values[0]
    return torch.tensor(values, dtype=kind, device=device)[:, None]


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


def _cut(logits: Any, asked: DecodeRequest) -> None:
    """Drop what is less likely than `min_p` of the likeliest (arXiv 2407.01082, 3) or `top_k`."""
    floor = logits.max() + asked.temperature * math.log(asked.min_p) if asked.min_p else None
    if 0 < asked.top_k < len(logits):
        least = logits.topk(asked.top_k).values[-1]
        floor = least if floor is None else torch.maximum(floor, least)
    if floor is not None:
        logits[logits < floor] = -torch.inf


def _nucleus(logits: Any, temperature: Any, top_p: Any) -> Any:
    """Keep the likeliest tokens that together reach `top_p` (arXiv 1904.09751, 3.1)."""
    shares, order = (logits / temperature).softmax(dim=-1).sort(dim=-1, descending=True)
    is_out = (shares.cumsum(dim=-1) - shares >= top_p) & (top_p < 1)
    return logits.masked_fill(is_out.scatter(-1, order, is_out), -torch.inf)


def text_of(tokenizer: Any, tokens: list[int]) -> str:
    """The text of tokens, exactly as generated."""
    text: str = tokenizer.decode(
        tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False
    )
    return text


class Detokenizer:
    """The text of an answer while it grows; `is_stopped` once a stop string has appeared.

    A stream gets no half characters and no part of a stop string. It decodes the last tokens only:
    from one that had text, since what a token spells may depend on whether others precede it.
    Where nothing is streamed, `end` decodes all at once.
    """

    def __init__(self, tokenizer: Any, stops: tuple[str, ...], is_streamed: bool) -> None:
        self._tokenizer, self._stops, self._is_streamed = tokenizer, stops, is_streamed
        self._tokens: list[int] = []
        self._from = self._to = 0  # decoded again, and told already, up to these tokens
        self._held = ""  # what may become a stop string
        self.is_stopped = False

    def add(self, token: int) -> str:
        """The text of a stream that is certain now."""
        self._tokens.append(token)
        if not (self._is_streamed or self._stops):
            return ""
        told = self._decode(self._to)
        text = self._decode(len(self._tokens))
        if len(text) <= len(told):
            return ""
        new = text[len(told) :]
        if text.endswith(_PARTIAL) and self._first_stop(self._held + new) is None:
            return ""
        self._from, self._to = self._to, len(self._tokens)
        certain = self._release(new)
        return certain if self._is_streamed else ""

    def end(self) -> str:
        """The rest of a stream, or the whole text."""
        if not self._is_streamed:
            text = text_of(self._tokenizer, self._tokens)
            return text[: self._first_stop(text)]
        rest = self._decode(len(self._tokens))[len(self._decode(self._to)) :]
        certain = self._release(rest)
        return certain + self._held

    def _decode(self, end: int) -> str:
        return text_of(self._tokenizer, self._tokens[self._from : end])

    def _release(self, text: str) -> str:
        if self.is_stopped:
            return ""
        pending = self._held + text
        place = self._first_stop(pending)
        if place is not None:
            self.is_stopped, self._held = True, ""
            return pending[:place]
        certain = len(pending) - max((_overlap(pending, stop) for stop in self._stops), default=0)
        self._held = pending[certain:]
        return pending[:certain]

    def _first_stop(self, text: str) -> int | None:
        places = [place for stop in self._stops if (place := text.find(stop)) >= 0]
        return min(places, default=None)


def _overlap(text: str, stop: str) -> int:
    """The length of the longest end of `text` that `stop` begins with."""
    longest = min(len(text), len(stop) - 1)
    return next((n for n in range(longest, 0, -1) if stop.startswith(text[-n:])), 0)
