"""Shared by all tests: offline hub, one thread, composed configs and a small base model."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

from understudy import config
from understudy.config import Config
from understudy.config.compose import compose

if TYPE_CHECKING:
    from support import chromium

_COMPOSED: dict[tuple[str, ...], Config] = {}


@pytest.fixture
def composed(tmp_path: Path) -> Callable[..., Config]:
    """A function: overrides → Config whose root is this test's own directory."""

    def make(*overrides: str) -> Config:
        if overrides not in _COMPOSED:
            _COMPOSED[overrides] = config.build(compose(list(overrides), None))
        return config.changed(_COMPOSED[overrides], {"paths.root": str(tmp_path / "runs")})

    return make


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random base model with its tokenizer, which no test writes to."""
    from support import tiny_model

    return tiny_model.save(tmp_path_factory.mktemp("model") / "base")


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator["chromium.Tab"]:
    """A tab of a browser of its own; skips where there is none."""
    from support import chromium

    if chromium.find() is None:
        pytest.skip("no Chromium: apt-get install chromium")
    with chromium.tab(tmp_path_factory.mktemp("profile")) as opened:
        yield opened
