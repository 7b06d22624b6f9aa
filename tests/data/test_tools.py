"""Rows with tools: what files and rows may hold, and that rows without tools stay as they were."""

import json
from pathlib import Path
from typing import Any

import pytest

from support.files import write
from understudy.config import Config, changed
from understudy.data import coverage, formats, tools
from understudy.data.prepare import prepare
from understudy.data.reading import Raw
from understudy.data.rejects import BadRow, NotWanted
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
    assert coverage.digest([ASK, SAID]) != coverage.digest([ASK, SAID], [TOOL])
