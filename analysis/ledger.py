"""What the stages of some runs took: calls, money, tokens and time, from their meta.json.

A stage records its calls since services can be paid for; the offline stand-ins cost nothing and
record none, and then money and tokens are missing here, not 0.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from understudy.pipeline.record import RunRecord

from . import frame

_COUNTS = ("calls", "microusd", "input_tokens", "output_tokens")
COLUMNS = ["run", "stage", "fingerprint", "round", "seconds", "rows", *_COUNTS]


def ledger(runs: Sequence[RunRecord]) -> pd.DataFrame:
    """One row per finished stage; a stage that several runs share was paid once, and is one row."""
    rows: dict[Path, dict[str, Any]] = {}
    for run in runs:
        for stage in frame.finished(run):
            made = frame.meta(stage.directory)
            rows.setdefault(
                stage.directory.path,
                {
                    "run": run.name,
                    "stage": stage.kind,
                    "fingerprint": stage.directory.path.name,
                    "round": stage.round,
                    "seconds": made.get("seconds"),
                    "rows": _rows(stage),
                    **{name: made.get("calls", {}).get(name) for name in _COUNTS},
                },
            )
    table = pd.DataFrame(list(rows.values()), columns=COLUMNS)
    numbers = ["round", "seconds", "rows", *_COUNTS]
    return table.astype(dict.fromkeys(numbers, float))


def _rows(stage: frame.Planned) -> float | None:
    """How many rows a synthesis stage accepted."""
    if stage.kind != "synthesis":
        return None
    rows: float | None = stage.directory.read("out/summary.json").get("rows")
    return rows


def usd_per_row(table: pd.DataFrame) -> float:
    """What an accepted synthetic row cost; NaN where no call was paid for."""
    made = table[(table["stage"] == "synthesis") & table["microusd"].notna()]
    rows = made["rows"].sum()
    return float(made["microusd"].sum() / 1e6 / rows) if rows else float("nan")


def tokens_per_call(table: pd.DataFrame, kind: str) -> tuple[float, float]:
    """Mean input and output tokens of a call of one kind of stage; NaN where not recorded."""
    made = table[(table["stage"] == kind) & table["input_tokens"].notna()]
    calls = made["calls"].sum()
    if not calls:
        return float("nan"), float("nan")
    return float(made["input_tokens"].sum() / calls), float(made["output_tokens"].sum() / calls)


def spent_usd(table: pd.DataFrame) -> float:
    """What all stages cost; NaN where none paid."""
    return float(table["microusd"].sum(min_count=1) / 1e6)
