"""Keys and values of the answers being decoded, a row each; answers join and leave between steps.

All rows end at the same column, so a row that began later is padded on the left, under the mask.
A row that ended is computed on, unread, until another answer takes its place or half of them are
such. So joining and leaving copy one row, not all; all are copied when the columns run out.
"""

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
from understudy.inference import generate

_ROOM = 64  # columns to come


class Slots:
    """The cache of a batch whose rows are answers at different places."""

    def __init__(self) -> None:
        self.rows = 0
        self.first = self.end = 0  # the columns in use
        self._cache: Any = None
        self._mask: Any = None  # (rows, capacity)

    def admit(self, cache: Any, mask: Any, places: Sequence[int]) -> None:
        """Put the prompts of a filled cache into the rows `places`; `mask` is (B, T)."""
        if self._cache is None:
            self._cache = Cache(layers=[_Layer(self, layer) for layer in cache.layers])
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
        logits, _ = generate.forward(model, ids, mask, self._cache)
        self.end += 1
        return logits

    def forget(self, row: int) -> None:
        """Let a row's answer be over; its positions begin anew, so they cannot run out."""
        self._mask[row] = 0

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


class _Layer(CacheLayerMixin):  # type: ignore[misc]
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
