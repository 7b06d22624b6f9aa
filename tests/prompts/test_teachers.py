"""Teachers' replies as they come: thoughts, fences, parts and LaTeX; what was read stays read."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.prompts import synthesis
from understudy.prompts.objects import objects_in

PAIR = ("What is 2 + 3?", "5")


def contents(*pairs: tuple[str, str]) -> str:
    return json.dumps(
        {"contents": [dict(zip(("instruction", "response"), p, strict=True)) for p in pairs]}
    )


FINAL, DRAFT = contents(PAIR), contents(("a draft", "of it"))
READ = {
    "bare": FINAL,
    "a thought with a draft": f"<think>Perhaps {DRAFT}?</think>\n{FINAL}",
    "a thought with an unfinished draft": '<think>{"contents": [{"instr</think>' + FINAL,
    "a thought of Mistral's": f"[THINK]{DRAFT}[/THINK]{FINAL}",
    "a thought whose beginning is in the template": f"So {DRAFT}.\n</think>\n\n{FINAL}",
    "channels": f"<|channel|>analysis<|message|>{DRAFT}<|end|><|start|>assistant"
    f"<|channel|>final<|message|>{FINAL}<|return|>",
    "a fence after prose": f"Here {{they}} are:\n```json\n{FINAL}\n```",
    "a broken draft before": f'{{"contents": [oops]}}\n\n{FINAL}',
    "the form before": f'{{"contents": [{{"instruction": <text>, …}}]}}\n{FINAL}',
    "typed parts": json.dumps(
        [{"type": "reasoning", "text": DRAFT}, {"type": "output_text", "text": FINAL}]
    ),
    "JSON in JSON": json.dumps(FINAL),
    "nothing but a thought": f"<think>{FINAL}",
}


@pytest.mark.parametrize("text", READ.values(), ids=READ)
def test_pairs_are_read_from_what_the_teacher_answered(text: str) -> None:
    assert synthesis.parse(text) == synthesis.Parsed([PAIR], {})


def test_latex_in_a_pair_is_taken_as_it_was_meant() -> None:
    asked = r"Solve \(\frac{a}{b} \times \beta \neq \sqrt{2}\) for \text{all} a."
    text = contents((asked, "r")).replace(r"\\", "\\")
    assert synthesis.parse(text).pairs == [(asked, "r")]


def test_control_characters_of_a_program_stay_though_a_pattern_was_not_escaped() -> None:
    code = "def f():\n\text = 1\n\tau = 2\r\n\treturn re.match('\\d', s)"
    text = contents((code, "r")).replace(r"\\d", r"\d")
    assert synthesis.parse(text).pairs == [(code, "r")]


TEXTS = st.one_of(
    st.text(max_size=20),
    st.sampled_from(["\\frac", "\x0cab", "\ttext", "{}", '{"contents": []}', "</think>", "```"]),
)
ITEMS = st.one_of(
    st.fixed_dictionaries({"instruction": TEXTS, "response": TEXTS}),
    st.fixed_dictionaries({"instruction": TEXTS}),
    TEXTS,
)
PIECES = st.one_of(
    st.lists(ITEMS, max_size=3).map(lambda items: json.dumps({"contents": items})),
    st.sampled_from(["\n", "```json\n", "Sure! ", "{x} ", ",", "Final:", '{"note": 1}', "["]),
)


@settings(max_examples=100, deadline=None)
@given(st.lists(PIECES, max_size=6).map("".join))
def test_a_reply_without_marked_thoughts_that_was_read_is_read_as_before(text: str) -> None:
    plain = objects_in(text)
    wanted = [
        (item["instruction"].strip(), item["response"].strip())
        for number, one in enumerate([] if isinstance(plain, str) else plain)
        if isinstance(items := one.get("contents"), list)
        and items not in [other.get("contents") for other in plain[:number]]
        for item in items
        if isinstance(item, dict) and len(item) == 2
        if item["instruction"].strip() and item["response"].strip()
    ]
    if wanted:
        assert synthesis.parse(text).pairs == wanted
