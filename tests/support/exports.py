"""A run with a real fine-tuned model of 0.1 M parameters, as `understudy export` finds it."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from support import fake_runs, tiny_model
from understudy.cli.main import main
from understudy.config import Config
from understudy.models import load
from understudy.store.artifacts import write_atomically


def adapter(path: Path, config: Config, spread: float = 0.2, **options: Any) -> Path:
    """An adapter that changes what the model says, saved as the finetune stage saves one."""
    import peft
    import torch

    load.quiet()
    torch.manual_seed(1)
    usual = {"r": 4, "target_modules": ["q_proj", "v_proj", "down_proj"]}
    lora = peft.LoraConfig(**usual | {"task_type": "CAUSAL_LM"} | options)
    model = peft.get_peft_model(load.base(config.model, torch.float32), lora)
    for name, parameter in model.named_parameters():
        if "lora_B" in name or "trainable_tokens_delta" in name:
            parameter.data.normal_(std=spread)
        elif "modules_to_save" in name:
            parameter.data.add_(torch.randn_like(parameter) * spread)
    model.save_pretrained(path, save_embedding_layers=False)
    load.tokenizer(config.model).save_pretrained(path)
    return path


def split(path: Path, count: int = 6) -> Path:
    """The rows.jsonl of a finished split."""
    return tiny_model.upstream(path, tiny_model.questions(count)) / "rows.jsonl"


def write_run(root: Path, base: Path, **changes: Any) -> Path:
    """A run of one round that passed, with a LoRA adapter; returns its run.json."""
    config = tiny_model.build(base, trainer__kind="lora", **changes)
    path = fake_runs.write_run(root, rehearsal=False)
    run = json.loads(path.read_text())
    stage = root / run["rounds"][0]["stages"]["finetune"]
    adapter(stage / "out" / "model", config)
    frozen = {"hashed": {}, "config": dataclasses.asdict(config)}
    write_atomically(stage / "config.json", json.dumps(frozen))
    tiny_model.upstream(root / run["stages"]["split"] / "out", tiny_model.questions(6))
    run |= {"config": frozen["config"], "holdout": None}
    run["decision"] = {"passed": True, "round": 0, "reason": "All means reach their thresholds."}
    write_atomically(path, json.dumps(run))
    return path


def export(run_json: Path, *words: str) -> int:
    """`understudy export demo` of that run; its exit code."""
    return main(["export", "demo", "--root", str(run_json.parents[2]), *words])


def names(path: Path) -> set[str]:
    """The files in a directory."""
    return {file.name for file in path.iterdir()}
