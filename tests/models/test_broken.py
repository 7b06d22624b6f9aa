"""A model that somebody brought and that is broken: their sentence, and no bug of ours."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support import tiny_model
from understudy import locations
from understudy.errors import BadInput
from understudy.models import load
from understudy.pipeline import worker
from understudy.store.artifacts import StageDir


def config_of(path: Path, **changed: Any) -> None:
    file = path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changed))


def weights_of(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(path / "model.safetensors")
    change(weights)
    save_file(weights, path / "model.safetensors", metadata={"format": "pt"})


def cut(path: Path) -> None:
    file = path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:10_000])


NORM = "model.layers.1.input_layernorm.weight"
BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut weights": (cut, "cannot be loaded from"),
    "no weights": (lambda path: (path / "model.safetensors").unlink(), "cannot be loaded from"),
    "a weight is missing": (
        lambda path: weights_of(path, lambda weights: weights.pop(NORM)),
        f"lacks weights .* {NORM}",
    ),
    "weights that are no numbers": (
        lambda path: weights_of(path, lambda weights: weights[NORM].fill_(float("nan"))),
        f"{NORM} in .* no numbers",
    ),
    "more layers than weights": (lambda path: config_of(path, num_hidden_layers=6), "lacks"),
    "another width": (lambda path: config_of(path, hidden_size=64), "cannot be loaded from"),
    "no JSON": (lambda path: (path / "config.json").write_text("{"), "cannot be loaded from"),
    "an unknown kind": (lambda path: config_of(path, model_type="mamba9"), "cannot be loaded from"),
    "code of its own": (
        lambda path: config_of(
            path,
            model_type="mine",
            auto_map={"AutoConfig": "m.C", "AutoModelForCausalLM": "m.M"},
        ),
        "code of its own",
    ),
}


def brought(at: Path) -> tuple[Path, Any]:
    """A copy of our small model as somebody else's, and the config of a stage that uses it."""
    path = at / "mine"
    shutil.copytree(locations.model("package:tiny"), path)
    return path, tiny_model.build(path, model__name="mine")


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_model_is_its_owner_s_to_mend(what: str, tmp_path: Path) -> None:
    path, made = brought(tmp_path)
    change, words = BROKEN[what]
    change(path)
    with pytest.raises(BadInput, match=words):
        load.base(made.model, load.dtype())


@pytest.mark.parametrize("text", ["{", '{"version": "1.0"}'])
def test_a_broken_tokenizer_is_its_owner_s_to_mend(text: str, tmp_path: Path) -> None:
    path, made = brought(tmp_path)
    (path / "tokenizer.json").write_text(text)
    with pytest.raises(BadInput, match="model=mine cannot be loaded from"):
        load.tokenizer(made.model)


def test_a_model_whose_tokenizer_is_another_s_is_named_when_it_computes(tmp_path: Path) -> None:
    import torch

    _, made = brought(tmp_path)
    loaded = load.base(made.model, load.dtype())
    stage = StageDir(tmp_path / "inference/0")
    for config, code in ((made, 2), (tiny_model.build("package:tiny"), 70)):
        stage.prepare({"config": dataclasses.asdict(config)}, {})
        try:
            loaded(torch.tensor([[5000]]))
        except Exception as error:
            found = worker._as_known(error, stage)
        assert found.exit_code == code
    assert "a bug of understudy's" in str(found)
