"""Names and types of `graders`: rules that score an answer where no LLM has to be asked.

A grader is a judge to the gate, to `decide` and to tables; `conf/judge/<kind>.yaml` has its values.
What it reads of a row beside the wanted answer stands in the row's `expected` (coverage.expected).
"""

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass

from understudy.config.source import STRICT, FilePath, machine
from understudy.errors import BadInput

MetricName = Literal["similarity", "precision"]
BOTH: tuple[MetricName, ...] = ("similarity", "precision")
Ignored = Literal["case", "space", "punctuation"]
Overlap = Literal["token_f1", "rouge_l", "chrf"]
NotNegative = Annotated[float, Field(ge=0)]


@dataclass(config=STRICT, frozen=True)
class Exact:
    """The answer is the reference."""

    kind: Literal["exact"]
    ignore: list[Ignored]  # space = runs of white space count as one


@dataclass(config=STRICT, frozen=True)
class Label:
    """The answer names the reference's label and no other of a closed set."""

    kind: Literal["label"]
    labels: list[str] | None  # null = the answers of the train rows
    aliases: dict[str, str]  # another name -> label


@dataclass(config=STRICT, frozen=True)
class Number:
    """The answer's last number is the reference's."""

    kind: Literal["number"]
    absolute: NotNegative  # tolerances; the greater one counts
    relative: NotNegative  # of the reference
    decimal: Literal["point", "comma"]  # which sign begins the fraction; the other groups digits
    units: dict[str, PositiveFloat]  # name -> how many of the base unit; {} = units are not read


@dataclass(config=STRICT, frozen=True)
class Contains:
    """The reference stands in the answer."""

    kind: Literal["contains"]
    ignore: list[Ignored]


@dataclass(config=STRICT, frozen=True)
class Regex:
    """The answer matches the reference, or what a pattern finds in both is equal."""

    kind: Literal["regex"]
    pattern: str | None  # its first group, else all of it; null = the reference is the pattern
    seconds: PositiveFloat  # of one search, after which the answer is unscored


@dataclass(config=STRICT, frozen=True)
class Json:
    """The answer is JSON with the reference's fields."""

    kind: Literal["json"]
    ignore: list[Ignored]  # in texts
    lists: Literal["any_order", "in_order"]
    whole: bool  # true = all fields or nothing; false = F1 over fields
    schema: FilePath | None = machine()  # a JSON schema that answers must meet; counts by content


@dataclass(config=STRICT, frozen=True)
class ToolCalls:
    """The answer calls the reference's tools with its arguments, in any order."""

    kind: Literal["tool_calls"]
    ignore: list[Ignored]  # in texts that are arguments


@dataclass(config=STRICT, frozen=True)
class Sql:
    """The answer's query gives the rows that the reference's gives."""

    kind: Literal["sql"]
    seconds: PositiveFloat  # of a query
    memory_mb: PositiveInt
    # A SQLite file, or a folder of NAME.sqlite where rows name theirs; counts by content
    database: FilePath | None = machine()


@dataclass(config=STRICT, frozen=True)
class Code:
    """The answer's Python passes the row's tests."""

    kind: Literal["code"]
    seconds: PositiveFloat  # of all tests of an answer
    memory_mb: PositiveInt


@dataclass(config=STRICT, frozen=True)
class TextOverlap:
    """How much of the reference's wording is in the answer."""

    kind: Literal["text_overlap"]
    precision: Overlap  # which one stands for each
    similarity: Overlap


@dataclass(config=STRICT, frozen=True)
class Python:
    """A function of the user's: grade(prompt, reference, answer, expected)."""

    kind: Literal["python"]
    similarity: bool  # whether it gives (precision, similarity); false = precision alone
    seconds: PositiveFloat  # of one answer
    memory_mb: PositiveInt
    function: FilePath | None = machine()  # path/to/file.py:name; counts by content


Grader = Annotated[
    Exact
    | Label
    | Number
    | Contains
    | Regex
    | Json
    | ToolCalls
    | Sql
    | Code
    | TextOverlap
    | Python,
    Field(discriminator="kind"),
]


def measures(grader: Grader) -> tuple[MetricName, ...]:
    """Return what the verdicts of a grader hold; the other score is null and never missing."""
    has_both = isinstance(grader, TextOverlap) or (isinstance(grader, Python) and grader.similarity)
    return BOTH if has_both else ("precision",)


def check_grader(name: str, grader: Grader) -> None:
    """Raise BadInput for a grader that lacks what it grades with."""
    if isinstance(grader, Sql) and grader.database is None:
        raise BadInput(
            f"graders.{name}.database is not set: give a SQLite file, or a folder of NAME.sqlite "
            "where rows name theirs (coverage.expected.database)"
        )
    if isinstance(grader, Python) and not (grader.function or "").rpartition(":")[0]:
        raise BadInput(
            f"graders.{name}.function={grader.function} names no function: give "
            "path/to/file.py:name; it is run in the sandbox, and only if you name it"
        )
