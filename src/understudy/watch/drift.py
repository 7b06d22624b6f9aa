"""What has changed in prompts and answers since the migration: hints, never an alarm.

Each line compares the run's own rows with the sampled traffic: lengths by the Kolmogorov-Smirnov
test, languages and topics by chi squared, and the share of prompts that are like none the run
knew. Looks repeat, so a line is a change only at p < LEVEL, and only where it is large enough to
matter.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from understudy.data import words

LEVEL = 0.001
FEWEST = 20  # texts of each side with which anything is said
MOST = 2000  # texts of each side
_SMALL = 0.1  # a distance between two laws that does not matter, 0 to 1
_WIDTH, _TOPICS, _STEPS = 1024, 12, 10
_UNLIKE = 0.05  # of the known prompts, which are as unlike all others
Floats = NDArray[np.float64]

# The commonest words of a language that the others here do not have.
_COMMON = {
    "English": "the and of is that it for with this what you",
    "German": "der und das ist nicht ein ich mit die für auf",
    "French": "le les est une des pour dans que vous avec je",
    "Spanish": "el los una por para con qué como más es del",
    "Italian": "il che per una sono della con questo come più gli",
    "Portuguese": "o não uma para com os como mais você em ao",
    "Dutch": "het een van niet dat zijn voor met ik aan wat",
}
_SCRIPTS = (
    ("Chinese or Japanese", "\u3040-\u30ff\u3400-\u9fff"), ("Korean", "\uac00-\ud7af"),
    ("Cyrillic", "\u0400-\u04ff"), ("Arabic", "\u0600-\u06ff"), ("Hebrew", "\u0590-\u05ff"),
    ("Indic", "\u0900-\u0dff"), ("Thai", "\u0e00-\u0e7f"), ("Greek", "\u0370-\u03ff"),
)  # fmt: skip
_OF_SCRIPT = [(name, re.compile(f"[{letters}]")) for name, letters in _SCRIPTS]
_LETTER = re.compile(r"[^\W\d_]")


class Drift(NamedTuple):
    """One comparison; `distance` is between 0 and 1."""

    what: str
    before: str
    now: str
    distance: float
    p: float

    @property
    def is_change(self) -> bool:
        """Whether it is worth a look."""
        return self.p < LEVEL and self.distance > _SMALL

    def __str__(self) -> str:
        return f"{self.what}: {self.before} before, {self.now} now (p = {self.p:.2g})"


def drifts(
    prompts: tuple[Sequence[str], Sequence[str]], answers: tuple[Sequence[str], Sequence[str]]
) -> list[Drift]:
    """Compare prompts and answers, the known ones first; nothing where there are too few."""
    found = []
    for what, (before, now) in (("prompts", prompts), ("answers", answers)):
        before, now = before[:MOST], now[-MOST:]
        if min(len(before), len(now)) < FEWEST:
            continue
        lengths = [words.encode(texts).lengths.astype(float) for texts in (before, now)]
        found.append(_lengths(f"words of {what}", *lengths))
        found.append(_counts(f"languages of {what}", *(map(language, t) for t in (before, now))))
        if what == "prompts":
            found += _topics(before, now)
    return found


def language(text: str) -> str:
    """A guess: by script, of Latin letters by the commonest words; "other" where nothing fits."""
    letters = len(_LETTER.findall(text[:2000]))
    for name, pattern in _OF_SCRIPT:
        if letters and len(pattern.findall(text[:2000])) > letters / 3:
            return name
    said = Counter(re.findall(r"\w+", text[:2000].lower()))
    hits = {name: sum(said[word] for word in common.split()) for name, common in _COMMON.items()}
    best = max(hits, key=lambda name: hits[name])
    return best if hits[best] else "other"


def _lengths(what: str, before: Floats, now: Floats) -> Drift:
    from scipy.special import kolmogorov

    every = np.sort(np.concatenate([before, now]))
    shares = [np.searchsorted(np.sort(one), every, "right") / len(one) for one in (before, now)]
    distance = float(np.abs(shares[0] - shares[1]).max())
    size = len(before) * len(now) / (len(before) + len(now))
    first, second = (f"median {np.median(one):.0f}" for one in (before, now))
    return Drift(what, first, second, distance, float(kolmogorov(np.sqrt(size) * distance)))


def _counts(what: str, before: Iterable[str], now: Iterable[str]) -> Drift:
    """Chi squared of two samples of names; names that are rare on both sides are one."""
    from scipy.special import chdtrc

    sides = [Counter(before), Counter(now)]
    totals = [sum(side.values()) for side in sides]
    both: Counter[str] = sides[0] + sides[1]
    names = [name for name, count in both.most_common() if count * min(totals) >= 5 * sum(totals)]
    table = np.array([[side[name] for name in names] for side in sides], dtype=float)
    rest = np.array([[total] for total in totals]) - table.sum(1, keepdims=True)
    table = np.concatenate([table, rest], axis=1) if rest.sum() else table
    expected = table.sum(1, keepdims=True) * table.sum(0) / table.sum()
    statistic = float(((table - expected) ** 2 / expected).sum())
    shares = table / table.sum(1, keepdims=True)
    distance = float(np.abs(shares[0] - shares[1]).sum() / 2)
    first, second = (
        ", ".join(f"{name} {side[name] / total:.0%}" for name, _ in side.most_common(2))
        for side, total in zip(sides, totals, strict=True)
    )
    p = float(chdtrc(table.shape[1] - 1, statistic)) if table.shape[1] > 1 else 1.0
    return Drift(what, first, second, distance, p)


def _topics(before: Sequence[str], now: Sequence[str]) -> list[Drift]:
    """Clusters of the known prompts' words, and how many new ones are like no known prompt."""
    from scipy.special import ndtr

    known, new = (_hashed(texts) for texts in (before, now))
    rarity = np.log(len(known) / (1 + (known > 0).sum(0)))
    known, new = (_unit(one * np.maximum(rarity, 0)) for one in (known, new))
    centres = known[np.random.default_rng(0).permutation(len(known))[:_TOPICS]]
    for _ in range(_STEPS):  # spherical k-means
        nearest = (known @ centres.T).argmax(1)
        centres = _unit(np.stack([
            known[nearest == k].sum(0) if (nearest == k).any() else centres[k]
            for k in range(len(centres))
        ]))  # fmt: skip
    names = [[f"topic {k}" for k in (one @ centres.T).argmax(1)] for one in (known, new)]
    found = [_counts("topics of prompts", *names)]
    alike = known @ known.T
    np.fill_diagonal(alike, -1.0)
    limit = float(np.quantile(alike.max(1), _UNLIKE))
    shares = [float((one < limit).mean()) for one in (alike.max(1), (new @ known.T).max(1))]
    pooled = (shares[0] * len(known) + shares[1] * len(new)) / (len(known) + len(new))
    error = np.sqrt(max(pooled * (1 - pooled), 1e-9) * (1 / len(known) + 1 / len(new)))
    p = float(ndtr(-(shares[1] - shares[0]) / error))
    distance = max(shares[1] - shares[0], 0.0)
    first, second = (f"{share:.0%}" for share in shares)
    return [*found, Drift("prompts that are like no known one", first, second, distance, p)]


def _hashed(texts: Sequence[str]) -> Floats:
    """(texts, _WIDTH): root counts of hashed words."""
    found = np.zeros((len(texts), _WIDTH))
    spelled = words.encode(texts)
    for number in range(len(texts)):
        np.add.at(found[number], (spelled.of(number) % np.uint64(_WIDTH)).astype(int), 1.0)
    return np.sqrt(found)


def _unit(vectors: Floats) -> Floats:
    made: Floats = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return made
