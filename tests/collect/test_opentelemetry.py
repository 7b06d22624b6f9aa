"""OpenTelemetry's GenAI conventions: every place where prompt and answer have stood, and OTLP."""

import json
from pathlib import Path
from typing import Any

import pytest

from support.files import turns, write
from understudy.collect.collect import Summary, collect
from understudy.collect.work import CollectOptions

IDS = {"traceId": "5b8efff798038103d269b633813fc60c", "spanId": "eee19b7ec3c1b174"}
MODEL = {"gen_ai.operation.name": "chat", "gen_ai.response.model": "gpt-4o-2024-08-06"}
ASKED = turns("Twice 2?", system="Be brief.")
WANTED = turns("Twice 2?", "It is 4.", system="Be brief.")


def typed(value: Any) -> dict[str, Any]:
    """A value as OTLP's JSON writes it."""
    if isinstance(value, dict):
        items = [{"key": key, "value": typed(item)} for key, item in value.items()]
        return {"kvlistValue": {"values": items}}
    if isinstance(value, list):
        return {"arrayValue": {"values": [typed(item) for item in value]}}
    if isinstance(value, bool):
        return {"boolValue": value}
    return {"intValue": str(value)} if isinstance(value, int) else {"stringValue": str(value)}


def listed(fields: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value": typed(value)} for key, value in fields.items()]


def event(name: str, fields: dict[str, Any]) -> dict[str, Any]:
    return {"timeUnixNano": "1", "name": name, "attributes": listed(fields)}


def span(attributes: dict[str, Any], events: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    times = {"startTimeUnixNano": "1", "endTimeUnixNano": "2", "kind": 3}
    more = {"events": events} if events else {}
    return {**IDS, "name": "chat", **times, "attributes": listed(MODEL | attributes), **more}


def logged(name: str, body: Any, **more: Any) -> dict[str, Any]:
    return {**IDS, "timeUnixNano": "1", "eventName": name, "body": typed(body), **more}


def parts(role: str, text: str, **more: Any) -> dict[str, Any]:
    return {"role": role, "parts": [{"type": "text", "content": text}], **more}


SAID = {"role": "assistant", "content": "It is 4."}
CHOICE = {"index": 0, "finish_reason": "stop", "message": SAID}
INSTRUCTIONS = {
    "gen_ai.system_instructions": json.dumps([{"type": "text", "content": "Be brief."}])
}
MESSAGES = {
    **INSTRUCTIONS,
    "gen_ai.input.messages": json.dumps([parts("user", "Twice 2?")]),
    "gen_ai.output.messages": json.dumps([parts("assistant", "It is 4.", finish_reason="stop")]),
}
STRUCTURED = {name: json.loads(value) for name, value in MESSAGES.items()}
TURNS = [
    ("gen_ai.system.message", {"content": "Be brief."}),
    ("gen_ai.user.message", {"content": "Twice 2?"}),
]
IN_JSON = [(name, {"gen_ai.event.content": json.dumps(fields)}) for name, fields in TURNS]
NUMBERED = {
    "gen_ai.prompt.0.role": "system",
    "gen_ai.prompt.0.content": "Be brief.",
    "gen_ai.prompt.1.role": "user",
    "gen_ai.prompt.1.content": "Twice 2?",
    "gen_ai.completion.0.role": "assistant",
    "gen_ai.completion.0.content": "It is 4.",
    "gen_ai.completion.0.finish_reason": "stop",
}
SPANS: dict[str, list[dict[str, Any]]] = {
    "attributes": [span(MESSAGES)],
    "attributes with structure": [span(STRUCTURED)],
    "an event with the details": [
        span({}, [event("gen_ai.client.inference.operation.details", MESSAGES)])
    ],
    "an event a turn": [
        span(
            {},
            [event(name, fields) for name, fields in TURNS]
            + [event("gen_ai.choice", {"finish_reason": "stop", "message": json.dumps(SAID)})],
        )
    ],
    "events with JSON": [
        span(
            {},
            [event(name, fields) for name, fields in IN_JSON]
            + [event("gen_ai.choice", {"gen_ai.event.content": json.dumps(CHOICE)})],
        )
    ],
    "events with contents": [
        span(
            {},
            [
                event("gen_ai.content.prompt", {"gen_ai.prompt": json.dumps(ASKED)}),
                event("gen_ai.content.completion", {"gen_ai.completion": json.dumps([SAID])}),
            ],
        )
    ],
    "contents": [span({"gen_ai.prompt": json.dumps(ASKED), "gen_ai.completion": "It is 4."})],
    "numbers": [span(NUMBERED)],
}
LOGS = [*(logged(name, fields) for name, fields in TURNS), logged("gen_ai.choice", CHOICE)]


def spans(records: list[dict[str, Any]]) -> dict[str, Any]:
    scope = {"scope": {"name": "opentelemetry.instrumentation.openai_v2"}, "spans": records}
    resource = {"attributes": listed({"service.name": "desk"})}
    return {"resourceSpans": [{"resource": resource, "scopeSpans": [scope]}]}


def logs(records: list[dict[str, Any]]) -> dict[str, Any]:
    scope = {"scope": {"name": "openai_v2"}, "logRecords": records}
    return {"resourceLogs": [{"resource": {"attributes": []}, "scopeLogs": [scope]}]}


def made(path: Path, lines: list[dict[str, Any]]) -> tuple[list[Any], Summary]:
    out = path / "out.jsonl"
    summary = collect([str(write(path / "otlp.json", lines))], out, CollectOptions(redact=()))
    return [json.loads(line)["messages"] for line in out.read_text().splitlines()], summary


@pytest.mark.parametrize("kind", SPANS)
@pytest.mark.parametrize("wrapped", [True, False])
def test_a_span_gives_its_exchange(kind: str, wrapped: bool, tmp_path: Path) -> None:
    rows, summary = made(tmp_path, [spans(SPANS[kind])] if wrapped else SPANS[kind])
    assert rows == [WANTED]
    assert not summary.unread
    assert set(summary.formats.values()) == {"opentelemetry"}


def test_log_records_of_a_span_are_brought_together_over_lines_and_files(tmp_path: Path) -> None:
    rows, summary = made(tmp_path, [logs(LOGS[:1]), spans([span({})]), logs(LOGS[1:])])
    assert rows == [WANTED]
    assert (summary.lines, summary.joined, summary.kept) == (4, 4, 1)
    assert not summary.unread


def test_an_answer_that_is_json_stays_as_it_was_written(tmp_path: Path) -> None:
    text = '{"intent":  "refund"}'
    record = {
        **MESSAGES,
        "gen_ai.output.messages": json.dumps([parts("assistant", text, finish_reason="stop")]),
    }
    turned = [*LOGS[:2], logged("gen_ai.choice", {**CHOICE, "message": {"content": text}})]
    for lines in ([spans([span(record)])], [logs(turned)]):
        rows, _ = made(tmp_path, lines)
        assert rows[0][-1]["content"] == text


def test_what_is_no_answer_is_skipped_for_its_reason(tmp_path: Path) -> None:
    call = {"type": "tool_call", "id": "1", "name": "f", "arguments": {}}
    cut = json.dumps([parts("assistant", "It", finish_reason="length")])
    called = json.dumps([{"role": "assistant", "parts": [call], "finish_reason": "tool_call"}])
    two = json.dumps([parts("assistant", "4"), parts("assistant", "four")])
    records = [
        span(MESSAGES),
        span(MESSAGES | {"gen_ai.output.messages": cut}),
        span(MESSAGES | {"gen_ai.output.messages": called}),
        span(MESSAGES | {"gen_ai.output.messages": two}),
        span(MESSAGES | {"error.type": "timeout"}),
        span(MESSAGES) | {"status": {"code": 2}},
        span(MESSAGES | {"gen_ai.operation.name": "execute_tool"}),
        {**IDS, "name": "GET", "attributes": listed({"http.request.method": "GET"})},
        span({}) | {"spanId": "b7ad6b7169203331"},
    ]
    rows, summary = made(tmp_path, [spans(records)])
    calls = [{"id": "call00000", "name": "f", "arguments": {}}]
    called_turn = {"role": "assistant", "content": None, "tool_calls": calls}
    assert rows == [WANTED, [*WANTED[:-1], called_turn]]
    assert summary.skipped == {
        "the answer is cut off": 1,
        "several answers to one request": 1,
        "the call failed": 2,
        "not a generation but a step around it": 2,
        "without input or output": 1,
    }
    assert summary.lines == len(records)


def test_the_conversation_of_a_span_is_its_group(tmp_path: Path) -> None:
    records = [
        span(MESSAGES | {"gen_ai.conversation.id": f"c{n}", "gen_ai.prompt.name": str(n)})
        for n in range(2)
    ]
    out = tmp_path / "out.jsonl"
    log = write(tmp_path / "otlp.json", [spans(records[:1])])
    collect([str(log)], out, CollectOptions(redact=()))
    assert json.loads(out.read_text())["group_id"] == "c0"
