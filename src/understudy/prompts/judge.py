"""The judge's prompt: similarity to the reference and precision, 0 to 100, in one JSON reply.

`default` does not say which answer is the reference and asks for the reason before the score;
`paper` keeps the published labels, block order and score-first JSON. The words are our own.
`paraphrased` says what `default` says in other words, `scale_5` asks for 0 to 5: with them the
rubric itself is audited. Whatever the scale asked for, scores are kept as 0 to 100.
"""

import itertools
import json
import re
from collections.abc import Mapping, Sequence
from fractions import Fraction
from string import Template
from typing import Any, Literal, NamedTuple

from understudy.prompts import read_template, storable
from understudy.prompts.blocks import fence, parse_blocks
from understudy.prompts.objects import said_in, unwrapped
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
_NUMBER = r"[0-9]+(?:\.[0-9]+)?"
_WRITTEN = re.compile(
    rf"\s*(?P<score>[-+]?{_NUMBER})\s*(?:(?P<percent>%)|(?:/|out of|of)\s*(?P<of>{_NUMBER}))?"
    r"\s*(?:points?)?\s*",
    re.IGNORECASE,
)
_RATED = re.compile(rf"(?<![\d.])({_NUMBER})\s*(?:/|out of)\s*({_NUMBER})", re.IGNORECASE)
_MOST_SCALE = 1e6
_LONGEST_SCALE = 40  # characters
_SCALES = ("scale", "out_of", "of", "max", "maximum", "max_score")  # beside a score
_SCALE = re.compile(rf"(?:.*[^0-9.])?({_NUMBER})[^0-9]*", re.DOTALL)
_NAMED_SCALE = re.compile(
    rf"\bscale\b\W+(?:(?:of|from|is|between)\s+)?[01]\s*(?:-|–|to|and)\s*({_NUMBER})", re.IGNORECASE
)
# JSON reads the beginning of these as a control character.
_LATEX = re.compile(
    r"[\b\f](?=[a-zA-Z])|\t(?=(?:imes|ext|heta|au|an|o)\b)|\r(?=(?:ho|ight)\b)|\n(?=(?:eq|abla|u)\b)"
)
_CONTROLS = {"\b": r"\b", "\f": r"\f", "\t": r"\t", "\r": r"\r", "\n": r"\n"}


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
    messages: tuple[Message, ...],
    reply: str,
    variant: Variant = "default",
    scale: float | None = None,
) -> tuple[Message, ...] | None:
    """The messages that ask once more after an unusable reply; None after any other.

    A judge that refused is not pressed.
    """
    parsed = parse(reply, variant, scale)
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


def parse(text: str, variant: str = "default", scale: float | None = None) -> Scores | Unscored:
    """The judgement in a reply, as 0 to 100; anything but two numbers on the scale is Unscored.

    `scale` is the highest score of a judge that keeps to a scale of its own. The assessments may
    stand in several objects; of drafts the last counts where it ends the reply, else the reply is
    "ambiguous". Another scale is believed where the reply names it ("8/10"); where it may be on
    another one, it is on the "wrong_scale".
    """
    said = said_in(unwrapped(text))
    if isinstance(said, str):
        return Unscored(said, text)
    asked = float(most(variant) if scale is None else scale)
    named = {float(number) for number in _NAMED_SCALE.findall(said.words)} - {asked, 0.0}
    objects = [item for item in said.objects if not item.keys().isdisjoint(_ASSESSMENTS)]
    has_last_word = said.has_last_word and objects[-1:] == said.objects[-1:]
    # A scale that the words around the objects name may be that of something else.
    for highest in (*named, asked) if len(named) == 1 else (asked,):
        read = [
            {name: _assessment(item[name], highest) for name in _ASSESSMENTS if name in item}
            for item in objects
        ]
        found = _chosen(read, has_last_word)
        if not isinstance(found, str):
            break
    if not isinstance(found, str) and highest == asked and scale is None:
        found = "wrong_scale" if _may_be_other(found, asked) else found
    if isinstance(found, str):
        return Unscored(found, text)
    similarity, precision = found
    assert not isinstance(similarity.score, str)
    assert not isinstance(precision.score, str)
    return Scores(similarity.score, precision.score, similarity.reason, precision.reason)


class _Given(NamedTuple):
    """What a reply gives as one assessment."""

    score: float | str  # 0 to 100, or why there is none
    reason: str | None = None
    number: float = 0.0  # as it is written
    of: float | None = None  # the scale that the reply names for it


def _chosen(read: Sequence[Mapping[str, _Given]], has_last_word: bool) -> list[_Given] | str:
    """Both assessments of a reply's objects, or why there are none."""
    whole = [
        number
        for number, one in enumerate(read)
        if len(one) == len(_ASSESSMENTS) and not any(isinstance(g.score, str) for g in one.values())
    ]
    if whole:
        last = read[whole[-1]]
        differ = any(given.score != last[name].score for one in read for name, given in one.items())
        if differ and not (has_last_word and whole[-1] == len(read) - 1):
            return "ambiguous"
        return [last[name] for name in _ASSESSMENTS]
    found: list[_Given] = []
    for name in _ASSESSMENTS:
        given = [one[name] for one in read if name in one]
        if not given:
            return "missing_field"
        if any(other.score != given[0].score for other in given):
            return "ambiguous"
        if isinstance(given[0].score, str):
            return given[0].score
        found.append(given[0])
    return found


def _may_be_other(found: Sequence[_Given], asked: float) -> bool:
    """Whether a plain score may be on another scale, by its reason or by the other score."""
    scales = {given.of for given in found if given.of is not None}
    for given in found:
        if given.of is not None or not given.number:
            continue
        rated = _RATED.findall(given.reason or "")
        others = scales | {float(of) for score, of in rated if float(score) == given.number}
        if any(given.number <= of != asked for of in others):
            return True
    return False


def _assessment(value: Any, highest: float) -> _Given:
    if not isinstance(value, dict) or "score" not in value:
        return _Given("missing_field")
    reason = value.get("reason")
    if reason is not None:
        is_text = isinstance(reason, str)
        reason = storable(_LATEX.sub(lambda at: _CONTROLS[at[0]], reason)) if is_text else None
    score, of = value["score"], next(filter(None, map(_scale, map(value.get, _SCALES))), None)
    if isinstance(score, str) and (written := _WRITTEN.fullmatch(score)):
        score = float(written["score"])
        own = "100" if written["percent"] else written["of"]
        of = float(own) if own else of
    if isinstance(score, bool) or not isinstance(score, int | float):
        return _Given("not_a_number", reason)
    limit = highest if of is None else of
    if not (0 < limit < _MOST_SCALE and 0 <= score <= limit):  # NaN is outside too
        return _Given("out_of_range", reason)
    if 0 < score < 1 and limit == 100:  # a share: nobody grades in hundredths of a point
        return _Given("wrong_scale", reason)
    exact = Fraction(str(score)) * 100 / Fraction(str(limit))
    return _Given(float(exact), reason, float(score), of)


def _scale(value: Any) -> float | None:
    """The highest score, as a number or in words like "0-10"; None where there is none."""
    if isinstance(value, str) and (named := _SCALE.fullmatch(value[:_LONGEST_SCALE])):
        value = float(named[1])
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and 0 < value < _MOST_SCALE else None
