"""Tool calls in logs become rows: every maker's form, one row per turn of the assistant."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from support.files import REAL, needs_real_data, write
from understudy.collect.collect import Summary, collect
from understudy.collect.work import CollectOptions

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
ABOUT = {"name": "weather", "description": "The weather.", "parameters": SCHEMA}
TOOL = {"type": "function", "function": ABOUT}
BERN, BASEL = ({"city": name} for name in ("Bern", "Basel"))
USER = {"role": "user", "content": "Warm in Bern or Basel?"}
CALLS = [
    {"id": "call00000", "name": "weather", "arguments": BERN},
    {"id": "call00001", "name": "weather", "arguments": BASEL},
]
CALLED = {"role": "assistant", "content": None, "tool_calls": CALLS}
TOLD = [
    {"role": "tool", "content": "9 C", "tool_call_id": "call00000"},
    {"role": "tool", "content": "12 C", "tool_call_id": "call00001"},
]
SAID = {"role": "assistant", "content": "Basel."}
STEP, WHOLE = [USER, CALLED], [USER, CALLED, *TOLD, SAID]


def made(at: Path, lines: Sequence[Any], *redact: str) -> tuple[list[dict[str, Any]], Summary]:
    log, out = write(at / "log.jsonl", lines), at / "out.jsonl"
    summary = collect([str(log)], out, CollectOptions(redact=redact))
    return [json.loads(line) for line in out.read_text().splitlines()], summary


def openai_calls(*ids: str) -> list[dict[str, Any]]:
    return [
        {"id": name, "type": "function", "function": {"name": "weather", "arguments": given}}
        for name, given in zip(ids, map(json.dumps, (BERN, BASEL)), strict=True)
    ]


def chat(message: dict[str, Any], end: str) -> dict[str, Any]:
    return {"model": "m", "choices": [{"index": 0, "message": message, "finish_reason": end}]}


def openai_prompt(*ids: str) -> list[dict[str, Any]]:
    return [
        USER,
        {"role": "assistant", "content": None, "tool_calls": openai_calls(*ids)},
        {"role": "tool", "tool_call_id": ids[1], "content": "12 C"},
        {"role": "tool", "tool_call_id": ids[0], "content": [{"type": "text", "text": "9 C"}]},
    ]


def events(*data: dict[str, Any]) -> str:
    return "".join(f"data: {json.dumps(one)}\n\n" for one in data)


def delta(end: str | None = None, **more: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": more, "finish_reason": end}]}


def piece(place: int, text: str, **more: Any) -> dict[str, Any]:
    return {"index": place, "function": {"arguments": text} | more}


CHAT_STREAM = events(
    delta(role="assistant", content=None, tool_calls=[piece(0, "", name="weather") | {"id": "x"}]),
    delta(tool_calls=[piece(0, '{"city": ')]),
    delta(tool_calls=[piece(0, '"Bern"}')]),
    delta(tool_calls=[piece(1, '{"city": "Basel"}', name="weather") | {"id": "y"}]),
    delta("tool_calls"),
)
ANTHROPIC_TOOLS = [{"name": "weather", "description": "The weather.", "input_schema": SCHEMA}]
ANTHROPIC_ASK = {"model": "claude-x", "max_tokens": 9, "tools": ANTHROPIC_TOOLS}
BLOCKS = [
    {"type": "tool_use", "id": "t1", "name": "weather", "input": BERN},
    {"type": "tool_use", "id": "t2", "name": "weather", "input": BASEL},
]
RESULTS = [
    {"type": "tool_result", "tool_use_id": "t1", "content": "9 C"},
    {"type": "tool_result", "tool_use_id": "t2", "content": [{"type": "text", "text": "12 C"}]},
]
ANTHROPIC_STREAM = events(
    {"type": "message_start", "message": {"id": "m1", "model": "claude-x", "content": []}},
    {"type": "content_block_start", "index": 0, "content_block": BLOCKS[0] | {"input": {}}},
    *(
        {"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta"} | part}
        for part in ({"partial_json": '{"city": '}, {"partial_json": '"Bern"}'})
    ),
    {"type": "content_block_start", "index": 1, "content_block": BLOCKS[1]},
    {"type": "message_delta", "delta": {"stop_reason": "tool_use"}},
    {"type": "message_stop"},
)
GEMINI_SCHEMA = {
    "type": "OBJECT",
    "properties": {"city": {"type": "STRING"}},
    "required": ["city"],
}
GEMINI_TOOLS = [{"functionDeclarations": [ABOUT | {"parameters": GEMINI_SCHEMA}]}]
GEMINI_CALLS = [{"functionCall": {"name": "weather", "args": given}} for given in (BERN, BASEL)]
GEMINI_TOLD = [
    {"functionResponse": {"name": "weather", "response": {"result": text}}}
    for text in ("9 C", "12 C")
]
ITEMS = [
    {"type": "function_call", "id": f"fc{n}", "call_id": f"c{n}", "name": "weather"}
    | {"arguments": json.dumps(given)}
    for n, given in enumerate((BERN, BASEL))
]
OUTPUTS = [
    {"type": "function_call_output", "call_id": f"c{n}", "output": text}
    for n, text in enumerate(("9 C", "12 C"))
]
RESPONSES_ASK = {"model": "gpt-x", "tools": [{"type": "function", **ABOUT}]}


def gemini(parts: list[Any]) -> dict[str, Any]:
    return {"candidates": [{"content": {"role": "model", "parts": parts}, "finishReason": "STOP"}]}


def response(output: list[Any]) -> dict[str, Any]:
    return {"object": "response", "status": "completed", "output": output}


def message(text: str) -> dict[str, Any]:
    return {"type": "message", "content": [{"type": "output_text", "text": text}]}


FIRST = {  # the model calls
    "OpenAI": ({"messages": [USER], "tools": [TOOL]}, chat(
        {"content": None, "tool_calls": openai_calls("a", "b")}, "tool_calls")),
    "OpenAI, streamed": ({"messages": [USER], "tools": [TOOL]}, CHAT_STREAM),
    "Responses": (RESPONSES_ASK | {"input": [USER]}, response(ITEMS)),
    "Responses, streamed without an end of its own": (
        RESPONSES_ASK | {"input": USER["content"]},
        events(
            *({"type": "response.output_item.done", "item": item} for item in ITEMS),
            {"type": "response.completed", "response": {}},
        ),
    ),
    "Anthropic": (
        ANTHROPIC_ASK | {"messages": [USER]},
        {"type": "message", "content": BLOCKS, "stop_reason": "tool_use"},
    ),
    "Anthropic, streamed": (ANTHROPIC_ASK | {"messages": [USER]}, ANTHROPIC_STREAM),
    "Gemini": (
        {"contents": [{"role": "user", "parts": [{"text": USER["content"]}]}],
         "tools": GEMINI_TOOLS},
        gemini(GEMINI_CALLS),
    ),
}  # fmt: skip


@pytest.mark.parametrize("maker", FIRST)
def test_a_call_is_kept_with_the_tools_that_were_offered(maker: str, tmp_path: Path) -> None:
    request, answer = FIRST[maker]
    rows, summary = made(tmp_path, [{"request": request, "response": answer}])
    assert summary.skipped == {}
    (row,) = rows
    assert row["messages"] == STEP
    assert row["tools"] == [TOOL]


SECOND = {  # the model answers from what tools said
    "OpenAI": ({"messages": openai_prompt("a", "b"), "tools": [TOOL]}, chat(SAID, "stop")),
    "Responses": (
        RESPONSES_ASK | {"input": [USER, *ITEMS, *OUTPUTS]}, response([message("Basel.")])),
    "Anthropic": (
        ANTHROPIC_ASK | {"messages": [
            USER, {"role": "assistant", "content": BLOCKS}, {"role": "user", "content": RESULTS}]},
        {"type": "message", "content": [{"type": "text", "text": "Basel."}],
         "stop_reason": "end_turn"},
    ),
    "Gemini": (
        {"contents": [
            {"role": "user", "parts": [{"text": USER["content"]}]},
            {"role": "model", "parts": GEMINI_CALLS},
            {"role": "function", "parts": GEMINI_TOLD}], "tools": GEMINI_TOOLS},
        gemini([{"text": "Basel."}]),
    ),
}  # fmt: skip


@pytest.mark.parametrize("maker", SECOND)
def test_an_answer_after_calls_is_a_row_and_so_is_each_step(maker: str, tmp_path: Path) -> None:
    request, answer = SECOND[maker]
    rows, summary = made(tmp_path, [{"request": request, "response": answer}])
    assert summary.skipped == {}
    assert (summary.kept, summary.steps) == (2, 1)
    told = rows[1]["messages"][2:4]
    assert sorted(turn["tool_call_id"] for turn in told) == ["call00000", "call00001"]
    texts = {turn["tool_call_id"]: turn["content"] for turn in told}
    assert "9 C" in texts["call00000"]
    assert "12 C" in texts["call00001"]
    assert [rows[0]["messages"], rows[1]["messages"][:2]] == [STEP, STEP]
    assert rows[1]["messages"][-1] == SAID
    assert rows[0]["group_id"] == rows[1]["group_id"] is not None


def test_a_step_that_the_log_holds_by_itself_is_one_row(tmp_path: Path) -> None:
    lines = [
        {"request": request, "response": answer}
        for request, answer in (FIRST["OpenAI"], SECOND["OpenAI"])
    ]
    rows, summary = made(tmp_path, lines)
    assert [len(row["messages"]) for row in rows] == [2, 5]
    assert summary.duplicates == 0


def test_two_calls_that_differ_in_their_ids_alone_are_one_conversation(tmp_path: Path) -> None:
    lines = [
        {"request": {"messages": openai_prompt(*ids)}, "response": chat(SAID, "stop")}
        for ids in (("a", "b"), ("c", "d"))
    ]
    rows, summary = made(tmp_path, lines)
    assert len(rows) == 2
    assert summary.duplicates == 1


def test_a_row_without_tools_has_none_of_their_keys(tmp_path: Path) -> None:
    rows, _ = made(tmp_path, [{"request": {"messages": [USER]}, "response": chat(SAID, "stop")}])
    assert list(rows[0]) == ["id", "group_id", "messages", "task", "licence", "source", "split"]
    assert [list(turn) for turn in rows[0]["messages"]] == [["role", "content"]] * 2


FORM = {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA}}
FORMS = {
    "OpenAI": ({"messages": [USER], "response_format": FORM}, chat(SAID, "stop")),
    "Responses": (
        {"model": "gpt-x", "input": [USER]}
        | {"text": {"format": {"type": "json_schema", "name": "answer", "schema": SCHEMA}}},
        response([message("Basel.")]),
    ),
    "Gemini": (
        {"contents": [{"role": "user", "parts": [{"text": USER["content"]}]}]}
        | {
            "generationConfig": {
                "responseMimeType": "application/json",
                "responseSchema": GEMINI_SCHEMA,
            }
        },
        gemini([{"text": "Basel."}]),
    ),
}


@pytest.mark.parametrize("maker", FORMS)
def test_the_form_that_is_asked_of_an_answer_is_kept(maker: str, tmp_path: Path) -> None:
    request, answer = FORMS[maker]
    rows, summary = made(tmp_path, [{"request": request, "response": answer}])
    assert rows[0]["response_format"] == FORM
    assert summary.changed == {}


def test_personal_data_leaves_arguments_and_results_too(tmp_path: Path) -> None:
    call = {"name": "mail", "arguments": json.dumps({"to": ["ann@example.org"], "n": 1})}
    messages = [
        {"role": "user", "content": "Write to ann@example.org."},
        {"role": "assistant", "tool_calls": [{"id": "a", "type": "function", "function": call}]},
        {"role": "tool", "tool_call_id": "a", "content": "sent to ann@example.org"},
    ]
    line = {"request": {"messages": messages}, "response": chat(SAID, "stop")}
    rows, _ = made(tmp_path, [line], "email")
    assert "ann@" not in json.dumps(rows)
    assert rows[1]["messages"][1]["tool_calls"][0]["arguments"] == {"to": ["<EMAIL_1>"], "n": 1}
    assert rows[1]["messages"][2]["content"] == "sent to <EMAIL_1>"


ODD = {
    "a tool call whose arguments are no JSON object": chat(
        {"tool_calls": [{"function": {"name": "f", "arguments": "[1]"}}]}, "tool_calls"
    ),
    "a tool call that the log does not hold": chat({"content": None}, "tool_calls"),
    "a tool that the service runs itself": {
        "type": "message",
        "stop_reason": "end_turn",
        "content": [{"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}],
    },
}


@pytest.mark.parametrize("why", ODD)
def test_a_call_that_nobody_can_repeat_is_skipped_for_its_reason(why: str, tmp_path: Path) -> None:
    lines = [
        {"request": {"messages": [USER]}, "response": chat(SAID, "stop")},
        {"request": {"messages": [USER]}, "response": ODD[why]},
    ]
    _, summary = made(tmp_path, lines)
    assert summary.skipped == {why: 1}


def test_sharegpt_s_calls_and_observations_are_read(tmp_path: Path) -> None:
    talk = [
        {"from": "human", "value": USER["content"]},
        {"from": "function_call", "value": json.dumps({"name": "weather", "arguments": BERN})},
        {"from": "observation", "value": "9 C"},
        {"from": "gpt", "value": "Basel."},
    ]
    rows, _ = made(tmp_path, [{"conversations": talk, "tools": json.dumps([ABOUT])}])
    assert [row["messages"][-1] for row in rows] == [CALLED | {"tool_calls": CALLS[:1]}, SAID]
    assert rows[0]["tools"] == [TOOL]


@needs_real_data
def test_of_the_real_exchanges_tools_are_kept(tmp_path: Path) -> None:
    log = Path(REAL or ".") / "logs" / "wire_exchanges.jsonl.gz"
    out = tmp_path / "out.jsonl"
    summary = collect([str(log)], out, CollectOptions(redact=()), max_broken=0)
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    called = sum("tool_calls" in row["messages"][-1] for row in rows)
    assert summary.kept == len(rows) >= 650
    assert called >= 250
    assert sum("tools" in row for row in rows) >= 350
    assert not any("prompt has tool calls" in why for why in summary.skipped)
