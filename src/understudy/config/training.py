"""Names and types of `conf/model/` and `conf/trainer/`: what is trained, and by which recipe."""

from dataclasses import field
from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass

from understudy.config.source import STRICT, Count, Share, Size, added, machine


@dataclass(config=STRICT)
class ModelConfig:
    """A base model: `path` is a directory, `package:NAME`, or null for `repo` at `revision`."""

    name: str
    family: str
    licence: str
    repo: str | None
    revision: str | None  # null = the newest, resolved once and recorded
    context: PositiveInt
    stop: list[str]
    lora_targets: list[str] | Literal["all-linear"]
    path: str | None = machine()  # a directory counts by its contents
    # prompts/chat_NAME.jinja or a path to a .jinja file, counted by contents; null = the model's
    chat_template: str | None = machine(default=None)
    new_tokens: tuple[str, ...] = added(())  # added to the vocabulary, each with a new row


@dataclass(config=STRICT)
class TrainerConfig:
    """The fine-tuning recipe."""

    kind: Literal["full", "lora", "none"]
    lr: PositiveFloat
    epochs: PositiveFloat
    min_steps: Count
    max_steps: PositiveInt | None
    batch_size: PositiveInt
    warmup: Share
    schedule: Literal["linear", "cosine", "constant_with_warmup"]
    weight_decay: Annotated[float, Field(ge=0)]
    max_length: PositiveInt
    packing: bool
    evaluations: PositiveInt
    patience: PositiveInt | None
    keep: Literal["best", "last"]
    lora_rank: PositiveInt
    lora_alpha: PositiveInt
    lora_dropout: Share
    start: Literal["base", "previous"]
    per_device_batch: PositiveInt | None = machine(default=None)
    loss: Literal["answer", "all"] = added("answer")  # all: the prompt's tokens count too
    lora_targets: list[str] | Literal["all-linear"] | None = added(None)  # null = the model's
    # Training rows, at least -> rank; alpha grows with it. {} = lora_rank whatever the rows
    rank_by_rows: dict[Size, PositiveInt] = field(default_factory=dict)
    new_token_rows: Literal["trained", "frozen"] = added("trained")  # those of model.new_tokens
    quantization: Literal["none", "nf4"] = added("none")  # of the frozen weights
    precision: Literal["auto", "fp32", "bf16", "fp16"] = added("auto")  # bf16 on a GPU, else fp32
    attention: Literal["sdpa", "flash_attention_2", "eager"] = machine(default="sdpa")
    gradient_checkpointing: bool | None = machine(default=None)  # null = on a GPU
