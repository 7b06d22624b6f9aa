"""What LlamaDuo's printed cells say by themselves: P-Match again, contradictions, least intervals.

No row of an answer is needed: the means and the coverages at 50 and 70 of a column bound how its
scores can be spread. Tables come of it (`table_published`, `table_published_p_match`,
`table_errata`), and one of the only rows that were printed whole (`table_example`). The values are
in `reference/published.csv`, read by `cells.published`.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from understudy.evaluation.scores import METRICS

from . import cells, labels, tables
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


def table_1(printed: pd.DataFrame) -> pd.DataFrame:
    """Every cell of Table 1 with its least interval, and what forbids it."""
    tested = sizes()
    forbidden = {(one.place, one.what) for one in errata(printed)}
    rows = []
    for row in tables.rows_of(systems(printed)):
        for statistic in STATISTICS:
            low, high = least_interval(row, statistic, tested[row["task"]].answers)
            names = {name: row[name] for name in (*COLUMN, "model")}
            rows.append(
                names
                | {"statistic": statistic, "printed": row[statistic], "low": low, "high": high}
                | {"impossible": (TABLE, _cell(row, statistic)) in forbidden}
            )
    return pd.DataFrame(rows)


def p_matches(printed: pd.DataFrame) -> pd.DataFrame:
    """P-Match of every column from the cells beside the printed one, and whether it can be real.

    `p` is the smallest that an exact sign test over prompts can give for the best local model
    against the best service. Coverages that differ by b answers differ on at most b prompts, so it
    is 2^(1 - min(b, prompts)). A mean can differ equally on every prompt, so its p is NaN.
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
            size = tested[column[0]]
            differ = min(round(abs(local - service) / 100 * size.answers), size.prompts)
            rows.append(
                dict(zip(COLUMN, column, strict=True))
                | {"statistic": statistic, "local": locals_.idxmax(), "service": services.idxmax()}
                | {"difference": local - service, "computed": 100 * local / service}
                | {"printed": said.get((*column, statistic), math.nan)}
                | {"p": math.nan if statistic == "mean" else min(1.0, 2.0 ** (1 - differ))}
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
    part = printed[(printed["place"] == "Table 2") & (printed["metric"] == "usd")]
    said = [(row["model"], row["statistic"], row["value"]) for row in tables.rows_of(part)]
    for workload in ("light", "heavy"):
        local = {
            name.removeprefix(f"{workload} "): value
            for model, name, value in said
            if model == "local model" and name.startswith(workload)
        }
        once = sum(value for name, value in local.items() if name.endswith(", once"))
        for months in (2, _YEAR):
            total = once + months * local["electricity a month"]
            if total != local[f"{months} months"]:
                what, why = f"local model, {workload}, {months} months", f"its parts make {total:g}"
                yield Erratum("Table 2", what, local[f"{months} months"], why)


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


def build(out: Path, printed: pd.DataFrame | None = None) -> list[Path]:
    """Write the tables."""
    found = cells.published() if printed is None else printed
    tellers = (_cells_table, _ratios_table, _others_table, _errata_table)
    made = [*(tell(found) for tell in tellers), _example_table()]
    return [path for table in made for path in tables.write(table, out)]


def _cells_table(printed: pd.DataFrame) -> Table:
    columns = [
        *(tables.words(name, name.capitalize()) for name in ("task", "model", "judge")),
        *(_plain(name) for name in ("metric", "statistic")),
        tables.value("printed", "Printed"),
        Column("Least interval", lambda row: labels.interval(row["low"], row["high"])),
        Column("", lambda row: "impossible" if row["impossible"] else "", is_number=False),
    ]
    caption = (
        "Table 1 of LlamaDuo as printed (secondary: a machine extraction of the PDF). Least "
        "interval: the narrowest 95 % interval that the number of answers and the coverages leave "
        "possible, if answers to one prompt are no more alike than answers to different ones."
    )
    return Table("table_published", caption, table_1(printed), columns, False)


def _ratios_table(printed: pd.DataFrame) -> Table:
    frame = p_matches(printed)
    can, of = int((frame["p"] <= _LEVEL).sum()), int(frame["p"].notna().sum())
    columns = [
        *(tables.words(name, name.capitalize()) for name in ("task", "judge")),
        *(_plain(name) for name in ("metric", "statistic")),
        tables.words("local", "Best local"),
        tables.words("service", "Best service"),
        tables.value("difference", "Difference", 2),
        tables.value("computed", "P-Match % from the cells", 2),
        tables.value("printed", "Printed", 2),
        Column("Least p", lambda row: labels.MISSING if _is_mean(row) else f"{row['p']:.2g}"),
        Column("Can be significant", _verdict, is_number=False),
    ]
    caption = (
        "P-Match of LlamaDuo from its own Table 1, and whether the difference behind it can be "
        "significant at all: the least p of an exact sign test over prompts, if every answer that "
        f"differs is on a prompt of its own and all in one direction. {can} of {of} coverages can; "
        "of a mean nothing is ruled out, since it can differ equally on every prompt."
    )
    return Table("table_published_p_match", caption, frame, columns, False)


def _is_mean(row: Row) -> bool:
    return bool(row["statistic"] == "mean")


def _verdict(row: Row) -> str:
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
