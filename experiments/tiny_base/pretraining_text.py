"""Neutral text for pre-training the tiny model: copying, lookup, list recall and code idioms.

It speaks the playground's vocabulary but contains none of its instructions, questions or notes;
`documents` drops any text in which a fixed phrase of theirs turns up by chance.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator

from understudy.playground import classification, closed_qa, coding, summarization
from understudy.playground.coding import BEHAVIOURS
from understudy.playground.templates import SLOT, Template, draw, templates
from understudy.playground.words import CUES, LISTS, PARAMETERS, VOCABULARY


def _phrases(template: Template) -> list[str]:
    """The fixed pieces of at least three words: text nobody writes by accident."""
    pieces = (piece.strip(" .:,\n") for piece in re.split(SLOT.pattern, template.text))
    return [piece for piece in pieces if len(piece.split()) >= 3]


_OF_THE_TASKS = (
    summarization.INSTRUCTIONS,
    classification.INSTRUCTIONS,
    classification.CONCERNS,
    coding.INSTRUCTIONS,
    closed_qa.QUESTIONS,
    closed_qa.INSTRUCTIONS,
    closed_qa.FACTS,
    classification.ASIDES,
    summarization.ASIDES,
    summarization.OFFERS,
    summarization.CHOICES,
    summarization.WHERE,
    summarization.WHEN,
    *BEHAVIOURS.values(),
)
PHRASES = tuple(
    dict.fromkeys(p for group in _OF_THE_TASKS for template in group for p in _phrases(template))
)

# As in the tasks, no line starts with a slot: there a word has other tokens than after a space.
_OWNED = templates(
    "Then {name} bought {n} {colour} {objects} near {place}.",
    "So {n} {colour} {objects} came to {place} for {name}.",
    "Near {place}, {name} counted {n} {colour} {objects}.",
    "For {name} they sent {n} {colour} {objects} to {place}.",
    "- {name}, {place}: {n} {colour} {objects}.",
    "Now {place} got {n} {colour} {objects} from {name}.",
    "And {name} saw that {place} had {n} {colour} {objects}.",
)
_TOLD = templates(
    "So {name} has {n} {colour} {objects} in {place}.",
    "- {n} {colour} {objects}, {name}, {place}.",
    "In {place} {name} has {n} {colour} {objects}.",
)
_WORKED = (
    templates("by {name}", "name: {name}", "Here {name} said yes.", "so {name} went."),
    templates("to {verb} {thing}", "a {thing} to {verb}", "Please {verb} this {thing} well."),
    templates("near {place}", "place: {place}", "So {place} was it.", "towards {place}."),
    templates("one {day} morning", "day: {day}", "Their {day} was free.", "until {day}."),
)
_DONE = templates(
    "So {name} will {verb} the {thing} in {place} on {day}.",
    "On {day} {name} will {verb} the {thing} in {place}.",
    "- {name}, {verb}, {thing}, {place}, {day}.",
)
# Function words, so that the tokenizer and the embeddings know them; their order says nothing.
_COMMON = tuple(
    """Read the facts and answer question. Question: Answer from text above: Here is a
    passage: Using only this passage, tell me: Find in these lines: Which department should
    get message? Classify following message. What topic of Choose one label for text: Write
    Python function named that takes returns Define Python. Its input It must return I need
    code: gets gives back Given Call Summarize note line. short summary above. Give me main
    point message: Who does what, where when? Sum up sentence: have, where? things belong to
    lives with what? can be found owner Where are Our keeps In looks after There owned by am
    writing about Could you look at before gone? problem also First then what now? Nobody told
    us needs We saw next was who asked write. live have Please reply The fine. Never mind
    Greetings Sadly cannot come. nice. road closed. Yesterday rainy. Last quiet. charge. do it
    They gave job plan Somebody has time will happen address All Work begins on date agreed
    plus sum minus less more than times product added larger smaller above those below total
    all each""".split()  # noqa: SIM905
)
_KINDS = ("name", "place", "colour", "objects", "n", "verb", "thing", "day", "cue", "function")
_EXPRESSIONS = (
    "{left} + {right}",
    "{left} - {right} - {n}",
    "{left} + {right} + {n}",
    "{left} * {right} - {n}",
    "{left} * {n}",
    "max({left}, {right}) - {n}",
    "min({left}, {right}) + {n}",
    "[v for v in {list}]",
    "[v for v in {list} if v == {n}]",
    "[v for v in {list} if v > {n}]",
    "[v for v in {list} if v < {n}]",
    "sum(v for v in {list} if v < {n})",
    "[v - {n} for v in {list}]",
    "[v + {n} for v in {list}]",
    "[v * {n} for v in {list}]",
    "len({list}) + {n}",
    "sorted({list})",
)


def documents(seed: int, start: int = 0) -> Iterator[str]:
    """Yield documents start, start + 1, … for ever; each depends only on (seed, index)."""
    index = start
    while True:
        rng = random.Random(f"pretraining/{seed}/{index}")
        text = rng.choices(_WRITERS, _WEIGHTS)[0](rng)
        if not any(phrase in text for phrase in PHRASES):
            yield text
        index += 1


def chat(*turns: str) -> str:
    """Frame turns, user first, in ChatML."""
    roles = ("user", "assistant")
    return "".join(
        f"<|im_start|>{roles[i % 2]}\n{turn}<|im_end|>\n" for i, turn in enumerate(turns)
    )


def _words(rng: random.Random, count: int) -> list[str]:
    """Draw words of mixed kinds, a few of them plain function words."""
    return [
        rng.choice(_COMMON) if rng.random() < 0.3 else rng.choice(VOCABULARY[rng.choice(_KINDS)])
        for _ in range(count)
    ]


def _echo(rng: random.Random) -> str:
    """A list of words, given back whole or in part."""
    joint = rng.choice((" ", " ", ", ", " / "))
    words = _words(rng, rng.randint(3, 14))
    how = rng.choice(("all", "all", "all", "all", "last", "first"))
    half = len(words) // 2
    said = {"all": words, "last": words[half:], "first": words[:half]}[how]
    return chat(f"{how}: {joint.join(words)}", f"- {joint.join(said)}")


def _repeat(rng: random.Random) -> str:
    """A phrase that comes again and again between other words: plain induction."""
    phrase = " ".join(_words(rng, rng.randint(4, 9)))
    return chat(*(" ".join(("-", *_words(rng, rng.randint(0, 2)), phrase)) for _ in range(4)))


def _after(rng: random.Random) -> str:
    """Which word stood after this one?"""
    words = list(dict.fromkeys(_words(rng, rng.randint(5, 12))))
    asked = rng.choices(range(len(words) - 1), k=3)
    turns = [turn for i in asked for turn in (f"- {words[i]}", f"- {words[i + 1]}")]
    return chat(f"- {' '.join(words)} |" + turns[0], *turns[1:])


def _table(rng: random.Random) -> str:
    """Rows of a table; one cell is named and its whole row comes back."""
    kinds = rng.sample(_KINDS, rng.randint(2, 5))
    columns = [draw(rng, kind, 4) for kind in kinds]
    rows = list(zip(*columns, strict=True))[: rng.randint(2, 4)]
    mark = rng.choice((": ", " = ", ", ", " - ", " "))
    lines = [f"- {mark.join(row)}" for row in rows]
    asked = rng.choices(range(len(rows)), k=3)
    body = rng.choice(("\n", " ")).join(lines)
    turns = [turn for i in asked for turn in (f"- {rng.choice(rows[i])}?", lines[i])]
    return chat(f"{body}\n{turns[0]}", *turns[1 : rng.choice((2, 4, 6))])


def _owners(rng: random.Random) -> str:
    """Sentences about things; one value is named and its fact comes back in other words."""
    kinds = ("name", "n", "colour", "objects", "place")
    columns = [draw(rng, kind, 3) for kind in kinds]
    facts = [dict(zip(kinds, values, strict=True)) for values in zip(*columns, strict=True)]
    facts = facts[: rng.randint(1, 3)]
    form = rng.randrange(len(_TOLD))
    one = rng.choice(facts)
    body = " ".join(rng.choice(_OWNED).fill(fact) for fact in facts)
    sides = [body, f"- {one[rng.choice(kinds)]}{'?:/'[form]}"]
    rng.shuffle(sides)
    return chat(rng.choice((" ", "\n")).join(sides), _TOLD[form].fill(one))


def _works(rng: random.Random) -> str:
    """Scattered fields of a job, then the job in one sentence."""
    kinds = ("name", "verb", "thing", "place", "day")
    fact = {kind: draw(rng, kind, 1)[0] for kind in kinds}
    parts = [rng.choice(group).fill(fact) for group in _WORKED]
    rng.shuffle(parts)
    if rng.random() < 0.5:
        parts.insert(rng.randint(0, 4), f"- {' '.join(_words(rng, rng.randint(2, 4)))}.")
    form = rng.randrange(len(_DONE))
    body = rng.choice((" ", "\n", "; ")).join(parts)
    return chat(f"{body} {'?:/'[form]}", _DONE[form].fill(fact))


def _family(rng: random.Random) -> str:
    """Words that belong together: which cue keeps company with which."""
    cues = rng.sample(rng.choice(list(CUES.values())), rng.randint(3, 6))
    joint = rng.choice((" and ", ", ", " with "))
    if rng.random() < 0.5:
        return chat(f"- {joint.join(cues[:-1])}", f"- {cues[-1]}")
    return " ".join(("-", *_words(rng, 2), joint.join(cues), *_words(rng, 2))) + ".\n"


def _code(rng: random.Random) -> str:
    """A function written from its signature and body, or used after its definition."""
    left, right = rng.choice(PARAMETERS)
    slots = {"left": left, "right": right, "n": draw(rng, "n", 1)[0], "list": rng.choice(LISTS)}
    expression = rng.choice(_EXPRESSIONS)
    parameters = slots["list"] if "{list}" in expression else f"{left}, {right}"
    body = expression.format(**slots)
    name, other = draw(rng, "function", 2)
    code = f"def {name}({parameters}):\n    return {body}"
    how = rng.randrange(5)
    if how == 0:
        return f"{code}\n\n\nprint({name}({parameters}))\n"
    if how == 1:
        return chat(f"- {name}: {parameters}: {body}", code)
    if how == 2:
        return chat(f"{parameters} | {body} | {name}", code)
    if how == 3:
        return chat(f"{code}\n- {other}", code.replace(name, other))
    return chat(" ".join(("-", *_words(rng, 3), name, *_words(rng, 2), body)), code)


_WRITERS: tuple[Callable[[random.Random], str], ...] = (
    _echo,
    _repeat,
    _after,
    _table,
    _owners,
    _works,
    _family,
    _code,
)
_WEIGHTS = (10, 8, 8, 16, 20, 16, 6, 16)
