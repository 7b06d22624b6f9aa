"""Text as a sparse bag of hashed n-grams, with numpy alone: no vocabulary and no download.

Characters 2 to 4 (of the UTF-8 bytes, case kept) and words 1 to 2 are hashed to `DIMENSIONS`
counts. `Projection` weighs them by inverse document frequency, normalises and projects them to
a few dense dimensions (latent semantic analysis: Deerwester et al. 1990).
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Dense = NDArray[np.float32]
DIMENSIONS = 1 << 13
_CHARACTERS = (2, 3, 4)
_LONGEST = 8192  # bytes that are looked at; a longer text is told by both its ends
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio: Fibonacci hashing


class Bag(NamedTuple):
    """The hashed n-grams of one text, and how often each occurs."""

    places: NDArray[np.int64]
    counts: Dense


def bag(text: str) -> Bag:
    """Hash the n-grams of one text."""
    content = _cut(text.encode(errors="surrogatepass"))
    data = np.frombuffer(content, dtype=np.uint8).astype(np.uint64)
    hashes = [np.empty(0, np.uint64)]
    code = data + np.uint64(1)
    for length in range(2, max(_CHARACTERS) + 1):
        code = code[:-1] * np.uint64(257) + data[length - 1 :] + np.uint64(1)
        if length in _CHARACTERS and len(code):
            hashes.append(code + np.uint64(length << 40))
    words = content.decode(errors="replace").split()
    tokens = words + [f"{a} {b}" for a, b in pairwise(words)]
    hashes.append(np.array([zlib.crc32(token.encode()) for token in tokens], np.uint64))
    hashed = (np.concatenate(hashes) * _GOLDEN) >> np.uint64(64 - DIMENSIONS.bit_length() + 1)
    counts = np.bincount(hashed.astype(np.int64), minlength=DIMENSIONS)
    index = np.flatnonzero(counts)
    return Bag(index, counts[index].astype(np.float32))


def bags(texts: Sequence[str]) -> list[Bag]:
    """The bag of every text; equal texts share one."""
    known = {text: bag(text) for text in dict.fromkeys(texts)}
    return [known[text] for text in texts]


def _cut(data: bytes) -> bytes:
    return data if len(data) <= _LONGEST else data[: _LONGEST // 2] + data[-_LONGEST // 2 :]


@dataclass(frozen=True)
class Projection:
    """From bags to dense features of unit length or less."""

    weights: Dense  # (DIMENSIONS,) inverse document frequency
    components: Dense  # (DIMENSIONS, k)

    def __call__(self, bags: Sequence[Bag]) -> Dense:
        """Dense features, shape (N, k); equal bags are projected once."""
        known: dict[int, Dense] = {}
        for one in bags:
            if id(one) not in known:
                values = self._values(one)
                # no product of BLAS, whose sums differ with the number of threads
                weighted = values[:, None] * self.components[one.places]
                known[id(one)] = weighted.sum(axis=0)
        if not known:
            return np.empty((0, self.components.shape[1]), np.float32)
        return np.stack([known[id(one)] for one in bags])

    def _values(self, one: Bag) -> Dense:
        values: Dense = (np.float32(1) + np.log(one.counts)) * self.weights[one.places]
        length = float(np.sqrt(values @ values))
        return values / np.float32(length or 1)


def fit_projection(bags: Sequence[Bag], k: int = 100, seed: int = 0) -> Projection:
    """Learn document frequencies and the k leading right singular vectors from these texts."""
    from scipy.sparse import csr_array
    from sklearn.utils.extmath import randomized_svd

    distinct = list({id(one): one for one in bags}.values())
    seen = np.bincount(
        np.concatenate([one.places for one in distinct]) if distinct else [], minlength=DIMENSIONS
    )
    weights = (np.log((1 + len(distinct)) / (1 + seen)) + 1).astype(np.float32)
    weigh = Projection(weights, np.empty((DIMENSIONS, 0), np.float32))._values
    ends = np.cumsum([0, *(len(one.places) for one in bags)])
    matrix = csr_array(
        (
            np.concatenate([weigh(one) for one in bags]),
            np.concatenate([one.places for one in bags]),
            ends,
        ),
        shape=(len(bags), DIMENSIONS),
    )
    k = max(1, min(k, len(distinct) - 1))
    _, _, rows = randomized_svd(matrix, k, random_state=seed)
    return Projection(weights, np.ascontiguousarray(rows.T, np.float32))
