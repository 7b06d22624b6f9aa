"""What a recipe's own leaves do: loss, rank, targets, new tokens, templates, precision."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support import tiny_model
from understudy.inference import stage
from understudy.models import load
from understudy.store.artifacts import Job
from understudy.training import finetune
from understudy.training.data import Adapter, adapter_size

LORA = {"trainer__kind": "lora", "trainer__max_steps": 1}


@pytest.fixture
def prepare(tmp_path: Path, base: Path) -> Callable[..., Job]:
    """Make a job that trains on eight rows and validates on two."""

    def make(name: str = "job", path: Path = base, **changes: Any) -> Job:
        root = tmp_path / name
        inputs = {
            "subset": tiny_model.upstream(root / "subset", tiny_model.rows(8, answer="blue")),
            "split": tiny_model.upstream(
                root / "split", tiny_model.rows(2, "validation", answer="blue")
            ),
        }
        return tiny_model.job(root, tiny_model.build(path, **changes), **inputs)

    return make


def summary(job: Job) -> dict[str, Any]:
    finetune.run(job)
    found: dict[str, Any] = tiny_model.read(job.out / "summary.json")
    return found


def adapter(job: Job) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((job.out / "model/adapter_config.json").read_text())
    return found


def weights(job: Job) -> dict[str, Any]:
    from safetensors.torch import load_file

    loaded: dict[str, Any] = load_file(job.out / "model" / "adapter_model.safetensors")
    return loaded


def answers(job: Job, tmp_path: Path, config: Any) -> set[tuple[str, str]]:
    """What the fine-tuned model says to prompts it has not seen."""
    asked = tiny_model.upstream(tmp_path / "asked", tiny_model.rows(3, "test"))
    answering = tiny_model.job(tmp_path / "answers", config, split=asked, finetune=job.out)
    stage.run(answering)
    rows = tiny_model.read(answering.out / "rows.jsonl")
    return {(row["text"], row["finish"]) for row in rows}


@pytest.mark.slow
def test_a_loss_on_all_tokens_counts_the_prompt_and_one_on_the_answer_does_not(
    prepare: Callable[..., Job],
) -> None:
    import torch

    job = prepare(trainer__loss="all", trainer__lr=1e-9, trainer__max_steps=1)
    measured = summary(job)["best_validation_loss"]
    config = job.config
    tokenizer = load.tokenizer(config.model)
    model = load.base(config.model, torch.float32)
    total, tokens = 0.0, 0
    for row in tiny_model.rows(2, "validation", answer="blue"):
        text = tokenizer.apply_chat_template(row.messages, tokenize=True, return_dict=False)
        ids = torch.tensor([text[: len(text) - text[::-1].index(2)]])  # to the last stop token
        with torch.no_grad():
            loss = model(input_ids=ids, labels=ids).loss
        total, tokens = total + float(loss) * (ids.shape[1] - 1), tokens + ids.shape[1] - 1
    assert measured == pytest.approx(total / tokens, abs=1e-4)
    answer_only = summary(prepare("answer", trainer__lr=1e-9, trainer__max_steps=1))
    assert abs(answer_only["best_validation_loss"] - measured) > 0.1


@pytest.mark.slow
def test_a_packed_loss_on_all_tokens_passes_the_check_of_the_first_batch(
    prepare: Callable[..., Job],
) -> None:
    job = prepare(trainer__loss="all", trainer__packing=True, trainer__max_steps=1)
    assert summary(job)["steps"] == 1


@pytest.mark.parametrize(
    ("rows", "size"),
    [(7, Adapter(4, 8)), (8, Adapter(16, 32)), (31_999, Adapter(16, 32)), (32_000, Adapter(1, 2))],
)
def test_the_rank_is_that_of_the_greatest_size_reached_and_alpha_goes_along(
    rows: int, size: Adapter
) -> None:
    trainer = tiny_model.build(None, trainer__rank_by_rows={"32k": 1, 8: 16}).trainer
    assert adapter_size(trainer, rows) == size


@pytest.mark.slow
def test_the_rank_follows_the_training_rows_and_the_targets_the_recipe(
    prepare: Callable[..., Job],
) -> None:
    job = prepare(**LORA, trainer__rank_by_rows={8: 2}, trainer__lora_targets=["q_proj", "v_proj"])
    assert summary(job)["lora_rank"] == 2
    made = adapter(job)
    assert (made["r"], made["lora_alpha"]) == (2, 4)
    assert made["target_modules"] == ["q_proj", "v_proj"]


NEW = {"model__new_tokens": ["<|start|>", "<|end|>"], "model__stop": ["<|end|>"]}


@pytest.fixture
def template(tmp_path: Path) -> dict[str, Any]:
    """A template of tokens that the base model does not know."""
    path = tmp_path / "own.jinja"
    path.write_text(
        "{% for m in messages %}<|start|>{{ m['role'] }} {{ m['content'] }}<|end|>{% endfor %}"
        "{% if add_generation_prompt %}<|start|>assistant {% endif %}"
    )
    return NEW | {"model__chat_template": str(path)}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["lora", "full"])
def test_a_model_with_new_tokens_learns_to_stop_at_one_of_them(
    prepare: Callable[..., Job], template: dict[str, Any], tmp_path: Path, kind: str
) -> None:
    changes = template | {"trainer__kind": kind, "trainer__lr": 2e-2, "trainer__min_steps": 60}
    changes |= {"trainer__lora_rank": 16, "trainer__lora_dropout": 0.0, "trainer__batch_size": 8}
    job = prepare(**changes)
    finetune.run(job)
    config = tiny_model.build(job.config.model.path, inference__temperature=0.0, **template)
    assert answers(job, tmp_path, config) == {("blue", "stop")}


@pytest.mark.slow
@pytest.mark.parametrize("rows", ["trained", "frozen"])
def test_new_rows_are_the_same_when_the_adapter_is_loaded_as_when_it_was_trained(
    prepare: Callable[..., Job], template: dict[str, Any], rows: str
) -> None:
    import torch

    job = prepare(**LORA, **template, trainer__lr=1e-9, trainer__new_token_rows=rows)
    measured = summary(job)["best_validation_loss"]
    names = [name for name in weights(job) if "lora" not in name]
    assert len(names) == (rows == "trained"), names  # tied: one layer; never whole embeddings
    model = load.finetuned(job.config.model, job.out / "model", torch.float32)
    tokenizer = load.tokenizer(job.config.model, job.out / "model")
    assert model.get_input_embeddings().weight.shape[0] == len(tokenizer)
    stop = load.stop_id(tokenizer, job.config.model)
    total, tokens = 0.0, 0
    for row in tiny_model.rows(2, "validation", answer="blue"):
        one = finetune.encode_rows([row], tokenizer, stop, 96, "validation").rows[0]
        count = len(one.ids) - one.prompt_tokens
        with torch.no_grad():
            output = model(input_ids=torch.tensor([one.ids]), labels=torch.tensor([one.labels]))
        total, tokens = total + float(output.loss) * count, tokens + count
    assert measured == pytest.approx(total / tokens, abs=1e-4)


@pytest.mark.slow
def test_untied_models_train_both_the_input_and_the_output_rows(
    prepare: Callable[..., Job], template: dict[str, Any], tmp_path: Path
) -> None:
    path = tiny_model.save(tmp_path / "untied", tied=False)
    job = prepare(path=path, **LORA, **template)
    finetune.run(job)
    trained = adapter(job)["trainable_token_indices"]
    assert set(trained) == {"embed_tokens", "lm_head"}
    assert len(set(map(tuple, trained.values()))) == 1


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["full", "lora"])
def test_a_model_trains_in_bf16_on_a_cpu_about_as_in_fp32(
    prepare: Callable[..., Job], kind: str
) -> None:
    import torch

    changes = {"trainer__kind": kind, "trainer__lr": 1e-2, "trainer__min_steps": 20}
    changes |= {"trainer__lora_dropout": 0.0, "trainer__batch_size": 8}
    losses: dict[str, list[float]] = {}
    for precision in ("fp32", "bf16"):
        job = prepare(precision, **changes, trainer__precision=precision)
        finetune.run(job)
        curve = tiny_model.read(job.out / "curve.jsonl")
        losses[precision] = [line["train_loss"] for line in curve]
    assert losses["bf16"] == pytest.approx(losses["fp32"], rel=0.05)
    assert losses["bf16"] != losses["fp32"]
    assert losses["bf16"][-1] < losses["bf16"][0] / 2
    model = load.base(job.config.model, load.frozen_precision("bf16"))
    assert model.dtype == torch.bfloat16
