"""The scripts that made the tiny model, by path: they are an experiment, no part of the package."""

import sys
from pathlib import Path

_FOLDER = Path(__file__).parents[2] / "experiments" / "tiny_base"

sys.path.insert(0, str(_FOLDER))
import pretrain  # noqa: E402
import pretraining_text  # noqa: E402

sys.path.remove(str(_FOLDER))

__all__ = ["pretrain", "pretraining_text"]
