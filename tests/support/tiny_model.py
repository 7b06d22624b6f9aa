"""A random Llama of 0.1 M parameters with a real tokenizer, and the jobs that tests give to stages.

Stages import torch inside their functions; so do these helpers.
"""

import copy
import json
from pathlib import Path
from typing import Any

from understudy import config as configuration
from understudy.models import load
from understudy.records import Coverage, dumps
from understudy.store.artifacts import Job, write_atomically

STOP = "<|im_end|>"
OFFLINE = {
    **{"name": "offline", "provider": "offline", "model": "offline", "family": "offline"},
    **{"terms": None, "temperature": 0.0, "max_output_tokens": 64, "skill": 0.9, "bias": {}},
}
VALUES: dict[str, Any] = {
    "coverage": {
        **{"kind": "playground", "rows": 8, "seed": 0, "licence": None},
        "split": {"validation": 2, "test": 2, "holdout": 0},
    },
    "task": {"name": "closed_qa", "topic": "facts", "execute_code": False},
    "model": {
        **{"name": "test", "family": "understudy", "licence": "Apache-2.0", "repo": None},
        **{"revision": None, "path": None, "context": 128, "stop": [STOP]},
        "lora_targets": "all-linear",
    },
    "synthesis": {
        **{"kind": "none", "pairs_per_call": 1, "seed": 0, "seeds": "uniform", "depth": 1},
        **{"topics": [], "lengths": [1.0], "min_yield": 0.1},
    },
    "judges": {"offline": OFFLINE},
    "baseline": {"kind": "none"},
    "trainer": {
        **{"kind": "full", "lr": 3e-3, "epochs": 2.0, "min_steps": 0, "max_steps": None},
        **{"batch_size": 4, "warmup": 0.1, "schedule": "cosine", "weight_decay": 0.0},
        **{"max_length": 96, "packing": False, "evaluations": 3, "patience": None},
        **{"keep": "best", "lora_rank": 4, "lora_alpha": 8, "lora_dropout": 0.1},
        **{"start": "base", "per_device_batch": None},
    },
    "inference": {"k": 2, "temperature": 1.0, "max_new_tokens": 12, "batch_size": 4},
    "evaluation": {"m": 1, "prompt": "default", "order": "reference_first"},
    "gate": {"kind": "paper", "similarity": 50, "precision": 50, "judges": None},
    "loop": {"sizes": [0], "max_rounds": None},
    "data_size": 0,
    "seed": 0,
    "budget": {"usd": None},
    "rehearsal": {"url": None},
    "accelerate": {"kind": "single"},
    "cluster": {"kind": "local", "threads": 1},
    "tracking": {"kind": "none", "project": "test", "mode": "offline"},
    "paths": {"root": "runs"},
    "run": {"name": None},
}


def build(path: Path | str | None, **changes: Any) -> configuration.Config:
    """A small config for the model in `path`; `changes` maps dotted names (`a__b`) to values."""
    values = copy.deepcopy(VALUES)
    values["model"]["path"] = None if path is None else str(path)
    for name, value in changes.items():
        *groups, leaf = name.split("__")
        place = values
        for group in groups:
            place = place.setdefault(group, {})
        place[leaf] = value
    return configuration.build(values)


def save(path: Path, kind: str = "llama", tied: bool = True) -> Path:
    """Write a random base model with its tokenizer and chat template."""
    load.quiet()
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

    from support.tiny_base import pretrain

    texts = [f"What is the {noun} of item {n}?" for n in range(30) for noun in ("colour", "size")]
    tokenizer = pretrain.train_tokenizer(texts, size=420)
    torch.manual_seed(0)
    shape = {
        **{"vocab_size": len(tokenizer), "max_position_embeddings": 128, "hidden_size": 64},
        **{"num_hidden_layers": 2, "num_attention_heads": 2, "tie_word_embeddings": tied},
        **{"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id},
        "bos_token_id": tokenizer.bos_token_id,
    }
    if kind == "gpt2":
        model = GPT2LMHeadModel(GPT2Config(**shape))
    else:
        model = LlamaForCausalLM(LlamaConfig(**shape, intermediate_size=128))
    for parameter in model.parameters():  # the usual initialisation answers nearly at random
        parameter.data.mul_(3.0 if parameter.dim() > 1 else 1.0)
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def row(name: str, question: str, answer: str, split: Any = "train") -> Coverage:
    """One question with its answer."""
    messages = [
        {"role": "user", "content": question},
        {"role": "assistant", "content": answer},
    ]
    return Coverage(name, name, messages, "closed_qa", None, "test", split)


def rows(count: int, split: str = "train", answer: str = "{n} red") -> list[Coverage]:
    """Questions about items; the answers are the same or not, as the test wants."""
    return [
        row(f"{split}{n}", f"What is the colour of item {n}?", answer.format(n=n), split)
        for n in range(count)
    ]


_WORDS = ["What", "is", "the", "colour", "of", "the", "item"]


def questions(count: int) -> list[Coverage]:
    """Test prompts of many lengths."""
    return [
        row(f"p{n}", " ".join(_WORDS[: n % 7 + 1]) + f" {n}?", "red", "test") for n in range(count)
    ]


def upstream(path: Path, rows: list[Coverage]) -> Path:
    """The out/ of a finished row stage."""
    path.mkdir(parents=True, exist_ok=True)
    write_atomically(path / "rows.jsonl", "".join(dumps(r.to_dict()) + "\n" for r in rows))
    return path


def job(root: Path, config: configuration.Config, **inputs: Path) -> Job:
    """A fresh attempt below `root`, or the same one again."""
    for name in ("out", "scratch"):
        (root / name).mkdir(parents=True, exist_ok=True)
    return Job(
        config, {"split": "test", "generator": "local"}, inputs, root / "out", root / "scratch"
    )


def infer(
    root: Path,
    base: Path,
    rows: list[Coverage],
    finetuned: Path | None = None,
    dtype: Any = None,
    **changes: Any,
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """What the inference stage writes and notes about these prompts."""
    from understudy.inference import stage

    inputs = {"split": upstream(root / "split", rows)}
    if finetuned is not None:
        inputs["finetune"] = finetuned
    done = job(root, build(base, **changes), **inputs)
    stage.run(done, dtype)
    return read(done.out / "rows.jsonl"), done.notes


def read(path: Path) -> Any:
    """A JSON file, or the objects of a JSON-lines file."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in text.splitlines()]
    return json.loads(text)
