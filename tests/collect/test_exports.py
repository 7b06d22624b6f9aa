"""What other people's exports hold: read as it is meant, named, or refused with what to do."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.files import turns, write
from understudy.collect import init
from understudy.collect.collect import Summary, collect
from understudy.collect.work import CollectOptions
from understudy.config import Config
from understudy.data import formats
from understudy.errors import BadInput

Composed = Callable[..., Config]
SAID = turns("Q {n}?", "A {n}", system="Be brief.")
BARE = SAID[1:]
GEMINI = [
    {"role": "user", "parts": [{"text": "Q {n}?"}]},
    {"role": "model", "parts": [{"text": "A {n}"}]},
]
CALLED = {
    "request": {"contents": GEMINI[:1]},
    "response": {
        "candidates": [
            {
                "content": {"parts": [{"text": "Hm.", "thought": True}, {"text": "A {n}"}]},
                "finishReason": "STOP",
            }
        ]
    },
}
SHAPES: dict[str, tuple[dict[str, Any], list[dict[str, str]]]] = {
    "Anthropic, system in parts": (
        {"system": [{"type": "text", "text": "Be brief."}], "messages": BARE},
        SAID,
    ),
    "Gemini, to tune": (
        {"systemInstruction": {"parts": [{"text": "Be brief."}]}, "contents": GEMINI},
        SAID,
    ),
    "a number": ({"question": "Q {n}?", "answer": 4}, turns("Q {n}?", "4")),
    "a share": ({"question": "Q {n}?", "answer": 0.5}, turns("Q {n}?", "0.5")),
    "a truth value": ({"question": "Q {n}?", "answer": False}, turns("Q {n}?", "false")),
}


def file(path: Path, shape: dict[str, Any], rows: int = 6) -> Path:
    """Rows of one shape; `{n}` is the number of the row."""
    text = json.dumps(shape)
    return write(path, [json.loads(text.replace("{n}", str(n))) for n in range(rows)])


def kept(path: Path) -> tuple[list[dict[str, Any]], Summary]:
    out = path.with_name("out.jsonl")
    summary = collect([str(path)], out, CollectOptions(redact=()), max_broken=0.0)
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    return [row["messages"] for row in rows], summary


@pytest.mark.parametrize("name", SHAPES)
def test_an_export_is_collected_whole(name: str, tmp_path: Path) -> None:
    shape, wanted = SHAPES[name]
    found, summary = kept(file(tmp_path / "a.jsonl", shape))
    assert found[2] == json.loads(json.dumps(wanted).replace("{n}", "2"))
    assert len(found) == 6
    assert not summary.unread


def test_a_line_of_another_kind_is_read_for_itself(tmp_path: Path) -> None:
    rows = [{"prompt": "a", "response": "b"}, {"messages": turns("c", "d")}]
    assert kept(write(tmp_path / "a.jsonl", rows))[0] == [turns("a", "b"), turns("c", "d")]
    assert len(kept(write(tmp_path / "b.jsonl", rows[::-1]))[0]) == 2


LEFT = {
    "name": "kept without name of the turns",
    "reasoning_content": "kept without the thoughts beside the answer",
}


@pytest.mark.parametrize("field", LEFT)
@pytest.mark.parametrize("is_call", [True, False])
def test_what_a_turn_holds_beside_its_words_is_counted(
    field: str, is_call: bool, tmp_path: Path
) -> None:
    messages = [BARE[0] | {field: "bob"}, BARE[1]]
    choice = {"message": BARE[1], "finish_reason": "stop"}
    call = {"request": {"messages": messages[:1]}, "response": {"choices": [choice]}}
    shape = call if is_call else {"messages": messages}
    assert kept(file(tmp_path / "a.jsonl", shape))[1].changed == {LEFT[field]: 6}


THOUGHTS = {
    "openai": {
        "request": {"messages": BARE[:1]},
        "response": {"choices": [{"message": BARE[1] | {"reasoning_content": "Hm."}}]},
    },
    "a stream": {
        "request": {"messages": BARE[:1]},
        "response": [
            {"choices": [{"delta": {"reasoning_content": "Hm."}}]},
            {"choices": [{"delta": {"content": "A {n}"}, "finish_reason": "stop"}]},
        ],
    },
    "anthropic": {
        "request": {"model": "claude-x", "max_tokens": 9, "messages": BARE[:1]},
        "response": {
            "type": "message",
            "role": "assistant",
            "content": [{"type": "thinking", "thinking": "Hm."}, {"type": "text", "text": "A {n}"}],
            "stop_reason": "end_turn",
        },
    },
    "gemini": CALLED,
}


@pytest.mark.parametrize("name", THOUGHTS)
def test_thoughts_beside_an_answer_are_left_out_and_counted(name: str, tmp_path: Path) -> None:
    found, summary = kept(file(tmp_path / "a.jsonl", THOUGHTS[name]))
    assert found[0] == turns("Q 0?", "A 0")
    assert summary.changed == {LEFT["reasoning_content"]: 6}


def test_a_field_that_only_logs_give_meaning_is_named_in_a_data_set(tmp_path: Path) -> None:
    """The choices of a quiz, without which its question has no answer, and a second answer."""
    quiz = {"question": "Q {n}?", "choices": ["a", "b"], "answer": 1, "output": "b"}
    found, summary = kept(file(tmp_path / "a.jsonl", quiz))
    assert found[0] == turns("Q 0?", "b")
    assert summary.unread == {"choices": 6, "answer": 6}


# --- init -----------------------------------------------------------------------------------------


@pytest.fixture
def proposed(composed: Composed) -> Callable[[Path], init.Proposal]:
    """A function: a file → what `init` proposes for it."""
    return lambda path: init.propose(path, composed())


NESTED = {"meta": {"system_prompt": "Be brief.", "system_fingerprint": "fp"}, "talk": BARE}


@pytest.mark.parametrize("shape", [SHAPES["Gemini, to tune"][0], NESTED], ids=["gemini", "nested"])
def test_a_system_prompt_beside_turns_of_another_name_is_proposed(
    shape: dict[str, Any], proposed: Callable[[Path], init.Proposal], tmp_path: Path
) -> None:
    made = proposed(file(tmp_path / "a.jsonl", shape))
    assert made.found.pairs[0].messages == json.loads(json.dumps(SAID).replace("{n}", "0"))


BATCH = {
    "custom_id": "c{n}",
    "response": {"status_code": 200, "body": THOUGHTS["openai"]["response"]},
}


@pytest.mark.parametrize("shape", [CALLED, BATCH], ids=["calls", "the answers of a batch"])
def test_a_log_of_calls_is_no_data_set(
    shape: dict[str, Any], proposed: Callable[[Path], init.Proposal], tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match=r"is a log of calls .*`understudy collect"):
        proposed(file(tmp_path / "a b.jsonl", shape))


TURNS = [
    {"message_id": f"m{n}", "role": ("prompter", "assistant")[n % 2], "text": f"T {n}"}
    for n in range(6)
]
QUIZ = [{"question": f"Q {n}?", "choices": ["a", "b"], "answer": 1} for n in range(6)]


@pytest.mark.parametrize("rows", [TURNS, QUIZ], ids=["a turn a row", "a quiz"])
def test_what_is_no_prompt_and_no_answer_is_not_proposed_as_one(
    rows: list[dict[str, Any]], proposed: Callable[[Path], init.Proposal], tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match=r"needed are|writes numbers as text"):
        proposed(write(tmp_path / "a.jsonl", rows))


def test_a_table_without_names_loses_its_first_row_said(
    proposed: Callable[[Path], init.Proposal],
    composed: Composed,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "a.csv"
    path.write_text("".join(f"Q {n},A {n}\n" for n in range(9)))
    init.show(proposed(path), composed())
    assert "loses its first row so" in " ".join(capsys.readouterr().out.split())


def test_an_object_that_lists_conversations_is_a_file_of_them(
    proposed: Callable[[Path], init.Proposal], tmp_path: Path
) -> None:
    path = tmp_path / "a.json"
    talks = [{"id": str(n), "messages": turns(f"Q {n}?", "A")} for n in range(6)]
    path.write_text(json.dumps({"conversations": talks}))
    assert len(proposed(path).found.pairs) == 6


def test_answers_with_a_thought_in_them_are_told(
    proposed: Callable[[Path], init.Proposal], tmp_path: Path
) -> None:
    shape = {"messages": turns("Q {n}?", "<think>Hm.</think>A")}
    (warning,) = proposed(file(tmp_path / "a.jsonl", shape)).found.warnings()
    assert "6 of 6 answers hold a thought" in warning


def test_a_system_prompt_of_a_pair_may_come_in_parts() -> None:
    row = {"prompt": "Hi?", "response": "Hi.", "system": [{"type": "text", "text": "Be brief."}]}
    assert formats.conversation(row, "pairs") == turns("Hi?", "Hi.", system="Be brief.")
