"""Keys and values of the answers being decoded, a row each.

`FixedRows` is for a batch whose rows all begin at once: the model's own cache, so that equal
batches give equal bytes. In `Slots` rows join and leave between two steps. Both have the methods
that `decode.Batch` calls: `admit`, `step`, `forget` and `keep`.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from transformers.cache_utils import (
    Cache,
    CacheLayerMixin,
    DynamicLayer,
    DynamicSlidingWindowLayer,
)

from understudy.errors import EnvironmentFailed

_ROOM = 64  # columns to come


def read_prompts(
    model: Any, prompts: Sequence[tuple[int, ...]], room: int | None = None
) -> tuple[Any, Any, Any]:
    """Last logits, cache and mask of each prompt; equal ones are read once.

    With `room`, the columns that are to come, what all begin with is read once, too; padding then
    stands between it and the rest of a prompt.
    """
    places = {prompt: row for row, prompt in enumerate(dict.fromkeys(prompts))}
    width = max(map(len, places))
    start = () if room is None or len(places) == 1 else common_start(list(places))
    cache = _read_start(model, start, len(places), width + (room or 0)) if start else None
    if cache is None:
        start = ()
    ids = torch.zeros(len(places), width, dtype=torch.long)
    mask = torch.zeros_like(ids)
    mask[:, : len(start)] = 1
    for prompt, row in places.items():  # padded on the left, under a mask: any id will do
        rest = prompt[len(start) :]
        ids[row, width - len(rest) :] = torch.tensor(rest)
        mask[row, width - len(rest) :] = 1
    ids, mask = ids[:, len(start) :].to(model.device), mask.to(model.device)
    logits, cache = _forward(model, ids, mask, cache)
    owners = torch.tensor([places[prompt] for prompt in prompts], device=model.device)
    cache.batch_select_indices(owners)
    return logits[owners], cache, mask[owners]


def common_start(prompts: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """The tokens that all prompts begin with; the last one of each prompt is its own."""
    first, last = min(prompts), max(prompts)  # no other differs earlier
    most = min(map(len, prompts)) - 1
    pairs = zip(first[:most], last[:most], strict=True)
    return tuple(a for a, _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))


def _read_start(model: Any, start: tuple[int, ...], rows: int, width: int) -> Any:
    """The cache of `rows` prompts that have been read so far, or None where it would not hold.

    A sliding window counts columns, and so would count the padding in the midst of a prompt.
    """
    ids = torch.tensor([start], device=model.device)
    _, cache = _forward(model, ids, torch.ones_like(ids), None)
    windows = [getattr(layer, "sliding_window", None) for layer in cache.layers]
    if any(window is not None and width >= window for window in windows):
        return None
    cache.batch_select_indices(torch.zeros(rows, dtype=torch.long, device=model.device))
    return cache


def _forward(model: Any, ids: Any, mask: Any, cache: Any) -> tuple[Any, Any]:
    """Logits (B, V) after the last token of `ids` (B, T), and the cache that now holds them."""
    if ids.shape[1] == 1:  # a sum costs a tenth of what the cumulated one does
        positions = mask.sum(dim=1, keepdim=True) - 1
    else:
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


class FixedRows:
    """The model's own cache, with room for `tokens` more; a row that is over is computed on."""

    def __init__(self, tokens: int) -> None:
        self._tokens = tokens
        self._cache: Any = None
        self._mask: Any = None  # (B, T)

    def admit(self, cache: Any, mask: Any, places: Sequence[int]) -> None:
        """Take a filled cache, whose rows are all there will be."""
        assert self._cache is None, f"rows {places} come too late"
        for index, layer in enumerate(cache.layers):
            if type(layer) is DynamicLayer:  # sliding windows and the like keep their own ways
                cache.layers[index] = _RoomyLayer(layer, self._tokens)
        self._cache, self._mask = cache, mask

    def step(self, model: Any, tokens: Sequence[int], longest: int) -> Any:
        """Read a token per row; the logits (B, V)."""
        self._mask = torch.cat([self._mask, self._mask.new_ones(len(tokens), 1)], dim=1)
        ids = torch.tensor(tokens, device=self._mask.device)[:, None]
        logits, self._cache = _forward(model, ids, self._mask, self._cache)
        return logits

    def forget(self, rows: Sequence[int]) -> None:
        """Leave rows that are over as they are: another mask would be another computation."""

    def keep(self, rows: Sequence[int]) -> None:
        """Keep these rows only, in this order."""
        kept = torch.tensor(rows, device=self._mask.device)
        self._cache.batch_select_indices(kept)
        self._mask = self._mask[kept]


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


class Slots:
    """A cache whose rows are answers at different places.

    All rows end at the same column, so a row that began later is padded on the left, under the
    mask. A row that is over is computed on, unread, until another answer takes its place. So
    joining and leaving copy one row, not all; all are copied when the columns run out.
    """

    def __init__(self) -> None:
        self.rows = 0
        self.first = self.end = 0  # the columns in use
        self._cache: Any = None
        self._mask: Any = None  # (rows, capacity)

    def admit(self, cache: Any, mask: Any, places: Sequence[int]) -> None:
        """Put the prompts of a filled cache into the rows `places`; `mask` is (B, T)."""
        if self._cache is None:
            self._cache = Cache(layers=[_SlotLayer(self, layer) for layer in cache.layers])
            self._mask = mask[:0, :0]
        width, rows = mask.shape[1], max(self.rows, max(places) + 1)
        if rows > self.rows or width > self.end or self.end >= self._mask.shape[1]:
            self._resize(range(self.rows), rows, max(self.end - self.first, width))
        where = torch.tensor(places, device=mask.device)
        for layer, filled in zip(self._cache.layers, cache.layers, strict=True):
            layer.put(where, filled)
        self._mask[where] = 0
        self._mask[where, self.end - width : self.end] = mask
        self.first = min(self.first, self.end - width)

    def step(self, model: Any, tokens: Sequence[int], longest: int) -> Any:
        """Read a token per row; the logits (rows, V). No living row is longer than `longest`."""
        self.first = max(self.first, self.end - longest)
        if self.end >= self._mask.shape[1]:
            self._resize(range(self.rows), self.rows, self.end - self.first)
        self._mask[:, self.end] = 1
        ids = torch.tensor(tokens, device=self._mask.device)[:, None]
        mask = self._mask[:, self.first : self.end + 1]
        logits, _ = _forward(model, ids, mask, self._cache)
        self.end += 1
        return logits

    def forget(self, rows: Sequence[int]) -> None:
        """Let the positions of rows that are over begin anew, so that they cannot run out."""
        self._mask[rows] = 0

    def keep(self, rows: Sequence[int]) -> None:
        """Keep these rows only, in this order."""
        self._resize(rows, len(rows), self.end - self.first)

    def _resize(self, kept: Sequence[int], rows: int, width: int) -> None:
        """Copy the rows `kept`, ending at column `width`, to rooms of `rows` rows."""
        used = self.end - self.first
        index = torch.tensor(list(kept), device=self._mask.device, dtype=torch.long)

        def moved(room: Any) -> Any:  # (rows, ..., columns, width) or (rows, columns, 1)
            shape = list(room.shape)
            shape[0], shape[-2] = rows, width + _ROOM
            new = room.new_zeros(shape)
            new[: len(index), ..., width - used : width, :] = room[
                index, ..., self.first : self.end, :
            ]
            return new

        for layer in self._cache.layers:
            layer.rooms = [moved(room) for room in layer.rooms]
        self._mask = moved(self._mask[..., None])[..., 0]
        self.rows, self.first, self.end = rows, 0, width


class _SlotLayer(CacheLayerMixin):  # type: ignore[misc]
    """Keys and values of one layer; a sliding window is kept whole, and seen through its mask."""

    def __init__(self, slots: Slots, filled: Any) -> None:
        super().__init__()
        if type(filled) not in (DynamicLayer, DynamicSlidingWindowLayer):
            raise EnvironmentFailed(
                f"answers cannot join a batch of a model with a {type(filled).__name__}; "
                "serve it with serve.engine=vllm"
            )
        self.is_sliding, self.is_initialized = filled.is_sliding, True
        self.dtype, self.device = filled.dtype, filled.device
        self.rooms = [part[:0, :, :0] for part in (filled.keys, filled.values)]
        self._slots = slots

    def put(self, places: Any, filled: Any) -> None:
        """Copy prompts into rows; a sliding window holds the ends of long ones."""
        end = self._slots.end
        for room, part in zip(self.rooms, (filled.keys, filled.values), strict=True):
            room[places, :, end - part.shape[2] : end] = part

    def update(self, key_states: Any, value_states: Any, *_: Any, **__: Any) -> tuple[Any, Any]:
        first, end = self._slots.first, self._slots.end
        for room, states in zip(self.rooms, (key_states, value_states), strict=True):
            room[:, :, end : end + 1] = states
        keys, values = (room[:, :, first : end + 1] for room in self.rooms)
        return keys, values

    def get_seq_length(self) -> int:
        return self._slots.end - self._slots.first

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.get_seq_length() + query_length, 0

    def get_max_length(self) -> int:
        return -1

    def lazy_initialization(self, key_states: Any, value_states: Any) -> None:
        raise AssertionError("a layer of slots is made of a filled one")
