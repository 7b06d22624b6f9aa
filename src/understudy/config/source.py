"""What the config groups share: kinds of fields, and a file or hub data set as a source of rows."""

import re
from dataclasses import field
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, PositiveInt
from pydantic.dataclasses import dataclass

from understudy.errors import BadInput

STRICT = ConfigDict(extra="forbid", allow_inf_nan=False, protected_namespaces=())


def parse_size(value: Any) -> Any:
    """Return a row count: 1000, or "1k" = 1000."""
    if isinstance(value, str) and (match := re.fullmatch(r"(\d+)k", value)):
        return int(match[1]) * 1000
    return value


Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]
Size = Annotated[int, BeforeValidator(parse_size), Field(ge=0)]
Revision = Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]
SplitName = Literal["train", "validation", "test", "holdout"]
Format = Literal["auto", "messages", "pairs", "llamaduo"]
Words = Annotated[tuple[str, ...], "words"]  # [--a=b,c]: typed without quotes around each
FilePath = Annotated[str, "path"]  # typed as in a shell: whatever its signs, it is one value


def machine() -> Any:
    """Return a field that cannot change a result."""
    return field(metadata={"machine": True})


def added(default: Any) -> Any:
    """Return a field of later work: not hashed while it is `default`, so old stages stay valid."""
    return field(default=default, kw_only=True, metadata={"added": True})


@dataclass(config=STRICT, frozen=True)
class Columns:
    """What the columns are called; null = the usual names (see data/formats.py).

    A name may be a path into the row: `ask.text`, `turns.0.content`.
    """

    id: str | None = added(None)
    group: str | None = added(None)
    split: str | None = added(None)
    licence: str | None = added(None)
    category: str | None = added(None)
    messages: str | None = added(None)
    prompt: str | None = added(None)
    response: str | None = added(None)
    # Pinned before a run where the file has them, so that stages made without them stay as they are
    system: str | None = added(None)  # its own column beside messages; of pairs it is always read
    context: str | None = added(None)  # after the instruction
    history: str | None = added(None)  # of [prompt, response], before the instruction
    weight: str | None = added(None)  # of a turn; an answer of weight 0 is no answer to learn
    tools: str | None = added(None)  # which a row offers; with it turns may call tools
    response_format: str | None = added(None)  # that a row asks of its answer


@dataclass(config=STRICT, frozen=True)
class Dedup:
    """When two pairs of a synthetic pool are duplicates; of near ones the older stays."""

    kind: Literal["default", "paper"] = added("default")  # paper = LlamaDuo's: responses alone
    # Below these bounds MinHash finds too few of the pairs (data/minhash.py).
    jaccard: Annotated[float, Field(ge=0.8, le=1)] = added(0.9)  # of the sets of words
    rouge_l: Annotated[float, Field(ge=0.6, le=1)] = added(0.7)  # of texts of `words` and more
    words: PositiveInt = added(30)  # of a response that counts without its instruction


@dataclass(config=STRICT, kw_only=True, frozen=True)
class Source:
    """Rows from a file, or from a data set on the hub at a revision; other kinds leave it null."""

    path: FilePath | None = machine()  # a file counts by its contents
    repo: str | None = added(None)
    revision: Revision | None = added(None)  # null = resolved once and recorded
    subset: str | None = added(None)  # of a hub data set that has several
    # Parts of a hub data set to read, or words in a file's split column -> the split of their rows,
    # null = drawn; {} = all parts, and the words as they stand
    parts: dict[str, SplitName | None]
    tolerance: Share = machine()  # share of bad rows to skip; above it nothing is made


def check_source(group: str, source: Any) -> None:
    """Raise BadInput unless a group whose `kind` says where its rows come from has one place."""
    for kind, leaf in (("file", "path"), ("hub", "repo")):
        value = getattr(source, leaf)
        if source.kind == kind and value is None:
            raise BadInput(f"{group}={kind} needs {group}.{leaf}=…")
        if source.kind != kind and value is not None:
            raise BadInput(
                f"{group}.{leaf}={value} is given, but {group}.kind={source.kind}; "
                f"choose {group}={kind}"
            )
