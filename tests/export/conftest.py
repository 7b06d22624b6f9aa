"""Shared by the tests of `understudy export`: a quiet library and a run to export."""

from pathlib import Path

import pytest

from support import exports
from understudy.models import load


@pytest.fixture(autouse=True)
def _quiet() -> None:
    load.quiet()


@pytest.fixture
def run_json(tmp_path: Path, base: Path) -> Path:
    return exports.write_run(tmp_path / "runs", base)
