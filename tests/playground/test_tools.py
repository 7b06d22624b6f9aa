"""The playground's tool calls: made anew the same, and what the calls say is in the words."""

from collections.abc import Callable
from itertools import pairwise

import pytest

from understudy.config import Config, changed
from understudy.data import coverage
from understudy.evaluation import graders, grading
from understudy.playground import tools
from understudy.playground.sandbox import Sandbox
from understudy.records import Answer


def test_an_errand_depends_on_its_seed_and_number_alone() -> None:
    assert tools.generate(3, 5, 20) == tools.generate(3, 0, 25)[5:]
    assert tools.generate(4, 5, 20) != tools.generate(3, 5, 20)


def test_calls_hold_what_the_words_say_in_the_types_of_their_tools() -> None:
    schemas = {tool["function"]["name"]: tool["function"]["parameters"] for tool in tools.TOOLS}
    types = {"string": str, "integer": int}
    errands = tools.generate(0, 0, 400)
    assert 0.15 < sum(len(errand.calls) == 2 for errand in errands) / 400 < 0.35
    for errand in errands:
        for name, given in errand.calls:
            properties = schemas[name]["properties"]
            assert given.keys() == properties.keys()
            for what, value in given.items():
                assert str(value) in errand.instruction
                assert isinstance(value, types[properties[what]["type"]])


def test_rows_offer_the_tools_and_their_references_are_right(
    composed: Callable[..., Config],
) -> None:
    config = composed("experiment=tools")
    rows = coverage._playground(changed(config, {"coverage.rows": 50}))
    assert len({row.id for row in rows}) == len(rows) == 50
    assert all(row.tools == tools.TOOLS for row in rows)
    with Sandbox(1) as sandbox:
        rule = graders.made(config.graders["tool_calls"], rows, sandbox)
        for row, other in pairwise(rows):
            calls = row.messages[-1]["tool_calls"]
            answer = Answer(row.id, row.id, 0, "", 1, "tool_calls", "m", "f", tool_calls=calls)
            assert rule(grading._item(row, answer)).precision == 100
            wrong = Answer(row.id, row.id, 0, "", 1, "stop", "m", "f")
            assert rule(grading._item(row, wrong)).precision == 0
            if other.messages[-1]["tool_calls"] != calls:
                assert rule(grading._item(other, answer)).precision == 0


@pytest.mark.parametrize("text", ["", "Done.", '[{"name":"paint"}'])
def test_a_row_that_wants_no_call_is_right_without_one(text: str) -> None:
    row = coverage.Coverage(
        id="a",
        group_id="a",
        messages=[
            {"role": "user", "content": "Thanks."},
            {"role": "assistant", "content": "You are welcome."},
        ],
        task="tools",
        licence=None,
        source="s",
        split="test",
        tools=tools.TOOLS,
    )
    case = grading._item(row, Answer("a", "a", 0, text, 1, "stop", "m", "f"))
    assert case.wanted == []
    assert case.given == []
