"""What the trainer is fed: rows as tokens, the plan of steps, and the checks on a real batch.

Pure functions; nothing here imports torch.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any, Literal, NamedTuple

from understudy.config import TrainerConfig
from understudy.errors import BadInput, Internal
from understudy.models.load import chat_ids
from understudy.records import Coverage, shown

_MOST_LOST = 0.2  # of the rows, unless coverage.tolerance allows more
_REPLACEMENTS = ("a", "1")
IGNORED = -100  # the label that torch's cross entropy skips
Loss = Literal["answer", "all"]
Example = dict[str, Any]  # of a preference, as TRL's collators take it: lists of ids, KTO's label


@dataclass(frozen=True)
class Encoded:
    """One conversation as tokens.

    The loss is on those after the first `masked`, without the half-open ranges `unlearnt`.
    """

    ids: tuple[int, ...]
    prompt_tokens: int
    is_prompt_trained: bool = False
    # Turns of weight 0 and of tools, where prompts are trained
    unlearnt: tuple[tuple[int, int], ...] = ()

    @property
    def masked(self) -> int:
        """The tokens without a loss; the first never has one, since nothing predicts it."""
        return 1 if self.is_prompt_trained else self.prompt_tokens

    @property
    def labels(self) -> list[int]:
        """The ids with the masked ones ignored."""
        labels = [IGNORED] * self.masked + list(self.ids[self.masked :])
        for begin, end in self.unlearnt:
            labels[begin:end] = [IGNORED] * len(labels[begin:end])
        return labels


class Encodings(NamedTuple):
    """The rows to train on and how many were left out."""

    rows: list[Encoded]
    over_length: int
    misaligned: int  # the answer's first characters merge with the prompt's last into one token

    def lost(self, what: str, max_length: int) -> str:
        """A sentence about the rows that were left out."""
        every = len(self.rows) + self.over_length + self.misaligned
        return (
            f"{self.over_length + self.misaligned} of the {every} {what} rows cannot be used: "
            f"{self.over_length} are longer than trainer.max_length={max_length} tokens and "
            f"{self.misaligned} do not tokenise to prompt + answer"
        )


def encode_rows(
    rows: list[Coverage],
    tokenizer: Any,
    stop_id: int,
    max_length: int,
    what: str,
    loss: Loss = "answer",
    tolerance: float = 0.0,
) -> Encodings:
    """Every row as tokens, without those that are too long or do not begin with their prompt.

    Raises BadInput when none is left, or more than a fifth and than `tolerance` is lost.
    """
    encoded, over_length, misaligned = [], 0, 0
    for row in rows:
        one = encode(row, tokenizer, stop_id, loss)
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
    made = Encodings(encoded, over_length, misaligned)
    if over_length + misaligned > max(_MOST_LOST, tolerance) * len(rows):
        raise BadInput(
            f"{made.lost(what, max_length)}; raise trainer.max_length or model.context, or allow "
            "the loss with coverage.tolerance=0.5 or more"
        )
    return made


def encode(row: Coverage, tokenizer: Any, stop_id: int, loss: Loss = "answer") -> Encoded | None:
    """The row as tokens, or None if its prompt's tokens are not the beginning of all tokens."""
    tools = row.tools
    prompt = chat_ids(tokenizer, row.prompt, row.id, add_generation_prompt=True, tools=tools)
    ids = chat_ids(tokenizer, shown(row.messages), row.id, add_generation_prompt=False, tools=tools)
    if ids[: len(prompt)] != prompt:
        return None
    unlearnt = [
        _place(n, row, ids, tokenizer, stop_id)
        for n, turn in enumerate(row.messages)
        if loss == "all" and (turn.get("weight") == 0 or turn["role"] == "tool")
    ]
    # Templates may write a newline after the stop token, which no model ever gets to generate.
    while len(ids) > len(prompt) and ids[-1] != stop_id and stop_id in ids[len(prompt) :]:
        ids = ids[:-1]
    return Encoded(tuple(ids), len(prompt), loss == "all", tuple(unlearnt))


def _place(
    number: int, row: Coverage, ids: list[int], tokenizer: Any, stop_id: int
) -> tuple[int, int]:
    """The half-open range of a turn's text, and of the stop token after it, among the row's tokens.

    Templates write earlier turns in other ways than the last, so no beginning of the conversation
    tells. What stays when the text is replaced is not the turn's; of two replacements that differ
    in their first and in their last character, at most one begins or ends as the text does.
    """
    before = after = len(ids)
    for other in _REPLACEMENTS:
        messages = shown(row.messages)
        kept = {key: value for key, value in messages[number].items() if key != "tool_calls"}
        messages[number] = kept | {"content": other}
        there = chat_ids(tokenizer, messages, row.id, add_generation_prompt=False, tools=row.tools)
        before = min(before, _common(ids, there))
        after = min(after, _common(ids[::-1], there[::-1]))
    begin, end = before, max(before, len(ids) - after)
    # Some templates write a space before the stop token.
    if stop_id in ids[end : end + 2]:
        end = ids.index(stop_id, end) + 1
    return begin, end


def _common(some: list[int], others: list[int]) -> int:
    """How many tokens both begin with."""
    pairs = enumerate(zip(some, others, strict=False))
    return next((n for n, (one, other) in pairs if one != other), min(len(some), len(others)))


class Adapter(NamedTuple):
    """The size of a LoRA adapter."""

    rank: int
    alpha: float


def adapter_size(trainer: TrainerConfig, rows: int) -> Adapter:
    """The rank for a training set of `rows` rows; alpha / rank is the same for all of them.

    `trainer.rank_by_rows` gives the ranks from so many rows on; below its least, `lora_rank`.
    """
    reached = [least for least in trainer.rank_by_rows if least <= rows]
    rank = trainer.rank_by_rows[max(reached)] if reached else trainer.lora_rank
    alpha = trainer.lora_alpha * rank / trainer.lora_rank
    return Adapter(rank, int(alpha) if alpha.is_integer() else alpha)


class StepPlan(NamedTuple):
    """How long to train, and after which steps to evaluate and save."""

    total: int
    checkpoints: frozenset[int]


def plan_steps(sequences: int, trainer: TrainerConfig) -> StepPlan:
    """`epochs` over the sequences, within [min_steps, max_steps]; the last step is a checkpoint."""
    per_epoch = math.ceil(sequences / trainer.batch_size)
    total = max(1, trainer.min_steps, round(trainer.epochs * per_epoch))
    if trainer.max_steps is not None:
        total = min(total, trainer.max_steps)
    count = min(trainer.evaluations, total)
    return StepPlan(total, frozenset(math.ceil(total * i / count) for i in range(1, count + 1)))


class Conversation(NamedTuple):
    """One conversation as found in a batch of the trainer."""

    ids: list[int]
    labels: list[int]


def conversations(batch: Mapping[str, Any]) -> Iterator[Conversation]:
    """The conversations of a batch: padded rows, packed ones that begin at position 0, a line."""
    ids, labels = batch["input_ids"].tolist(), batch["labels"].tolist()
    if "line" in batch:
        shared, *lengths = batch["line"].tolist()
        ends = [*accumulate(lengths, initial=shared)]
        for start, end in pairwise(ends):
            both = ids[0][:shared] + ids[0][start:end]
            yield Conversation(both, labels[0][:shared] + labels[0][start:end])
    elif "position_ids" in batch:
        for row, positions in enumerate(batch["position_ids"].tolist()):
            starts = [i for i, position in enumerate(positions) if position == 0]
            for start, end in zip(starts, [*starts[1:], len(positions)], strict=True):
                yield Conversation(ids[row][start:end], labels[row][start:end])
    else:
        for row, mask in enumerate(batch["attention_mask"].tolist()):
            end = sum(mask)
            yield Conversation(ids[row][:end], labels[row][:end])


def check_batch(batch: Iterable[Conversation], stop_id: int, rows: Iterable[Encoded]) -> None:
    """Refuse a batch that would teach the wrong tokens; `rows` is what we encoded.

    Each of these faults trains in silence, with a loss that looks healthy.
    """
    batch = list(batch)
    there = {tuple(ids) for ids, _ in batch}
    meant: defaultdict[tuple[int, ...], list[list[int]]] = defaultdict(list)
    for row in rows:
        if row.ids in there:
            meant[row.ids].append(row.labels)
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
        wanted = meant.get(tuple(ids))
        if wanted is None:
            raise Internal(f"sequence {number} of the first batch is none of the encoded rows")
        if labels not in wanted:
            right = [i for i, label in enumerate(wanted[0]) if label != IGNORED]
            raise Internal(
                f"the loss of sequence {number} of the first batch is on tokens {trained[0]} to "
                f"{trained[-1]}, not on {right[0]} to {right[-1]}, those it is meant for "
                f"({len(trained)} tokens instead of {len(right)})"
            )
