"""Turns of weight 0: kept from somebody's file to the labels, and no token of them is learnt."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support import tiny_model
from support.files import write
from understudy import locations
from understudy.config import Config, changed
from understudy.config.source import Columns
from understudy.data import coverage, formats, split, subset
from understudy.data.prepare import prepare
from understudy.models import load
from understudy.records import Coverage, Message, read_rows
from understudy.training.data import IGNORED, encode

# Qwen 3 writes the last answer in another way than earlier ones, Mistral a space before its stop.
LAST_DIFFERS = """{%- for m in messages %}<|im_start|>{{ m.role }}
{% if m.role == 'assistant' and loop.last %}<think>

</think>

{% endif %}{{ m.content }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
<think>

</think>

{% endif %}"""
SPACED = (
    "{% for m in messages %}{{ m.role }}: {{ m.content | trim }}"
    "{% if m.role == 'assistant' %} <|im_end|>{% endif %}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)
OWN = ["chatml", "plain", "gemma", "granite"]
TEMPLATES = {name: None for name in OWN} | {"last differs": LAST_DIFFERS, "spaced": SPACED}
WORDS = ["red", "blue", "What is", "item 7", "\n\n- one\n- two\n", "naïve", "1", "a", "ß", "  "]


def conversation(rng: random.Random, with_system: bool) -> list[Message]:
    """Turns of random text, some of weight 0; the last is to be learnt."""
    made: list[Message] = [{"role": "system", "content": "Be brief."}] if with_system else []
    for _ in range(rng.randint(1, 4)):
        for role in ("user", "assistant"):
            text = " ".join(rng.choices(WORDS, k=rng.randint(1, 6)))
            text = (
                rng.choice(["", "a", "1", "\n"]) + "w" + text + rng.choice(["w", "a", "1", "w\n"])
            )
            made.append({"role": role, "content": text})
            if rng.random() < 0.4:
                made[-1]["weight"] = 0
    made[-1].pop("weight", None)
    return made


@pytest.mark.parametrize("name", TEMPLATES)
def test_no_token_of_a_turn_of_weight_0_is_learnt_and_every_other_is(name: str, base: Path) -> None:
    config = tiny_model.build(base)
    tokenizer = load.tokenizer(config.model)
    stop = load.stop_id(tokenizer, config.model)
    own = TEMPLATES[name]
    file = locations.chat_template(name) if own is None else None
    tokenizer.chat_template = own or file.read_text(encoding="utf-8")  # type: ignore[union-attr]
    rng, checked = random.Random(name), 0
    for number in range(40):
        messages = conversation(rng, with_system=name != "gemma" and number % 2 == 0)
        row = Coverage(f"r{number}", "g", messages, "t", None, "s", "train")
        one = encode(row, tokenizer, stop, "all")
        if one is None:  # as without weights
            continue
        plain = [{"role": turn["role"], "content": turn["content"]} for turn in messages]
        bare = encode(Coverage("b", "g", plain, "t", None, "s", "train"), tokenizer, stop, "all")
        assert bare is not None
        assert bare.ids == one.ids
        text = tokenizer.apply_chat_template(plain, tokenize=False)
        made = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        assert made["input_ids"][: len(one.ids)] == list(one.ids)
        unlearnt, at = set(), 0
        for turn in messages:
            said = turn["content"].strip() if "trim" in tokenizer.chat_template else turn["content"]
            at = text.index(said, at)
            if turn.get("weight") == 0:
                unlearnt.update(range(at, at + len(said)))
            at += len(said)
        offsets = made["offset_mapping"][: len(one.ids)]
        touches = [not unlearnt.isdisjoint(range(*place)) for place in offsets]
        for n, (label, (begin, _)) in enumerate(zip(one.labels, offsets, strict=True)):
            if n == 0 or touches[n] or (one.ids[n] == stop and unlearnt & {begin - 1, begin - 2}):
                assert label == IGNORED, (text, n)
            elif not text[slice(*offsets[n])].isspace() or not any(touches[n - 1 : n + 2]):
                # White space beside such a turn may be one token with the first of its words.
                assert label == one.ids[n], (text, n)
        checked += 1
    assert checked > 25


def test_weights_come_from_a_file_to_the_training_set_and_change_nothing_else(
    composed: Callable[..., Config], tmp_path: Path
) -> None:
    """Ids and what models are shown are those of the same rows without weights."""
    rng = random.Random(0)
    rows = [{"messages": conversation(rng, with_system=True)} for _ in range(30)]
    bare = [
        {
            "messages": [
                {"role": turn["role"], "content": turn["content"]} for turn in row["messages"]
            ]
        }
        for row in rows
    ]
    sets = {}
    for name, lines in (("weighted", rows), ("bare", bare)):
        config = composed("coverage=file", "coverage.path=x", "task=closed_qa")
        config = changed(config, {"coverage.path": str(write(tmp_path / f"{name}.jsonl", lines))})
        config = prepare(config, tmp_path / "hub.json").config
        here, made = tmp_path / name, dict[str, Path]()
        for stage, run in (
            ("coverage", coverage.run),
            ("split", split.run),
            ("subset", subset.run),
        ):
            job = tiny_model.job(here / stage, config, **made)
            job.params["data_size"] = 0
            run(job)
            made[stage] = job.out
        sets[name] = list(read_rows(made["subset"] / "rows.jsonl", Coverage))
    given = {json.dumps(row["messages"]) for row in rows}
    assert {json.dumps(row.messages) for row in sets["weighted"]} <= given
    assert any(turn.get("weight") == 0 for row in sets["weighted"] for turn in row.messages)
    assert [row.id for row in sets["weighted"]] == [row.id for row in sets["bare"]]
    assert [row.prompt for row in sets["weighted"]] == [row.prompt for row in sets["bare"]]
    assert "weight" not in (tmp_path / "bare" / "subset" / "out" / "rows.jsonl").read_text()


@pytest.mark.parametrize("weight", [0.5, "half", 2])
def test_a_weight_that_is_neither_0_nor_1_is_no_weight(weight: Any, tmp_path: Path) -> None:
    given = [
        {"role": "user", "content": "Hi?"},
        {"role": "assistant", "content": "Hi.", "weight": weight},
    ]
    with pytest.raises(formats.BadRow, match=r"weight .* neither 0 nor 1"):
        formats.conversation({"messages": given}, "messages", Columns(weight="weight"))


def test_a_loss_that_somebody_measured_is_no_weight() -> None:
    assert formats.weight_of([{"loss": 0.0}, {"loss": 0.31}]) is None
    assert formats.weight_of([{"loss": False}, {"loss": None}]) == "loss"
