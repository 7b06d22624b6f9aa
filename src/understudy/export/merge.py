"""Write a run's model as a directory that any Hugging Face library loads by itself."""

import shutil
import warnings
from pathlib import Path
from typing import Any

from understudy.config import Config
from understudy.errors import BadInput
from understudy.inference import stage
from understudy.models import load

# Of the base: what converters to other formats read, and `save_pretrained` leaves out.
_OF_BASE = ("tokenizer.model",)


def dtype_of(wanted: str) -> Any:
    """The dtype to store: as wanted, or that in which inference computes on this machine."""
    import torch

    return load.dtype() if wanted == "auto" else getattr(torch, wanted)


def merged(config: Config, finetuned: Path | None, dtype: Any, out: Path) -> None:
    """Write weights, tokenizer and generation defaults; an adapter is merged in fp32.

    So every weight is rounded once, from fp32 to `dtype`. Trained token rows and whole modules
    that an adapter brings are merged too; where they part tied embeddings, the config says so.
    """
    import torch

    with warnings.catch_warnings():
        # PEFT sets tie_word_embeddings=False itself, and the parity check loads the result.
        warnings.filterwarnings("ignore", "Input and output embeddings are no longer tied")
        model = load.finetuned(config.model, finetuned, torch.float32)
    tokenizer = load.tokenizer(config.model, finetuned)
    model.to(dtype)
    model.generation_config = generation(config, model.generation_config, tokenizer)
    model.save_pretrained(out)
    _save_tokenizer(config, tokenizer, out)
    base = load.directory(config.model)
    for name in _OF_BASE:
        if (base / name).is_file() and not (out / name).exists():
            shutil.copy2(base / name, out / name)


def check_adapter(config: Config, finetuned: Path | None) -> Path:
    """The adapter; BadInput where there is none, or its base alone cannot take it."""
    if finetuned is None or not load.is_adapter(finetuned):
        raise BadInput(
            f"export.what=adapter, but trainer.kind={config.trainer.kind} trained no adapter; "
            "choose export.what=merged"
        )
    if config.model.new_tokens:
        raise BadInput(
            "export.what=adapter, but the base has no rows for model.new_tokens="
            f"{list(config.model.new_tokens)}; choose export.what=merged"
        )
    return finetuned


def adapter(config: Config, finetuned: Path, out: Path) -> None:
    """Copy the adapter as it was trained; its config names the base and its revision."""
    base = load.directory(config.model)
    out.mkdir(parents=True, exist_ok=True)
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copy2(finetuned / name, out / name)
    tokenizer = load.tokenizer(config.model, finetuned)
    generation(config, load.generation_defaults(base), tokenizer).save_pretrained(out)
    _save_tokenizer(config, tokenizer, out)


def generation(config: Config, own: Any, tokenizer: Any) -> Any:
    """The defaults that a server should use: the stops and the sampling that were judged."""
    from transformers import GenerationConfig

    sampling = stage.sampling_of(config, own.eos_token_id, tokenizer)
    is_greedy = sampling.temperature == 0
    made = GenerationConfig(
        bos_token_id=own.bos_token_id,
        pad_token_id=own.pad_token_id,
        eos_token_id=sorted(sampling.stop_ids),
        max_new_tokens=sampling.max_new_tokens,
        do_sample=not is_greedy,
        # top_k and top_p filtered nothing: 0 and 1 are how transformers and vLLM say so.
        **({} if is_greedy else {"temperature": sampling.temperature, "top_k": 0, "top_p": 1.0}),
    )
    if sampling.stop_texts:
        made.stop_strings = list(sampling.stop_texts)
    return made


def _save_tokenizer(config: Config, tokenizer: Any, out: Path) -> None:
    """With the context that was judged, which is how servers learn of it."""
    tokenizer.model_max_length = config.model.context
    tokenizer.save_pretrained(out)
