"""Rows of the embeddings for tokens that a base model does not know.

A new row is random but always the same: it depends on the token alone, so a base model gets the
same rows when its adapter is trained and when it is loaded again.
"""

import hashlib
from collections.abc import Sequence
from typing import Any


def add(model: Any, tokenizer: Any, tokens: Sequence[str]) -> None:
    """Give each of `tokens` its row in the input and the output embeddings.

    Drawn from N(0, initializer_range), as transformers 4.44 did for the paper's models. Rows that
    are all alike, such as the mean of the others, could never be told apart while they are frozen.
    """
    import torch

    rows = model.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > rows:
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    spread = getattr(model.config, "initializer_range", 0.02)
    places = {"input": model.get_input_embeddings(), "output": model.get_output_embeddings()}
    if places["output"].weight is places["input"].weight:
        del places["output"]
    with torch.no_grad():
        for place, layer in places.items():
            for token in tokens:
                row = layer.weight[tokenizer.convert_tokens_to_ids(token)]
                row.copy_(_draw(f"{place} {token}", row.shape[0]) * spread)


def trainable(model: Any, tokenizer: Any, tokens: Sequence[str]) -> dict[str, list[int]]:
    """PEFT's `trainable_token_indices`: layer → the ids of `tokens`; tied layers count once."""
    ids = sorted(tokenizer.convert_tokens_to_ids(list(tokens)))
    layers = [model.get_input_embeddings()]
    if model.get_output_embeddings().weight is not layers[0].weight:
        layers.append(model.get_output_embeddings())
    names = {id(module): name for name, module in model.named_modules()}
    return {names[id(layer)].rpartition(".")[2]: ids for layer in layers}


def untie_if_adapted(model: Any) -> None:
    """Give the output embeddings weights of their own where LoRA changes one of two tied layers.

    PEFT merges into the weights that both share, and so changes the other one too (peft#2777).
    """
    import torch

    head = model.get_output_embeddings()
    layers = (model.get_input_embeddings(), head)
    if model.config.tie_word_embeddings and any(_has_lora(layer) for layer in layers):
        head = getattr(head, "base_layer", head)
        head.weight = torch.nn.Parameter(head.weight.detach().clone())
        model.config.tie_word_embeddings = False


def _has_lora(layer: Any) -> bool:
    return bool(getattr(layer, "lora_embedding_A", None) or getattr(layer, "lora_A", None))


def _draw(key: str, width: int) -> Any:
    """Standard normal numbers that depend on `key` alone."""
    import torch

    seed = int.from_bytes(hashlib.sha256(key.encode()).digest()[:7], "big")
    return torch.randn(width, generator=torch.Generator().manual_seed(seed))
