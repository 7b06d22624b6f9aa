"""The judge's prompt: similarity to the reference and precision, 0 to 100, in one JSON reply.

`default` does not say which answer is the reference and asks for the reason before the score;
`paper` keeps the published labels, block order and score-first JSON. The words are our own.
`paraphrased` says what `default` says in other words, `scale_5` asks for 0 to 5: with them the
rubric itself is audited. Whatever the scale asked for, scores are kept as 0 to 100.
"""

import itertools
import json
import re
from string import Template
from typing import Any, Literal, NamedTuple

from understudy.prompts import read_template, storable
from understudy.prompts.blocks import fence, parse_blocks
from understudy.prompts.objects import objects_in
from understudy.records import Message

Variant = Literal["default", "paper", "paraphrased", "scale_5"]
Order = Literal["reference_first", "candidate_first"]

VARIANTS: tuple[Variant, ...] = ("default", "paper", "paraphrased", "scale_5")
ORDERS: tuple[Order, ...] = ("reference_first", "candidate_first")
_TEMPLATES = {variant: read_template(f"judge_{variant}") for variant in VARIANTS}
_SLOTS = ("Answer 1", "Answer 2")
_REFERENCE, _CANDIDATE = "Human Response", "Language Model Response"
_REPAIR = read_template("judge_repair")
_PROBLEMS = {  # what a second try can mend, by status
    "empty": "it is empty",
    "not_json": "it holds no JSON object that can be read",
    "cut_off": "it ends inside its JSON object",
    "missing_field": "it lacks an assessment or its score",
    "not_a_number": "a score in it is not a number",
    "out_of_range": "a score in it is not within 0 and $most",
    "wrong_scale": "a score in it is on another scale than 0 to $most",
    "ambiguous": "it gives two different scores for the same",
}
_ASSESSMENTS = ("similarity_assessment", "precision_assessment")
_WRITTEN = re.compile(r"\s*([-+]?[0-9]+(?:\.[0-9]+)?)\s*(?:%|(?:/|out of)\s*([0-9.]+))?\s*")


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


class JudgedText(NamedTuple):
    """What a judge prompt asks about, and in which words."""

    instruction: str
    reference: str
    candidate: str
    variant: Variant = "default"


def render(
    variant: Variant, order: Order, instruction: str, reference: str, candidate: str
) -> tuple[Message, ...]:
    """The messages that ask for one judgement; `order` decides who comes first."""
    answers = [(_REFERENCE, reference), (_CANDIDATE, candidate)]
    if order == "candidate_first":
        answers.reverse()
    rated = _SLOTS[[label for label, _ in answers].index(_CANDIDATE)]
    if variant != "paper":
        answers = [(slot, text) for slot, (_, text) in zip(_SLOTS, answers, strict=True)]
    blocks = list(fence({"Instruction": instruction, **dict(answers)}).values())
    text = _TEMPLATES[variant].substitute(
        instruction=blocks[0], first=blocks[1], second=blocks[2], rated=rated
    )
    return ({"role": "user", "content": text},)


def repair(
    messages: tuple[Message, ...], reply: str, variant: Variant = "default"
) -> tuple[Message, ...] | None:
    """The messages that ask once more after an unusable reply; None after any other.

    A judge that refused is not pressed.
    """
    parsed = parse(reply, variant)
    if isinstance(parsed, Scores) or parsed.status not in _PROBLEMS:
        return None
    shown = fence({"Reply": storable(reply)})["Reply"]
    problem = Template(_PROBLEMS[parsed.status]).substitute(most=most(variant))
    text = _REPAIR.substitute(reply=shown, problem=problem, most=most(variant))
    *before, last = messages
    return (*before, last | {"content": f"{last['content']}\n\n{text}"})


def asked(messages: tuple[Message, ...]) -> JudgedText | None:
    """What was rendered into the messages; None when they are no judge prompt of ours."""
    content = messages[-1]["content"]
    texts = parse_blocks(content)
    is_repair = texts.pop("Reply", None) is not None
    if len(texts) != 3:
        return None
    instruction, first, second = texts.values()
    for variant, order in itertools.product(VARIANTS, ORDERS):
        pair = (first, second) if order == "reference_first" else (second, first)
        rendered = render(variant, order, instruction, *pair)
        if rendered == messages or (is_repair and content.startswith(rendered[0]["content"])):
            return JudgedText(instruction, *pair, variant)
    return None


def schema(variant: Variant) -> dict[str, Any]:
    """The JSON schema of the reply; properties in the order in which they are asked for."""
    fields = {"reason": {"type": "string"}, "score": {"type": "number"}}
    names = list(reversed(fields)) if variant == "paper" else list(fields)
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
    again = _REPAIR.safe_substitute(most=most(variant))
    return "\n".join([_TEMPLATES[variant].template, json.dumps(schema(variant)), again])


def most(variant: str) -> int:
    """The highest score that a variant asks for."""
    return 5 if variant == "scale_5" else 100


def parse(text: str, variant: str = "default") -> Scores | Unscored:
    """The judgement in a reply, as 0 to 100; anything but two numbers on the scale is Unscored.

    The assessments may stand in several objects; where they differ, the reply is "ambiguous".
    """
    objects = objects_in(text)
    if isinstance(objects, str):
        return Unscored(objects, text)
    found: list[tuple[float, str | None]] = []
    for name in _ASSESSMENTS:
        given = [_assessment(item[name], most(variant)) for item in objects if name in item]
        if not given:
            return Unscored("missing_field", text)
        (score, reason), *others = given
        if any(other != score for other, _ in others):
            return Unscored("ambiguous", text)
        if isinstance(score, str):
            return Unscored(score, text)
        found.append((score, reason))
    (similarity, why_similarity), (precision, why_precision) = found
    return Scores(similarity, precision, why_similarity, why_precision)


def _assessment(value: Any, most: int) -> tuple[float | str, str | None]:
    """The score, or why it is none, and the reason."""
    if not isinstance(value, dict) or "score" not in value:
        return "missing_field", None
    reason = value.get("reason")
    return _score(value["score"], most), storable(reason) if isinstance(reason, str) else None


def _score(value: Any, most: int) -> float | str:
    """The score as 0 to 100, also of a text like "85", "85 %" or "85/100", or why there is none."""
    if isinstance(value, str) and (written := _WRITTEN.fullmatch(value)):
        scale = written[2] or ("100" if "%" in value else str(most))
        if scale not in (str(most), f"{most}.0"):
            return "wrong_scale"
        value = float(written[1])
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "not_a_number"
    if 0 < value < 1 and most == 100:  # a share: nobody grades in hundredths of a point
        return "wrong_scale"
    return value * (100 / most) if 0 <= value <= most else "out_of_range"  # NaN is outside too
