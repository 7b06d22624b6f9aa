"""Logs: no answer is lost, cut or misread because of how its text begins or who wrapped it."""

import json
from pathlib import Path
from typing import Any

import pytest

from support.files import turns, write
from understudy.collect.collect import Summary, collect
from understudy.collect.work import CollectOptions

CHUNK = (
    '{"object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"It is 4."},'
    '"finish_reason":"stop"}]}'
)
STREAMS = {
    "a comment": f": ping\n\ndata: {CHUNK}\n\ndata: [DONE]\n\n",
    "an id": f"id: 7\ndata: {CHUNK}\n\ndata: [DONE]\n\n",
    "retry": f"retry: 100\n\ndata: {CHUNK}\n\n",
    "a byte order mark": f"\ufeffdata: {CHUNK}\n\n",
    "CR": f"data: {CHUNK}\r\rdata: [DONE]\r\r",
    "an event over two lines": f"data: {CHUNK[:34]}\ndata: {CHUNK[34:]}\n\n",
}
ANSWERS = {
    "JSON": '{"intent": "refund", "sure": true}',
    "a JSON list": '["a", "b"]',
    "a word of a stream": "events in the calendar: none.",
    "a field of a stream": "data: the plural of datum.",
    "several of them": "event: a party\ndata: tomorrow",
}


def exchange(response: Any, number: int = 0) -> dict[str, Any]:
    return {"request": {"model": "m", "messages": turns(f"Twice {number}?")}, "response": response}


def made(path: Path, rows: list[Any]) -> tuple[list[Any], Summary]:
    out = path / "out.jsonl"
    summary = collect([str(write(path / "log.jsonl", rows))], out, CollectOptions(redact=()))
    return [json.loads(line) for line in out.read_bytes().split(b"\n") if line], summary


@pytest.mark.parametrize("kind", STREAMS)
def test_a_stream_is_told_by_its_grammar(kind: str, tmp_path: Path) -> None:
    rows, _ = made(tmp_path, [exchange(STREAMS[kind])])
    assert [row["messages"][-1]["content"] for row in rows] == ["It is 4."]


@pytest.mark.parametrize("kind", ANSWERS)
def test_an_answer_is_text_whatever_it_begins_with(kind: str, tmp_path: Path) -> None:
    rows, _ = made(tmp_path, [exchange("Plain."), exchange(ANSWERS[kind], 1)])
    assert [row["messages"][-1]["content"] for row in rows] == ["Plain.", ANSWERS[kind]]


@pytest.mark.parametrize("odd", ["\u2028", "\u0085", "\u2029", "\x1c"])
def test_a_stream_is_not_cut_inside_a_text(odd: str, tmp_path: Path) -> None:
    text = f"one{odd}two"
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": "stop"}
    stream = f"data: {json.dumps({'choices': [choice]}, ensure_ascii=False)}\n\n"
    if odd == "\x1c":  # not allowed in JSON but where it is escaped
        stream = f"data: {json.dumps({'choices': [choice]})}\n\n"
        stream = f": a comment with {odd} in it\n{stream}"
    rows, _ = made(tmp_path, [exchange(stream)])
    assert [row["messages"][-1]["content"] for row in rows] == [text]


OUTPUTS = {
    "text": "It is 4.",
    "a message": {"role": "assistant", "content": "It is 4."},
    "messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": "It is 4."}],
    "a JSON text of a message": json.dumps({"role": "assistant", "content": "It is 4."}),
    "a JSON text": json.dumps("It is 4."),
    "parts": {"role": "assistant", "parts": [{"type": "text", "content": "It is 4."}]},
    "messages of parts": [
        {"role": "assistant", "parts": [{"type": "text", "content": "It is 4."}]}
    ],
    "an object with text": {"text": "It is 4."},
    "messages below": {"messages": [{"role": "assistant", "content": "It is 4."}]},
    "generations": {"generations": [[{"text": "It is 4."}]]},
    "completion": {"completion": "It is 4."},
    "content blocks": [{"type": "text", "text": "It is 4."}],
    "Gemini": {"content": {"role": "model", "parts": [{"text": "It is 4."}]}},
}


@pytest.mark.parametrize("kind", OUTPUTS)
def test_a_generation_of_langfuse_gives_its_text(kind: str, tmp_path: Path) -> None:
    row = {"type": "GENERATION", "traceId": "t", "input": turns("Twice 2?")}
    rows, _ = made(tmp_path, [row | {"output": OUTPUTS[kind]}])
    assert [one["messages"] for one in rows] == [turns("Twice 2?", "It is 4.")]


@pytest.mark.parametrize("output", [{"intent": "refund"}, '{"intent": "refund"}'])
def test_an_object_that_is_the_answer_stays_json(output: Any, tmp_path: Path) -> None:
    row = {"type": "GENERATION", "traceId": "t", "input": turns("Which?"), "output": output}
    rows, _ = made(tmp_path, [row])
    assert json.loads(rows[0]["messages"][-1]["content"]) == {"intent": "refund"}


def test_thoughts_are_no_part_of_the_answer_and_are_counted(tmp_path: Path) -> None:
    rows, summary = made(tmp_path, [exchange("<think>\nHm, 2+2.\n</think>\n\nIt is 4.")])
    assert rows[0]["messages"][-1]["content"] == "It is 4."
    assert summary.changed["thoughts taken out of the answer"] == 1


def test_one_file_may_hold_exchanges_of_several_makers(tmp_path: Path) -> None:
    blocks = [{"type": "text", "text": "It is 2."}]
    claude = {"type": "message", "content": blocks, "stop_reason": "end_turn"}
    part = {"content": {"parts": [{"text": "It is 4."}]}, "finishReason": "STOP"}
    asked = {"contents": [{"role": "user", "parts": [{"text": "Twice 2?"}]}]}
    lines = [
        exchange("It is 0."),
        {"request": {"model": "claude-x", "messages": turns("Twice 1?")}, "response": claude},
        {"request": asked, "response": {"candidates": [part]}},
    ]
    rows, _ = made(tmp_path, lines)
    assert [row["messages"][-1]["content"] for row in rows] == ["It is 0.", "It is 2.", "It is 4."]
    assert [row["source"].partition(":")[0] for row in rows] == [
        *("openai-chat", "anthropic", "gemini")
    ]


PARTS = [{"type": "text", "content": "Twice 2?"}]
SAID = [{"type": "text", "content": "It is 4."}]
CHOICE = {"index": 0, "message": {"role": "assistant", "content": "It is 4."}}
CHAT = {"choices": [CHOICE | {"finish_reason": "stop"}]}
ASKED = {"model": "m", "messages": turns("Twice 2?")}
SPAN = {
    "gen_ai.operation.name": "chat",
    "gen_ai.input.messages": json.dumps([{"role": "user", "parts": PARTS}]),
    "gen_ai.output.messages": json.dumps(
        [{"role": "assistant", "parts": SAID, "finish_reason": "stop"}]
    ),
}
CLAUDE = {"type": "message", "content": [{"type": "text", "text": "It is 4."}]}
MESSAGE = {"lc": 1, "type": "constructor", "id": ["HumanMessage"], "kwargs": {"type": "human"}}
MESSAGE["kwargs"] |= {"content": "Twice 2?"}  # type: ignore[operator]
WRAPPED: dict[str, dict[str, Any]] = {
    "bedrock": {
        "schemaType": "ModelInvocationLog",
        "modelId": "anthropic.claude-x",
        "operation": "InvokeModel",
        "input": {"inputBodyJson": {"anthropic_version": "x", "messages": turns("Twice 2?")}},
        "output": {"outputBodyJson": CLAUDE | {"stop_reason": "end_turn"}},
    },
    "bedrock converse": {
        "schemaType": "ModelInvocationLog",
        "modelId": "amazon.nova",
        "operation": "Converse",
        "input": {
            "inputBodyJson": {"messages": [{"role": "user", "content": [{"text": "Twice 2?"}]}]}
        },
        "output": {
            "outputBodyJson": {
                "output": {"message": {"role": "assistant", "content": [{"text": "It is 4."}]}},
                "stopReason": "end_turn",
            }
        },
    },
    "langsmith": {
        "run_type": "llm",
        "inputs": {"messages": [[MESSAGE]]},
        "outputs": {"generations": [[{"text": "It is 4.", "type": "ChatGeneration"}]]},
    },
    "tensorzero": {
        "function_name": "f",
        "variant_name": "v",
        "input": json.dumps(
            {"messages": [{"role": "user", "content": [{"type": "text", "value": "Twice 2?"}]}]}
        ),
        "output": json.dumps([{"type": "text", "text": "It is 4."}]),
    },
    "opentelemetry": {"name": "chat m", "attributes": SPAN},
    "opentelemetry OTLP": {
        "name": "chat m",
        "attributes": [{"key": k, "value": {"stringValue": v}} for k, v in SPAN.items()],
    },
    "litellm": {"call_type": "completion", "status": "success", "response": CHAT} | ASKED,
    "helicone": {"request_id": "a", "request_body": ASKED, "response_body": CHAT},
    "openpipe": {"requestedAt": "x", "reqPayload": ASKED, "respPayload": CHAT},
    "portkey": {"trace_id": "t", "request": {"body": ASKED}, "response": {"body": CHAT, "type": 1}},
}


@pytest.mark.parametrize("name", WRAPPED)
def test_what_gateways_and_tracers_wrap_is_read_whole(name: str, tmp_path: Path) -> None:
    rows, summary = made(tmp_path, [WRAPPED[name]])
    assert [row["messages"] for row in rows] == [turns("Twice 2?", "It is 4.")]
    assert not summary.unread


GEMINI = {"contents": [{"role": "user", "parts": [{"text": "Twice 2?"}]}]}
CANDIDATE = {"content": {"role": "model", "parts": [{"text": "It is 4."}]}}
INPUT = [{"role": "user", "content": "Twice 2?"}]
DONE = {"object": "response", "status": "completed", "output": []}
REASONS: dict[str, tuple[dict[str, Any], dict[str, Any], str | None]] = {
    "Gemini's end as a number": (GEMINI, {"candidates": [CANDIDATE | {"finishReason": 1}]}, None),
    "Gemini's cut as a number": (
        GEMINI,
        {"candidates": [CANDIDATE | {"finishReason": 2}]},
        "the answer is cut off",
    ),
    "Gemini's filter as a number": (
        GEMINI,
        {"candidates": [CANDIDATE | {"finishReason": 3}]},
        "refused or filtered",
    ),
    "an answer in the background": (
        {"model": "m", "input": INPUT, "background": True},
        DONE | {"status": "queued"},
        "the answer was not ready yet",
    ),
    "an item that stands elsewhere": (
        {"model": "m", "input": [*INPUT, {"type": "item_reference", "id": "i"}]},
        DONE,
        "the prompt continues one that is not in the log",
    ),
    "an item with tools": (
        {"model": "m", "input": [*INPUT, {"type": "additional_tools", "role": "developer"}]},
        DONE,
        "a tool that the service runs itself",
    ),
    "a part that nobody knows": (
        {"model": "m", "messages": [{"role": "user", "content": [{"type": "compaction"}]}]},
        CHAT,
        "a part of kind compaction",
    ),
    "a file": (
        {"model": "m", "messages": [{"role": "user", "content": [{"type": "input_file"}]}]},
        CHAT,
        "not text alone (image, audio or file)",
    ),
    "a system turn at the end": (
        {"model": "m", "messages": [*turns("Twice 2?"), {"role": "system", "content": "Now."}]},
        CHAT,
        "has a system turn that is not the first",
    ),
    "another call": (
        {},
        {"object": "conversation", "id": "c"},
        "a call of another kind than a chat",
    ),
}


@pytest.mark.parametrize("kind", REASONS)
def test_a_line_is_skipped_for_a_reason_that_a_reader_agrees_with(
    kind: str, tmp_path: Path
) -> None:
    request, response, why = REASONS[kind]
    rows, summary = made(tmp_path, [exchange("Plain."), {"request": request, "response": response}])
    assert len(rows) == 1 + (why is None)
    assert summary.skipped == ({} if why is None else {why: 1})


def test_what_a_request_offers_and_a_row_cannot_hold_is_counted(tmp_path: Path) -> None:
    tools = [{"type": "web_search"}, {"type": "function", "function": {"name": "f"}}]
    asked = exchange(CHAT)
    asked["request"] |= {"tools": tools, "response_format": {"type": "grammar"}}
    plain = exchange(CHAT, 1)
    plain["request"] |= {"tools": [], "response_format": {"type": "text"}}
    rows, summary = made(tmp_path, [asked, plain])
    assert len(rows) == 2
    assert summary.changed == {
        "kept without the tools that the service runs itself": 1,
        "kept without the form that the request asks of the answer": 1,
    }
