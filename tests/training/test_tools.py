"""Rows with tools as a trainer gets them: the loss is on calls, and calls come back from tokens."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from support.files import REAL, needs_real_data
from understudy.config import Config
from understudy.models import load
from understudy.prompts import chat
from understudy.records import Coverage
from understudy.training.data import IGNORED, encode

FOLDER = Path(__file__).parents[1] / "support" / "templates"
NATIVE = ("hermes", "llama", "mistral")
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
CALL = {"id": "call00000", "name": "weather", "arguments": {"city": "Bern"}}
TALK = [
    {"role": "user", "content": "Warm?"},
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "call00000", "content": "NINE"},
    {"role": "assistant", "content": "No."},
]


def made(messages: list[dict[str, Any]], tools: list[Any] | None) -> Coverage:
    about = {"id": "a", "group_id": "g", "task": "t", "licence": None, "source": "s"}
    return Coverage(messages=messages, split="train", tools=tools, **about)


@pytest.fixture(scope="module")
def tokenizers() -> dict[str, Any]:
    from understudy import config as configuration
    from understudy.config.compose import compose

    config: Config = configuration.build(compose(["model=tiny"], None))
    found = {"own": load.tokenizer(config.model)}
    for name in NATIVE:
        found[name] = load.tokenizer(config.model)
        found[name].chat_template = (FOLDER / f"{name}.jinja").read_text()
    return found


def learnt(row: Coverage, tokenizer: Any, loss: Any = "answer") -> str:
    """The text that has a loss."""
    stop = load.single_token(tokenizer, "<|im_end|>")
    assert stop is not None
    one = encode(row, tokenizer, stop, loss)
    assert one is not None
    ids = [label for label in one.labels if label not in (IGNORED, stop)]
    return str(tokenizer.decode(ids, clean_up_tokenization_spaces=False))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["own", *NATIVE])
def test_the_loss_is_on_calls_and_not_on_what_tools_say(
    name: str, tokenizers: dict[str, Any]
) -> None:
    tokenizer = tokenizers[name]
    said = learnt(made(TALK[:2], [TOOL]), tokenizer)
    assert chat.heard(tokenizer.chat_template, said, [TOOL]) == ("", [CALL])
    assert learnt(made(TALK, [TOOL]), tokenizer).strip() == "No."
    everything = learnt(made(TALK, [TOOL]), tokenizer, "all")
    assert "Bern" in everything
    assert "Warm" in everything
    assert "NINE" not in everything


@pytest.mark.slow
@needs_real_data
@pytest.mark.parametrize("name", ["own", *NATIVE])
def test_the_calls_of_real_rows_come_back_from_template_encoding_and_parser(
    name: str, tokenizers: dict[str, Any]
) -> None:
    path, tokenizer = Path(REAL or ".") / "workloads" / "bfcl_tool_calls.jsonl.gz", tokenizers[name]
    lost = []
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    for row in rows[:: 1 if name == "own" else 7]:
        calls = [one | {"id": f"call{n:05}"} for n, one in enumerate(json.loads(row["response"]))]
        if not calls:
            continue
        turn = {"role": "assistant", "content": None, "tool_calls": calls}
        said = learnt(made([*row["messages"], turn], row["tools"]), tokenizer)
        if chat.heard(tokenizer.chat_template, said, row["tools"]) != ("", calls):
            lost.append(row["id"])
    assert lost == []
