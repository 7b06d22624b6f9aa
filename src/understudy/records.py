"""The rows that stages hand to one another, and their bytes on disk.

UTF-8 JSON lines, keys in schema order, compact separators; a missing value is `null`.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, TypeVar

from understudy.errors import BadInput

SCHEMA_VERSION = 1

# {"role": "system" | "user" | "assistant" | "tool", "content": text}, and "weight": 0 where a turn
# is not to be learnt. An assistant's turn may have "tool_calls": [{"id", "name", "arguments"}],
# the last an object, and null content beside them; a tool's has the "tool_call_id" that it answers.
Message = dict[str, Any]
ToolCall = dict[str, Any]
Tool = dict[str, Any]  # {"type": "function", "function": {"name", "description", "parameters"}}
SplitName = Literal["train", "validation", "test", "holdout"]
Key = tuple[str | int, ...]
R = TypeVar("R", bound="Row")


def shown(messages: list[Message]) -> list[Message]:
    """Return the messages without their weights, which are for the trainer alone."""
    return [
        {name: value for name, value in turn.items() if name != "weight"}
        if "weight" in turn
        else turn
        for turn in messages
    ]


def written(turn: Message) -> str:
    """Return what a turn says as one text: its words, then its calls as a JSON list."""
    words = str(turn["content"] or "")
    if not (calls := turn.get("tool_calls")):
        return words
    said = dumps([{"name": call["name"], "arguments": call["arguments"]} for call in calls])
    return f"{words}\n{said}" if words else said


def last_question(messages: list[Message]) -> list[Message]:
    """Return the turns from the user's last on: of a step amid tool calls, with these calls."""
    place = max((n for n, turn in enumerate(messages) if turn["role"] == "user"), default=0)
    return messages[place:]


@dataclass(frozen=True, slots=True)
class Row:
    """What every row can do: become a dict in schema order, and be read back."""

    KEY: ClassVar[tuple[str, ...]]
    OPTIONAL: ClassVar[tuple[str, ...]] = ()  # keys that are absent, not null, where unused

    @property
    def key(self) -> Key:
        """The sort key, unique within a file."""
        return tuple(getattr(self, name) for name in self.KEY)

    def to_dict(self) -> dict[str, Any]:
        """The row as plain values, keys in schema order."""
        values = asdict(self)
        for name in self.OPTIONAL:
            if values[name] is None:
                del values[name]
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any], place: str = "row") -> Self:
        """The row in `values`; BadInput names what is missing or unknown, and `place`."""
        names = {field.name for field in fields(cls)}
        if missing := sorted(names - values.keys() - {*cls.OPTIONAL}):
            raise BadInput(f"{place} lacks {', '.join(missing)} of the {cls.__name__} schema")
        if unknown := sorted(values.keys() - names):
            raise BadInput(f"{place} has {', '.join(unknown)}, unknown to {cls.__name__}")
        return cls(**values)


@dataclass(frozen=True, slots=True)
class Coverage(Row):
    """A real (prompt, response) conversation; the last message is the wanted answer."""

    KEY = ("id",)
    OPTIONAL = ("expected", "tools", "response_format")

    id: str
    group_id: str
    messages: list[Message]
    task: str
    licence: str | None
    source: str
    split: SplitName | None
    # What a grader reads beside the wanted answer: accepted ones, tests
    expected: dict[str, Any] | None = field(default=None, kw_only=True)
    # What the request offered, and the form that it asked of the answer, as OpenAI writes them
    tools: list[Tool] | None = field(default=None, kw_only=True)
    response_format: dict[str, Any] | None = field(default=None, kw_only=True)

    @property
    def prompt(self) -> list[Message]:
        """The messages up to, and without, the wanted answer, as a model is shown them."""
        return shown(self.messages[:-1])

    @property
    def instruction(self) -> str:
        """The last user turn, and what tools were called and said since."""
        return "\n".join(map(written, last_question(self.messages[:-1])))

    @property
    def response(self) -> str:
        """The wanted answer, with its calls as JSON."""
        return written(self.messages[-1])


@dataclass(frozen=True, slots=True)
class Synthetic(Coverage):
    """A pair written by a teacher from a train seed."""

    seed_id: str
    block: int
    call_id: int
    depth: int  # 1 = from a human row
    teacher: str


@dataclass(frozen=True, slots=True)
class Answer(Row):
    """One sampled answer to one prompt, by a local model or by the service baseline."""

    KEY = ("prompt_id", "generator", "k")
    OPTIONAL = ("tool_calls",)

    prompt_id: str
    group_id: str
    k: int
    text: str
    tokens: int | None
    finish: str  # "stop" | "tool_calls" | "length" (cut off) | "too_long" (prompt) | "refusal" | …
    generator: str
    family: str
    tool_calls: list[ToolCall] | None = field(default=None, kw_only=True)

    @property
    def said(self) -> str:
        """The text, with the calls as JSON."""
        return written({"content": self.text, "tool_calls": self.tool_calls})


@dataclass(frozen=True, slots=True)
class Preference(Row):
    """One answer to a train or validation prompt, and whether it is a good one to learn."""

    KEY = ("prompt_id", "k")
    OPTIONAL = ("tools",)

    prompt_id: str
    group_id: str
    split: SplitName
    k: int  # of the sampled answers; -1 = the wanted one
    messages: list[Message]  # with the answer as the last
    is_good: bool
    score: float | None  # of the judge that labels, 0 to 100
    tools: list[Tool] | None = field(default=None, kw_only=True)


@dataclass(frozen=True, slots=True)
class Verdict(Row):
    """One judgement of one answer; both scores are null unless `status` is "scored"."""

    KEY = ("prompt_id", "generator", "k", "judge", "prompt_variant", "order", "m")

    prompt_id: str
    generator: str
    k: int
    judge: str
    judge_family: str
    prompt_variant: str
    order: str  # "reference_first" | "candidate_first"
    m: int | None  # null in an imported average
    scale: str  # "0-100"
    similarity: float | None
    precision: float | None
    reason_similarity: str | None
    reason_precision: str | None
    status: str  # "scored", or why not
    n_repeats: int | None = None  # of an imported average


@dataclass(frozen=True, slots=True)
class HumanLabel(Row):
    """What one human said of one answer; `score` is null unless `status` is "scored"."""

    KEY = ("prompt_id", "generator", "k", "rater", "metric")

    prompt_id: str
    generator: str
    k: int
    rater: str
    rubric: str
    metric: str  # "precision"
    scale: str  # "1-5"
    score: float | None
    weight: float | None  # 1 / (probability of being drawn); null where nobody knows it
    status: str  # "scored", or why not


# Made once, since json.dumps makes one at every call.
_COMPACT = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def dumps(value: Any) -> str:
    """Compact JSON with the keys as they come; NaN is refused."""
    return _COMPACT.encode(value)


def read_rows(path: Path, kind: type[R]) -> Iterator[R]:
    """The rows of a finished file, in order."""
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            yield kind.from_dict(json.loads(line), f"{path}:{number}")


def read_objects(path: Path) -> Iterator[dict[str, Any]]:
    """The JSON objects of a file's lines, in order; a line that a kill has torn is none.

    A file that is not there holds nothing.
    """
    if not path.is_file():
        return
    with path.open("rb") as lines:
        for line in lines:
            try:
                values = json.loads(line)
            except ValueError:
                continue
            if isinstance(values, dict):
                yield values
