"""The record of a sweep."""

import json
from pathlib import Path
from typing import Any

import pytest

from understudy.errors import BadInput
from understudy.sweep.record import CellRecord, SweepRecord

# As the first version wrote it: no version of the file.
OLD: dict[str, Any] = {
    **{"name": "two", "command": "understudy run seed=0,1", "rehearsal": True},
    **{"created": "2026-11-29T08:00:00+00:00", "axes": {"seed": ["seed=0", "seed=1"]}},
    "cells": [
        {"label": "0", "run": "rehearsal/run/two-0", "failed": None},
        {"label": "1", "run": "rehearsal/run/two-1", "failed": "run ended with exit code 4"},
    ],
}


def written(root: Path, **changed: Any) -> Path:
    path = root / "rehearsal" / "sweep" / "two" / "sweep.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(OLD | changed))
    return path


def test_the_first_version_s_record_is_read_and_written_back(tmp_path: Path) -> None:
    record = SweepRecord.read(written(tmp_path))
    assert record.cells[1] == CellRecord("1", "rehearsal/run/two-1", "run ended with exit code 4")
    assert record.root == tmp_path
    assert record.files[0] == tmp_path / "rehearsal/run/two-0/run.json"
    assert record.begun == []
    record.write()
    assert json.loads(record.path.read_text()) == {"version": 1, **OLD}


@pytest.mark.parametrize(
    ("changed", "told"),
    [({"version": 2}, "has version 2"), ({"cells": [{}]}, "cells.0.label"), ({"axes": 1}, "axes")],
)
def test_what_is_no_record_is_one_sentence(
    tmp_path: Path, changed: dict[str, Any], told: str
) -> None:
    path = written(tmp_path, **changed)
    with pytest.raises(BadInput, match=told) as caught:
        SweepRecord.read(path)
    assert str(path) in str(caught.value)
