"""Playground pairs with noise, and known leaks and near-duplicates among them."""

import random
import string
from collections.abc import Callable
from typing import NamedTuple

from understudy import playground
from understudy.data.screening import NewPair
from understudy.records import Coverage, SplitName

SENTENCE = "Please keep the same order and do not leave anything out of it."
LETTERS = string.ascii_lowercase


Edit = Callable[[str, random.Random], str]


class Text(NamedTuple):
    instruction: str
    response: str


def vocabulary(rng: random.Random, size: int = 20_000) -> list[str]:
    return ["".join(rng.choices(LETTERS, k=rng.randint(4, 9))) for _ in range(size)]


def texts(
    count: int, seed: int, instruction_noise: int = 30, response_noise: int = 32
) -> list[Text]:
    """Pairs of two tasks, with as many invented words on average as given."""
    rng = random.Random(seed)
    words = vocabulary(random.Random(0))
    tasks = ("summarization", "closed_qa")
    pairs = [
        pair
        for number, task in enumerate(tasks)
        for pair in playground.generate(task, seed, 0, (count + 1 - number) // 2)
    ]
    rng.shuffle(pairs)
    return [
        Text(
            with_noise(pair.instruction, 30, words, rng),
            with_noise(pair.response, 32, words, rng),
        )
        for pair in pairs
    ]


def with_noise(text: str, count: int, words: list[str], rng: random.Random) -> str:
    """Phrases of invented words put between the sentences of a text."""
    parts = text.split(". ")
    for _ in range(count // 5):
        phrase = " ".join(rng.choices(words, k=rng.randint(3, 7)))
        parts.insert(rng.randint(0, len(parts)), phrase.capitalize())
    return ". ".join(parts)


def human(count: int, seed: int, **shares: int) -> list[Coverage]:
    """Train rows, but the first ones of other splits as `shares` has it."""
    rows = []
    names = [name for name, number in shares.items() for _ in range(number)]
    for number, (instruction, response) in enumerate(texts(count, seed)):
        split: SplitName = names[number] if number < len(names) else "train"  # type: ignore[assignment]
        messages = [
            {"role": "user", "content": instruction},
            {"role": "assistant", "content": response},
        ]
        name = f"h{number}"
        rows.append(Coverage(name, name, messages, "t", None, "test", split))
    return rows


# --- edits: what a leak or a near-duplicate looks like -------------------------------------------


def exact(text: str, rng: random.Random) -> str:
    return text


def recased(text: str, rng: random.Random) -> str:
    """Case and punctuation."""
    cased = "".join(c.upper() if rng.random() < 0.3 else c for c in text)
    return cased.replace(". ", " -- ").replace("?", "?!")


def longer(text: str, rng: random.Random) -> str:
    """One sentence added."""
    parts = text.split(". ")
    parts.insert(rng.randint(0, len(parts)), SENTENCE[:-1])
    return ". ".join(parts)


def swapped(text: str, rng: random.Random) -> str:
    """Two pairs of words change places."""
    words = text.split(" ")
    for _ in range(2):
        first, second = rng.sample(range(len(words)), 2)
        words[first], words[second] = words[second], words[first]
    return " ".join(words)


def contained(text: str, rng: random.Random) -> str:
    """In the middle of a text three times as long."""
    words = text.split(" ")
    around = ["".join(rng.choices(LETTERS, k=6)) for _ in range(2 * len(words))]
    return " ".join([*around[: len(words)], text, *around[len(words) :]])


def reworded(text: str, rng: random.Random) -> str:
    """Every twelfth word is another."""
    words = text.split(" ")
    for position in rng.sample(range(len(words)), len(words) // 12):
        words[position] = "".join(rng.choices(LETTERS, k=7))
    return " ".join(words)


LEAKS = (exact, recased, longer, swapped, contained)
COPIES = (exact, recased, longer, swapped, reworded)


class Planted(NamedTuple):
    """Pairs in call order; a leak's held-out row, and a copy's cluster, by pair id."""

    pairs: list[NewPair]
    leak_of: dict[str, str]
    cluster_of: dict[str, int]


def plant(count: int, held_out: list[Coverage], seed: int) -> Planted:
    """1 % leaks of held-out rows and 5 % members of clusters of 2 to 5, in a random order."""
    rng = random.Random(seed)
    clean = texts(count - count // 100 - count * 5 // 100, seed + 1)
    named: list[tuple[Text, str, int]] = []  # text, held-out row, cluster
    for number in range(count // 100):
        row = held_out[number % len(held_out)]
        edit = LEAKS[number % len(LEAKS)]
        named.append((Text(edit(row.instruction, rng), f"Answer {number}."), row.id, -1))
    sources = texts(count * 5 // 100, seed + 2)
    cluster = 0
    while (left := count - len(clean) - len(named)) > 0:
        size = left if left <= 5 else min(rng.randint(2, 5), left - 2)
        for member in range(size):
            text = sources[cluster]
            edit = COPIES[rng.randrange(len(COPIES))] if member else exact
            named.append((Text(edit(text.instruction, rng), text.response), "", cluster))
        cluster += 1
    named += [(text, "", -1) for text in clean]
    rng.shuffle(named)
    pairs = [NewPair(f"p{n}", *text) for n, (text, _, _) in enumerate(named)]
    return Planted(
        pairs,
        {f"p{n}": row for n, (_, row, _) in enumerate(named) if row},
        {f"p{n}": number for n, (_, _, number) in enumerate(named) if number >= 0},
    )
