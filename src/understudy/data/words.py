"""Texts as sequences of hashed words, many at a time.

A word is a run of letters and digits, case-folded, as ROUGE's tokenizer has it; a Chinese or
Japanese character is a word of its own. Hashes depend on the word alone: the same in every
process and in every order of arrival.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]
_BASE = 0x9E3779B97F4A7C15  # odd, so it has an inverse modulo 2^64
_BLOCK = 1 << 20  # bytes
_LETTER = re.compile(r"[^\W_]")
_CJK = re.compile(r"([\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff])")


def _alphabet() -> NDArray[np.uint8]:
    """Byte → byte within a word, 0 between words; bytes of UTF-8 sequences are letters."""
    table = np.arange(256, dtype=np.uint8)
    for byte in range(128):
        table[byte] = ord(chr(byte).lower()) if chr(byte).isalnum() else 0
    return table


_WORDS = _alphabet()
_WHITESPACE = np.arange(256, dtype=np.uint8)
_WHITESPACE[list(b" \t\n\r\v\f")] = 0


class Words(NamedTuple):
    """Text i is `hashes[starts[i]:starts[i + 1]]`."""

    hashes: Hashes
    starts: NDArray[np.int64]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Words per text."""
        return np.diff(self.starts)

    def of(self, text: int) -> Hashes:
        """The words of one text."""
        return self.hashes[self.starts[text] : self.starts[text + 1]]


def encode(texts: Iterable[str], whitespace: bool = False) -> Words:
    """The words of each text; with `whitespace` they are cut at spaces, as the paper has it."""
    spelled = texts if whitespace else map(_plain, texts)
    table = _WHITESPACE if whitespace else _WORDS
    blocks = [_cut(block, table) for block in _blocks(spelled)]
    firsts = np.cumsum([0, *(len(block.hashes) for block in blocks)])
    starts = [block.starts[:-1] + first for block, first in zip(blocks, firsts, strict=False)]
    return Words(
        np.concatenate([np.empty(0, np.uint64), *(block.hashes for block in blocks)]),
        np.concatenate([*starts, firsts[-1:]]),
    )


def _blocks(texts: Iterable[str]) -> Iterator[list[bytes]]:
    """The texts' bytes in lists of half a `_BLOCK`: memory does not grow with their number."""
    block: list[bytes] = []
    size = 0
    for text in texts:
        block.append(text.encode(errors="surrogatepass"))
        size += len(block[-1])
        if size > _BLOCK // 2:
            yield block
            block, size = [], 0
    if block:
        yield block


def _cut(parts: list[bytes], table: NDArray[np.uint8]) -> Words:
    letters = table[np.frombuffer(b"\n".join([b"", *parts, b""]), dtype=np.uint8)]
    is_letter = letters != 0
    firsts = np.flatnonzero(is_letter[1:] & ~is_letter[:-1]) + 1
    starts = np.searchsorted(firsts, np.cumsum([1, *(len(part) + 1 for part in parts)]))
    if not len(firsts):
        return Words(np.empty(0, np.uint64), starts)
    powers, inverses = _powers(max(_BLOCK, 1 << len(letters).bit_length()))
    # Rabin and Karp: sum of byte × base^position, shifted back to the word's own start.
    sums = np.add.reduceat(letters * powers[: len(letters)], firsts)
    return Words(mixed(sums * inverses[firsts]), starts)


def _plain(text: str) -> str:
    """ASCII as it is; of other texts one spelling, words apart; signs alone are one word."""
    if not _LETTER.search(text):
        return "".join(text.split()).encode(errors="surrogatepass").hex()
    if text.isascii():
        return text
    spelled = unicodedata.normalize("NFKC", text).casefold()
    return _CJK.sub(r" \1 ", re.sub(r"[\W_]+", " ", spelled))


@lru_cache(maxsize=2)
def _powers(count: int) -> tuple[Hashes, Hashes]:
    """base^i and base^-i for i below `count`, modulo 2^64."""
    steps = np.full((2, count), _BASE, np.uint64)
    steps[1] = pow(_BASE, -1, 1 << 64)
    steps[:, 0] = 1
    first, second = np.cumprod(steps, axis=1, dtype=np.uint64)
    return first, second


def mixed(values: Hashes) -> Hashes:
    """A bijection in which every bit depends on every bit (Steele et al. 2014, SplitMix64)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def shingles(words: Words, size: int) -> Words:
    """Every run of `size` words as one hash; a shorter text has none."""
    counts = np.maximum(words.lengths - size + 1, 0)
    starts = np.concatenate(([0], np.cumsum(counts)))
    runs = max(len(words.hashes) - size + 1, 0)
    if not runs:
        return Words(np.empty(0, np.uint64), starts)
    hashes = words.hashes[:runs].copy()
    for offset in range(1, size):
        hashes *= np.uint64(_BASE)
        hashes += words.hashes[offset : offset + runs]
    left = np.repeat(words.starts[1:], words.lengths) - np.arange(len(words.hashes))
    return Words(mixed(hashes[left[:runs] >= size]), starts)
