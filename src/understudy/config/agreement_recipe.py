"""Which recipes train under which launch: checked at second 0, not after an hour of synthesis.

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
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from understudy import locations
from understudy.errors import BadInput, EnvironmentFailed

if TYPE_CHECKING:
    from understudy.config import Config, ModelConfig, TrainerConfig

_ZERO3 = ("zero3", "zero3_offload")
_SHARDED = ("fsdp", *_ZERO3)


class _Refusal(NamedTuple):
    """A line of the table: which recipes fail under which launches, and what to do."""

    is_meant: "Callable[[TrainerConfig, ModelConfig], bool]"
    kinds: tuple[str, ...]
    recipe: str
    reason: str
    choose: str


def _trains_rows(trainer: "TrainerConfig", model: "ModelConfig") -> bool:
    return trainer.kind == "lora" and bool(model.new_tokens) and trainer.new_token_rows == "trained"


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


def check(trainer: "TrainerConfig", model: "ModelConfig", kind: str, has_gpu: bool = True) -> None:
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
    if trainer.quantization == "nf4" and trainer.kind != "lora":
        raise BadInput(
            f"trainer.quantization=nf4 freezes the weights, which trainer.kind={trainer.kind} "
            "trains; choose trainer=qlora"
        )
    if trainer.attention == "flash_attention_2" and trainer.precision == "fp32":
        raise BadInput(
            "trainer.attention=flash_attention_2 computes in 16 bits; "
            "choose trainer.precision=bf16, or trainer.attention=sdpa"
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


def check_here(config: "Config", kind: str) -> None:
    """The same for a training on this machine, with or without a GPU.

    Raises BadInput, and EnvironmentFailed where a package is missing.
    """
    recipe = config.trainer
    check(recipe, config.model, kind, has_gpu=Path("/dev/nvidiactl").exists())
    needs = {"bitsandbytes": recipe.quantization == "nf4"}
    needs["flash_attn"] = recipe.attention == "flash_attention_2"
    for package, is_needed in needs.items():
        if recipe.kind != "none" and is_needed and find_spec(package) is None:
            raise EnvironmentFailed(
                f"this recipe needs {package}, which is not installed: pip install {package}"
            )
