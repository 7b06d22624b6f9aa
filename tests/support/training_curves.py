"""Whether two fine-tunings of the same config went the same way."""

from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from support import tiny_model

# Losses and weights of fp32 sums in another order; measured differences are below 3e-6.
TOLERANCE = 2e-5
Curve = list[dict[str, Any]]


def assert_equal_within_tolerance(found: Path, expected: Path) -> None:
    """The same steps, learning rates, losses and weights."""
    curves: list[Curve] = [tiny_model.read(path / "curve.jsonl") for path in (found, expected)]
    assert [(p["step"], p["lr"]) for p in curves[0]] == [(p["step"], p["lr"]) for p in curves[1]]
    for loss in ("train_loss", "validation_loss"):
        both = [[p[loss] for p in curve if p[loss] is not None] for curve in curves]
        assert both[0] == pytest.approx(both[1], abs=TOLERANCE)
        assert len(both[0]) > 1
    summaries = [tiny_model.read(path / "summary.json") for path in (found, expected)]
    for name in ("rows", "steps", "epochs", "shipped_step", "trainable_parameters"):
        assert summaries[0][name] == summaries[1][name]
    (mine,), (theirs,) = ([*p.glob("model/*.safetensors")] for p in (found, expected))
    assert mine.name == theirs.name
    tensors, others = load_file(mine), load_file(theirs)
    assert tensors.keys() == others.keys()
    for name, tensor in tensors.items():
        # AdamW divides by small numbers: single weights differ more than losses do.
        assert float((tensor - others[name]).abs().max()) < 100 * TOLERANCE, name
