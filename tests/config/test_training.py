"""The table of what trains under which launch, line by line."""

from pathlib import Path
from typing import Any

import pytest

from support import tiny_model
from understudy.config.training import check_recipe
from understudy.errors import BadInput

KINDS = ("cpu", "single", "ddp", "fsdp", "zero1", "zero2", "zero3", "zero3_offload")
NEW = {"model__new_tokens": ["<|new|>"], "model__stop": ["<|new|>"]}
LORA = {"trainer__kind": "lora"}
NF4 = LORA | {"trainer__quantization": "nf4"}
SHARDED = {"fsdp", "zero3", "zero3_offload"}
# By hand, not from the code under test.
REFUSED: list[tuple[str, dict[str, Any], set[str]]] = [
    ("full", {}, set()),
    ("lora", LORA, set()),
    ("lora, frozen rows", LORA | NEW | {"trainer__new_token_rows": "frozen"}, set()),
    ("lora, trained rows", LORA | NEW, SHARDED),
    ("full, new rows", NEW, set()),
    ("qlora", NF4, {"cpu"} | SHARDED),
    ("fp16", {"trainer__precision": "fp16"}, {"cpu"}),
    ("bf16", {"trainer__precision": "bf16"}, set()),
    ("flash", {"trainer__attention": "flash_attention_2"}, {"cpu"}),
    ("none", {"trainer__kind": "none", "trainer__quantization": "nf4"}, set()),
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("name", "changes", "refused"), REFUSED, ids=[n for n, *_ in REFUSED])
def test_a_recipe_is_refused_under_the_launches_that_cannot_train_it(
    name: str, changes: dict[str, Any], refused: set[str], kind: str
) -> None:
    config = tiny_model.build(None, **changes)
    if kind in refused:
        with pytest.raises(BadInput, match=f"does not train as accelerate={kind}: .*; choose"):
            check_recipe(config.trainer, config.model, kind)
    else:
        check_recipe(config.trainer, config.model, kind)


def test_zero_3_with_trained_rows_names_the_known_fault_and_three_ways_out() -> None:
    config = tiny_model.build(None, **LORA, **NEW)
    with pytest.raises(BadInput) as error:
        check_recipe(config.trainer, config.model, "zero3")
    assert str(error.value) == (
        "lora with trained rows of model.new_tokens does not train as accelerate=zero3: PEFT "
        "cannot save them under ZeRO-3 (peft#2603, peft#2946); choose accelerate=zero2 or ddp, "
        "or trainer.new_token_rows=frozen"
    )


@pytest.mark.parametrize("changes", [NF4, {"trainer__precision": "fp16"}])
def test_without_a_gpu_what_needs_one_is_refused_whatever_the_launch(
    changes: dict[str, Any],
) -> None:
    config = tiny_model.build(None, **changes)
    with pytest.raises(BadInput, match="on this machine, which has no GPU"):
        check_recipe(config.trainer, config.model, "single", has_gpu=False)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"trainer__quantization": "nf4"}, "nf4 freezes the weights.*choose trainer=qlora"),
        (
            {"trainer__attention": "flash_attention_2", "trainer__precision": "fp32"},
            "computes in 16 bits",
        ),
        ({"model__chat_template": "chat"}, r"is none of ours \(chatml, .*plain\)"),
    ],
)
def test_what_never_trains_is_refused_when_the_config_is_built(
    changes: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(BadInput, match=sentence):
        tiny_model.build(None, **changes)


@pytest.mark.skipif(Path("/dev/nvidiactl").exists(), reason="this machine has a GPU")
def test_a_run_of_qlora_without_a_gpu_ends_at_second_0(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from understudy.cli.main import main

    command = ["run", "trainer=qlora", "data_size=0", f"paths.root={tmp_path / 'runs'}"]
    assert main(command) == 2
    said = capsys.readouterr().err.strip()
    assert said.count("\n") == 0
    assert "bitsandbytes needs a CUDA GPU; choose trainer=lora" in said
    assert not list(tmp_path.iterdir())
