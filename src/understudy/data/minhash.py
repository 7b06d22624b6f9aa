"""Keys under which near-duplicates meet: equal bands of MinHash signatures (Broder 1997; LSH).

Two sketches per text. Its set of words in 16 bands of 8 finds a pair of Jaccard .9 with
probability 1 - (1 - .9^8)^16 = .9999. Runs of 3 words in 16 bands of 1 find what was edited, cut
or added to: a quarter of the words exchanged leaves .27 of the runs, and 1 - .73^16 = .99.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from rensa import RMinHash

from understudy.data.words import Hashes, Words, mixed, shingles

BANDS, ROWS = 16, 8
RUN = 3  # words
WHOLE = BANDS + 1  # keys of the first sketch: its bands, and all of it
_SEED = 20261121
ROW_BITS = 24  # of a key, left for the number of a text
_ODD = mixed(np.arange(1, BANDS * ROWS + 1, dtype=np.uint64)) | np.uint64(1)


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
