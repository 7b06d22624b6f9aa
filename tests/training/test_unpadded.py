"""Rows as a line of tokens: the loss and every gradient are those of the padded batch."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import Gemma3ForCausalLM, Gemma3TextConfig, LlamaConfig, LlamaForCausalLM

from understudy.errors import BadInput
from understudy.training import unpadded
from understudy.training.data import IGNORED, Conversation, conversations

SHAPE: dict[str, Any] = {
    **{"vocab_size": 50, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2},
    **{"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 4, "pad_token_id": 0},
}
# Prompt and answer; all prompts begin with the same tokens, one is nothing else, one row is long.
ROWS = [
    ([5, 6, 7, 8, 9], [10, 2]),
    ([5, 6, 7], [11, 12, 13, 2]),
    ([5, 6, 7, 8, 20, 21, 22, 23, 24, 25, 26], [2]),
]


def rows(*pairs: tuple[list[int], list[int]]) -> list[dict[str, Any]]:
    return [
        {"input_ids": prompt + answer, "labels": [IGNORED] * len(prompt) + answer}
        for prompt, answer in pairs
    ]


def llama() -> Any:
    return LlamaForCausalLM(LlamaConfig(**SHAPE))


def gemma() -> Any:
    """Windows that are shorter than rows, in half of the layers."""
    shape = SHAPE | {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 4}
    return Gemma3ForCausalLM(Gemma3TextConfig(**shape))


@pytest.mark.parametrize("make", [llama, gemma])
@pytest.mark.parametrize("pairs", [ROWS, [([1, 2], [3]), ([4, 5, 6], [7, 8])], ROWS[:1]])
def test_loss_and_gradients_are_those_of_the_padded_batch(
    make: Callable[[], Any], pairs: list[tuple[list[int], list[int]]]
) -> None:
    torch.manual_seed(0)
    model, made = make().double(), rows(*pairs)
    width, items = max(len(row["input_ids"]) for row in made), 3
    ids, labels, mask = (torch.zeros(len(made), width, dtype=torch.long) for _ in range(3))
    for number, row in enumerate(made):
        length = len(row["input_ids"])
        ids[number, :length] = torch.tensor(row["input_ids"])
        labels[number] = torch.tensor(row["labels"] + [IGNORED] * (width - length))
        mask[number, :length] = 1
    model(ids, attention_mask=mask, labels=labels, num_items_in_batch=items).loss.backward()
    before = {name: part.grad.clone() for name, part in model.named_parameters()}
    stock = model(ids, attention_mask=mask, labels=labels, num_items_in_batch=items).loss
    model.zero_grad()
    unpadded.attend(model)
    found = unpadded.loss(model, unpadded.collate(made), items)
    found.backward()
    assert float(found.detach()) == pytest.approx(float(stock.detach()), abs=1e-6)
    for name, part in model.named_parameters():
        assert torch.allclose(part.grad, before[name], atol=1e-6), name  # losses are fp32


def test_what_all_rows_begin_with_stands_once_and_the_rows_can_be_read_back() -> None:
    line = unpadded.collate(rows(*ROWS))
    assert line["line"].tolist() == [2, 5, 5, 10]  # 7 is shared, too, but predicts an answer
    assert line["position_ids"].tolist() == [[0, 1, *range(2, 7), *range(2, 7), *range(2, 12)]]
    assert unpadded.tokens(line) == 7 + 7 + 12
    read = list(conversations(line))
    assert read == [Conversation(row["input_ids"], row["labels"]) for row in rows(*ROWS)]


def test_nothing_is_shared_where_prompts_have_a_loss_too() -> None:
    made = [row | {"labels": [IGNORED, *row["input_ids"][1:]]} for row in rows(*ROWS)]
    assert unpadded.collate(made)["line"].tolist() == [0, 7, 7, 12]


def test_several_processes_and_packing_are_refused(composed: Callable[..., Any]) -> None:
    for word in ("trainer.packing=true", "accelerate=ddp"):
        key, _, value = word.partition("=")
        changes = {"trainer.unpadded": True, "accelerate.kind": "single"}
        changes |= {"accelerate.kind": value} if key == "accelerate" else {key: True}
        with pytest.raises(BadInput, match=f"{word} is asked for beside"):
            check(composed("trainer=tiny"), changes)


def check(config: Any, changes: dict[str, Any]) -> None:
    from understudy.config import changed
    from understudy.config.training import check_recipe

    made = changed(config, changes)
    check_recipe(made.trainer, made.model, made.accelerate.kind)


@pytest.mark.slow
def test_a_training_goes_as_with_padded_batches(tmp_path: Any, base: Any) -> None:
    import json

    from support import tiny_model
    from understudy.training import finetune

    curves = []
    for name, is_unpadded in (("padded", False), ("line", True)):
        root = tmp_path / name
        subset = tiny_model.upstream(root / "subset", tiny_model.rows(10))
        split = tiny_model.upstream(root / "split", tiny_model.rows(4, "validation"))
        changes = {"trainer__unpadded": is_unpadded, "trainer__kind": "lora"}
        config = tiny_model.build(base, trainer__lora_dropout=0.0, **changes)
        job = tiny_model.job(root, config, subset=subset, split=split)
        finetune.run(job)
        text = (job.out / "curve.jsonl").read_text()
        curves.append([json.loads(line) for line in text.splitlines()])
        assert "understudy_lines" not in (job.out / "model/adapter_config.json").read_text()
    for padded, line in zip(*curves, strict=True):
        assert line["train_loss"] == pytest.approx(padded["train_loss"], abs=1e-4)
        if padded["validation_loss"] is not None:
            assert line["validation_loss"] == pytest.approx(padded["validation_loss"], abs=1e-4)
