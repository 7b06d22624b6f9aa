"""Which texts are near-duplicates of a text: candidates by MinHash keys, decided exactly.

`NearIndex` holds the texts added so far: 33 keys and every word in 8 bytes, and 0.2 KiB besides, so
1 KiB for a text of 70 words; of texts that are not added it keeps the last few thousand at most. A
key that more than `_CROWD` texts have counts for the oldest of them, and a text is compared with
the `_CHECKED` that look most alike, so that a query costs the same in a pool of one template.
Decisions depend on the order of adding alone, not on how the texts were cut into batches.

Keys are equal bands of MinHash signatures (Broder 1997; LSH), of two sketches per text. Its set of
words in 16 bands of 8 finds a pair of Jaccard .9 with probability 1 - (1 - .9^8)^16 = .9999. Runs
of 3 words in 16 bands of 1 find what was edited, cut or added to: a quarter of the words exchanged
leaves .27 of the runs, and 1 - .73^16 = .99.
"""

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rapidfuzz.distance import LCSseq
from rensa import RMinHash

from understudy.data.words import Hashes, Words, mixed, shingles

BANDS, ROWS = 16, 8
RUN = 3  # words
WHOLE = BANDS + 1  # keys of the first sketch: its bands, and all of it
_SEED = 20261121
ROW_BITS = 24  # of a key, left for the number of a text
_ODD = mixed(np.arange(1, BANDS * ROWS + 1, dtype=np.uint64)) | np.uint64(1)
_CROWD = 32
_CHECKED = 32
_ALIKE = 0.4  # estimated Jaccard; a quarter of the words exchanged leaves .5 and more
_FRESH = 4096  # texts; then they join the sorted keys
_PAIRS = 1 << 16  # compared at a time: 8 MiB
_ROW = (1 << ROW_BITS) - 1
_NONE: Hashes = np.empty(0, np.uint64)
Bytes = NDArray[np.uint8]


class Sketches(NamedTuple):
    """`keys` is (texts, WHOLE [+ BANDS]), the low `ROW_BITS` zero; `runs` are the texts' shingles.

    `order` sorts the keys, flattened: searching in order misses no cache. `bytes` is
    (texts, BANDS · ROWS): a byte of each value of the first sketch (b-bit MinHash).
    """

    words: Words
    runs: Words
    keys: Hashes
    order: NDArray[np.int64]
    bytes: NDArray[np.uint8]


def sketch(words: Words, edited: bool = True) -> Sketches:
    """Sketches of texts, the second one only for what may be `edited`."""
    runs = shingles(words, RUN)
    whole = _signatures(words, BANDS * ROWS)
    parts = [_hashed(whole.reshape(-1, BANDS, ROWS)), _hashed(whole[:, None])]
    if edited:
        parts.append(_hashed(_signatures(runs, BANDS)[:, :, None]))
    keys: Hashes = np.concatenate(parts, axis=1)
    numbers: Hashes = np.arange(keys.shape[1], dtype=np.uint64)
    keys = mixed(keys + numbers)  # a band meets only itself
    keys &= ~np.uint64((1 << ROW_BITS) - 1)
    order = np.argsort(keys, axis=None, kind="stable")
    last_bytes = (whole * np.uint32(0x9E3779B1) >> 24).astype(np.uint8)
    return Sketches(words, runs, keys, order, last_bytes)


def _signatures(words: Words, size: int) -> NDArray[np.uint32]:
    """(texts, size) MinHash values."""
    matrix = RMinHash.digest_matrix_from_flat_token_hashes(
        words.hashes, words.starts.astype(np.uint64), size, _SEED
    )
    return np.array(matrix.to_rows(), np.uint32).reshape(-1, size)


def _hashed(parts: NDArray[np.uint32]) -> Hashes:
    """The last axis as one number: a multilinear hash."""
    hashed: Hashes = (parts * _ODD[: parts.shape[-1]]).sum(axis=-1, dtype=np.uint64)
    return hashed


@dataclass(frozen=True)
class Rule:
    """When two texts are near-duplicates.

    Their sets of words have Jaccard ≥ `jaccard`, or both have `rouge_words` and ROUGE-L F1 ≥
    `rouge_l` (below that length one exchanged word is another question).
    """

    jaccard: float = 0.9
    rouge_l: float = 0.7
    rouge_words: float = 30  # infinite: Jaccard alone


class Near(NamedTuple):
    """A text of the index that is near."""

    row: int
    rule: str  # "jaccard" | "rouge_l"
    value: float


class NearIndex:
    """The texts added so far, by the keys of their sketches."""

    def __init__(self, rule: Rule | None = None) -> None:
        self.rule = rule or Rule()
        self._words, self._ends = array("Q"), [0]
        self._bytes: Bytes = np.empty((1024, BANDS * ROWS), np.uint8)
        self._sorted: Hashes = _NONE  # key | row
        self._recent: list[tuple[NearBatch, int]] = []  # texts that are not in the arrays above yet
        self._fresh: dict[int, list[int]] = {}  # their keys → rows; of a large batch what recurs
        self._seen = 0  # texts looked up since then
        self._was_large = False

    def __len__(self) -> int:
        return len(self._ends) - 1 + len(self._recent)

    def batch(self, sketches: Sketches) -> "NearBatch":
        """Texts to look up and to add, in their order; use one batch at a time."""
        self._seen += len(sketches.keys)
        if self._was_large or self._seen > _FRESH:
            self._merge()
        self._was_large = len(sketches.keys) > _FRESH // 4
        return NearBatch(self, sketches, self._was_large and not self._recent)

    def _merge(self) -> None:
        """Move the recent texts into the arrays."""
        parts = [_NONE]
        row = len(self._ends) - 1
        for batch, texts in _by_batch(self._recent):
            sketches = batch.sketches
            _append(self._words, self._ends, sketches.words, texts)
            rows = np.arange(row, row + len(texts), dtype=np.uint64)[:, None]
            parts.append((sketches.keys[texts] | rows)[batch.used[texts]])
            row += len(texts)
        self._sorted = np.concatenate([self._sorted, np.sort(np.concatenate(parts))])
        self._sorted.sort(kind="stable")  # two sorted runs: merged in linear time
        self._recent, self._fresh, self._seen = [], {}, 0

    def _add(self, batch: "NearBatch", text: int, keys: list[int]) -> int:
        row = len(self)
        assert row <= _ROW, f"an index holds {_ROW} texts"
        if row == len(self._bytes):
            self._bytes = np.concatenate([self._bytes, np.empty_like(self._bytes)])
        self._bytes[row] = batch.sketches.bytes[text]
        self._recent.append((batch, text))
        for key in keys:
            rows = self._fresh.setdefault(key, [])
            if len(rows) < _CROWD:
                rows.append(row)
        return row

    def _compare(self, row: int, words: list[int]) -> Near | None:
        value = jaccard(set(words), set(other := self._text(row)))
        if value >= self.rule.jaccard:
            return Near(row, "jaccard", value)
        if min(len(words), len(other)) < self.rule.rouge_words:
            return None
        value = rouge_l(words, other, self.rule.rouge_l)
        return Near(row, "rouge_l", value) if value >= self.rule.rouge_l else None

    def _text(self, row: int) -> list[int]:
        merged = len(self._ends) - 1
        if row < merged:
            return self._words[self._ends[row] : self._ends[row + 1]].tolist()
        batch, text = self._recent[row - merged]
        return batch.text(text)


class NearBatch:
    """Sketched texts before an index, in its order of rows."""

    def __init__(self, index: NearIndex, sketches: Sketches, recurring_only: bool) -> None:
        self.sketches = sketches
        self._index = index
        keys, lengths = sketches.keys, sketches.words.lengths
        used = np.where(lengths >= index.rule.rouge_words, keys.shape[1], WHOLE)
        used[(lengths == 0)] = 0
        self.used: NDArray[np.bool_] = np.arange(keys.shape[1]) < used[:, None]
        self._fresh = self.used & _recurring(sketches) if recurring_only else self.used
        self._may_recur: list[bool] = np.logical_or.reduce(self._fresh, axis=1).tolist()
        self._look_up()

    def _look_up(self) -> None:
        """Find the rows of the index that share a key with each text and look alike."""
        keys, order, table = self.sketches.keys, self.sketches.order, self._index._sorted
        first, last = np.empty((2, keys.size), np.int64)
        first[order] = np.searchsorted(table, keys.ravel()[order])
        last[order] = np.searchsorted(table, keys.ravel()[order] | np.uint64(_ROW), "right")
        self._held = np.minimum((last - first).reshape(keys.shape), _CROWD) * self.used
        flat = self._held.ravel()
        texts = np.repeat(np.arange(len(keys), dtype=np.uint64), self._held.sum(axis=1))
        within = np.arange(flat.sum()) - np.repeat(np.cumsum(flat) - flat, flat)
        rows = table[np.repeat(first, flat) + within] & np.uint64(_ROW)
        pairs = np.sort(texts << np.uint64(ROW_BITS) | rows)
        pairs = pairs[np.diff(pairs, prepend=~np.uint64(0)) != 0]  # np.unique is ten times slower
        values = self.sketches.bytes
        self._alikes = np.concatenate(
            [np.empty(0, np.int64)]
            + [
                self._alike(part & np.uint64(_ROW), values[part >> np.uint64(ROW_BITS)])
                for part in (pairs[at : at + _PAIRS] for at in range(0, len(pairs), _PAIRS))
            ]
        )
        likely = self._alikes >= _ALIKE * values.shape[1]
        self._alikes, pairs = self._alikes[likely], pairs[likely]
        self._rows = (pairs & np.uint64(_ROW)).astype(np.int64)
        edges = np.arange(len(keys) + 1, dtype=np.uint64) << np.uint64(ROW_BITS)
        self._starts: list[int] = np.searchsorted(pairs, edges).tolist()

    def _alike(self, rows: NDArray[Any], values: Bytes) -> NDArray[np.int64]:
        """Equal bytes of sketches; the share of them estimates Jaccard."""
        equal: NDArray[np.int64] = (self._index._bytes[rows] == values).sum(axis=1)
        return equal

    def text(self, text: int) -> list[int]:
        """The words of a text."""
        return list(self.sketches.words.of(text).tolist())

    def near(self, text: int) -> Iterator[Near]:
        """What is near a text, oldest first."""
        rows = self._candidates(text)
        words = self.text(text) if rows else []
        for row in rows:
            if near := self._index._compare(row, words):
                yield near

    def add(self, text: int) -> int:
        """Put a text into the index; returns its row there."""
        keys = self.sketches.keys[text, self._fresh[text]] if self._may_recur[text] else _NONE
        return self._index._add(self, text, keys.tolist())

    def _candidates(self, text: int) -> list[int]:
        start, end = self._starts[text], self._starts[text + 1]
        fresh = self._fresh_rows(text) if self._may_recur[text] else set()
        if start == end and not fresh:
            return []
        rows, alike = self._rows[start:end], self._alikes[start:end]
        if fresh:
            more = np.array(sorted(fresh))
            more_alike = self._alike(more, self.sketches.bytes[text])
            likely = more_alike >= _ALIKE * self.sketches.bytes.shape[1]
            rows = np.concatenate([rows, more[likely]])
            alike = np.concatenate([alike, more_alike[likely]])
        if len(rows) > _CHECKED:
            rows = np.sort(rows[np.argsort(-alike, kind="stable")[:_CHECKED]])
        return list(rows.tolist())

    def _fresh_rows(self, text: int) -> set[int]:
        chosen = self._fresh[text]
        keys = self.sketches.keys[text, chosen].tolist()
        found: set[int] = set()
        for key, held in zip(keys, self._held[text, chosen].tolist(), strict=True):
            if rows := self._index._fresh.get(key):
                found.update(rows[: _CROWD - held])
        return found


def _by_batch(recent: "list[tuple[NearBatch, int]]") -> "Iterator[tuple[NearBatch, list[int]]]":
    for _, group in groupby(recent, key=lambda item: id(item[0])):
        batches, texts = zip(*group, strict=True)
        yield batches[0], list(texts)


def _append(store: "array[int]", ends: list[int], words: Words, texts: list[int]) -> None:
    """Add some texts of many, in ascending order."""
    chosen = np.zeros(len(words.starts) - 1, bool)
    chosen[texts] = True
    store.frombytes(words.hashes[np.repeat(chosen, words.lengths)].tobytes())
    ends.extend((ends[-1] + np.cumsum(words.lengths[chosen])).tolist())


def _recurring(sketches: Sketches) -> NDArray[np.bool_]:
    """Which keys occur more than once."""
    keys, order = sketches.keys, sketches.order
    equal = np.diff(keys.ravel()[order]) == 0
    found = np.zeros(keys.size, bool)
    found[order[1:][equal]] = True
    found[order[:-1][equal]] = True
    return found.reshape(keys.shape)


def jaccard(first: set[int], second: set[int]) -> float:
    """Shared words by all words, 0 of nothing."""
    shared = len(first & second)
    return shared / ((len(first) + len(second) - shared) or 1)


def rouge_l(first: list[int], second: list[int], least: float = 0.0) -> float:
    """F1 of the longest common subsequence (Lin 2004); may be 0 where it is below `least`."""
    total = len(first) + len(second)
    needed = max(0, int(least * total / 2))
    if not total or min(len(first), len(second)) < needed:
        return 0.0
    return 2 * int(LCSseq.similarity(first, second, score_cutoff=needed)) / total
