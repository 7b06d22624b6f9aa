"""`conf/model/` and `conf/trainer/`: what is trained, by which recipe, and under which launch.

| trainer | cpu | single | ddp | fsdp | zero1, zero2 | zero3, zero3_offload |
| --- | --- | --- | --- | --- | --- | --- |
| full, lora (fp32, bf16) | yes | yes | yes | yes | yes | yes |
| lora with trained new token rows | yes | yes | yes | no¹ | yes | no² |
| lora on nf4 weights (qlora) | no³ | yes | yes | no⁴ | yes | no⁴ |
| precision fp16, flash_attention_2 | no³ | yes | yes | yes | yes | yes |

Where there is no GPU, every launch is as cpu. Sources: ¹ PEFT 0.21, TrainableTokensConfig, "might
not yet be fully supported"; ² peft#2603, peft#2946 (saving raises a KeyError); ³ bitsandbytes,
accelerate 1.15 (Accelerator) and flash-attn ask for a GPU; ⁴ FSDP and ZeRO-3 shard floating-point
weights only, and NF4 ones are stored as uint8 (bitsandbytes, "FSDP-QLoRA").
"""

from collections.abc import Callable
from dataclasses import field
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import Field, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass

from understudy import locations
from understudy.config.source import STRICT, Count, FilePath, Share, Size, added, machine
from understudy.errors import BadInput, EnvironmentFailed


@dataclass(config=STRICT, frozen=True)
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
    path: FilePath | None = machine()  # a directory counts by its contents
    # prompts/chat_NAME.jinja or a path to a .jinja file, counted by contents; null = the model's
    chat_template: FilePath | None = machine()
    new_tokens: tuple[str, ...] = added(())  # added to the vocabulary, each with a new row


@dataclass(config=STRICT, frozen=True)
class TrainerConfig:
    """The fine-tuning recipe."""

    kind: Literal["full", "lora", "none", "dpo", "kto"]
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
    per_device_batch: PositiveInt | None = machine()
    loss: Literal["answer", "all"] = added("answer")  # all: the prompt's tokens count too
    lora_targets: list[str] | Literal["all-linear"] | None = added(None)  # null = the model's
    # Training rows, at least -> rank; alpha grows with it. {} = lora_rank whatever the rows
    rank_by_rows: dict[Size, PositiveInt] = field(kw_only=True)
    new_token_rows: Literal["trained", "frozen"] = added("trained")  # those of model.new_tokens
    quantization: Literal["none", "nf4"] = added("none")  # of the frozen weights
    precision: Literal["auto", "fp32", "bf16", "fp16"] = added("auto")  # bf16 on a GPU, else fp32
    # Rows of a batch as one line, without padding, and logits only where there is a loss
    unpadded: bool = added(False)
    weights: Literal["full", "lora"] | None = added(None)  # what SFT and dpo or kto after it train
    attention: Literal["sdpa", "flash_attention_2", "eager"] = machine()
    gradient_checkpointing: bool | None = machine()  # null = on a GPU
    checkpoint_minutes: PositiveFloat | None = machine()  # null = at evaluations only

    @property
    def trains(self) -> Literal["full", "lora", "none"]:
        """All weights, or an adapter."""
        if self.kind in ("full", "lora", "none"):
            return self.kind
        assert self.weights is not None, f"trainer.kind={self.kind} was composed without weights"
        return self.weights


PREFERENCES = ("dpo", "kto")  # kinds that go on from SFT
_ZERO3 = ("zero3", "zero3_offload")
_SHARDED = ("fsdp", *_ZERO3)


class _Refusal(NamedTuple):
    """A line of the table: which recipes fail under which launches, and what to do."""

    is_meant: Callable[[TrainerConfig, ModelConfig], bool]
    kinds: tuple[str, ...]
    recipe: str
    reason: str
    choose: str


def _trains_rows(trainer: TrainerConfig, model: ModelConfig) -> bool:
    return (
        trainer.trains == "lora" and bool(model.new_tokens) and trainer.new_token_rows == "trained"
    )


_ROWS = "lora with trained rows of model.new_tokens"
_ROWS_CHOOSE = "accelerate=zero2 or ddp, or trainer.new_token_rows=frozen"
_TABLE = (
    _Refusal(
        _trains_rows,
        _ZERO3,
        _ROWS,
        "PEFT cannot save them under ZeRO-3 (peft#2603, peft#2946)",
        _ROWS_CHOOSE,
    ),
    _Refusal(_trains_rows, ("fsdp",), _ROWS, "PEFT does not support them there", _ROWS_CHOOSE),
    _Refusal(
        lambda trainer, _: trainer.quantization == "nf4",
        _SHARDED,
        "trainer.quantization=nf4",
        "4-bit weights are stored as integers, which it cannot shard",
        "accelerate=ddp or zero2, or trainer=lora",
    ),
    _Refusal(
        lambda trainer, _: trainer.quantization == "nf4",
        ("cpu",),
        "trainer.quantization=nf4",
        "bitsandbytes needs a CUDA GPU",
        "trainer=lora",
    ),
    _Refusal(
        lambda trainer, _: trainer.precision == "fp16",
        ("cpu",),
        "trainer.precision=fp16",
        "it needs a GPU",
        "trainer.precision=bf16 or fp32",
    ),
    _Refusal(
        lambda trainer, _: trainer.attention == "flash_attention_2",
        ("cpu",),
        "trainer.attention=flash_attention_2",
        "it needs a GPU",
        "trainer.attention=sdpa",
    ),
)


def check_recipe(
    trainer: TrainerConfig, model: ModelConfig, kind: str, has_gpu: bool = True
) -> None:
    """Raise BadInput, one sentence, when this recipe cannot be trained as accelerate=`kind`."""
    if (
        model.chat_template is not None
        and not locations.chat_template(model.chat_template).is_file()
    ):
        raise BadInput(
            f"model.chat_template={model.chat_template} is none of ours "
            f"({', '.join(locations.chat_templates())}), and no .jinja file"
        )
    if trainer.kind == "none":
        return
    if trainer.quantization == "nf4" and trainer.trains != "lora":
        raise BadInput(
            f"trainer.quantization=nf4 freezes the weights, which trainer.kind={trainer.kind} "
            "trains; choose trainer=qlora"
        )
    if trainer.attention == "flash_attention_2" and trainer.precision == "fp32":
        raise BadInput(
            "trainer.attention=flash_attention_2 computes in 16 bits; "
            "choose trainer.precision=bf16, or trainer.attention=sdpa"
        )
    if trainer.unpadded and (trainer.packing or kind not in ("single", "cpu")):
        word = "trainer.packing=true" if trainer.packing else f"accelerate={kind}"
        raise BadInput(
            f"trainer.unpadded=true is for one process on a CPU, and {word} is asked for beside "
            "it; choose trainer.unpadded=false"
        )
    for line in _TABLE:
        if not line.is_meant(trainer, model):
            continue
        if kind in line.kinds:
            raise BadInput(
                f"{line.recipe} does not train as accelerate={kind}: {line.reason}; "
                f"choose {line.choose}"
            )
        if not has_gpu and "cpu" in line.kinds:
            raise BadInput(
                f"{line.recipe} does not train on this machine, which has no GPU: {line.reason}; "
                f"choose {line.choose}"
            )


def check_recipe_here(trainer: TrainerConfig, model: ModelConfig, kind: str) -> None:
    """Check the same for a training on this machine, with or without a GPU.

    Raise BadInput, and EnvironmentFailed where a package is missing.
    """
    check_recipe(trainer, model, kind, has_gpu=Path("/dev/nvidiactl").exists())
    needs = {"bitsandbytes": trainer.quantization == "nf4"}
    needs["flash_attn"] = trainer.attention == "flash_attention_2"
    for package, is_needed in needs.items():
        if trainer.kind != "none" and is_needed and find_spec(package) is None:
            raise EnvironmentFailed(
                f"this recipe needs {package}, which is not installed: pip install {package}"
            )
