"""Whether an adapter can hold what it is shown, and a learning rate for it.

Schulman et al. 2025 ("LoRA Without Regret", Thinking Machines Lab): LoRA on all layers learns as
full fine-tuning does while its parameters outnumber what the data tell, at most about a bit a token
where a parameter holds about two; its best learning rate is about ten times that of full
fine-tuning, whatever the rank. Below, the count is of answer tokens, each once.
"""

import json
from collections.abc import Sequence

from understudy.config import Config
from understudy.config.base import base
from understudy.data.subset import rows_of
from understudy.plan.compute import BYTES_PER_TOKEN
from understudy.plan.speed import config_file
from understudy.records import Coverage
from understudy.training.data import adapter_size

_SOURCE = "Schulman et al. 2025, LoRA Without Regret"
_OFF = 3.0  # a rate within this factor of the advice is left alone


def lines(config: Config, rows: Sequence[Coverage]) -> list[str]:
    """Sentences about the largest round's adapter; `rows` are those of the split."""
    recipe, train = config.trainer, [row for row in rows if row.split == "train"]
    if recipe.trains != "lora" or not train:
        return []
    number = rows_of(len(train), max(config.sizes), config.loop)
    size = sum(len(row.response.encode()) for row in train) / len(train)
    tokens = round(number * size / BYTES_PER_TOKEN)
    found = list[str]()
    rank = adapter_size(recipe, number).rank
    weights = parameters(config, rank)
    if weights is not None and 2 * weights < tokens:
        found.append(
            f"capacity: rank {rank} trains {weights:,} parameters on about {tokens:,} answer "
            f"tokens ({number:,} rows), which may tell more than they hold; raise "
            f"trainer.lora_rank to {rank * -(-tokens // (2 * weights))} or more ({_SOURCE})"
        )
    advice = 10 * float(base("trainer/full")["lr"])
    if not advice / _OFF <= recipe.lr <= advice * _OFF:
        found.append(
            f"trainer.lr={recipe.lr:g} is far from ten times that of full fine-tuning "
            f"(trainer=full: {advice / 10:g}), where LoRA learns best: try {advice:g} ({_SOURCE})"
        )
    return found


def parameters(config: Config, rank: int) -> int | None:
    """The trainable parameters of an adapter of all linear layers.

    None where the model's config.json is not at hand, or the layers are others.
    """
    model = config.model
    file = config_file(model.path, model.repo, model.revision)
    targets = config.trainer.lora_targets or model.lora_targets
    if file is None or targets != "all-linear":
        return None
    values = json.loads(file.read_text(encoding="utf-8"))
    try:
        width, inner, layers = (
            int(values[name]) for name in ("hidden_size", "intermediate_size", "num_hidden_layers")
        )
        heads = int(values["num_attention_heads"])
    except KeyError:
        return None
    head = int(values.get("head_dim") or width // heads)
    shared = head * int(values.get("num_key_value_heads") or heads)
    attention = 2 * (width + head * heads) + 2 * (width + shared)
    return rank * layers * (attention + 3 * (width + inner))
