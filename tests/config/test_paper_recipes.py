"""The composed paper recipes against the reference values, field by field."""

import csv
import json
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from understudy import config
from understudy.config import Config
from understudy.config.compose import Composer
from understudy.training.data import adapter_size

TABLE = Path(__file__).with_name("paper_recipes.csv")
MODELS = ("gemma_2b", "gemma_7b", "mistral_7b", "llama3_8b")
TASKS = ("summarization", "classification", "coding", "closed_qa")
HUMAN = 355  # train rows beside the synthetic ones; they must not move a size to another rank
COMPOSER = Composer(None)


def reference() -> list[dict[str, str]]:
    with TABLE.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@cache
def recipe(model: str, task: str) -> Config:
    overrides = ["experiment=paper/main_table", "rehearsal.url=http://127.0.0.1:9"]
    return config.build(COMPOSER.values([*overrides, f"model={model}", f"task={task}"]))


def composed(model: str, task: str, line: dict[str, str]) -> Any:
    made = recipe(model, task)
    if line["leaf"] == "rank":
        size = adapter_size(made.trainer, int(line["data_size"]) + HUMAN)
        assert size.alpha == 2 * size.rank
        return size.rank
    value: Any = made
    for name in line["leaf"].split("."):
        value = getattr(value, name)
    return list(value) if isinstance(value, tuple) else value


def wanted(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_every_field_of_a_paper_recipe_is_the_reference_s(model: str) -> None:
    lines = [line for line in reference() if line["model"] in (model, "*")]
    assert len(lines) > 25
    for task, line in product(TASKS, lines):
        if line["task"] in (task, "*"):
            assert composed(model, task, line) == wanted(line["value"]), (task, line)


def test_every_reference_value_has_a_source_and_no_two_disagree() -> None:
    lines = reference()
    assert all(line["source"] and line["value"] for line in lines)
    keys = [(line["model"], line["task"], line["data_size"], line["leaf"]) for line in lines]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("model", MODELS)
def test_the_right_recipe_of_a_paper_model_adds_no_token_and_keeps_the_best(model: str) -> None:
    made = config.build(COMPOSER.values([f"model={model}", "trainer=qlora"]))
    assert made.model.new_tokens == ()
    assert made.trainer.lora_targets is None
    assert made.model.lora_targets == "all-linear"
    recipe = made.trainer
    assert (recipe.loss, recipe.keep, recipe.quantization) == ("answer", "best", "nf4")
