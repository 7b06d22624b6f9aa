"""What a service and a local model cost month by month, and when the local one has paid off.

    service(m) = m * days * requests * (tokens in * price in + tokens out * price out)
    local(m)   = fine-tuning + GPUs * card + migration + m * GPUs * kWh * price of electricity

Every number is an assumption in `reference/costs.csv`, with its source and, where known, a range.
A range is drawn from evenly and all at once, so the break-even has an interval.
"""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from understudy.errors import BadInput
from understudy.evaluation.statistics.intervals import CONFIDENCE

from .evaluations import Floats
from .frame import spent_usd, tokens_per_call

FILE = Path(__file__).parent / "reference" / "costs.csv"
WORKLOADS = ("light", "heavy")
DRAWS = 9999
_FIXED = ("months", "what_if")  # a question and a setting, not assumptions
_LEDGER = "the ledger of"  # begins the source of what a run measured


class Assumption(NamedTuple):
    """One number of the calculation."""

    value: float
    low: float | None
    high: float | None
    unit: str
    source: str


class Cost(NamedTuple):
    """One workload over the months asked for."""

    workload: str
    month: Floats  # (M,) 0 to months
    service: Floats  # (M,) USD so far
    local: Floats
    break_even: float  # months; inf = never
    low: float
    high: float


def assumptions(changed: Sequence[str] = (), file: Path = FILE) -> dict[str, Assumption]:
    """The committed assumptions with NAME=VALUE or NAME=LOW..HIGH changes of the user."""
    with file.open(encoding="utf-8", newline="") as lines:
        found = {row.pop("name"): _assumption(row) for row in csv.DictReader(lines)}
    for change in changed:
        name, _, text = change.partition("=")
        if name not in found:
            raise BadInput(f"--set {change}: {name} is no assumption; choose from {_list(found)}")
        try:
            ends = [float(part) for part in text.split("..")]
        except ValueError:
            ends = []
        if not ends or len(ends) > 2 or min(ends) < 0 or ends != sorted(ends):
            raise BadInput(f"--set {change}: {text!r} is no number from 0 and no range LOW..HIGH")
        low, high = ends if len(ends) == 2 else (None, None)
        value = sum(ends) / len(ends)
        found[name] = found[name]._replace(
            value=value, low=low, high=high, source="given on the command line (--set)"
        )
    return found


def _assumption(row: dict[str, str]) -> Assumption:
    low, high = (float(row[name]) if row[name] else None for name in ("low", "high"))
    return Assumption(float(row["value"]), low, high, row["unit"], row["source"])


def _list(found: Mapping[str, Assumption]) -> str:
    return ", ".join(found)


def from_ledger(found: dict[str, Assumption], table: pd.DataFrame) -> dict[str, Assumption]:
    """The same with what the runs' own ledger measured: tokens of a request, cost of migrating."""
    said = f"{_LEDGER} {', '.join(dict.fromkeys(table['run']))}"
    changed = dict(found)
    tokens = tokens_per_call(table, "baseline")
    measured = {
        "input_tokens": (tokens[0], "tokens that the service billed per answer"),
        "output_tokens": (tokens[1], "tokens that the service billed per answer"),
        "migration_usd": (spent_usd(table), "all calls of all stages"),
    }
    for name, (value, what) in measured.items():
        if value == value and "--set" not in found[name].source:
            changed[name] = found[name]._replace(value=value, source=f"{said}: {what}")
    return changed


def measured(found: Mapping[str, Assumption]) -> list[str]:
    """Return the names of the assumptions that a run's own ledger replaced."""
    return [name for name, one in found.items() if one.source.startswith(_LEDGER)]


def cost(found: Mapping[str, Assumption], workload: str) -> Cost:
    """Cumulative costs and break-even of one workload."""
    values = {name: np.array(one.value) for name, one in found.items()}
    rng = np.random.default_rng(0)
    spread = found["what_if"].value
    drawn = {
        name: values[name] if name in _FIXED else _draw(one, spread, rng)
        for name, one in found.items()
    }
    month = np.arange(found["months"].value + 1)
    service, once, monthly = _parts(values, workload)
    low, high = np.quantile(
        _break_even(*_parts(drawn, workload)),
        [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2],
        method="nearest",  # between a month and never lies nothing
    )
    return Cost(
        workload,
        month,
        service * month,
        once + monthly * month,
        float(_break_even(service, once, monthly)),
        float(low),
        float(high),
    )


def _draw(one: Assumption, spread: float, rng: np.random.Generator) -> Floats:
    low = one.value * (1 - spread) if one.low is None else one.low
    high = one.value * (1 + spread) if one.high is None else one.high
    return rng.uniform(low, high, DRAWS)


def _parts(values: Mapping[str, Floats], workload: str) -> tuple[Floats, Floats, Floats]:
    """Service per month, local once, local per month, in USD."""
    factor = values["heavy_factor"] if workload == "heavy" else np.array(1.0)
    requests = values["requests_per_day"] * values["days_per_month"] * factor
    tokens = values["input_tokens"] * values["input_usd"]
    tokens = tokens + values["output_tokens"] * values["output_usd"]
    gpus = values[f"gpus_{workload}"]
    once = values["finetuning_usd"] + gpus * values["gpu_usd"] + values["migration_usd"]
    monthly = gpus * values["gpu_kwh"] * values["electricity_usd"]
    return requests * tokens / 1e6, once, monthly


def _break_even(service: Floats, once: Floats, monthly: Floats) -> Floats:
    with np.errstate(divide="ignore"):
        return np.where(service > monthly, once / np.maximum(service - monthly, 1e-300), np.inf)
