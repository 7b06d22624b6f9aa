"""The teacher's prompt: new (instruction, response) pairs after one example, in one JSON reply.

`synthesis.txt` is the frame of all tasks; `synthesis_<task>.txt` says how the task's pairs are
made, `synthesis_default.txt` how those of any other task are.
"""

import itertools
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from understudy.prompts import read_template, storable
from understudy.prompts.blocks import fence, parse_blocks
from understudy.prompts.objects import objects_in, said_in, unwrapped
from understudy.records import Message

_FRAME = read_template("synthesis")
_DEFAULT = read_template("synthesis_default").template
_GUIDANCE = {
    task: read_template(f"synthesis_{task}").template
    for task in ("summarization", "classification", "coding", "closed_qa")
}
_COUNT = re.compile(r"Write exactly (\d+) new pairs\.")
_FIELDS = ("instruction", "response")
# JSON reads the beginning of these as a control character; no program text has them.
_LATEX = re.compile(
    r"[\b\f](?=[a-zA-Z])|\t(?=(?:imes|heta)\b|ext\{)|\r(?=(?:ho|ight)\b)|\n(?=(?:eq|abla)\b)"
)
_CONTROLS = {"\b": r"\b", "\f": r"\f", "\t": r"\t", "\r": r"\r", "\n": r"\n"}

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "contents": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {field: {"type": "string"} for field in _FIELDS},
                "required": list(_FIELDS),
                "additionalProperties": False,
            },
        }
    },
    "required": ["contents"],
    "additionalProperties": False,
}


class Parsed(NamedTuple):
    """The usable pairs of a reply, and how many were not, by reason."""

    pairs: list[tuple[str, str]]
    rejected: dict[str, int]


class Lesson(NamedTuple):
    """What a synthesis prompt asks for."""

    instruction: str
    response: str
    wanted: int  # number of pairs


class Wish(NamedTuple):
    """What the new pairs should be like, beyond the example."""

    subject: str | None = None
    words: int | None = None  # of an instruction


def render(
    instruction: str,
    response: str,
    topic: str,
    count: int,
    task: str = "",
    wish: Wish = Wish(),  # noqa: B008  # immutable
) -> tuple[Message, ...]:
    """The messages that ask for exactly `count` new pairs like the example."""
    blocks = fence({"Instruction": instruction, "Response": response})
    text = _FRAME.substitute(
        instruction=blocks["Instruction"],
        response=blocks["Response"],
        topic=topic,
        count=count,
        guidance=guidance(task),
        subject="" if wish.subject is None else f" All pairs are about {wish.subject}.",
        length=""
        if wish.words is None
        else f" Make each instruction about {wish.words} words long.",
    )
    return ({"role": "user", "content": text},)


def guidance(task: str) -> str:
    """How pairs of a task are made."""
    return _GUIDANCE.get(task, _DEFAULT)


def asked(messages: tuple[Message, ...]) -> Lesson | None:
    """What was rendered into the messages; None when they are no synthesis prompt of ours."""
    text = messages[-1]["content"]
    blocks = parse_blocks(text)
    counts = _COUNT.findall(text)
    if set(blocks) != {"Instruction", "Response"} or not counts:
        return None
    # The template's own sentence follows the blocks, so it is the last.
    return Lesson(blocks["Instruction"], blocks["Response"], int(counts[-1]))


def template(task: str) -> str:
    """Everything of the prompt that no example changes: what a fingerprint hashes."""
    return f"{_FRAME.template}\n{guidance(task)}\n{json.dumps(SCHEMA)}"


def parse(text: str) -> Parsed:
    """The pairs of a reply; a bad pair is counted and skipped, a bad reply has none.

    Pairs may stand in several objects; an object that is there twice counts once. What tags mark
    as a thought holds none, unless the reply holds nothing else.
    """
    plain, said = objects_in(text), said_in(unwrapped(text), may_quote=False)
    found = _pairs([] if isinstance(said, str) else said.objects, has_latex=isinstance(plain, str))
    if found.pairs:
        return found
    return Parsed([], {plain: 1}) if isinstance(plain, str) else _pairs(plain)


def _pairs(objects: Sequence[Mapping[str, Any]], has_latex: bool = False) -> Parsed:
    """The pairs of a reply's objects; with `has_latex` its strings are no JSON without mending."""
    lists = [contents for item in objects if isinstance(contents := item.get("contents"), list)]
    if not lists:
        return Parsed([], {"missing_field": 1})
    pairs: list[tuple[str, str]] = []
    rejected: Counter[str] = Counter()
    distinct = [items for n, items in enumerate(lists) if items not in lists[:n]]
    for item in itertools.chain.from_iterable(distinct):
        if reason := _fault(item):
            rejected[reason] += 1
        else:
            texts = (storable(item[field]) for field in _FIELDS)
            if has_latex:
                texts = (_LATEX.sub(lambda at: _CONTROLS[at[0]], text) for text in texts)
            instruction, response = (text.strip() for text in texts)
            pairs.append((instruction, response))
    return Parsed(pairs, dict(rejected))


def _fault(item: Any) -> str | None:
    """Why an element of `contents` is no pair."""
    if not isinstance(item, dict) or any(field not in item for field in _FIELDS):
        return "missing_field"
    if not all(isinstance(item[field], str) for field in _FIELDS):
        return "not_text"
    return None if all(item[field].strip() for field in _FIELDS) else "empty"
