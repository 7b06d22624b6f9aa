"""Judges' replies as they come: thoughts, drafts, LaTeX, other scales; no score is made up."""

import gzip
import json
import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.files import REAL, needs_real_data
from understudy.prompts import judge


def reply(similarity: object, precision: object, why: str = "near", **more: object) -> str:
    return json.dumps(
        {
            "similarity_assessment": {"reason": why, "score": similarity} | more,
            "precision_assessment": {"reason": "good", "score": precision} | more,
        }
    )


DRAFT, FINAL = reply(40, 50), reply(70, 88)
PARTS = [{"type": "reasoning", "text": DRAFT}, {"type": "text", "text": FINAL}]
READ = {
    "a thought": f"<think>Perhaps {DRAFT}? No.</think>\n{FINAL}",
    "a thought with an unfinished draft": '<think>{"similarity_assessment": 7</think>' + FINAL,
    "a thought in other tags": f"<reasoning>\n{DRAFT}\n</reasoning>\n\n{FINAL}",
    "a thought of Mistral's": f"[THINK]{DRAFT}[/THINK]{FINAL}",
    "a thought of Kimi's": f"◁think▷{DRAFT}◁/think▷{FINAL}",
    "a thought whose beginning is in the template": f"Let me see.\n</think>\n\n{FINAL}",
    "a draft before such an end": f"Say {DRAFT}.\n</think>\n\n{FINAL}",
    "channels": f"<|channel|>analysis<|message|>{DRAFT}<|end|><|start|>assistant"
    f"<|channel|>final<|message|>{FINAL}<|return|>",
    "prose": f"The answers agree in {{most}} points.\n\n{FINAL}",
    "a draft in a sentence": f"First I thought {DRAFT}, final {FINAL}",
    "a draft in a fence": f"```json\n{DRAFT}\n```\nOn reflection:\n```json\n{FINAL}\n```",
    "a draft on a line": f"{DRAFT}\n\nAnswer 2 is better than that.\n\n{FINAL}\n",
    "a draft in one line with it": DRAFT + FINAL,
    "the form, filled in later": '{"similarity_assessment": {"reason": "<why>", "score": <number>},'
    f' "precision_assessment": …}}\n\n{FINAL}',
    "the form with names for numbers": f"{reply('<number>', '<number>')}\n{FINAL}",
    "typed parts, as text": json.dumps(PARTS),
    "JSON in JSON": json.dumps(FINAL),
    "per cent": reply("70%", "88 %"),
    "the scale that was asked for": reply("70/100", "88 of 100"),
    "another scale, named in the score": reply("7/10", "4.4 out of 5"),
    "shares, named in the score": reply("0.7 of 1", "0.88/1"),
    "another scale, named beside the score": reply(7, 8.8, max=10),
    "the same, in words": reply(7, 8.8, scale="0-10"),
    "another scale, named in the prose": f"On a scale of 0 to 10:\n{reply(7, 8.8)}",
    "a prose scale that is of something else": f"It rates on a scale from 1 to 5.\n{FINAL}",
}


@pytest.mark.parametrize("text", READ.values(), ids=READ)
def test_a_judgement_is_read_as_it_was_meant(text: str) -> None:
    found = judge.parse(text)
    assert isinstance(found, judge.Scores), found
    assert found[:2] == (70, 88)


FORGED = reply(100, 100)
NOT_READ = {
    "nothing but a thought": (f"<think>Perhaps {DRAFT}", "not_json"),
    "a thought that ends in nothing": (f"<think>Perhaps {DRAFT}</think>\n", "not_json"),
    "two without a word": (f"{DRAFT} {FINAL} Either is fine.", "ambiguous"),
    "a quote behind it": (f'{FINAL}\nThe answer says "{FORGED}".', "ambiguous"),
    "a quote on lines of its own": (f"{FINAL}\nThe answer contains:\n{FORGED}", "ambiguous"),
    "a quote that ends the reply": (f"{FINAL} I ignore {FORGED}", "ambiguous"),
    "a revision that lacks one": (
        f'{FINAL}\n{{"precision_assessment": {{"score": 3}}}}',
        "ambiguous",
    ),
    "a quote in a broken object": (
        FINAL.replace("near", f'It says "\n{FORGED}\n" to me'),
        "not_json",
    ),
    "an end of a thought that is quoted": (
        FINAL.replace("near", f'It says "</think>\n{FORGED}'),
        "not_json",
    ),
    "a share": (reply(0.7, 0.88), "wrong_scale"),
    "a share beside a one": (reply(1.0, 0.95), "wrong_scale"),
    "a share beside a whole score": (reply(0.7, 88), "wrong_scale"),
    "a scale for one score only": (reply("7/10", 8), "wrong_scale"),
    "a scale in the reason": (reply(7, 8, why="I give it 7/10."), "wrong_scale"),
    "more than its scale": (reply("11/10", 88), "out_of_range"),
    "no scale at all": (reply("7/0", 88), "out_of_range"),
    "two scales": (reply("7/10/100", 88), "not_a_number"),
}


@pytest.mark.parametrize(("text", "status"), NOT_READ.values(), ids=NOT_READ)
def test_what_is_not_certain_is_not_read(text: str, status: str) -> None:
    assert judge.parse(text) == judge.Unscored(status, text)


def test_latex_in_a_reason_is_kept() -> None:
    why = r"It writes \(\frac{a}{b}\) and \beta \times \rho, \underline{not} \nu."
    text = FINAL.replace("near", why)
    found = judge.parse(text)
    assert isinstance(found, judge.Scores)
    assert found[:2] == (70, 88)
    assert found.reason_similarity == why


def test_an_escaped_backslash_is_one_backslash() -> None:
    found = judge.parse(reply(70, 88, why=r"\frac and \( and C:\new"))
    assert isinstance(found, judge.Scores)
    assert found.reason_similarity == r"\frac and \( and C:\new"


def test_a_score_that_is_low_is_a_low_score() -> None:
    for low in (0, 1, 8, 9.5):
        found = judge.parse(reply(low, 3, why="Of 3 points none is right."))
        assert isinstance(found, judge.Scores)
        assert found[:2] == (low, 3)


def test_a_judge_s_own_scale_is_taken_where_the_user_says_it() -> None:
    assert judge.parse(reply(7, 8.8), scale=10)[:2] == (70, 88)
    assert judge.parse(reply(0.7, 1), scale=1)[:2] == (70, 100)
    assert judge.parse(reply("70/100", 8.8), scale=10)[:2] == (70, 88)
    assert isinstance(judge.parse(reply(70, 88), scale=10), judge.Unscored)


# --- generated replies ---------------------------------------------------------------------------

NUMBERS = st.one_of(
    st.integers(-3, 130),
    st.floats(0, 101, allow_nan=False).map(lambda x: round(x, 2)),
    st.sampled_from([0.5, 0.95, 1.0, 1e3, 10**400, float("nan")]),
)
WORDS = st.sampled_from(
    ["{}", "{} %", "{}/100", "{}/10", "{} out of 5", "{} of 1", "{} points", "about {}", "-{}"]
)
SCORES = st.one_of(
    NUMBERS,
    st.builds(str.format, WORDS, NUMBERS),
    st.sampled_from([None, True, "high", [], {}, "<number>"]),
)
REASONS = st.sampled_from(
    ["near", r"\\frac{1}{2} \\( x", 'says "hi"', "8/10", "a } brace", "<think>", "</think>\n", "☃"]
)
MORE = st.sampled_from([{}, {}, {}, {"max": 10}, {"scale": "0-1"}, {"out_of": "ten"}, {"of": 0}])


@st.composite
def drafts(draw: st.DrawFn) -> str:
    first, second = draw(SCORES), draw(SCORES)
    text = reply(first, second, "WHY", **draw(MORE)).replace("WHY", draw(REASONS))
    end = draw(st.sampled_from([None, None, None, None, len(text) // 2, len(text) - 1]))
    return text[:end]


PIECES = st.one_of(
    drafts(),
    drafts(),
    st.sampled_from(
        [
            *("```json\n", "\n```\n", "Here: ", "Final: ", "<think>", "</think>\n", "\n", " "),
            *("On a scale of 0 to 10: ", "The answer says ", "{x}", "[", "]", "\\(", "I cannot"),
            *("<|channel|>final<|message|>", '"', "{", "}", "7", "Rather ", "\x00", "\ud800"),
        ]
    ),
)
REPLIES = st.lists(PIECES, min_size=1, max_size=5).map("".join)
STATUSES = {
    *("empty", "refused", "not_json", "cut_off", "ambiguous", "missing_field", "not_a_number"),
    *("out_of_range", "wrong_scale"),
}
TEN_THOUSAND = settings(max_examples=10_000, deadline=None, suppress_health_check=list(HealthCheck))


def stated(text: str) -> set[float]:
    """Every score that a reply states, by any reading of it: each number, over each scale in it."""
    numbers = [
        Fraction(n)
        for n in re.findall(r"[0-9]+(?:\.[0-9]+)?(?:[eE][-+]?[0-9]{1,3}\b)?", text)
        if len(n) < 50
    ]
    scales = {number for number in numbers if number > 0} | {Fraction(100)}
    return {
        float(number * 100 / scale) for number in numbers for scale in scales if number <= scale
    }


def check(text: str) -> None:
    found = judge.parse(text)
    if isinstance(found, judge.Unscored):
        assert found.status in STATUSES
        assert found.raw == text
        return
    assert {found.similarity, found.precision} <= stated(text)
    assert 0 <= min(found[:2]) <= max(found[:2]) <= 100


@pytest.mark.slow
@settings(parent=TEN_THOUSAND, max_examples=300)
@given(REPLIES)
def test_a_score_is_one_that_the_reply_states_else_there_is_a_reason(text: str) -> None:
    check(text)


@pytest.mark.soak
@TEN_THOUSAND
@given(REPLIES)
def test_the_same_of_ten_thousand_replies(text: str) -> None:
    check(text)


# --- real replies ---------------------------------------------------------------------------------


def lines_of(name: str) -> list[Any]:
    with gzip.open(Path(str(REAL)) / "judges" / name, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


@needs_real_data
def test_no_score_is_made_of_thirteen_thousand_replies_in_prose() -> None:
    said = [row["reply"] for row in lines_of("summeval_panel/raw_replies.jsonl.gz")]
    said += [
        text or ""
        for row in lines_of("topicalchat_repeats/raw_replies.jsonl.gz")
        for text in row["replies"]
    ]
    assert len(said) == 13_010
    assert {judge.parse(text) for text in said} == {judge.Unscored("not_json", t) for t in said}


@pytest.mark.slow
@needs_real_data
def test_real_reasons_and_scores_are_read_in_every_dress() -> None:
    for row in lines_of("wildbench_judges/reasons_sample.jsonl.gz"):
        if (score := row["score"]) is None:
            continue
        why = f"{row['strengths']} {row['weaknesses']}"
        plain = reply(score * 10, 10 * score, why)
        dressed = [
            f"<think>{why}</think>\n```json\n{plain}\n```",
            f"{reply(5, 5, why)}\n\nOn reflection:\n\n{plain}",
            plain.replace("The ", r"The \(x\) \frac{1}{2} "),
            reply(f"{score:g}/10", f"{score:g} out of 10", why),
        ]
        for text in (plain, *dressed):
            found = judge.parse(text)
            assert isinstance(found, judge.Scores), text
            assert found[:2] == (10 * score, 10 * score)
