"""What a file that nobody described may mean: its columns, its words for splits, its task."""

import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from understudy.config import Config, CoverageConfig, Split
from understudy.data import formats
from understudy.data.reading import Raw, read_file
from understudy.data.rejects import BadRow
from understudy.records import SplitName

TASK_WORDS = {  # in the name of a category -> task
    **{"classif": "classification", "label": "classification", "summar": "summarization"},
    **{"coding": "coding", "code": "coding", "closed": "closed_qa"},
}
_MANY = 0.1  # of the rows; training stops where it loses a fifth
_LOOK_AT = 200  # rows, for what may hold what
_DEEPEST = 4  # steps of a path
# What the names of columns hold that ask and that answer, the most telling first.
_ASKS = (
    *("question", "query", "instruction", "prompt", "utterance", "input", "request", "inquiry"),
    *("ask", "user", "human", "document", "article", "dialog", "ticket", "email", "message"),
    *("review", "comment", "source", "sentence", "text", "content", "body"),
)
_SAYS = (
    *("answer", "response", "reply", "completion", "output", "target", "chosen", "summary"),
    *("highlights", "label", "intent", "category", "solution", "assistant", "bot", "gold", "sql"),
    *("translation", "expected", "sentiment", "say"),
)
PASSAGES = ("context", "passage", "document", "article", "paragraph", "evidence", "background")
_SYSTEM = re.compile(r"(?:^|[._])system(?:_?(?:prompt|instructions?|message|text))?(?:\.|$)", re.I)
# Whose turn a row is, where each row is a turn.
_SPEAKERS = {"user", "human", "prompter", "system", "assistant", "gpt", "model", "bot"}
# The last part of names that hold no words of anybody.
_NO_TEXT = re.compile(r"(?:^|[_\W])(?:id|uuid|hash|url|uri|date|time|timestamp|lang|language)$|Id$")


def readings(raws: Sequence[Raw], names: Sequence[str]) -> Iterator[dict[str, str]]:
    """Which columns may hold what: the usual ones, a prompt in messages, then names that tell."""
    yield {}
    responses = [name for name in formats.RESPONSES if name in names]
    for name in formats.MESSAGES:
        if name in names and responses:
            yield {"prompt": name, "response": responses[0]}
    texts, talks = _places(raws)
    system = next((path for path in texts if _SYSTEM.search(path)), None)
    more = {} if system in (None, "system") else {"system": system}
    for path in talks:
        yield {"messages": path, **more}
    asks, says = (
        list(dict.fromkeys(path for word in words for path in texts if _is_called(path, word)))
        for words in (_ASKS, _SAYS)
    )
    pairs = [(ask, say) for ask in asks[:3] for say in says[:3]]
    pairs += [(texts[0], texts[1])] if len(texts) == 2 and not responses else []
    for ask, say in dict.fromkeys(pairs):
        if ask != say and system not in (ask, say):
            yield {"prompt": ask, "response": say, **more}


def _is_called(path: str, word: str) -> bool:
    """Whether any part of a name begins with a word: `userQuestion`, `ask.text`."""
    parts = re.split(r"[\W_]+", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", path).casefold())
    return any(part.startswith(word) for part in parts)


def _places(raws: Sequence[Raw]) -> tuple[list[str], list[str]]:
    """The dotted paths to texts, and those to lists of turns, in most of the first rows."""
    texts, talks = Counter[str](), Counter[str]()

    def walk(value: Any, path: str, depth: int) -> None:
        if isinstance(value, str) and value[:1] in ("{", "["):
            value = formats.loaded(value)
        if isinstance(value, str):
            if value.strip() and not _NO_TEXT.search(path) and value.casefold() not in _SPEAKERS:
                texts[path] += 1
        elif _is_talk(value):
            talks[path] += 1
        elif depth < _DEEPEST:
            items = value if isinstance(value, dict) else {}
            if isinstance(value, list) and value:
                items = {0: value[0]}
            for name, below in items.items():
                if "." not in str(name):  # a path could not name it
                    walk(below, f"{path}.{name}", depth + 1)

    rows = [raw.values for raw in raws[:_LOOK_AT] if raw.values is not None]
    for row in rows:
        for name, value in row.items():
            walk(value, name, 1)
    most = len(rows) / 2
    first, second = (
        [path for path, count in found.items() if count > most] for found in (texts, talks)
    )
    return first, second


def _is_talk(value: Any) -> bool:
    """Whether this is a list of turns, which its last one tells."""
    last = value[-1] if isinstance(value, list) and value else None
    return isinstance(last, dict) and bool({"role", "from"} & last.keys())


def _words(raws: Sequence[Raw], name: str | None) -> list[str]:
    """The words of a file's split column."""
    values = (raw.values.get(name) for raw in raws if name and raw.values)
    return sorted({str(value) for value in values if not formats.is_missing(value)})


def odd_words(raws: Sequence[Raw], names: Sequence[str], where: str) -> list[str]:
    """Those that name no split that we know."""
    odd = list[str]()
    for word in _words(raws, formats.column("split", None, names, where)):
        try:
            formats.split_of(word)
        except BadRow:
            odd.append(word)
    return odd


def propose_parts(
    path: Path, settings: CoverageConfig, given: Collection[SplitName | None]
) -> dict[str, SplitName | None]:
    """What a file's words for splits should mean where they lack train, validation or test.

    `given` are the splits of its rows, None of those without one. What is missing is drawn from the
    train rows; without them from all rows. A word that names no split is drawn, too.
    """
    raws = read_file(path)
    name = formats.column("split", settings.columns.split, formats.columns(raws), str(path))
    words = _words(raws, name)
    known = {
        word: formats.split_of(word) for word in words if word not in settings.parts
    } | settings.parts
    if None in given or {"train", "validation", "test"} <= set(given):
        return known if settings.parts else {}
    if "train" not in given:
        return dict.fromkeys(words)
    return {word: None if split == "train" else split for word, split in known.items()}


def propose_length(tokens: list[int], config: Config) -> tuple[int | None, float]:
    """The trainer's max_length where its own would lose many rows, and the share lost even so."""
    own, most = config.trainer.max_length, config.model.context
    lost = [sum(length > limit for length in tokens) / max(len(tokens), 1) for limit in (own, most)]
    if lost[0] <= _MANY:
        return None, 0.0
    return (most if most > own else None), lost[1] if lost[1] > _MANY else 0.0


def guess_task(categories: Counter[str], config: Config) -> tuple[str, str | None]:
    """The task of the commonest category that names one; the category, if there are others."""
    for category, _ in categories.most_common():
        words = re.sub(r"[^a-z]", "", category.casefold())
        for word, task in TASK_WORDS.items():
            if word in words:
                return task, category if len(categories) > 1 else None
    return config.task.name, None


def propose_split(rows: int, given: Collection[str | None]) -> Split:
    """A fifth for testing and a tenth for validation, at most 200 and 100 rows; none twice."""
    return Split(
        validation=0 if "validation" in given else min(round(rows / 10), 100),
        test=0 if "test" in given else max(1, min(round(rows / 5), 200)),
        holdout=0,
    )
