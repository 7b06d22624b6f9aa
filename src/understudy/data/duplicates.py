"""Which texts, and which pairs (instruction, response), are duplicates of one another.

Two are when their instructions are near-duplicates, or their responses are and have at least
`response_words`: short answers are labels, and by them alone one row per label would be left.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple, TypeVar

from understudy.config.source import Dedup
from understudy.data.near import Near, NearBatch, NearIndex, Rule, Sketches, rouge_l, sketch
from understudy.data.words import encode

CHUNK = 4096  # texts at a time: a few MiB each
T = TypeVar("T")


@dataclass(frozen=True)
class PairRule:
    """When two pairs are duplicates; `response_words` is the least of a response that counts."""

    near: Rule = field(default_factory=Rule)
    response_words: float = 30
    instructions: bool = True


NONE = PairRule(instructions=False, response_words=math.inf)


def rule_of(dedup: Dedup) -> PairRule:
    """The rule of a pool; `paper` = what LlamaDuo compares, by our measure, one of each kept."""
    if dedup.kind == "paper":
        near = Rule(dedup.jaccard, rouge_words=math.inf)
        return PairRule(near, response_words=1, instructions=False)
    return PairRule(Rule(dedup.jaccard, dedup.rouge_l, dedup.words), dedup.words)


class Duplicate(NamedTuple):
    """An older pair, and the part of it that is near."""

    of: str
    part: str  # "instruction" | "response"
    near: Near


class PairIndex:
    """The pairs added so far, in call order."""

    def __init__(self, rule: PairRule | None = None) -> None:
        self._rule = rule or PairRule()
        self._parts = {part: NearIndex(self._rule.near) for part in ("instruction", "response")}
        self._ids: dict[str, list[str]] = {part: [] for part in self._parts}

    def batch(self, sketches: dict[str, Sketches]) -> "PairBatch":
        """Pairs to look up and to add; use one batch at a time."""
        batches = {part: index.batch(sketches[part]) for part, index in self._parts.items()}
        long = sketches["response"].words.lengths >= self._rule.response_words
        asked = ("instruction",) if self._rule.instructions else ()
        used = [(*asked, "response") if is_long else asked for is_long in long.tolist()]
        return PairBatch(batches, self._ids, used)

    def add(self, pairs: Iterable[tuple[str, str, str]]) -> None:
        """Put (id, instruction, response) into the index, duplicates or not."""
        for chunk in chunks(pairs, CHUNK):
            batch = self.batch(sketch_parts([pair[1:] for pair in chunk]))
            for number, (name, *_) in enumerate(chunk):
                batch.add(number, name)


class PairBatch:
    """Sketched pairs before an index."""

    def __init__(
        self, batches: dict[str, NearBatch], ids: dict[str, list[str]], used: list[tuple[str, ...]]
    ) -> None:
        self._batches, self._ids, self._used = batches, ids, used

    def duplicate(self, number: int, differs: Callable[[str], bool]) -> Duplicate | None:
        """The oldest pair that this one is a duplicate of; one that `differs` by its id is none."""
        for part in self._used[number]:
            for near in self._batches[part].near(number):
                of = self._ids[part][near.row]
                if not differs(of):
                    return Duplicate(of, part, near)
        return None

    def add(self, number: int, name: str) -> None:
        """Put a pair of the batch into the index."""
        for part in self._used[number]:
            self._batches[part].add(number)
            self._ids[part].append(name)


def sketch_parts(pairs: Sequence[Sequence[str]]) -> dict[str, Sketches]:
    """Sketches of instructions and of responses."""
    instructions, responses = zip(*pairs, strict=True)
    return {"instruction": sketch(encode(instructions)), "response": sketch(encode(responses))}


def near_pairs(
    texts: Sequence[str], rule: Rule | None = None, whitespace: bool = False
) -> list[tuple[int, Near]]:
    """Every text with every older text that it is near; Near.row is the older one's position."""
    rule = rule or Rule()
    index = NearIndex(rule)
    found = []
    for start in range(0, len(texts), CHUNK):
        words = encode(texts[start : start + CHUNK], whitespace)
        batch = index.batch(sketch(words, edited=not math.isinf(rule.rouge_words)))
        for number in range(len(words.starts) - 1):
            found += [(start + number, near) for near in batch.near(number)]
            batch.add(number)
    return found


def paper_pairs(
    responses: Sequence[str], jaccard: float = 0.9, least: float = 0.7
) -> list[tuple[int, Near]]:
    """Near pairs as LlamaDuo's dedup.py means them: Jaccard of words cut at spaces, then ROUGE-L.

    Its candidates come from LSH at .9, which finds 31 % of pairs at Jaccard .9 and asks no further;
    ours have Jaccard ≥ .9. Its ROUGE-L > .7 stems words, ours does not.
    """
    alike = near_pairs(responses, Rule(jaccard, rouge_words=math.inf), whitespace=True)
    involved = sorted({number for new, near in alike for number in (new, near.row)})
    place = {number: position for position, number in enumerate(involved)}
    words = encode([responses[number] for number in involved])
    found = []
    for new, near in alike:
        value = rouge_l(words.of(place[new]).tolist(), words.of(place[near.row]).tolist())
        if value > least:
            found.append((new, Near(near.row, "rouge_l", value)))
    return found


def paper_drops(responses: Sequence[str], dedup: Dedup) -> dict[int, Near]:
    """What LlamaDuo drops of a finished set, and a text each is near to: no copy is left."""
    found: dict[int, Near] = {}
    for new, near in paper_pairs(responses, dedup.jaccard, dedup.rouge_l):
        found.setdefault(new, near)
        found.setdefault(near.row, near._replace(row=new))
    return found


def chunks(items: Iterable[T], size: int) -> Iterable[list[T]]:
    """Lists of `size` items, lazily."""
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk


def same(instruction: str) -> str:
    """The form in which two instructions are exact duplicates: case and spacing do not count."""
    return " ".join(instruction.casefold().split())


def clusters(texts: Sequence[str], rule: Rule | None = None) -> list[int]:
    """The index of the first text of each text's cluster; chains of pairs are one cluster."""
    first: dict[str, int] = {}
    parents = [first.setdefault(same(text), number) for number, text in enumerate(texts)]
    unique = list(first.values())

    def root(index: int) -> int:
        while parents[index] != index:
            parents[index] = parents[parents[index]]
            index = parents[index]
        return index

    for number, near in near_pairs([texts[number] for number in unique], rule):
        low, high = sorted((root(unique[number]), root(unique[near.row])))
        parents[high] = low
    return [root(number) for number in range(len(texts))]
