"""What LlamaDuo's printed cells say by themselves: P-Match again, contradictions, least intervals.

No row of an answer is needed: the means and the coverages at 50 and 70 of a column bound how its
scores can be spread. Tables come of it (`table_published`, `table_published_p_match`,
`table_published_cost`, `table_errata`), with what released rows and one's own runs make of the same
cells beside (`beside`), and one of the only rows that were printed whole (`table_example`). The
values are in `reference/published.csv`, read by `cells.published`.
"""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from understudy.evaluation.scores import METRICS

from . import beside, cells, labels, tables
from .beside import Sides
from .costs import Cost
from .tables import Column, Row, Table

APPENDIX = Path(__file__).parent / "reference" / "appendix.csv"
EXAMPLE, OPTLLM = APPENDIX.with_name("example.csv"), APPENDIX.with_name("optllm.csv")
TABLE, P_MATCH = "Table 1", "P-Match (best local / best service)"
CUTS = (50, 70)
STATISTICS = ("mean", *(f"coverage@{cut}" for cut in CUTS))
SERVICES = tuple(labels.SERVICES)
COLUMN = ["task", "judge", "metric"]
_ENDS = ((0.0, 50.0), (50.0, 70.0), (70.0, 100.0))  # scores below 50, from 50, from 70
_OPTLLM = ["dataset", "system", "metric"]
_SAVINGS = {  # of a table, the cost that is paid and the one that it is a share of
    "best single": ("cost at that accuracy", "cost of best single"),
    "cost to match": ("cost of OptLLM to match", "its cost"),
}
_LEVEL = 0.05
_ROUNDING = 0.01  # P-Match has two decimals, and so have the means that it is made of
_YEAR = 12


class Sizes(NamedTuple):
    """How many prompts a task was tested on, and how many answers were judged."""

    prompts: int
    answers: int


class Erratum(NamedTuple):
    """A printed value that others of the paper forbid."""

    place: str
    what: str
    printed: float
    because: str


def sizes(file: Path = APPENDIX) -> dict[str, Sizes]:
    """The test prompts and judged answers of each task, from the paper's appendix."""
    rows = pd.read_csv(file, dtype=str, keep_default_na=False)
    rows = rows[rows["table"] == "data volumes"]
    found: dict[str, dict[str, int]] = {}
    for row in rows[rows["column"].isin(["test before", "test after"])].to_dict("records"):
        task = row["row"].split()[0]
        found.setdefault(task, {})[row["column"]] = int(row["value"])
    return {task: Sizes(one["test before"], one["test after"]) for task, one in found.items()}


def systems(printed: pd.DataFrame) -> pd.DataFrame:
    """Table 1 with a row per task, judge, metric and model, and a column per statistic."""
    part = printed[printed["place"] == TABLE]
    table = part.pivot_table(
        index=[*COLUMN, "model"], columns="statistic", values="value", sort=False
    )
    return table.reset_index()[[*COLUMN, "model", *STATISTICS]]


def least_deviation(mean: float, at_50: float, at_70: float) -> float:
    """The smallest standard deviation of scores with this mean and these coverages.

    `mean` in points, 0 to 100; `at_50` and `at_70` are shares of 1. Within its range each score is
    as near to the mean as the mean itself allows: the scores are `c` cut to the ranges, for the one
    `c` that gives the mean (Karush-Kuhn-Tucker). NaN where no scores have this mean.
    """
    shares = np.array([1 - at_50, at_50 - at_70, at_70])
    lows, highs = np.array(_ENDS).T
    least, most = (float(shares @ ends) for ends in (lows, highs))
    if shares.min() < -1e-9 or not least - _ROUNDING <= mean <= most + _ROUNDING:
        return math.nan
    below, above = 0.0, 100.0
    for _ in range(60):
        middle = (below + above) / 2
        is_low = float(shares @ np.clip(middle, lows, highs)) < mean
        below, above = (middle, above) if is_low else (below, middle)
    return math.sqrt(float(shares @ (np.clip(below, lows, highs) - mean) ** 2))


def least_interval(row: Row, statistic: str, answers: int) -> tuple[float, float]:
    """The narrowest 95 % interval that the printed cells of a system leave possible.

    It takes answers to the same prompt for no more alike than answers to different ones; where
    they are, the true interval is wider. A coverage's is Wilson's, a mean's is Student's with the
    least deviation. In points or %; NaN twice where the cells contradict each other.
    """
    if statistic == "mean":
        shares = [row[f"coverage@{cut}"] / 100 for cut in CUTS]
        half = stats.t.ppf(1 - _LEVEL / 2, answers - 1) / math.sqrt(answers - 1)
        half *= least_deviation(row["mean"], *shares)
        return row["mean"] - half, row["mean"] + half
    known = round(row[statistic] / 100 * answers)
    if not 0 <= known <= answers:
        return math.nan, math.nan
    ends = stats.binomtest(known, answers).proportion_ci(1 - _LEVEL, method="wilson")
    return 100 * ends.low, 100 * ends.high


def least_p(local: float, service: float, size: Sizes) -> float:
    """The smallest p of an exact sign-flip test over prompts for two coverages, in %.

    Such a test swaps the two models prompt by prompt and counts how often they differ by as many
    answers. If they differ by b, that is least where b answers differ, each on a prompt of its own
    and all in one direction: 2^(1 - min(b, prompts)).
    """
    differ = min(round(abs(local - service) / 100 * size.answers), size.prompts)
    return min(1.0, 2.0 ** (1 - differ))


def table_1(printed: pd.DataFrame, sides: Sides = beside.NONE) -> pd.DataFrame:
    """Every cell of Table 1 with its least interval, what forbids it, and what is beside it.

    A local model's is compared with the best service of its column: `difference`, and for a
    coverage `p` (`least_p`).
    """
    tested = sizes()
    forbidden = {(one.place, one.what) for one in errata(printed)}
    rows = []
    for _, part in systems(printed).groupby(COLUMN, sort=False):
        best = part[part["model"].isin(SERVICES)][list(STATISTICS)].max()
        for row in tables.rows_of(part):
            size, is_local = tested[row["task"]], row["model"] not in SERVICES
            for statistic in STATISTICS:
                names = {name: row[name] for name in (*COLUMN, "model")} | {"statistic": statistic}
                low, high = least_interval(row, statistic, size.answers)
                found = names | {"printed": row[statistic], "low": low, "high": high}
                found["impossible"] = (TABLE, _cell(row, statistic)) in forbidden
                difference = row[statistic] - best[statistic]
                p = least_p(row[statistic], best[statistic], size)
                found["difference"] = difference if is_local else math.nan
                found["p"] = p if is_local and statistic != "mean" else math.nan
                key = tuple(names[name] for name in beside.CELL)
                for origin, side in sides.items():
                    found |= beside.flat(side, key, origin)
                rows.append(found)
    return pd.DataFrame(rows)


def p_matches(printed: pd.DataFrame, sides: Sides = beside.NONE) -> pd.DataFrame:
    """P-Match of every column from the cells beside the printed one, and whether it can be real.

    `p` is `least_p` of the best local model against the best service. A mean can differ equally on
    every prompt, so its p is NaN.
    """
    tested, table = sizes(), systems(printed)
    said = printed[printed["place"] == P_MATCH].set_index([*COLUMN, "statistic"])["value"]
    rows = []
    for _, part in table.groupby(COLUMN, sort=False):
        column = [str(name) for name in part[COLUMN].iloc[0]]
        is_service = part["model"].isin(SERVICES)
        for statistic in STATISTICS:
            values = part.set_index("model")[statistic]
            services, locals_ = values[list(is_service)], values[list(~is_service)]
            local, service = locals_.max(), services.max()
            p = math.nan if statistic == "mean" else least_p(local, service, tested[column[0]])
            found = (
                dict(zip(COLUMN, column, strict=True))
                | {"statistic": statistic, "local": locals_.idxmax(), "service": services.idxmax()}
                | {"difference": local - service, "computed": 100 * local / service}
                | {"printed": said.get((*column, statistic), math.nan), "p": p}
            )
            for origin, side in sides.items():
                found |= beside.flat(side, (*column, statistic), origin)
            rows.append(found)
    return pd.DataFrame(rows)


def table_2(printed: pd.DataFrame, ours: Mapping[str, Cost] | None = None) -> pd.DataFrame:
    """Table 2 row by row: printed, what its parts make, and with our own ledger (`ours`); in USD.

    Parts are what is paid once or every month; `computed` is NaN for them.
    """
    part = printed[(printed["place"] == "Table 2") & (printed["metric"] == "usd")]
    said = {(row["model"], row["statistic"]): row["value"] for row in tables.rows_of(part)}
    rows = []
    for (model, name), value in said.items():
        workload, _, what = name.partition(" ")
        months = int(what.split()[0]) if what.endswith(" months") else 0
        computed = mine = math.nan
        if months:
            here = {other: paid for (who, other), paid in said.items() if who == model}
            once = sum(p for n, p in here.items() if n.startswith(workload) and n.endswith("once"))
            monthly = [p for n, p in here.items() if n.startswith(workload) and "a month" in n]
            computed = once + months * sum(monthly)
        if months and ours is not None:
            one = ours[workload]
            mine = float((one.service if model == "service" else one.local)[months])
        rows.append(
            {"workload": workload, "model": model, "what": what, "months": months}
            | {"printed": value, "computed": computed, "ours": mine}
        )
    return pd.DataFrame(rows)


def errata(printed: pd.DataFrame) -> list[Erratum]:
    """Every printed value that the paper's other values forbid."""
    llamaduo = [*_impossible_cells(printed), *_wrong_ratios(printed), *_wrong_sums(printed)]
    return [*llamaduo, *_optllm()]


def _impossible_cells(printed: pd.DataFrame) -> Iterator[Erratum]:
    tested = sizes()
    for row in tables.rows_of(systems(printed)):
        answers = tested[row["task"]].answers
        shares = [row[f"coverage@{cut}"] / 100 for cut in CUTS]
        for cut, share in zip(CUTS, shares, strict=True):
            nearest = 100 * round(share * answers) / answers
            if abs(nearest - 100 * share) > 0.5:  # printed in whole percent
                why = f"no number of {answers} answers is that share; the nearest is {nearest:.2f}"
                name = _cell(row, f"coverage@{cut}")
                yield Erratum(TABLE, name, 100 * share, why)
        if math.isnan(least_deviation(row["mean"], *shares)):
            lows, highs = (
                (1 - shares[0]) * ends[0] + (shares[0] - shares[1]) * ends[1] + shares[1] * ends[2]
                for ends in zip(*_ENDS, strict=True)
            )
            why = f"its coverages allow means from {lows:.2f} to {highs:.2f} only"
            yield Erratum(TABLE, _cell(row, "mean"), row["mean"], why)


def _wrong_ratios(printed: pd.DataFrame) -> Iterator[Erratum]:
    for row in tables.rows_of(p_matches(printed)):
        if abs(row["computed"] - row["printed"]) > _ROUNDING:
            name = " / ".join(str(row[part]) for part in (*COLUMN, "statistic"))
            why = f"the cells of Table 1 make {row['computed']:.2f}"
            yield Erratum("P-Match", name, row["printed"], why)


def _wrong_sums(printed: pd.DataFrame) -> Iterator[Erratum]:
    for row in tables.rows_of(table_2(printed)):
        if row["months"] and row["computed"] != row["printed"]:
            what = f"{row['model']}, {row['workload']}, {row['what']}"
            why = f"its parts make {row['computed']:g}"
            yield Erratum("Table 2", what, row["printed"], why)


def _optllm(file: Path = OPTLLM) -> Iterator[Erratum]:
    """OptLLM: savings from their costs, and one setting (grid number 50) told by two tables."""
    rows = tables.rows_of(pd.read_csv(file, keep_default_na=False))
    said = {tuple(row[name] for name in ("table", *_OPTLLM)): float(row["value"]) for row in rows}
    best = {row["dataset"]: row["system"] for row in rows if row["metric"] == "cost of best single"}
    for (place, dataset, system, metric), value in said.items():
        if metric != "saving":
            continue
        paid, whole = _SAVINGS[place]
        rival = best[dataset] if place == "best single" else system
        saved = 100 * (1 - said[place, dataset, system, paid] / said[place, dataset, rival, whole])
        if abs(saved - value) > _ROUNDING:
            what = f"{dataset}, saving against {rival}"
            yield Erratum(f"OptLLM, {place}", what, value, f"its costs make {saved:.2f}")
    for dataset, single in best.items():
        for metric in ("IGD", "Delta"):
            main = said["IGD, Delta, time", dataset, "OptLLM", metric]
            grid = said["grid number", dataset, "GN=50", metric]
            if abs(main - grid) > 1.5 * _ROUNDING:  # both are rounded
                what = f"{dataset}, {metric} of OptLLM"
                why = f"the table of grid numbers has {grid:g} for the same setting, grid 50"
                yield Erratum("OptLLM, IGD, Delta, time", what, main, why)
        accuracy = said["best single", dataset, single, "accuracy of best single"]
        highest = said["highest accuracy", dataset, "OptLLM", "accuracy"]
        if accuracy > highest:
            why = f"it is said to be as accurate as the best single LLM ({accuracy:g}) for less"
            yield Erratum("OptLLM, highest accuracy", f"{dataset}, OptLLM", highest, why)


def _names(row: Row) -> str:
    return " / ".join(str(row[name]) for name in cells.SHARED[1:] if row[name] not in ("", None))


def _cell(row: Row, statistic: str) -> str:
    return " / ".join(
        [*(str(row[name]) for name in ("task", "model", "judge", "metric")), statistic]
    )


def example(file: Path = EXAMPLE) -> pd.DataFrame:
    """The statistics of the 16 scores that the reference repository printed: real rows."""
    rows = pd.read_csv(file)
    found = []
    for metric in METRICS:
        scores = rows[metric]
        values = {"mean": scores.mean()}
        values |= {f"coverage@{cut}": 100 * (scores >= cut).mean() for cut in CUTS}
        found += [{"metric": metric, "statistic": name, "value": x} for name, x in values.items()]
    return pd.DataFrame(found)


def others(printed: pd.DataFrame) -> pd.DataFrame:
    """What else was printed: LlamaDuo's other tables and appendix, and all tables of OptLLM."""
    rest = printed[~printed["place"].isin([TABLE, P_MATCH])]
    appendix = pd.read_csv(APPENDIX, dtype=str, keep_default_na=False)
    optllm = pd.read_csv(OPTLLM, dtype=str, keep_default_na=False)
    places = (("LlamaDuo, ", appendix, ["row", "column"]), ("OptLLM, ", optllm, _OPTLLM))
    rows = [
        {"place": row["place"], "what": _names(row), "value": row["value"], "unit": row["unit"]}
        for row in tables.rows_of(rest)
    ]
    for paper, table, names in places:
        for row in tables.rows_of(table):
            what = " / ".join(row[name] for name in names)
            found = {"place": paper + row["table"], "what": what}
            rows.append(found | {"value": row["value"], "unit": row["unit"]})
    return pd.DataFrame(rows)


def build(
    out: Path,
    printed: pd.DataFrame | None = None,
    sides: Sides = beside.NONE,
    ours: Mapping[str, Cost] | None = None,
) -> list[Path]:
    """Write the tables; `sides` and `ours` are what stands beside the paper's cells."""
    found = cells.published() if printed is None else printed
    made = [
        _cells_table(found, sides),
        _ratios_table(found, sides),
        _costs_table(found, ours),
        *(tell(found) for tell in (_others_table, _errata_table)),
        _example_table(),
    ]
    return [path for table in made for path in tables.write(table, out)]


_BESIDE = (
    "Released: recomputed from rows that the authors published; ours: from our own runs; both with "
    "95 % intervals over prompts, and a dash where none were given."
)


def _cells_table(printed: pd.DataFrame, sides: Sides) -> Table:
    frame = table_1(printed, sides)
    can, of = int((frame["p"] <= _LEVEL).sum()), int(frame["p"].notna().sum())
    columns = [
        *(tables.words(name, name.capitalize()) for name in ("task", "model", "judge")),
        *(_plain(name) for name in ("metric", "statistic")),
        Column("Paper", _printed),
        *(tables.value(origin, origin.capitalize()) for origin in sides),
        tables.value("difference", "To the best service", 2),
        Column("Least p", _least_p),
        Column("Can be significant", _verdict, is_number=False),
        Column("", lambda row: "impossible" if row["impossible"] else "", is_number=False),
    ]
    caption = (
        "Table 1 of LlamaDuo and its appendix twin as printed (secondary: a machine extraction of "
        "the PDF), in brackets the narrowest 95 % interval that the number of answers and the "
        "coverages leave possible, if answers to one prompt are no more alike than answers to "
        f"different ones. {_BESIDE} Least p: of an exact sign-flip test over prompts of a local "
        "model against the best service of its column, if each answer that differs is on a prompt "
        f"of its own and all in one direction. {can} of {of} coverages can be significant at 5 %; "
        "of a mean nothing is ruled out, since it can differ equally on every prompt."
    )
    return Table("table_published", caption, frame, columns, False)


def _printed(row: Row) -> str:
    return f"{labels.number(row['printed'], 2)} {labels.interval(row['low'], row['high'])}".strip()


def _ratios_table(printed: pd.DataFrame, sides: Sides) -> Table:
    frame = p_matches(printed, sides)
    can, of = int((frame["p"] <= _LEVEL).sum()), int(frame["p"].notna().sum())
    columns = [
        *(tables.words(name, name.capitalize()) for name in ("task", "judge")),
        *(_plain(name) for name in ("metric", "statistic")),
        tables.words("local", "Best local"),
        tables.words("service", "Best service"),
        tables.value("difference", "Difference", 2),
        tables.value("printed", "Paper, %", 2),
        tables.value("computed", "From its cells, %", 2),
        *(tables.value(origin, f"{origin.capitalize()}, %") for origin in sides),
        Column("Least p", _least_p),
        Column("Can be significant", _verdict, is_number=False),
    ]
    caption = (
        "P-Match of LlamaDuo as printed and from its own Table 1, and whether the difference "
        f"behind it can be significant at all (least p as in table_published). {_BESIDE} {can} of "
        f"{of} coverages can; of a mean nothing is ruled out, since it can differ equally on every "
        "prompt."
    )
    return Table("table_published_p_match", caption, frame, columns, False)


def _costs_table(printed: pd.DataFrame, ours: Mapping[str, Cost] | None) -> Table:
    columns = [
        *(_plain(name) for name in ("workload", "model", "what")),
        tables.value("printed", "Paper, $", 0),
        tables.value("computed", "From its parts, $", 0),
        tables.value("ours", "Ours, $", 0),
    ]
    caption = (
        "Table 2 of LlamaDuo: what is paid once and every month, and what that makes. Ours: with "
        "the tokens that our own runs were billed and what their calls cost; a dash without runs."
    )
    return Table("table_published_cost", caption, table_2(printed, ours), columns, False)


def _least_p(row: Row) -> str:
    return labels.MISSING if tables.missing(row["p"]) else f"{row['p']:.2g}"


def _is_mean(row: Row) -> bool:
    return bool(row["statistic"] == "mean")


def _verdict(row: Row) -> str:
    if tables.missing(row["difference"]):
        return ""  # a service
    if _is_mean(row):
        return "not ruled out"
    return "yes" if row["p"] <= _LEVEL else "no"


def _errata_table(printed: pd.DataFrame) -> Table:
    frame = pd.DataFrame(errata(printed), columns=Erratum._fields)
    columns = [
        *(_plain(name) for name in ("place", "what")),
        tables.value("printed", "Printed", 2),
        _plain("because"),
    ]
    return Table("table_errata", "Printed values that others forbid.", frame, columns, False)


def _others_table(printed: pd.DataFrame) -> Table:
    columns = [_plain(name) for name in ("place", "what", "value", "unit")]
    caption = "What else the two papers print, or their authors published; sources in analysis."
    return Table("table_published_others", caption, others(printed), columns, False)


def _example_table() -> Table:
    columns = [*(_plain(name) for name in ("metric", "statistic")), tables.value("value", "Value")]
    caption = "Sixteen coding prompts, Gemma tuned on human rows, judge Gemini 1.0 Pro: recomputed."
    return Table("table_example", caption, example(), columns, False)


def _plain(name: str) -> Column:
    return Column(name.capitalize(), lambda row: str(row[name]), is_number=False)
