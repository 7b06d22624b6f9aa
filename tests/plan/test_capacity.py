"""What a plan says of an adapter: whether it can hold the data, and of its learning rate."""

from pathlib import Path

from support import tiny_model
from understudy.plan import capacity


def test_an_adapter_that_holds_less_than_its_answers_tell_is_named(base: Path) -> None:
    changes = {"trainer__kind": "lora", "trainer__lr": 1e-4}
    config = tiny_model.build(base, **changes)
    assert capacity.parameters(config, 4) == 8704  # what PEFT counts of this model (test_finetune)
    little = tiny_model.rows(100)
    much = tiny_model.rows(100, answer="red " * 200)  # 800 bytes, so 200 tokens by four bytes each
    assert capacity.lines(config, little) == []
    (said,) = capacity.lines(config, much)
    assert "rank 4 trains 8,704 parameters on about 20,000 answer tokens (100 rows)" in said
    assert "raise trainer.lora_rank to 8 or more" in said
    held = tiny_model.rows(100, "validation", "red " * 200)
    assert capacity.lines(config, [*little, *held]) == []
    assert capacity.lines(tiny_model.build(base, trainer__lr=1e-4), much) == []


def test_a_rate_far_from_the_advice_is_named_with_its_source(base: Path) -> None:
    config = tiny_model.build(base, trainer__kind="lora", trainer__lr=1e-5)
    (said,) = capacity.lines(config, tiny_model.rows(10))
    assert said.startswith("trainer.lr=1e-05 is far from")
    assert "try 0.0001 (Schulman et al. 2025" in said
