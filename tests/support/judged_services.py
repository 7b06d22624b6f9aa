"""A run whose service baseline is judged, too."""

from pathlib import Path
from typing import Any

from support.fake_runs import stage, write_run
from understudy.records import Answer, Row


def run_with_baseline(root: Path, name: str = "demo", **changed: Any) -> Path:
    """A run of fake_runs whose service baseline has answers and verdicts, too."""
    path = write_run(root, name, **changed)
    answers: list[Row] = [
        Answer(f"p{n}", f"g{n}", 0, "an answer", 10, "stop", "offline", "offline") for n in range(3)
    ]
    stage(root, "baseline/a1", answers)
    text = path.read_text().replace(
        '"split": "split/p0"', '"split": "split/p0", "baseline": "baseline/a1"'
    )
    path.write_text(text)
    return path
