"""Every model of conf/model: its facts, its chat template, and its architecture in training."""

import re
from pathlib import Path
from typing import Any

import pytest

from support import tiny_model
from understudy import config, locations
from understudy.config import ModelConfig, changed
from understudy.config.compose import Composer
from understudy.inference import stage
from understudy.models import load
from understudy.training import finetune
from understudy.training.data import encode

CONF = locations.shared("conf") / "model"
COMPOSER = Composer(None)
# Their weights come with packages, and not from the hub: tests/models/test_gguf.py
PACKAGED = {"tiny", "smollm2_135m", "gemma3_270m"}
NAMES = sorted({path.stem for path in CONF.glob("*.yaml")} - PACKAGED)
# Beginning of a text, end of a text, and what else the template needs: as on the models' cards.
TOKENS: dict[str, tuple[str | None, str, list[str]]] = {
    "gemma_2b": ("<bos>", "<eos>", ["<start_of_turn>", "<end_of_turn>"]),
    "gemma_7b": ("<bos>", "<eos>", ["<start_of_turn>", "<end_of_turn>"]),
    "gemma_3_1b": ("<bos>", "<eos>", ["<start_of_turn>", "<end_of_turn>"]),
    "mistral_7b": ("<s>", "</s>", ["[INST]", "[/INST]"]),
    "llama3_8b": ("<|begin_of_text|>", "<|end_of_text|>", ["<|eot_id|>"]),
    "llama3_2_1b": ("<|begin_of_text|>", "<|end_of_text|>", ["<|eot_id|>"]),
    "llama3_2_3b": ("<|begin_of_text|>", "<|end_of_text|>", ["<|eot_id|>"]),
    "qwen3_4b": (None, "<|im_end|>", ["<|im_start|>", "<|endoftext|>"]),
    "smollm3_3b": (None, "<|im_end|>", ["<|im_start|>"]),
    "granite_3_3_2b": (None, "<|end_of_text|>", ["<|start_of_role|>", "<|end_of_role|>"]),
}
PLAIN = "### System:\nBe kind\n\n### User:\nHi\n\n### Assistant:\n"
CHATML = "<|im_start|>system\nBe kind<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
TURNS = "<start_of_turn>user\nBe kind\n\nHi<end_of_turn>\n<start_of_turn>model\n"
ROLES = "<|start_of_role|>system<|end_of_role|>Be kind<|end_of_text|>\n"
PROMPTS = {
    "gemma_2b": f"<bos>{PLAIN}",
    "gemma_7b": f"<bos>{PLAIN}",
    "mistral_7b": f"<s>{PLAIN}",
    "llama3_8b": f"<|begin_of_text|>{PLAIN}",
    "llama3_2_1b": f"<|begin_of_text|>{PLAIN}",
    "llama3_2_3b": f"<|begin_of_text|>{PLAIN}",
    "qwen3_4b": f"{CHATML}<|im_start|>assistant\n",
    "smollm3_3b": f"{CHATML}<|im_start|>assistant\n",
    "gemma_3_1b": f"<bos>{TURNS}",
    "granite_3_3_2b": f"{ROLES}<|start_of_role|>user<|end_of_role|>Hi<|end_of_text|>\n"
    "<|start_of_role|>assistant<|end_of_role|>",
}
MESSAGES = [{"role": "system", "content": "Be kind"}, {"role": "user", "content": " Hi\n"}]


def model(name: str, *overrides: str) -> ModelConfig:
    values = COMPOSER.values([f"model={name}", "trainer=lora", *overrides])
    return config.build(values).model


def tokenizer(name: str) -> Any:
    """A small tokenizer with the special tokens of a real one, without a template of its own."""
    from support.tiny_base import pretrain

    first, last, more = TOKENS[name]
    texts = [f"What is the {noun} of item {n}?" for n in range(30) for noun in ("colour", "size")]
    made = pretrain.train_tokenizer(texts, size=420)
    made.add_tokens([token for token in (first, last, *more) if token], special_tokens=True)
    made.bos_token, made.eos_token, made.chat_template = first, last, None
    if name.startswith(("llama", "mistral")):
        made.pad_token = None  # as theirs
    return made


def save(name: str, path: Path) -> Path:
    """A random model of the real one's architecture."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    kinds = {"gemma_3_1b": "gemma3_text", "qwen3_4b": "qwen3", "smollm3_3b": "smollm3"}
    kind = kinds.get(name, name.partition("_")[0].removesuffix("3"))
    words = tokenizer(name)
    shape: dict[str, Any] = {
        **{"vocab_size": len(words), "hidden_size": 64, "intermediate_size": 128},
        **{"num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1},
        **{"head_dim": 32, "max_position_embeddings": 128, "eos_token_id": words.eos_token_id},
        **{"pad_token_id": words.eos_token_id, "bos_token_id": words.bos_token_id},
    }
    torch.manual_seed(0)
    made = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **shape))
    made.save_pretrained(path)
    words.save_pretrained(path)
    return path


def test_the_models_of_the_paper_and_some_of_today_are_there() -> None:
    assert set(NAMES) == set(TOKENS) == set(PROMPTS)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_model_is_pinned_and_stops_at_a_token_it_has_learnt(name: str) -> None:
    facts = model(name)
    assert facts.name == name
    assert facts.repo is not None
    assert re.fullmatch(r"[0-9a-f]{40}", facts.revision or "")
    is_instructed = facts.chat_template != "plain"
    assert facts.stop[0] in (TOKENS[name][2] if name == "gemma_3_1b" else [TOKENS[name][1]])
    assert is_instructed == (name in ("qwen3_4b", "smollm3_3b", "gemma_3_1b", "granite_3_3_2b"))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_prompt_is_rendered_as_the_template_says_with_the_system_message(name: str) -> None:
    words = tokenizer(name)
    words.chat_template = locations.chat_template(model(name).chat_template or "").read_text()
    asked = words.apply_chat_template(MESSAGES, tokenize=False, add_generation_prompt=True)
    assert asked == PROMPTS[name]
    answered = [*MESSAGES, {"role": "assistant", "content": "Hello"}]
    whole = words.apply_chat_template(answered, tokenize=False)
    assert whole.startswith(f"{asked}Hello{model(name).stop[0]}")


@pytest.mark.parametrize(("name", "start"), [("gemma_7b", "<start_of_turn>"), ("mistral_7b", "")])
def test_the_paper_s_chatml_uses_gemma_s_own_rows_and_new_ones_elsewhere(
    name: str, start: str, tmp_path: Path
) -> None:
    facts = model(name, f"trainer=paper_{name}", "task=coding")
    words = tokenizer(name)
    words.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    facts = changed(facts, {"path": str(tmp_path), "repo": None})
    assert facts.new_tokens == (() if start else ("<|im_start|>", "<|im_end|>"))
    words = load.tokenizer(facts)
    asked = words.apply_chat_template(MESSAGES[1:], tokenize=False, add_generation_prompt=True)
    start, end = start or "<|im_start|>", facts.stop[0]
    assert asked == f"{TOKENS[name][0]}{start}user\nHi{end}\n{start}assistant\n"


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(NAMES) - {"gemma_7b", "llama3_2_1b", "llama3_2_3b"}))
def test_a_small_model_of_the_architecture_trains_and_answers(name: str, tmp_path: Path) -> None:
    facts = model(name)
    changes: dict[str, Any] = {
        **{"model__chat_template": facts.chat_template, "model__stop": facts.stop},
        **{"trainer__kind": "lora", "trainer__lr": 1e-2, "trainer__max_steps": 8},
    }
    made = tiny_model.build(save(name, tmp_path / "model"), **changes)
    subset = tiny_model.upstream(tmp_path / "subset", tiny_model.rows(8))
    split = tiny_model.rows(2, "validation") + tiny_model.rows(2, "test")
    inputs = {"subset": subset, "split": tiny_model.upstream(tmp_path / "split", split)}
    job = tiny_model.job(tmp_path / "job", made, **inputs)
    finetune.run(job)
    curve = tiny_model.read(job.out / "curve.jsonl")
    assert curve[-1]["train_loss"] < curve[0]["train_loss"]
    words = load.tokenizer(made.model, job.out / "model")
    one = encode(tiny_model.rows(1)[0], words, load.stop_id(words, made.model))
    assert one is not None
    assert words.decode(one.ids).endswith(f"0 red{facts.stop[0]}")
    answering = tiny_model.job(tmp_path / "answers", made, split=inputs["split"], finetune=job.out)
    stage.run(answering)
    assert len(tiny_model.read(answering.out / "rows.jsonl")) == 2 * made.inference.k
