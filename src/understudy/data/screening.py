"""Which synthetic pairs may enter the pool: none that repeats a held-out, human or accepted one.

Pairs are decided in call order, each against all before it, so the same pairs in the same order
give the same pool however they are cut into batches.

What repeats a held-out row is found by near-duplicates, containment, long runs and lineage.
Containment: ≥ .8 of a text's runs of 3 words occur in the other text; one inserted sentence or
exchanged word of 20 leaves .83 and more. Long runs: 13 words in a row count, as in GPT-3 (Brown et
al. 2020, appendix C), unless human train rows have them too, and together half of the held-out text
or 50 words (Lee et al. 2022).
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from understudy.data.duplicates import (
    CHUNK,
    PairBatch,
    PairIndex,
    PairRule,
    chunks,
    same,
    sketch_parts,
)
from understudy.data.near import RUN, Sketches
from understudy.data.words import Hashes, Words, encode, shingles
from understudy.records import Coverage, Message, Tool, dumps
from understudy.store.artifacts import canonical, fingerprint


class NewPair(NamedTuple):
    """A pair that somebody's model wrote, and what it was written after."""

    id: str
    instruction: str
    response: str
    seed_id: str | None = None
    group_id: str | None = None
    doing: "Doing | None" = None  # with tools, where it has any


class Doing(NamedTuple):
    """What a pair does with tools, as digests; near texts alone do not make two pairs alike."""

    asked: str = ""
    tools: str = ""
    calls: str = ""

    def differs(self, other: "Doing") -> bool:
        """Whether calls differ, and with reason: one request with the same tools has one answer."""
        return self.calls != other.calls and self[:2] != other[:2]


_NOTHING = Doing()


def doing(asked: str, answer: Message, tools: Sequence[Tool] | None) -> Doing:
    """Return what an answer to `asked` does with the tools on offer."""
    made = [canonical([call["name"], call["arguments"]]) for call in answer.get("tool_calls", ())]
    if not (tools or made):
        return _NOTHING
    return Doing(fingerprint(same(asked)), fingerprint(tools), fingerprint(sorted(made)))


@dataclass(frozen=True)
class Drop:
    """A row of the report: why a pair was refused, and because of which row."""

    id: str
    reason: str  # "held_out_…" or "duplicate_…"
    rule: str
    value: float | None
    against: str


@dataclass(frozen=True)
class LeakRule:
    """When a text repeats a held-out one. Shorter texts than `contained_words` occur by chance."""

    pairs: PairRule = field(default_factory=PairRule)
    contained: float = 0.8
    contained_words: int = 8
    run_words: int = 13
    long_words: int = 50


class Leak(NamedTuple):
    """What a text has of a held-out row."""

    of: str
    rule: str  # "containment" | "run"
    value: float  # share of the runs of 3; words


class HeldOut:
    """Validation, test and holdout rows as what nothing may repeat."""

    def __init__(self, human: Sequence[Coverage], rule: LeakRule | None = None) -> None:
        self._rule = rule or LeakRule()
        rows = [row for row in human if row.split != "train"]
        train = [row for row in human if row.split == "train"]
        self.lineage = {name: row.id for row in rows for name in (row.group_id, row.id)}
        self.near = PairIndex(self._rule.pairs)
        self.near.add((row.id, row.instruction, row.response) for row in rows)
        named = [(row.id, row.instruction) for row in rows]
        named += [(row.id, row.response) for row in rows]
        words = encode(text for _, text in named)
        least = np.full(len(named), self._rule.contained_words)
        least[len(rows) :] = max(self._rule.pairs.response_words, self._rule.contained_words)
        self._ids, self._lengths = [name for name, _ in named], words.lengths.tolist()
        own = encode(text for row in train for text in (row.instruction, row.response))
        self._take_runs(words, own, np.flatnonzero(words.lengths >= least).tolist())
        long = shingles(words, self._rule.run_words)
        owners = np.repeat(np.arange(len(named)), long.lengths).tolist()
        usual = np.isin(long.hashes, shingles(own, self._rule.run_words).hashes).tolist()
        self._long = {
            run: owner
            for run, owner, is_usual in zip(long.hashes.tolist(), owners, usual, strict=True)
            if not is_usual
        }
        self._has_long = _Filter(self._long)

    def _take_runs(self, words: Words, own: Words, texts: list[int]) -> None:
        """Of each text its runs; as anchors the rarest, so few that no containing text lacks all.

        A text with `contained` of n runs lacks (1 - contained) · n at most: it has one of 1 more.
        """
        runs = shingles(words, RUN)
        theirs = shingles(own, RUN).hashes
        usual = Counter(runs.hashes.tolist())
        usual.update(theirs[np.isin(theirs, runs.hashes)].tolist())
        self._runs = {text: frozenset(runs.of(text).tolist()) for text in texts}
        self._anchors: defaultdict[int, list[int]] = defaultdict(list)
        self._holders: defaultdict[int, list[int]] = defaultdict(list)
        for text, own_runs in self._runs.items():
            rarest = sorted(own_runs, key=lambda run: (usual[run], run))
            lacking = int((1 - self._rule.contained) * len(own_runs) + 1e-9)
            for run in rarest[: lacking + 1]:
                self._anchors[run].append(text)
            for run in own_runs:
                self._holders[run].append(text)
        self._has_anchor, self._has_run = _Filter(self._anchors), _Filter(self._holders)

    def leaks(self, sketches: dict[str, Sketches]) -> dict[int, Leak]:
        """Of each text of a batch that repeats a held-out one, the first leak found."""
        found: dict[int, Leak] = {}
        for part in ("instruction", "response"):
            for number, leak in self._leaks(sketches[part], part == "instruction"):
                found.setdefault(number, leak)
        return found

    def _leaks(self, sketches: Sketches, whole: bool) -> Iterator[tuple[int, Leak]]:
        words, runs = sketches.words, sketches.runs
        anchored: defaultdict[int, set[int]] = defaultdict(set)
        for number, run in self._has_anchor.hits(runs):
            anchored[number].update(self._anchors.get(run, ()))
        for number, texts in anchored.items():
            ours = set(runs.of(number).tolist())
            for text in sorted(texts):
                share = len(ours & self._runs[text]) / len(self._runs[text])
                if share >= self._rule.contained:
                    yield number, Leak(self._ids[text], "containment", share)
                    break
        if whole:
            yield from self._inside(words, runs)
        long = shingles(words, self._rule.run_words)
        shared = Counter(
            (number, self._long[run])
            for number, run in self._has_long.hits(long)
            if run in self._long
        )
        for (number, text), count in shared.items():
            length = count + self._rule.run_words - 1
            if length >= min(self._rule.long_words, self._lengths[text] / 2):
                yield number, Leak(self._ids[text], "run", float(length))

    def _inside(self, words: Words, runs: Words) -> Iterator[tuple[int, Leak]]:
        """Texts that a held-out text contains."""
        known: Counter[int] = Counter(number for number, _ in self._has_run.hits(runs))
        for number, count in known.items():
            is_long = words.lengths[number] >= self._rule.contained_words
            if not is_long or count < self._rule.contained * runs.lengths[number]:
                continue
            ours = set(runs.of(number).tolist())
            held = Counter(text for run in ours for text in self._holders.get(run, ()))
            if held:
                text, most = min(held.items(), key=lambda item: (-item[1], item[0]))
                if most >= self._rule.contained * len(ours):
                    yield number, Leak(self._ids[text], "containment", most / len(ours))


class _Filter:
    """Which of many hashes may be among a few: one bit of a table decides, seldom wrongly."""

    def __init__(self, hashes: Collection[int]) -> None:
        self._mask = np.uint64((1 << max(16, (16 * len(hashes)).bit_length())) - 1)
        self._table: NDArray[np.bool_] = np.zeros(int(self._mask) + 1, bool)
        known: Hashes = np.fromiter(hashes, np.uint64, len(hashes))
        self._table[known & self._mask] = True

    def hits(self, many: Words) -> Iterator[tuple[int, int]]:
        """(text, hash) of what passes."""
        at = np.flatnonzero(self._table[many.hashes & self._mask])
        texts = np.searchsorted(many.starts, at, "right") - 1
        return zip(texts.tolist(), many.hashes[at].tolist(), strict=True)


class Screen:
    """What is held out and what is known, growing with every accepted pair.

    Memory: 2.7 KiB per accepted pair of 110 words, all told (646 MiB for 244,000); refused ones
    leave nothing.
    """

    def __init__(
        self,
        human: Sequence[Coverage],
        pairs: PairRule | None = None,
        leaks: LeakRule | None = None,
    ) -> None:
        self._held_out = HeldOut(human, leaks)
        self._known = PairIndex(pairs)
        self._doing: dict[str, Doing] = {}  # of those with tools
        self.add(row for row in human if row.split == "train")

    def add(self, rows: Iterable[Coverage]) -> None:
        """Rows that are in the training set already; they are not judged."""
        rows = list(rows)
        self._known.add((row.id, row.instruction, row.response) for row in rows)
        for row in rows:
            self._note(row.id, doing(row.instruction, row.messages[-1], row.tools))

    def _note(self, name: str, what: Doing | None) -> None:
        if what is not None and what is not _NOTHING:
            self._doing[name] = what

    def sift(self, pairs: Iterable[NewPair]) -> Iterator[tuple[NewPair, Drop | None]]:
        """Each pair with its objection; one without is known from then on.

        Lazy: a pair that the caller does not come to is not added.
        """
        for chunk in chunks(pairs, CHUNK):
            sketches = sketch_parts([(pair.instruction, pair.response) for pair in chunk])
            held_out = self._held_out.near.batch(sketches)
            leaks = self._held_out.leaks(sketches)
            known = self._known.batch(sketches)
            for number, pair in enumerate(chunk):
                drop = _held_out(pair, number, self._held_out, held_out, leaks)
                drop = drop or _near(pair, known, number, "duplicate", self._doing)
                if drop is None:
                    known.add(number, pair.id)
                    self._note(pair.id, pair.doing)
                yield pair, drop


def _held_out(
    pair: NewPair, number: int, held_out: HeldOut, near: PairBatch, leaks: Mapping[int, Leak]
) -> Drop | None:
    """Of a pair of a batch, the held-out row that it repeats or comes from."""
    for name in (pair.seed_id, pair.group_id):
        if name in held_out.lineage:
            return Drop(pair.id, "held_out_lineage", "lineage", None, held_out.lineage[name])
    drop = _near(pair, near, number, "held_out")
    if drop is None and (leak := leaks.get(number)):
        value = round(leak.value, 4)
        drop = Drop(pair.id, f"held_out_{leak.rule}", leak.rule, value, leak.of)
    return drop


def _near(
    pair: NewPair,
    batch: PairBatch,
    number: int,
    kind: str,
    others: Mapping[str, Doing] | None = None,
) -> Drop | None:
    """What a pair is near to; `others` = what those with tools do, for that has to be the same."""
    mine = pair.doing or _NOTHING

    def differs(of: str) -> bool:
        return others is not None and mine.differs(others.get(of, _NOTHING))

    found = batch.duplicate(number, differs)
    if found is None:
        return None
    near = found.near
    return Drop(pair.id, f"{kind}_{found.part}", near.rule, round(near.value, 4), found.of)


def audit(rows: Iterable[Coverage], human: Sequence[Coverage]) -> list[Drop]:
    """Which rows of a training set repeat a held-out row: the contamination of a finished set."""
    screen = HeldOut(human)
    found = []
    for chunk in chunks(rows, CHUNK):
        sketches = sketch_parts([(row.instruction, row.response) for row in chunk])
        near, leaks = screen.near.batch(sketches), screen.leaks(sketches)
        for number, row in enumerate(chunk):
            pair = NewPair(row.id, row.instruction, row.response, group_id=row.group_id)
            if drop := _held_out(pair, number, screen, near, leaks):
                found.append(drop)
    return found


def contamination(counts: Counter[str] | dict[str, int]) -> int:
    """How many pairs were refused because of a held-out row."""
    return sum(count for reason, count in counts.items() if reason.startswith("held_out_"))


def write_report(path: Path, drops: Iterable[Drop]) -> Counter[str]:
    """Write one line per refused pair; returns how many of each reason."""
    counts: Counter[str] = Counter()
    with path.open("w", encoding="utf-8") as file:
        for drop in drops:
            counts[drop.reason] += 1
            file.write(dumps(asdict(drop)) + "\n")
    return counts
