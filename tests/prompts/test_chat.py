"""Conversations with tools in every family of chat templates, and answers as calls again."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy import locations
from understudy.prompts import chat

FOLDER = Path(__file__).parents[1] / "support" / "templates"
TEMPLATES = {path.stem: path.read_text() for path in sorted(FOLDER.glob("*.jinja"))}
TEMPLATES |= {"own": (locations.chat_template("chatml")).read_text()}
CALL = {"id": "call00000", "name": "weather", "arguments": {"city": "Zürich", "days": [1, None]}}
OTHER = {"id": "call00001", "name": "time.now", "arguments": {}}
TOOLS = [
    {"type": "function", "function": {"name": name, "parameters": {"type": "object"}}}
    for name in ("weather", "time.now")
]
ASK = {"role": "user", "content": "Warm?"}


def answer(template: str, turn: dict[str, Any]) -> str:
    """What a model that has learnt a turn says."""
    jinja2 = pytest.importorskip("jinja2.sandbox")
    made = jinja2.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    made.filters["tojson"] = lambda value, indent=None: json.dumps(
        value, ensure_ascii=False, indent=indent
    )
    texts = []
    for messages, opens in (([ASK], True), ([ASK, turn], False)):
        said = chat.rendered(template, messages, TOOLS)
        texts.append(
            made.from_string(template).render(
                messages=said.messages, tools=said.tools, add_generation_prompt=opens
            )
        )
    prompt, whole = texts
    assert whole.startswith(prompt)
    return whole.removeprefix(prompt).partition("<|im_end|>")[0]


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_is_of_its_family(name: str) -> None:
    assert chat.family(TEMPLATES[name]) == name


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("calls", [[CALL], [CALL, OTHER], [OTHER]])
def test_calls_come_back_from_every_family(name: str, calls: list[dict[str, Any]]) -> None:
    said = answer(TEMPLATES[name], {"role": "assistant", "content": None, "tool_calls": calls})
    wanted = [one | {"id": f"call{n:05}"} for n, one in enumerate(calls)]
    assert chat.heard(TEMPLATES[name], said, TOOLS) == ("", wanted)


@pytest.mark.parametrize("name", ["hermes", "own"])
def test_words_before_calls_stay_words(name: str) -> None:
    turn = {"role": "assistant", "content": "Let me see.", "tool_calls": [CALL]}
    said = answer(TEMPLATES[name], turn)
    assert chat.heard(TEMPLATES[name], said, TOOLS) == ("Let me see.", [CALL])


WORDS = [
    *("It is 9 C.", "", '{"city": "Bern"}', '{"name": "weather"', "[1, 2]", "[", '["weather"]'),
    *("<tool_call>{</tool_call>", '[{"name": "weather", "arguments": "x"}]', "[TOOL_CALLS] no"),
    *("Use <tool_call> like this.", '{"name": 1, "parameters": {}}'),
]


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("text", WORDS)
def test_what_is_no_whole_call_stays_as_it_was_said(name: str, text: str) -> None:
    assert chat.heard(TEMPLATES[name], text, TOOLS) == (text, [])


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet='{}[]"<>/:,\\ \n|namergutolcwih1_') | st.text())
def test_any_answer_is_read_without_a_traceback(text: str) -> None:
    for template in TEMPLATES.values():
        found = chat.heard(template, text, TOOLS)
        assert found.calls or found.text == text
        for end in range(len(text)):  # what a stream tells before the end stays true
            told = text[: chat.words_so_far(template, text[:end])]
            assert len(told) <= end
            assert not found.calls or found.text.startswith(told.lstrip())


def test_a_conversation_without_tools_reaches_the_template_as_it_is() -> None:
    messages = [ASK, {"role": "assistant", "content": "No."}]
    for template in TEMPLATES.values():
        said = chat.rendered(template, messages, None)
        assert said.messages is messages
        assert said.tools is None


def test_a_template_without_tools_gets_them_as_words_of_the_roles_it_has() -> None:
    messages = [
        ASK,
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "call00000", "content": "9 C"},
        {"role": "user", "content": "And now?"},
    ]
    said = chat.rendered(TEMPLATES["own"], messages, TOOLS[:1])
    assert [turn["role"] for turn in said.messages] == ["user", "assistant", "user"]
    head, _, question = said.messages[0]["content"].rpartition("\n\n")
    assert question == "Warm?"
    assert '{"name":"weather","parameters":{"type":"object"}}' in head
    assert said.messages[2]["content"] == '{"name":"weather","result":"9 C"}\nAnd now?'


def test_a_system_turn_keeps_its_words_before_the_tools() -> None:
    said = chat.rendered(TEMPLATES["own"], [{"role": "system", "content": "Be brief."}, ASK], TOOLS)
    assert said.messages[0]["content"].startswith("Be brief.\n\nTools")
    assert said.messages[1] == ASK
