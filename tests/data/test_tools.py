"""Rows with tools: what files and rows may hold, and that rows without tools stay as they were."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from support.files import write
from understudy.config import Config, Split, changed
from understudy.data import coverage, formats, naming, screening, tools
from understudy.data.prepare import prepare
from understudy.data.reading import Raw
from understudy.data.rejects import BadRow, NotWanted
from understudy.data.screening import NewPair
from understudy.data.split import split
from understudy.records import Answer, Coverage, dumps, written

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}
CALL = {"id": "call00000", "name": "weather", "arguments": {"city": "Bern"}}
OPENAI = {"id": "x", "type": "function"} | {
    "function": {"name": "weather", "arguments": '{"city": "Bern"}'}
}
ASK = {"role": "user", "content": "Warm?"}
STEP = {"role": "assistant", "content": None, "tool_calls": [CALL]}
TOLD = {"role": "tool", "content": "9 C", "tool_call_id": "call00000"}
SAID = {"role": "assistant", "content": "No."}


def row(messages: list[dict[str, Any]], **more: Any) -> Coverage:
    about = {"id": "a", "group_id": "g", "task": "t", "licence": None, "source": "s"}
    return Coverage(messages=messages, split=None, **about, **more)


def test_rows_without_tools_have_no_key_for_them() -> None:
    plain = row([ASK, SAID])
    assert "tools" not in plain.to_dict()
    assert "response_format" not in plain.to_dict()
    assert Coverage.from_dict(plain.to_dict()) == plain
    answer = Answer("a", "g", 0, "No.", 1, "stop", "m", "f")
    assert "tool_calls" not in answer.to_dict()


def test_rows_with_tools_come_back_from_their_bytes() -> None:
    whole = row([ASK, STEP, TOLD, SAID], tools=[TOOL], response_format={"type": "json_object"})
    assert Coverage.from_dict(json.loads(dumps(whole.to_dict()))) == whole


def test_the_texts_of_a_row_tell_its_calls() -> None:
    said = '[{"name":"weather","arguments":{"city":"Bern"}}]'
    assert row([ASK, STEP]).response == said
    assert row([ASK, STEP, TOLD, SAID]).instruction == f"Warm?\n{said}\n9 C"
    assert written({"content": "Let me see.", "tool_calls": [CALL]}) == f"Let me see.\n{said}"


@pytest.mark.parametrize(
    ("messages", "wanted"),
    [
        ([ASK, {"role": "assistant", "tool_calls": [OPENAI]}], [ASK, STEP]),
        (
            [
                ASK,
                {"role": "assistant", "content": None, "tool_calls": [OPENAI]},
                {"role": "tool", "tool_call_id": "x", "content": "9 C"},
                SAID,
            ],
            [ASK, STEP, TOLD, SAID],
        ),
        ([ASK, STEP, TOLD, SAID], [ASK, STEP, TOLD, SAID]),  # our own rows
    ],
)
def test_a_file_s_conversations_with_tools_are_read(
    messages: list[dict[str, Any]], wanted: list[dict[str, Any]], composed: Any, tmp_path: Path
) -> None:
    lines = [{"messages": messages, "tools": [TOOL]}, {"messages": [ASK, SAID]}]
    path = write(tmp_path / "a.jsonl", lines)
    config: Config = composed("coverage=file", "coverage.path=x", "task=closed_qa")
    config = changed(config, {"coverage.path": str(path)})
    config = prepare(config, tmp_path / "hub.json").config
    assert config.coverage.columns.tools == "tools"
    found = coverage.find(config.coverage, "closed_qa")
    assert [pair.messages for pair in found.pairs] == [wanted, [ASK, SAID]]
    assert [pair.tools for pair in found.pairs] == [[TOOL], None]
    assert found.columns.unread == {}


def test_a_file_without_tools_pins_nothing() -> None:
    assert formats.meaningful([Raw("here", {"messages": [ASK, SAID]})], "messages") == {}


def test_a_column_of_tools_that_are_none_is_bad() -> None:
    given = formats.Columns(tools="tools")
    with pytest.raises(BadRow, match="no list of functions"):
        formats.offered({"tools": [{"type": "web_search"}]}, given)


@pytest.mark.parametrize("written_as", [
    [TOOL], json.dumps([TOOL]), [TOOL["function"]],
    [{"name": "weather", "input_schema": SCHEMA}],
    [{"toolSpec": {"name": "weather", "inputSchema": {"json": SCHEMA}}}],
    [{"functionDeclarations": [{"name": "weather", "parametersJsonSchema": SCHEMA}]}],
])  # fmt: skip
def test_a_tool_is_the_same_whoever_writes_it(written_as: Any) -> None:
    assert tools.offered(written_as) == ([TOOL], False)


def test_a_result_without_its_call_is_no_row() -> None:
    with pytest.raises(NotWanted, match="without its call"):
        tools.numbered([ASK, TOLD, SAID])


def test_results_without_ids_answer_calls_in_order_of_their_names() -> None:
    calls = [CALL | {"id": None}, CALL | {"id": None, "name": "time"}]
    told = [
        {"role": "tool", "content": text, "tool_call_id": None, "name": name}
        for text, name in (("noon", "time"), ("9 C", "weather"))
    ]
    made = tools.numbered([ASK, {"role": "assistant", "content": None, "tool_calls": calls}, *told])
    assert [turn["tool_call_id"] for turn in made[2:]] == ["call00001", "call00000"]


def test_the_names_of_rows_tell_tools_apart() -> None:
    assert naming.digest([ASK, SAID]) != naming.digest([ASK, SAID], [TOOL])


def test_an_answer_that_is_a_list_of_calls_is_these_calls_where_tools_are_named() -> None:
    given = formats.Columns(tools="tools")
    call = {"name": "weather", "arguments": {"city": "Bern"}}
    for said in (dumps([call]), json.dumps([OPENAI]), [call], dumps([{**call, "id": "x"}])):
        found = formats.conversation({"prompt": "Warm?", "response": said}, "pairs", given)
        assert found == [ASK, STEP]
    as_text = {"prompt": "Warm?", "response": dumps([call])}
    assert formats.conversation(as_text, "pairs")[-1]["content"] == dumps([call])
    for said in ("[]", "[1]", "No.", "[", '[{"city":"Bern"}]', '[{"name":"a","arguments":3}]'):
        found = formats.conversation({"prompt": "Warm?", "response": said}, "pairs", given)
        assert found[-1] == {"role": "assistant", "content": said}


LONG = (
    "Please book the quiet room beside our old mill in {} for two nights from Monday on, with a "
    "late breakfast and some place to leave bicycles."
)


def booked(asked: str, place: str, *tools: Any) -> dict[str, Any]:
    call = {"name": "book", "arguments": {"nights": 2, "place": place}}
    step = {"role": "assistant", "content": None, "tool_calls": [{"id": "call00000", **call}]}
    return {"messages": [{"role": "user", "content": asked}, step], "tools": [*tools, TOOL]}


def test_pairs_of_a_pool_are_near_where_tools_and_arguments_are_the_same() -> None:
    other = {"type": "function", "function": {**TOOL["function"], "name": "book"}}
    rows = [
        booked(LONG.format("Bern"), "Bern"),
        booked(LONG.format("Rome"), "Rome"),  # one word and one argument are another
        booked(LONG.format("BERN"), "Bern"),  # the first again
        booked("Now " + LONG.format("Bern"), "Bern"),  # so is this
        booked(LONG.format("Bern"), "Basel"),  # the first request with another answer
        booked(LONG.format("Bern"), "Basel", other),  # which other tools excuse
    ]
    pairs = []
    for number, one in enumerate(rows):
        asked, answer = one["messages"]
        what = screening.doing(asked["content"], answer, one["tools"])
        pairs.append(NewPair(f"{number}", asked["content"], written(answer), doing=what))
    words = [NewPair("w", LONG.format("Oslo"), "Done."), NewPair("x", LONG.format("Rome"), "Done.")]
    drops = [drop and drop.against for _, drop in screening.Screen([]).sift([*pairs, *words])]
    assert drops == [None, None, "0", "0", "0", None, None, "w"]
    seen = [row(one["messages"], tools=one["tools"]) for one in rows[:1]]
    seen = [replace(one, split="train") for one in seen]
    drops = [drop and drop.against for _, drop in screening.Screen(seen).sift(pairs)]
    assert drops == ["a", None, "a", "a", "a", None]


def test_what_is_near_a_held_out_row_stays_out_whatever_it_calls() -> None:
    one, other = booked(LONG.format("Bern"), "Bern"), booked(LONG.format("Rome"), "Rome")
    held = replace(row(one["messages"], tools=one["tools"]), split="test")
    asked, answer = other["messages"]
    what = screening.doing(asked["content"], answer, other["tools"])
    pair = NewPair("n", asked["content"], written(answer), doing=what)
    [(_, drop)] = screening.Screen([held]).sift([pair])
    assert drop is not None
    assert drop.reason == "held_out_instruction"


def test_the_steps_of_a_conversation_and_its_near_copies_are_never_divided(composed: Any) -> None:
    rows = []
    for place in ("Bern", "Rome", "Oslo"):
        step = booked(LONG.format(place), place)["messages"]
        talks = [[ASK, STEP], [ASK, STEP, TOLD, SAID], step, [*step, TOLD, SAID]]
        rows += [coverage.FoundRow(None, None, None, None, None, talk) for talk in talks]
    made = coverage._rows(rows, composed("coverage=file", "coverage.path=x").coverage, "t")
    assert len({one.group_id for one in made}) == 2  # of the two questions
    assert len({one.id for one in made}) == len(made)
    parts = split(made, Split(validation=0, test=0.3, holdout=0), 0)
    of = {one.group_id: {other.split for other in parts if other.group_id == one.group_id}
          for one in parts}  # fmt: skip
    assert sorted(map(sorted, of.values())) == [["test"], ["train"]]  # type: ignore[type-var]
