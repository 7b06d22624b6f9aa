"""Langfuse: whatever framework was traced, a generation with a text answer is kept."""

import json
from pathlib import Path
from typing import Any

import pytest

from support.files import REAL, needs_real_data, turns, write
from understudy.collect.collect import Summary, collect
from understudy.collect.work import CollectOptions

ASKED = turns("Twice 2?", system="Be brief.")
WANTED = turns("Twice 2?", "It is 4.", system="Be brief.")
SAID = {"role": "assistant", "content": "It is 4."}
PARTS = [{"type": "text", "text": "It is 4."}]
REPRS = [
    "role='system' content='Be brief.' name=None tool_call_id=None tool_calls=None audio=None",
    "role='user' content=\"Twice 2?\" name=None tool_calls=[] metrics=MessageMetrics(time=None)",
]
LANGCHAIN = [
    "SystemMessage(content='Be brief.', additional_kwargs={}, response_metadata={})",
    "HumanMessage(content='Twice 2?', additional_kwargs={})",
]
TOOL = {"type": "function", "function": {"name": "f", "parameters": {}}}
GEMINI = {
    "config": {"system_instruction": "Be brief."},
    "contents": [{"role": "user", "parts": [{"text": "Twice 2?"}]}],
}
INPUTS: dict[str, Any] = {
    "messages": ASKED,
    "messages below": {"messages": ASKED, "temperature": 0},
    "messages as JSON": json.dumps(ASKED),
    "Pydantic AI": [
        turn | {"event.name": f"gen_ai.{turn['role']}.message", "gen_ai.message.index": n}
        for n, turn in enumerate(ASKED)
    ],
    "parts": [
        {"role": turn["role"], "parts": [{"type": "text", "content": turn["content"]}]}
        for turn in ASKED
    ],
    "Semantic Kernel": [turn | {"role": turn["role"].capitalize()} for turn in ASKED],
    "Vercel AI": {
        "system": "Be brief.",
        "messages": [ASKED[1] | {"content": [{"type": "text", "text": "Twice 2?"}]}],
    },
    "Vercel AI, a prompt": {"system": "Be brief.", "prompt": "Twice 2?"},
    "LlamaIndex": {
        "messages": [
            {
                "role": turn["role"],
                "additional_kwargs": {},
                "blocks": [{"block_type": "text", "text": turn["content"]}],
            }
            for turn in ASKED
        ]
    },
    "Strands": [
        {"role": turn["role"], "content": json.dumps([{"text": turn["content"]}])} for turn in ASKED
    ],
    "smolagents": [turn | {"role": f"MessageRole.{turn['role'].upper()}"} for turn in ASKED],
    "LangChain": [
        {
            "lc": 1,
            "type": "constructor",
            "id": ["x"],
            "kwargs": {"content": "Be brief.", "type": "system"},
        },
        {
            "lc": 1,
            "type": "constructor",
            "id": ["x"],
            "kwargs": {"content": "Twice 2?", "type": "human"},
        },
    ],
    "LangChain with a tool offered": [*ASKED, {"role": "tool", "content": TOOL}],
    "agno": {"messages": REPRS},
    "LangChain's objects": LANGCHAIN,
    "Gemini": GEMINI,
}
OUTPUTS: dict[str, Any] = {
    "text": "It is 4.",
    "a choice": [{"event.name": "gen_ai.choice", "index": 0, "message": SAID}],
    "a choice of Semantic Kernel": [
        {"index": 0, "finish_reason": "Stop", "message": {"role": "Assistant", **SAID}}
    ],
    "Vercel AI": {"text": "It is 4.", "toolCalls": [], "finishReason": "stop", "files": []},
    "Mastra": {"text": "It is 4.", "usage": {"totalTokens": 3}, "steps": [], "sources": []},
    "Strands": {"message": "It is 4.", "finish_reason": "end_turn"},
    "LlamaIndex": {"message": {"role": "assistant", "blocks": [
        {"block_type": "text", "text": "It is 4."}]}, "raw": {"id": 1}},
    "Bedrock": {"output": {"message": {"role": "assistant", "content": [
        {"text": "It is 4."}]}}, "stopReason": "end_turn"},
    "smolagents": {"role": "assistant", "content": "It is 4.", "tool_calls": None,
                   "raw": {"id": 1}, "token_usage": {}},
    "AutoGen": {"content": "It is 4.", "finish_reason": "stop", "usage": {}, "cached": False,
                "logprobs": None, "thought": None},
    "OpenAI's items": [{"id": "m", "type": "message", "role": "assistant", "status": "completed",
                        "content": [{"type": "output_text", "text": "It is 4.",
                                     "annotations": []}]}],
    "a list of one": ["It is 4."],
    "ADK": {"content": {"role": "model", "parts": [{"text": "It is 4."}]},
            "finish_reason": "STOP", "usage_metadata": {}, "author": "a", "invocation_id": "e"},
}  # fmt: skip
ANSWERS = [  # that are JSON objects of their own
    {"status": "open", "message": "Your order is late."},
    {"type": "refund", "text": "I want my money back."},
    {"name": "Ann", "text": "Hello."},
    {"content": "news", "type": "topic"},
]


def generation(given: Any, said: Any, **more: Any) -> dict[str, Any]:
    return {"type": "GENERATION", "traceId": "t", "input": given, "output": said, **more}


def made(path: Path, rows: list[Any]) -> tuple[list[Any], Summary]:
    out = path / "out.jsonl"
    summary = collect([str(write(path / "log.jsonl", rows))], out, CollectOptions(redact=()))
    return [json.loads(line)["messages"] for line in out.read_text().splitlines()], summary


@pytest.mark.parametrize("kind", INPUTS)
def test_the_prompt_of_a_framework_is_its_turns(kind: str, tmp_path: Path) -> None:
    for given in (INPUTS[kind], json.dumps(INPUTS[kind])):
        rows, _ = made(tmp_path, [generation(given, "It is 4.")])
        assert rows == [WANTED]


@pytest.mark.parametrize("kind", OUTPUTS)
def test_the_answer_of_a_framework_is_its_text(kind: str, tmp_path: Path) -> None:
    for said in (OUTPUTS[kind], json.dumps(OUTPUTS[kind])):
        rows, _ = made(tmp_path, [generation(ASKED, said)])
        assert rows == [WANTED]


@pytest.mark.parametrize("said", ANSWERS)
def test_an_object_with_fields_of_its_own_is_the_answer(said: Any, tmp_path: Path) -> None:
    rows, _ = made(tmp_path, [generation(ASKED, said)])
    assert json.loads(rows[0][-1]["content"]) == said


def test_values_that_a_template_gets_are_a_prompt_in_json(tmp_path: Path) -> None:
    rows, _ = made(tmp_path, [generation({"city": "Bern", "days": 3}, "Sunny.")])
    assert rows == [turns('{"city":"Bern","days":3}', "Sunny.")]


def test_a_tool_s_answer_without_its_call_is_a_reason(tmp_path: Path) -> None:
    asked = [*ASKED, {"role": "tool", "content": "[1]", "tool_call_id": "1"}]
    shown = [*REPRS, "role='tool' content='[1]' tool_call_id='c1'"]
    kept = generation(ASKED, "It is 4.")
    _, summary = made(tmp_path, [kept, generation(asked, "4"), generation(shown, "4")])
    assert summary.skipped == {
        "a tool's result without its call": 1,
        "tool calls that their logger wrote as Python shows them": 1,
    }


def test_a_trace_gives_its_generations_their_user_and_session(tmp_path: Path) -> None:
    trace = {"id": "t", "sessionId": "s1", "userId": "ann", "input": "?", "output": "!"}
    steps = [{"type": "SPAN", "traceId": "t", "name": "step"}, generation(ASKED, "It is 4.")]
    alone = {"id": "u", "sessionId": "s2", "input": "Thrice 2?", "output": "It is 6."}
    lines = [
        {"trace": trace, "observations": steps},
        alone | {"observations": [{"type": "SPAN", "traceId": "u", "name": "step"}]},
    ]
    out = tmp_path / "out.jsonl"
    log = write(tmp_path / "log.jsonl", lines)
    summary = collect([str(log)], out, CollectOptions(redact=()))
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["messages"] for row in rows] == [WANTED, turns("Thrice 2?", "It is 6.")]
    assert [row["group_id"] for row in rows] == ["ann", "s2"]
    assert summary.lines == 4
    assert summary.skipped == {"not a generation but a step around it": 2}


@needs_real_data
def test_of_the_real_exports_only_what_their_loggers_broke_is_left_out(tmp_path: Path) -> None:
    folder = Path(REAL or ".") / "logs" / "langfuse"
    out = tmp_path / "out.jsonl"
    paths = [str(path) for path in sorted(folder.glob("*.json"))]
    summary = collect(paths, out, CollectOptions(redact=()), max_broken=0)
    whole = summary.kept - summary.steps
    assert whole + summary.duplicates + summary.skipped.total() == summary.lines
    assert set(summary.skipped) == {
        "not a generation but a step around it",
        "tool calls that their logger wrote as Python shows them",
        "an output that its logger wrote as None",
        "has no user turn before the last answer",
    }
    assert (summary.kept, summary.steps) == (9, 1)
