"""The judge's prompt: similarity to the reference and precision, 0 to 100, in one JSON reply.

`default` does not say which answer is the reference and asks for the reason before the score;
`paper` keeps the published labels, block order and score-first JSON. The words are our own.
"""

import itertools
import json
from typing import Any, Literal, NamedTuple

from understudy.prompts import object_in, read_template, storable
from understudy.prompts.blocks import fence, parse_blocks
from understudy.records import Message

Variant = Literal["default", "paper"]
Order = Literal["reference_first", "candidate_first"]

VARIANTS: tuple[Variant, ...] = ("default", "paper")
ORDERS: tuple[Order, ...] = ("reference_first", "candidate_first")
_TEMPLATES = {variant: read_template(f"judge_{variant}") for variant in VARIANTS}
_SLOTS = ("Answer 1", "Answer 2")
_REFERENCE, _CANDIDATE = "Human Response", "Language Model Response"


class Scores(NamedTuple):
    """A judgement; both scores are within 0 and 100."""

    similarity: float
    precision: float
    reason_similarity: str | None
    reason_precision: str | None


class Unscored(NamedTuple):
    """A reply without a judgement, and why."""

    status: str
    raw: str


class Asked(NamedTuple):
    """What a judge prompt asks about."""

    instruction: str
    reference: str
    candidate: str


def render(
    variant: Variant, order: Order, instruction: str, reference: str, candidate: str
) -> tuple[Message, ...]:
    """The messages that ask for one judgement; `order` decides who comes first."""
    answers = [(_REFERENCE, reference), (_CANDIDATE, candidate)]
    if order == "candidate_first":
        answers.reverse()
    rated = _SLOTS[[label for label, _ in answers].index(_CANDIDATE)]
    if variant == "default":
        answers = [(slot, text) for slot, (_, text) in zip(_SLOTS, answers, strict=True)]
    blocks = list(fence({"Instruction": instruction, **dict(answers)}).values())
    text = _TEMPLATES[variant].substitute(
        instruction=blocks[0], first=blocks[1], second=blocks[2], rated=rated
    )
    return ({"role": "user", "content": text},)


def asked(messages: tuple[Message, ...]) -> Asked | None:
    """What was rendered into the messages; None when they are no judge prompt of ours."""
    blocks = list(parse_blocks(messages[-1]["content"]).values())
    if len(blocks) != 3:
        return None
    instruction, first, second = blocks
    for variant, order in itertools.product(VARIANTS, ORDERS):
        pair = (first, second) if order == "reference_first" else (second, first)
        if render(variant, order, instruction, *pair) == messages:
            return Asked(instruction, *pair)
    return None


def schema(variant: Variant) -> dict[str, Any]:
    """The JSON schema of the reply; properties in the order in which they are asked for."""
    fields = {"reason": {"type": "string"}, "score": {"type": "number"}}
    names = list(fields) if variant == "default" else list(reversed(fields))
    assessment = _object({name: fields[name] for name in names})
    return _object({"similarity_assessment": assessment, "precision_assessment": assessment})


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def template(variant: Variant) -> str:
    """Everything of the prompt that no answer changes: what a fingerprint hashes."""
    return f"{_TEMPLATES[variant].template}\n{json.dumps(schema(variant))}"


def parse(text: str) -> Scores | Unscored:
    """The judgement in a reply; anything but two numbers within 0 and 100 is Unscored."""
    reply = object_in(text)
    if isinstance(reply, str):
        return Unscored(reply, text)
    found: list[tuple[float, str | None]] = []
    for name in ("similarity_assessment", "precision_assessment"):
        assessment = reply.get(name)
        if not isinstance(assessment, dict) or "score" not in assessment:
            return Unscored("missing_field", text)
        score, reason = assessment["score"], assessment.get("reason")
        if isinstance(score, bool) or not isinstance(score, int | float):
            return Unscored("not_a_number", text)
        if not 0 <= score <= 100:  # NaN, which Python's JSON reads, is outside too
            return Unscored("out_of_range", text)
        found.append((float(score), storable(reason) if isinstance(reason, str) else None))
    (similarity, why_similarity), (precision, why_precision) = found
    return Scores(similarity, precision, why_similarity, why_precision)
