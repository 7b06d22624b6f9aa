"""A batch of short rows as one line of tokens: no padding, and what all rows begin with only once.

    line      shared | rest of row 0 | rest of row 1 | …          (1, T)
    position  0 … P-1, P …             P …

Each row attends to the shared beginning and to itself, so every loss and gradient is that of the
padded batch, up to rounding (the noise of LoRA's dropout, which is drawn per token, is another).
The last layer is asked for logits only where the next token has a loss: those of a vocabulary of
49k or 262k cost more than a small model's other layers together. Linear layers see T tokens instead
of rows x the longest; attention is computed row by row, which is cheap where rows are short.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from transformers import AttentionInterface

from understudy.training.data import IGNORED

ATTENTION = "understudy_lines"


def collate(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The rows as a line: ids, positions and labels (1, T), and `line` = [P, length, length, …]."""
    shared = _shared([row["input_ids"] for row in rows], [row["labels"] for row in rows])
    ids, labels = list(rows[0]["input_ids"][:shared]), [IGNORED] * shared
    positions, lengths = list(range(shared)), list[int]()
    for row in rows:
        ids += row["input_ids"][shared:]
        labels += row["labels"][shared:]
        lengths.append(len(row["input_ids"]) - shared)
        positions += range(shared, len(row["input_ids"]))
    made = {"input_ids": ids, "position_ids": positions, "labels": labels}
    return {name: torch.tensor([values]) for name, values in made.items()} | {
        "line": torch.tensor([shared, *lengths])
    }


def _shared(ids: Sequence[Sequence[int]], labels: Sequence[Sequence[int]]) -> int:
    """How many first tokens all rows have in common and no loss is on.

    The token before a row's first loss stays the row's own, since it predicts that token.
    """
    equal = itertools.takewhile(lambda here: len(set(here)) == 1, zip(*ids, strict=False))
    masked = (
        next((place for place, label in enumerate(one) if label != IGNORED), len(one))
        for one in labels
    )
    return max(0, min(sum(1 for _ in equal), min(masked) - 1))


def attend(model: Any) -> None:
    """Let the model attend along lines; raises EnvironmentFailed where its attention is its own."""
    AttentionInterface.register(ATTENTION, _attention)
    model.set_attn_implementation(ATTENTION)


def _attention(
    module: Any,
    query: Any,
    key: Any,
    value: Any,
    attention_mask: Any,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    line: Any = None,
    **_: Any,
) -> tuple[Any, None]:
    """The attention of each row of the line to its beginning and itself, (1, T, heads, width)."""
    groups = query.shape[1] // key.shape[1]
    key, value = (part.repeat_interleave(groups, dim=1) for part in (key, value))
    shared = line[0]
    # Split at once: the gradient of a slice is as large as the line, and there are many.
    pieces = zip(*(part.split(line, dim=2) for part in (query, key, value)), strict=True)
    start, start_keys, start_values = next(pieces)
    made = list[Any]()
    if shared:
        made = [_attend(start, start_keys, start_values, 0, dropout, scaling, sliding_window)]
    for queries, keys, values in pieces:
        if shared:
            keys = torch.cat([start_keys, keys], dim=2)
            values = torch.cat([start_values, values], dim=2)
        made.append(_attend(queries, keys, values, shared, dropout, scaling, sliding_window))
    return torch.cat(made, dim=2).transpose(1, 2).contiguous(), None


def _attend(
    query: Any,
    key: Any,
    value: Any,
    before: int,
    dropout: float,
    scaling: float | None,
    window: int | None,
) -> Any:
    """Causal attention, where `before` of the keys precede the first query."""
    sees = _mask(query.shape[2], before, window, query.device)
    return torch.nn.functional.scaled_dot_product_attention(
        query, key, value, attn_mask=sees, dropout_p=dropout, scale=scaling
    )


def _mask(length: int, before: int, window: int | None, device: Any) -> Any:
    """Which of `before` + `length` keys each of `length` queries sees: those up to itself."""
    sees = torch.ones(length, before + length, dtype=torch.bool, device=device).tril(before)
    if window is not None and before + length > window:
        sees = sees.triu(before - window + 1)
    return sees


def loss(model: Any, inputs: dict[str, Any], items: Any) -> Any:
    """The sum of the losses of a line's labels, divided by `items` (null = by their number)."""
    labels = inputs["labels"][0]
    places = (labels != IGNORED).nonzero()[:, 0]
    output = model(
        input_ids=inputs["input_ids"],
        position_ids=inputs["position_ids"],
        use_cache=False,
        line=inputs["line"].tolist(),
        logits_to_keep=places - 1,  # each token is predicted at the place before it
    )
    total = torch.nn.functional.cross_entropy(
        output.logits[0].float(), labels[places], reduction="sum"
    )
    return total / (len(places) if items is None else items)


def tokens(inputs: dict[str, Any]) -> int:
    """The tokens of all rows, each with its whole beginning."""
    shared, *lengths = inputs["line"].tolist()
    return int(sum(lengths) + shared * len(lengths))
