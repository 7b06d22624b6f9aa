"""Outcome tables: what each LLM scored and cost on each query, from a file of one's own.

A file (CSV, TSV, JSONL, JSON, parquet, also .gz) has one row per query and, per LLM, a column with
its success and a column `NAME_cost` or `NAME|total_cost` with the dollars of that call. A query
whose successes are all empty is not labelled yet; its costs may be empty too.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from understudy.data.reading import read_file
from understudy.errors import BadInput

Array = NDArray[np.float64]
COSTS = ("_cost", "|total_cost")
_TEXT = ("text", "content", "prompt", "query", "question", "instruction")
_ID = ("id", "sample_id", "query_id", "prompt_id")
_GROUP = ("group_id", "group")


@dataclass(frozen=True)
class Outcomes:
    """N queries and M LLMs."""

    llms: list[str]
    success: Array  # (N, M) in [0, 1]: 0/1, a graded score or a probability; NaN = not labelled
    cost: Array  # (N, M) in USD; NaN only where not labelled
    ids: list[str]
    text: list[str] | None = None
    groups: dict[str, list[str]] = field(default_factory=dict)  # what is held out together
    features: Array | None = None  # (N, d), when the user brings them
    is_rehearsal: bool = False
    unscored: tuple[int, ...] = ()  # rows whose LLMs were asked, but some score is missing
    notes: tuple[str, ...] = ()  # what a reader of the numbers has to know

    def __post_init__(self) -> None:
        assert self.success.shape == self.cost.shape == (len(self.ids), len(self.llms))

    @property
    def is_labelled(self) -> NDArray[np.bool_]:
        """Which queries have a success for every LLM, shape (N,)."""
        return np.asarray(~np.isnan(self.success).any(axis=1))

    @property
    def is_unscored(self) -> NDArray[np.bool_]:
        """Which queries should have a label and have none, shape (N,)."""
        return np.isin(np.arange(len(self.ids)), self.unscored)

    def rows(self, chosen: NDArray[Any]) -> "Outcomes":
        """These queries only; `chosen` is a mask or indices."""
        places = np.arange(len(self.ids))[chosen]

        def take(values: Sequence[str]) -> list[str]:
            return [values[place] for place in places]

        return replace(
            self,
            success=self.success[places],
            cost=self.cost[places],
            ids=take(self.ids),
            text=None if self.text is None else take(self.text),
            groups={name: take(values) for name, values in self.groups.items()},
            features=None if self.features is None else self.features[places],
            unscored=tuple(np.flatnonzero(self.is_unscored[places]).tolist()),
        )


def read(path: Path) -> Outcomes:
    """The table in a file.

    Raises BadInput when a column is missing, a success lies outside 0 to 1, or a cost below 0.
    """
    rows = []
    for raw in read_file(path):
        if raw.values is None:
            raise BadInput(f"{raw.place} {raw.problem}")
        rows.append(raw.values)
    columns = list(rows[0])
    costs = {
        column.removesuffix(suffix): column
        for column in columns
        for suffix in COSTS
        if column.endswith(suffix) and column.removesuffix(suffix) in columns
    }
    llms = [column for column in columns if column in costs]
    if not llms:
        raise BadInput(
            f"{path} has no pair of columns NAME and NAME{COSTS[0]} (or NAME{COSTS[1]}): "
            f"its columns are {', '.join(columns)}"
        )
    success = np.array([[_number(row, llm, n, path) for llm in llms] for n, row in enumerate(rows)])
    cost = np.array(
        [[_number(row, costs[llm], n, path) for llm in llms] for n, row in enumerate(rows)]
    )
    check(success, cost, llms, str(path))
    text = next((name for name in _TEXT if name in columns), None)
    ids = next((name for name in _ID if name in columns), None)
    group = next((name for name in _GROUP if name in columns), None)
    return Outcomes(
        llms,
        success,
        cost,
        [str(row[ids]) if ids else str(n) for n, row in enumerate(rows)],
        None if text is None else [str(row[text] or "") for row in rows],
        {} if group is None else {"group": [str(row[group]) for row in rows]},
    )


def check(success: Array, cost: Array, llms: list[str], where: str) -> None:
    """Raise BadInput at the first value that cannot be: a missing cost, a success above 1, …"""
    unknown = np.isnan(success).all(axis=1, keepdims=True)
    partly = np.isnan(success).any(axis=1, keepdims=True) & ~unknown
    for bad, table, what in (
        (~np.isfinite(cost) & ~(np.isnan(cost) & unknown), cost, "a cost is a number of dollars"),
        (cost < 0, cost, "a cost is never negative"),
        (partly & np.isnan(success), success, "a query has all its labels or none"),
        (np.isinf(success) | (success < 0) | (success > 1), success, "a success is 0 to 1"),
    ):
        if bad.any():
            row, llm = (int(place) for place in np.argwhere(bad)[0])
            raise BadInput(f"{where} row {row + 1}, {llms[llm]}: {table[row, llm]:g}; {what}")


def _number(row: dict[str, Any], column: str, place: int, path: Path) -> float:
    """The number in a cell; an empty cell is NaN."""
    value = row.get(column)
    if value is None or value == "":
        return float("nan")
    try:
        return float(value)
    except (TypeError, ValueError):
        raise BadInput(f"{path} row {place + 1}: {column}={value!r} is not a number") from None
