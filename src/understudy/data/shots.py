"""Examples before a prompt: a system prompt of the user's own, and train rows as earlier turns.

`inference.shots=k` shows the model k train rows before each prompt, `inference.system` a text
before those; a model that is trained so is trained, judged, exported and served so. `nearest` takes
the rows whose prompts are most like this one (cosine of TF-IDF), the likest last; `random` and
`diverse` show every prompt the same rows, `diverse` those that lie farthest from each other
(Gonzalez 1985). A row is never shown to itself, nor to a row of its group, and held-out rows are
never shown.
"""

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from understudy.config import Config
from understudy.data import words
from understudy.errors import BadInput
from understudy.records import Coverage, Message, shown

FILE = "shots.json"  # beside the answers of a run, and beside an exported model
Count = Callable[[list[Message]], int]  # the tokens of a conversation in the chat template
_SPARE = 8  # of the fixed choices, rows kept for prompts of whose group a chosen one is


@dataclass(frozen=True)
class Example:
    """A train row that may be shown: its turns without a system message."""

    group_id: str
    messages: list[Message]

    @property
    def asked(self) -> str:
        """What its user said last."""
        return str(self.messages[-2]["content"])


@dataclass(frozen=True)
class Shots:
    """What is shown before each prompt."""

    k: int
    choice: str  # nearest | random | diverse; of the last two, `examples` has the order of choice
    system: str | None
    examples: list[Example]
    longest: int  # tokens of a prompt with its examples

    def before(self, prompt: list[Message], count: Count, group_id: str = "") -> list[Message]:
        """The prompt with all that is shown before it, examples as far as `longest` allows."""
        head, turns, rest = self._parts(prompt, group_id, lambda one: count(one) <= self.longest)
        return [*head, *turns, *rest]

    def around(self, row: Coverage, count: Count, longest: int) -> Coverage:
        """The row with its prompt so, examples as far as `longest` allows the whole row, too.

        The turns of examples weigh 0: they are shown to the trainer, not learnt.
        """
        *prompt, answer = row.messages

        def fits(messages: list[Message]) -> bool:
            plain = shown(messages)
            return count(plain) <= self.longest and count([*plain, *shown([answer])]) <= longest

        head, turns, rest = self._parts(prompt, row.group_id, fits)
        unlearnt = ({**turn, "weight": 0} for turn in turns)
        return replace(row, messages=[*head, *unlearnt, *rest, answer])

    def _parts(
        self, prompt: list[Message], group_id: str, fits: Callable[[list[Message]], bool]
    ) -> tuple[list[Message], list[Message], list[Message]]:
        """The system message, if any, the turns of the examples, and the prompt's own."""
        own = [turn for turn in prompt if turn["role"] == "system"]
        texts = [self.system, *(turn["content"] for turn in own)]
        text = "\n\n".join(str(text) for text in texts if text)
        head: list[Message] = [{"role": "system", "content": text}] if text else []
        rest = [turn for turn in prompt if turn["role"] != "system"]
        chosen = self._chosen(rest, group_id)
        while True:
            turns = [turn for one in reversed(chosen) for turn in one.messages]
            if not chosen or fits([*head, *turns, *rest]):
                return head, turns, rest
            chosen.pop()  # the least like it

    def _chosen(self, prompt: list[Message], group_id: str) -> list[Example]:
        """At most k examples for this prompt, the best first."""
        order: Sequence[int] = range(len(self.examples))
        if self.choice == "nearest" and self.k:
            asked = [str(turn["content"]) for turn in prompt if turn["role"] == "user"]
            alike = self._index.likeness(asked[-1] if asked else "")
            order = [int(n) for n in np.argsort(-alike, kind="stable")]
        others = (self.examples[n] for n in order if self.examples[n].group_id != group_id)
        return [one for one, _ in zip(others, range(self.k), strict=False)]

    @cached_property
    def _index(self) -> "_Index":
        return _Index([one.asked for one in self.examples])

    def write(self, folder: Path) -> None:
        """Leave it beside answers or an exported model, for whoever asks that again."""
        text = json.dumps(asdict(self), ensure_ascii=False, indent=1)
        (folder / FILE).write_text(f"{text}\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> "Shots | None":
        """What `write` left in the folder; None where nothing is shown before prompts."""
        path = folder / FILE
        if not path.is_file():
            return None
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            return cls(**found | {"examples": [Example(**one) for one in found["examples"]]})
        except (ValueError, TypeError, KeyError) as error:
            raise BadInput(f"{path} is not what understudy writes there: {error}") from None


def of(config: Config, rows: Sequence[Coverage]) -> Shots | None:
    """What is shown before prompts; `rows` are those of stage split. None = nothing.

    Raises BadInput where the train rows are fewer than `inference.shots`, or the system prompt's
    file is empty.
    """
    settings, system = config.inference, None
    if not settings.shots and settings.system is None:
        return None
    if settings.system is not None:
        path = Path(settings.system).expanduser()
        if not (system := path.read_text(encoding="utf-8").strip()):
            raise BadInput(f"inference.system={path} is empty")
    train = [row for row in rows if row.split == "train"]
    if len(train) < settings.shots:
        raise BadInput(
            f"inference.shots={settings.shots} needs as many train rows, and there are "
            f"{len(train)}: lower it, or raise coverage.rows"
        )
    examples = [Example(row.group_id, _turns(row)) for row in train] if settings.shots else []
    if settings.shots and settings.shot_choice != "nearest":
        most = min(settings.shots + _SPARE, len(examples))
        order = _ordered(settings.shot_choice, examples, most, config.seed)
        examples = [examples[n] for n in order]
    longest = config.model.context - settings.max_new_tokens
    return Shots(settings.shots, settings.shot_choice, system, examples, longest)


def _turns(row: Coverage) -> list[Message]:
    return shown([turn for turn in row.messages if turn["role"] != "system"])


def _ordered(choice: str, examples: list[Example], most: int, seed: int) -> list[int]:
    if choice == "random":
        return random.Random(f"shots {seed}").sample(range(len(examples)), most)
    index = _Index([one.asked for one in examples])
    nearest = index.centre()  # the row most like all, then always the one least like the chosen
    order = [int(np.argmax(nearest))]
    alike = index.likeness_to(order[0])
    while len(order) < most:
        alike[order] = np.inf
        order.append(int(np.argmin(alike)))
        alike = np.maximum(alike, index.likeness_to(order[-1]))
    return order


class _Index:
    """Texts as rows of TF-IDF of unit length (Salton & Buckley 1988, "ltc")."""

    def __init__(self, texts: list[str]) -> None:
        from scipy import sparse

        found = words.encode(texts)
        self.known, columns = np.unique(found.hashes, return_inverse=True)
        rows = np.repeat(np.arange(len(texts)), found.lengths)
        shape = (len(texts), len(self.known))
        counts = sparse.csr_array((np.ones(len(rows)), (rows, columns)), shape=shape)
        counts.sum_duplicates()
        holding = np.bincount(counts.indices, minlength=shape[1])
        self.rarity = np.log((1 + shape[0]) / (1 + holding)) + 1
        counts.data = (1 + np.log(counts.data)) * self.rarity[counts.indices]
        lengths = np.sqrt(counts.multiply(counts).sum(axis=1))
        scale = 1 / np.where(lengths > 0, lengths, 1)
        self.table = sparse.csr_array(counts.multiply(scale[:, None]))

    def likeness(self, text: str) -> NDArray[np.float64]:
        """The cosine of every text with this one, up to the length of this one."""
        asked, counts = np.unique(words.encode([text]).hashes, return_counts=True)
        places = np.searchsorted(self.known, asked)
        places[places == len(self.known)] = 0
        is_known = self.known[places] == asked if len(self.known) else np.zeros(len(asked), bool)
        vector = np.zeros(len(self.known))
        vector[places[is_known]] = (1 + np.log(counts[is_known])) * self.rarity[places[is_known]]
        return np.asarray(self.table @ vector)

    def likeness_to(self, row: int) -> NDArray[np.float64]:
        """The cosine of every text with one of them."""
        return np.asarray(self.table @ self.table[[row]].toarray()[0])

    def centre(self) -> NDArray[np.float64]:
        """How like each text is to all of them together."""
        return np.asarray(self.table @ np.asarray(self.table.sum(axis=0)))
