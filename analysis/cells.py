"""Cells of the tables: ours as written, the published ones, and those we committed to.

A cell is a number with a name: place, task, model, teacher, data_size, judge, metric, statistic
(and variant, for what the paper had one of: trainer and seed).
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from understudy.errors import BadInput
from understudy.evaluation.scores import METRICS

from . import scores

PUBLISHED = Path(__file__).parent / "reference" / "published.csv"
EXPECTED = Path(__file__).parent / "reference" / "expected.csv"
SHARED = ["place", "task", "model", "teacher", "data_size", "judge", "metric", "statistic"]
KEY = [*SHARED, "variant"]
_BOUNDS = ["value", "low", "high"]
_EXPECTED = {"value": "expected", "low": "expected_low", "high": "expected_high"}
_DERIVED = ("Table 2", "Figure 4")  # of assumptions that were taken from there
_REAL = ("PR 6",)  # recomputed from the scores that were printed

Origin = Literal["runs", "released", "made up"]


def ours(folder: Path) -> pd.DataFrame:
    """Every cell of the tables in a folder; they were written by this package."""
    rows = [cell for name, read in _READERS.items() for cell in read(_csv(folder / f"{name}.csv"))]
    found = _typed(pd.DataFrame(rows, columns=[*KEY, *_BOUNDS]), _BOUNDS)
    again = found.groupby(KEY, sort=False).cumcount()  # as one service on two splits of a task
    found["variant"] += [f" (no. {number + 1})" if number else "" for number in again]
    return found


def published(file: Path = PUBLISHED) -> pd.DataFrame:
    """The published cells; `value` is NaN where it is not known."""
    return _typed(_read(file, [*SHARED, "value", "unit", "source", "certainty"]), ["value"])


def expected(file: Path) -> pd.DataFrame:
    """The cells that were committed to, with their intervals."""
    return _typed(_read(file, [*KEY, *_BOUNDS]), _BOUNDS)


def commit(cells: pd.DataFrame, file: Path) -> None:
    """Write these cells as what is expected from now on."""
    file.parent.mkdir(parents=True, exist_ok=True)
    cells[[*KEY, *_BOUNDS]].to_csv(file, index=False, lineterminator="\n", float_format="%.10g")


def compare(
    mine: pd.DataFrame, theirs: pd.DataFrame, old: pd.DataFrame | None, origin: Origin = "runs"
) -> pd.DataFrame:
    """Ours, published and expected side by side, with the two verdicts on each cell.

    `published_says`, by what ours were made from: for `runs`, agrees or differs, within our
    interval and the rounding of the published number; for `released` rows, the paper's own, agrees
    or outside, within the rounding alone; a made-up set is no comparison. What follows from
    published values themselves is derived. `expected_says`: same or drift, of value and interval,
    within a thousandth of the interval; gone, new.
    """
    known = theirs.dropna(subset=["value"]).rename(columns={"value": "published"})
    table = mine.merge(known, on=SHARED, how="outer", sort=False)
    table["published_says"] = [_against_published(row, origin) for row in table.to_dict("records")]
    table["variant"] = table["variant"].fillna("")
    if old is None:
        table["expected"], table["expected_says"] = np.nan, ""
    else:
        wanted = old.rename(columns={name: _EXPECTED[name] for name in _BOUNDS})
        table = table.merge(wanted, on=KEY, how="outer")
        table["published_says"] = table["published_says"].fillna("")
        table["expected_says"] = [_against_expected(row) for row in table.to_dict("records")]
    return table


def _against_published(row: dict[Any, Any], origin: Origin) -> str:
    value, said = row["value"], row["published"]
    if value != value or said != said:
        return "" if said != said else "not ours"
    if row["place"] in _DERIVED:
        return "derived"
    rounding = 0.5 * 10.0 ** -len(f"{said:.10g}".partition(".")[2])
    if origin == "released" or row["place"] in _REAL:
        return "agrees" if abs(value - said) <= rounding + 1e-9 else "outside"
    if origin == "made up":
        return "made up"
    low, high = (row["low"], row["high"]) if row["low"] == row["low"] else (value, value)
    return "agrees" if low - rounding <= said <= high + rounding else "differs"


def _against_expected(row: dict[Any, Any]) -> str:
    value, wanted = row["value"], row["expected"]
    if wanted != wanted:
        return "new" if value == value else ""
    if value != value:
        return "gone"
    width = row["expected_high"] - row["expected_low"]
    for name in _BOUNDS:
        now, then = row[name], row[_EXPECTED[name]]
        tolerance = 1e-6 * max(1.0, abs(then)) + (1e-3 * width if width == width else 0.0)
        if (now == now) != (then == then) or abs(now - then) > tolerance:
            return "drift"
    return "same"


def _main(table: pd.DataFrame) -> Iterator[dict[str, Any]]:
    for row in table.to_dict("records"):
        names = {name: row[name] for name in ("task", "model", "teacher", "data_size", "judge")}
        is_local = row["role"] == "local" and row["trainer"]
        seed = row["seed"] and f"{float(row['seed']):.0f}"
        parts = [row["trainer"], f"seed {seed or row.get('seeds')}"] if is_local else []
        parts += [value for key, value in row.items() if str(key).startswith("leaf.") and value]
        variant = ", ".join(parts)
        for metric in METRICS:
            for statistic in (*scores.STATISTICS, "service_ratio"):
                ends = [row[f"{metric}.{statistic}.{part}"] for part in scores.PARTS]
                head = {"place": "Table 1", "metric": metric, "statistic": statistic}
                yield head | names | {"variant": variant} | _bounds(ends)


def _p_matches(table: pd.DataFrame) -> Iterator[dict[str, Any]]:
    empty = dict.fromkeys(("model", "teacher", "data_size", "variant"), "")
    for row in table.to_dict("records"):
        names = {name: row[name] for name in ("task", "judge", "metric", "statistic")}
        ends = [row[f"p_match.{part}"] for part in scores.PARTS]
        yield empty | {"place": "P-Match (best local / best service)"} | names | _bounds(ends)


def _scaling(table: pd.DataFrame) -> Iterator[dict[str, Any]]:
    for row in table.to_dict("records"):
        names = {name: row[name] for name in ("task", "model", "teacher", "judge", "metric")}
        ends = [row[f"expected.{part}"] for part in scores.PARTS]
        head = {"place": "Figure 2", "statistic": "expected", "data_size": row["doubling"]}
        parts = [value for key, value in row.items() if str(key).startswith("leaf.") and value]
        yield head | names | {"variant": ", ".join(parts)} | _bounds(ends)


def _steps(table: pd.DataFrame) -> Iterator[dict[str, Any]]:
    for row in table.to_dict("records"):
        names = {name: row[name] for name in ("task", "model", "teacher", "data_size")}
        head = {"place": "Figure 2", "judge": "", "metric": "training", "statistic": "steps"}
        yield head | names | {"variant": row["variant"]} | _bounds([row["steps"], "", ""])


def _costs(table: pd.DataFrame) -> Iterator[dict[str, Any]]:
    empty = dict.fromkeys(("task", "teacher", "data_size", "judge", "variant"), "")
    for row in table.to_dict("records"):
        statistic = f"{row['workload']} {float(row['months']):.0f} months"
        for column, model in (("local", "local model"), ("service", "service")):
            head = {"place": "Table 2", "model": model, "metric": "usd", "statistic": statistic}
            yield empty | head | _bounds([row[column], "", ""])
        head = {"place": "Figure 4", "model": "local model", "metric": "break_even"}
        ends = [row[f"break_even.{part}"] for part in scores.PARTS]
        yield empty | head | {"statistic": row["workload"]} | _bounds(ends)


def _judges(table: pd.DataFrame) -> Iterator[dict[str, Any]]:
    empty = dict.fromkeys(("model", "teacher", "data_size", "variant"), "")
    for row in table.to_dict("records"):
        names = {name: row[name] for name in ("task", "judge", "metric")}
        for what in ("mean", "leniency", "spread"):
            ends = [row[f"{what}.{part}"] for part in scores.PARTS]
            yield empty | {"place": "Judges", "statistic": what} | names | _bounds(ends)


def _printed(table: pd.DataFrame) -> Iterator[dict[str, Any]]:
    empty = dict.fromkeys(("teacher", "data_size", "variant"), "")
    for row in table.to_dict("records"):
        names = {name: row[name] for name in ("task", "model", "judge", "metric", "statistic")}
        ends = [row[name] for name in ("printed", "low", "high")]
        yield empty | {"place": "Table 1, printed"} | names | _bounds(ends)


def _printed_ratios(table: pd.DataFrame) -> Iterator[dict[str, Any]]:
    empty = dict.fromkeys(("model", "teacher", "data_size", "variant"), "")
    for row in table.to_dict("records"):
        names = {name: row[name] for name in ("task", "judge", "metric", "statistic")}
        for place in ("printed", "computed"):
            head = {"place": f"P-Match, {place}"}
            yield empty | head | names | _bounds([row[place], "", ""])


def _printed_costs(table: pd.DataFrame) -> Iterator[dict[str, Any]]:
    empty = dict.fromkeys(("task", "teacher", "data_size", "judge", "variant"), "")
    for row in table.to_dict("records"):
        if row["computed"]:
            statistic = f"{row['workload']} {row['what']}"
            head = {"place": "Table 2, computed", "metric": "usd", "statistic": statistic}
            yield empty | head | {"model": row["model"]} | _bounds([row["computed"], "", ""])


def _printed_others(table: pd.DataFrame) -> Iterator[dict[str, Any]]:
    for row in table.to_dict("records"):
        if row["value"].replace(".", "", 1).isdigit():  # the appendix has words, too
            head = dict.fromkeys(KEY, "") | {"place": f"{row['place']}, printed"}
            yield head | {"statistic": row["what"]} | _bounds([row["value"], "", ""])


def _example(table: pd.DataFrame) -> Iterator[dict[str, Any]]:
    names = {"place": "PR 6", "task": "coding", "model": "gemma", "teacher": "", "data_size": "0"}
    for row in table.to_dict("records"):
        what = {name: row[name] for name in ("metric", "statistic")}
        head = names | {"judge": "gemini-1.0-pro", "variant": ""}
        yield head | what | _bounds([row["value"], "", ""])


def _agreement(table: pd.DataFrame) -> Iterator[dict[str, Any]]:
    empty = dict.fromkeys(("model", "teacher", "data_size", "judge", "variant"), "")
    for row in table.to_dict("records"):
        names = {"task": row["task"], "metric": row["metric"], "statistic": row["what"]}
        ends = [row[f"value.{part}"] for part in scores.PARTS]
        yield empty | {"place": "Agreement"} | names | _bounds(ends)


def _bias(table: pd.DataFrame) -> Iterator[dict[str, Any]]:
    empty = dict.fromkeys(("model", "teacher", "data_size", "variant"), "")
    for row in table.to_dict("records"):
        names = {name: row[name] for name in ("task", "judge", "metric")}
        ends = [row[f"points.{part}"] for part in scores.PARTS]
        yield empty | {"place": "Bias", "statistic": row["what"]} | names | _bounds(ends)


_READERS = {
    **{
        "table_published": _printed,
        "table_published_p_match": _printed_ratios,
        "table_published_cost": _printed_costs,
        "table_published_others": _printed_others,
        "table_example": _example,
    },
    **{
        "table_main": _main,
        "table_p_match": _p_matches,
        "table_scaling": _scaling,
        "table_steps": _steps,
    },
    **{"table_cost": _costs, "table_judges": _judges},
    **{"table_agreement": _agreement, "table_bias": _bias},
}


def _bounds(ends: list[Any]) -> dict[str, Any]:
    return dict(zip(_BOUNDS, ends, strict=True))


def _csv(path: Path) -> pd.DataFrame:
    """A table as text, empty where it was not made."""
    if not path.is_file():
        return pd.DataFrame()
    return pd.read_csv(path, dtype=str, keep_default_na=False)


def _read(file: Path, columns: list[str]) -> pd.DataFrame:
    if not file.is_file():
        raise BadInput(f"{file} does not exist; --accept writes the expectations of these sources")
    if not file.stat().st_size:  # emptied: then every cell is new
        return pd.DataFrame(columns=columns, dtype=str)
    found = _csv(file)
    if missing := [name for name in columns if name not in found]:
        raise BadInput(f"{file} lacks the columns {', '.join(missing)}")
    return found[columns]


def _typed(found: pd.DataFrame, numbers: list[str]) -> pd.DataFrame:
    """Names as text, sizes without a decimal point, numbers as numbers, cells without one gone."""
    found = found.copy()
    sizes = found["data_size"].astype(str)
    found["data_size"] = [f"{float(size):.0f}" if size not in ("", "nan") else "" for size in sizes]
    for name in numbers:
        found[name] = pd.to_numeric(found[name].replace("", np.nan))
    return found[found["value"].notna()] if "low" in numbers else found
