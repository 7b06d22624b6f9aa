"""The tiny base model: its tokenizer, its shape, and that it can be trained."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

import understudy
from support.tiny_base import pretrain, pretraining_text
from understudy import playground

MODEL = Path(understudy.__file__).parent / "models" / "tiny"


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(MODEL)


def fresh() -> Any:
    from transformers import LlamaForCausalLM  # which takes seconds: nothing for collecting

    return LlamaForCausalLM.from_pretrained(MODEL, dtype=torch.float32)


@pytest.fixture(scope="module")
def model() -> Any:
    return fresh().eval()


def ids_of(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


@pytest.mark.parametrize(
    "text",
    [
        "",
        " leading and  double   spaces ",
        "tab\tline\nreturn\r\n\x00",
        "emoji 🎉👩‍👩‍👧 and 你好，世界",
        "▁ a real ▁ and \ufdd0a \ufdd0b \ufdd0",
        "def zorp(a, b):\n    return a * b + 7",
        "don't , stop . now !",
        "<0x41> <|im_start|>user",
    ],
)
def test_the_tokenizer_gives_back_what_it_was_given(tokenizer: Any, text: str) -> None:
    assert tokenizer.decode(ids_of(tokenizer, text)) == text


@settings(max_examples=300, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_utf8_text_round_trips(text: str) -> None:
    tokenizer = _cached_tokenizer()
    ids = ids_of(tokenizer, text)
    assert tokenizer.decode(ids) == text
    assert tokenizer.unk_token_id not in ids


def _cached_tokenizer(cache: dict[str, Any] = {}) -> Any:  # noqa: B006
    if not cache:
        cache["tokenizer"] = AutoTokenizer.from_pretrained(MODEL)
    return cache["tokenizer"]


def test_the_chat_template_frames_turns_and_marks_what_the_assistant_says(tokenizer: Any) -> None:
    messages = [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "red kites"},
        {"role": "assistant", "content": "blue drums"},
    ]
    text = tokenizer.apply_chat_template(messages, tokenize=False)
    assert text == (
        "<|im_start|>system\nBe short.<|im_end|>\n<|im_start|>user\nred kites<|im_end|>\n"
        "<|im_start|>assistant\nblue drums<|im_end|>\n"
    )
    asked = tokenizer.apply_chat_template(messages[:2], tokenize=False, add_generation_prompt=True)
    assert text.startswith(asked)
    assert asked.endswith("<|im_start|>assistant\n")
    framed = tokenizer.apply_chat_template(
        messages, return_dict=True, return_assistant_tokens_mask=True
    )
    said = [i for i, m in zip(framed["input_ids"], framed["assistant_masks"], strict=True) if m]
    assert tokenizer.decode(said) == "blue drums<|im_end|>"
    assert said[-1] == tokenizer.eos_token_id


def test_prompt_and_answer_tokenize_alike_together_and_apart(tokenizer: Any) -> None:
    for task in playground.TASKS:
        for pair in playground.generate(task, 0, 0, 50):
            messages = [{"role": "user", "content": pair.instruction}]
            prompt = tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=True
            )
            answer = pair.response + "<|im_end|>"
            assert ids_of(tokenizer, prompt + answer) == (
                ids_of(tokenizer, prompt) + ids_of(tokenizer, answer)
            )


def test_pairs_are_short(tokenizer: Any) -> None:
    for task in playground.TASKS:
        for pair in playground.generate(task, 0, 0, 200):
            length = len(ids_of(tokenizer, pair.instruction + pair.response))
            assert 15 <= length <= 100, pair


def test_the_model_is_tiny_and_stored_in_16_bits(model: Any) -> None:
    assert 1e6 <= sum(p.numel() for p in model.parameters()) <= 3e6
    assert (MODEL / "model.safetensors").stat().st_size <= 6e6
    assert json.loads((MODEL / "config.json").read_text())["dtype"] == "float16"
    assert all(p.dtype == torch.float32 for p in model.parameters())
    assert all(bool(torch.isfinite(p).all()) for p in model.parameters())


def test_generation_stops_at_the_end_of_the_turn(model: Any, tokenizer: Any) -> None:
    assert tokenizer.eos_token == "<|im_end|>"
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id
    assert model.generation_config.pad_token_id == tokenizer.pad_token_id
    assert len({tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.bos_token_id}) == 3


@pytest.mark.slow
def test_the_base_model_has_learnt_to_copy(model: Any, tokenizer: Any) -> None:
    right = 0
    documents = itertools.islice(pretraining_text.documents(99), 3000)
    echoes = [d for d in documents if d.startswith("<|im_start|>user\nall: ")][:20]
    for text in echoes:
        prompt, _, answer = text.partition("<|im_start|>assistant\n")
        ids = torch.tensor([ids_of(tokenizer, prompt + "<|im_start|>assistant\n")])
        mask = torch.ones_like(ids)
        out = model.generate(ids, attention_mask=mask, do_sample=False, max_new_tokens=48)
        right += tokenizer.decode(out[0, ids.shape[1] :]) == answer.removesuffix("\n")
    assert len(echoes) == 20
    assert right >= 10


@pytest.mark.slow
def test_full_fine_tuning_learns_a_row_by_heart(tokenizer: Any) -> None:
    model = fresh().train()
    assert _fit(model, tokenizer, lr=3e-3, steps=25) < 0.3


# peft asks transformers by a name that transformers is about to drop
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_lora_on_all_linear_layers_learns_too(tokenizer: Any) -> None:
    from peft import LoraConfig, get_peft_model

    lora = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    model = get_peft_model(fresh(), lora).train()
    before = _fit(model, tokenizer, lr=0.0, steps=1)
    assert _fit(model, tokenizer, lr=5e-3, steps=25) < 0.5 * before


def _fit(model: Any, tokenizer: Any, lr: float, steps: int) -> float:
    """Train on one row and return the last loss."""
    pair = playground.generate("closed_qa", 0, 0, 1)[0]
    messages = [
        {"role": "user", "content": pair.instruction},
        {"role": "assistant", "content": pair.response},
    ]
    ids = torch.tensor([tokenizer.apply_chat_template(messages, return_dict=True)["input_ids"]])
    optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=lr)
    loss = torch.tensor(0.0)
    for _ in range(steps):
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return loss.item()


@pytest.mark.slow
def test_pretraining_resumes_to_the_same_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pretrain, "WINDOW", 32)
    monkeypatch.setattr(pretrain, "BATCH", 2)
    monkeypatch.setattr(pretrain, "TOKENIZER_DOCUMENTS", 300)
    straight = pretrain.pretrain(tmp_path / "straight", tokens=6 * 64, seed=1, save_every=100)
    with monkeypatch.context() as patch:
        patch.setattr(pretrain, "learning_rate", _stop_at(4))
        with pytest.raises(KeyboardInterrupt):
            pretrain.pretrain(tmp_path / "broken", tokens=6 * 64, seed=1, save_every=3)
    assert (tmp_path / "broken" / "checkpoint.pt").exists()
    resumed = pretrain.pretrain(tmp_path / "broken", tokens=6 * 64, seed=1, save_every=3)
    assert resumed["loss"] == straight["loss"]
    names = sorted(path.name for path in (tmp_path / "straight").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "broken").iterdir())
    for name in names:
        one, two = (tmp_path / folder / name for folder in ("straight", "broken"))
        assert one.read_bytes() == two.read_bytes(), name


def _stop_at(step: int) -> Any:
    rate = pretrain.learning_rate

    def interrupted(now: int, steps: int) -> float:
        if now == step:
            raise KeyboardInterrupt
        return rate(now, steps)

    return interrupted


def test_pretraining_text_contains_no_task() -> None:
    documents = list(itertools.islice(pretraining_text.documents(0), 4000))
    for text in documents:
        turns = [turn.partition("\n")[2] for turn in text.split("<|im_start|>")]
        for part in (text, *(turn.split("<|im_end|>")[0] for turn in turns)):
            assert playground.identify(part.strip()) is None, text
        assert not any(phrase in text for phrase in pretraining_text.PHRASES), text


def test_every_phrasing_of_an_instruction_has_a_phrase_to_look_for() -> None:
    for task in playground.TASKS:
        for pair in playground.generate(task, 21, 0, 300):
            assert any(phrase in pair.instruction for phrase in pretraining_text.PHRASES), pair


def test_pretraining_documents_depend_on_seed_and_index_only() -> None:
    first = list(itertools.islice(pretraining_text.documents(4), 50))
    assert list(itertools.islice(pretraining_text.documents(4), 50)) == first
    assert list(itertools.islice(pretraining_text.documents(5), 50)) != first
