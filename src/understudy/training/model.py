"""The model that a training starts from: which weights are trained, in which precision.

Called by `finetune.run`; torch and PEFT are imported inside the functions.
"""

import functools
from pathlib import Path
from typing import Any

from understudy.config import Config
from understudy.errors import BadInput
from understudy.models import load, tokens
from understudy.store.artifacts import Job
from understudy.training.data import adapter_size


def start(job: Job, tokenizer: Any, rows: int) -> tuple[Any, dict[str, int]]:
    """The base model, with a fresh adapter if the recipe wants one, or the earlier round's model.

    `rows` is the size of the training set, which may decide the adapter's rank. The second value
    is what the summary says of the model.
    """
    loaded = _load(job, tokenizer, rows)
    # Counted now: what shards a model while it trains leaves its parameters empty.
    trained = sum(p.numel() for p in loaded.parameters() if p.requires_grad)
    found = {"trainable_parameters": trained}
    if job.config.trainer.kind == "lora":
        found["lora_rank"] = loaded.peft_config["default"].r
    return loaded, found


def _load(job: Job, tokenizer: Any, rows: int) -> Any:
    import transformers

    recipe, model = job.config.trainer, job.config.model
    transformers.set_seed(job.config.seed)  # a fresh adapter starts at random
    if recipe.start == "previous" and "previous" in job.inputs:
        return _previous(job.inputs["previous"] / "model", job.config)
    if recipe.kind == "full":
        return load.base(model, load.full_precision(), recipe)
    return _with_adapter(_frozen_base(job.config), job.config, tokenizer, rows)


def _previous(path: Path, config: Config) -> Any:
    recipe, model = config.trainer, config.model
    if load.is_adapter(path) != (recipe.kind == "lora"):
        raise BadInput(f"trainer.kind={recipe.kind} cannot go on from the model in {path}")
    if recipe.kind == "lora":
        base = _frozen_base(config)  # as in the earlier round, NF4 weights and fp32 norms included
        return _ready(load.adapted(base, model, path, is_trainable=True))
    return load.finetuned(model, path, load.full_precision())


def _frozen_base(config: Config) -> Any:
    recipe = config.trainer
    kind = load.frozen_precision(recipe.precision)
    base = load.base(config.model, kind, recipe)
    if recipe.quantization == "nf4":
        import peft

        # Checkpointing is the trainer's business; this makes norms and head fp32, as QLoRA does.
        base = peft.prepare_model_for_kbit_training(base, use_gradient_checkpointing=False)
    return base


def _with_adapter(base: Any, config: Config, tokenizer: Any, rows: int) -> Any:
    import peft

    recipe, model = config.trainer, config.model
    size = adapter_size(recipe, rows)
    trained_rows = None
    if model.new_tokens and recipe.new_token_rows == "trained":
        trained_rows = tokens.trainable(base, tokenizer, model.new_tokens)
    lora = peft.LoraConfig(
        r=size.rank,
        lora_alpha=size.alpha,
        lora_dropout=recipe.lora_dropout,
        target_modules=recipe.lora_targets or model.lora_targets,
        trainable_token_indices=trained_rows,
        task_type="CAUSAL_LM",
    )
    return _ready(peft.get_peft_model(base, lora))


def _ready(adapted: Any) -> Any:
    """The adapted model, fit for TRL, and saving no embeddings beside the adapter.

    New rows are made again where the adapter is loaded, or saved by themselves.
    """
    adapted.save_pretrained = functools.partial(
        adapted.save_pretrained, save_embedding_layers=False
    )
    head = adapted.get_output_embeddings()
    if not hasattr(head, "bias"):  # PEFT's wrapper of trained rows; TRL's fused loss asks for it
        head.bias = None
    return adapted
