"""What the trainer is fed: rows as tokens, the plan of steps, and the checks on a real batch.

Pure functions; nothing here imports torch.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from understudy.config import Trainer
from understudy.errors import BadInput, Internal
from understudy.local_model import chat_ids
from understudy.records import Coverage

IGNORED = -100  # the label that torch's cross entropy skips


@dataclass(frozen=True)
class Encoded:
    """One conversation as tokens; the loss is on those after the prompt."""

    ids: tuple[int, ...]
    prompt_tokens: int

    @property
    def labels(self) -> list[int]:
        """The ids with the prompt masked."""
        return [IGNORED] * self.prompt_tokens + list(self.ids[self.prompt_tokens :])


class Encodings(NamedTuple):
    """The rows to train on and how many were left out."""

    rows: list[Encoded]
    over_length: int
    misaligned: int  # the answer's first characters merge with the prompt's last into one token


def encode_rows(
    rows: list[Coverage], tokenizer: Any, stop_id: int, max_length: int, what: str
) -> Encodings:
    """Every row as tokens, without those that are too long or do not begin with their prompt."""
    encoded, over_length, misaligned = [], 0, 0
    for row in rows:
        one = encode(row, tokenizer, stop_id)
        if one is None:
            misaligned += 1
        elif len(one.ids) > max_length:
            over_length += 1  # never cut: a cut row has no stop token, or no answer at all
        else:
            encoded.append(one)
    if rows and not encoded:
        raise BadInput(
            f"none of the {len(rows)} {what} rows can be used: {over_length} are longer than "
            f"trainer.max_length={max_length} tokens and {misaligned} do not tokenise to "
            "prompt + answer"
        )
    return Encodings(encoded, over_length, misaligned)


def encode(row: Coverage, tokenizer: Any, stop_id: int) -> Encoded | None:
    """The row as tokens, or None if its prompt's tokens are not the beginning of all tokens."""
    prompt = chat_ids(tokenizer, row.prompt, row.id, add_generation_prompt=True)
    ids = chat_ids(tokenizer, row.messages, row.id, add_generation_prompt=False)
    if ids[: len(prompt)] != prompt:
        return None
    # Templates may write a newline after the stop token, which no model ever gets to generate.
    while len(ids) > len(prompt) and ids[-1] != stop_id and stop_id in ids[len(prompt) :]:
        ids = ids[:-1]
    return Encoded(tuple(ids), len(prompt))


class Steps(NamedTuple):
    """How long to train, and after which steps to evaluate and save."""

    total: int
    checkpoints: frozenset[int]


def plan_steps(sequences: int, trainer: Trainer) -> Steps:
    """`epochs` over the sequences, within [min_steps, max_steps]; the last step is a checkpoint."""
    per_epoch = math.ceil(sequences / trainer.batch_size)
    total = max(1, trainer.min_steps, round(trainer.epochs * per_epoch))
    if trainer.max_steps is not None:
        total = min(total, trainer.max_steps)
    count = min(trainer.evaluations, total)
    return Steps(total, frozenset(math.ceil(total * i / count) for i in range(1, count + 1)))


class Conversation(NamedTuple):
    """One conversation as found in a batch of the trainer."""

    ids: list[int]
    labels: list[int]


def conversations(batch: Mapping[str, Any]) -> Iterator[Conversation]:
    """The conversations of a batch: padded rows, or packed ones that start at position 0."""
    ids, labels = batch["input_ids"].tolist(), batch["labels"].tolist()
    if "position_ids" in batch:
        for row, positions in enumerate(batch["position_ids"].tolist()):
            starts = [i for i, position in enumerate(positions) if position == 0]
            for start, end in zip(starts, [*starts[1:], len(positions)], strict=True):
                yield Conversation(ids[row][start:end], labels[row][start:end])
    else:
        for row, mask in enumerate(batch["attention_mask"].tolist()):
            end = sum(mask)
            yield Conversation(ids[row][:end], labels[row][:end])


def check_batch(
    batch: Iterable[Conversation], stop_id: int, prompt_tokens: Mapping[tuple[int, ...], int]
) -> None:
    """Refuse a batch that would teach the wrong tokens; `prompt_tokens` is what we encoded.

    Each of these faults trains in silence, with a loss that looks healthy.
    """
    for number, (ids, labels) in enumerate(batch):
        trained = [i for i, label in enumerate(labels) if label != IGNORED]
        if not trained:
            raise Internal(f"sequence {number} of the first batch is fully masked: no loss at all")
        if stop_id not in (labels[i] for i in trained):
            raise BadInput(
                f"sequence {number} of the first batch has no stop token (id {stop_id}) inside "
                "its loss mask, so the model would never learn to stop: model.stop must begin "
                "with the token that ends a turn in the chat template"
            )
        prompt = prompt_tokens.get(tuple(ids))
        if prompt is None:
            raise Internal(f"sequence {number} of the first batch is none of the encoded rows")
        if trained != list(range(prompt, len(ids))):
            raise Internal(
                f"the loss of sequence {number} of the first batch is on tokens {trained[0]} to "
                f"{trained[-1]}, not on its answer, {prompt} to {len(ids) - 1}"
            )
