"""Real verdicts of real judges, as they lie there: our numbers beside pandas' and scipy's."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from support.files import REAL, needs_real_data
from understudy.judges import study
from understudy.judges.study import JudgeStudy, Options
from understudy.report.page import load_analysis

ROOT = Path(REAL or ".") / "judges"
FOLDERS = (
    *("arena_oracle", "gemba_0_100", "llmbar_orders", "rb2_repeats8", "shaberi_judges"),
    *("summeval_panel", "topicalchat_repeats", "wildbench_judges"),
)
pytestmark = [needs_real_data, pytest.mark.slow]
EXACT = 1e-9
LARGE = "scores.csv.gz"
OLD, NEW = "gpt-4.1-2025-04-14", "gpt-5.1-2025-11-13"


@cache
def frame(name: str) -> pd.DataFrame:
    path = ROOT / name
    return pd.read_csv(path) if ".csv" in name else pd.read_json(path, lines=True)


ASKED: dict[str, dict[str, Any]] = {
    "rb2_repeats8": {"right": "0"}, "shaberi_judges": {"scale": (0.0, 10.0)}
}  # fmt: skip


@cache
def measured(folder: str) -> JudgeStudy:
    return study.study(ROOT / folder, Options(draws=100, **ASKED.get(folder, {})))


def row(found: JudgeStudy, name: str, **wanted: Any) -> dict[str, Any]:
    rows = [one for one in found.tables[name] if all(one.get(k) == v for k, v in wanted.items())]
    assert len(rows) == 1, (wanted, rows)
    return rows[0]


@pytest.mark.parametrize("folder", FOLDERS)
def test_each_folder_opens_as_it_lies_there(folder: str, tmp_path: Path) -> None:
    page = load_analysis().write_judges(measured(folder), folder, "", tmp_path)
    page = page.read_text(encoding="utf-8")
    assert page.count("<h2") >= 3
    columns = pd.read_csv(tmp_path / "columns.csv")
    for file, those in columns.groupby("table"):
        known = {one.split("[")[0].split(".")[0] for one in those["column"]}
        whole = frame(f"{folder}/{file}")
        assert known == set(map(str, whole.columns)), file


def ccc(x: pd.Series, y: pd.Series) -> float:
    """Lin's concordance correlation."""
    shared = 2 * np.cov(x, y, ddof=0)[0, 1]
    return float(shared / (x.var(ddof=0) + y.var(ddof=0) + (x.mean() - y.mean()) ** 2))


def test_judges_of_identical_answers_move_as_pandas_says() -> None:
    found = measured("shaberi_judges")
    keys = ["dataset", "q", "model", "answer_sha"]
    whole = frame("shaberi_judges/scores.csv.gz")
    wide = whole.pivot_table(index=keys, columns="judge", values="score")
    both = wide[[OLD, NEW]].dropna()
    moved = row(found, "replaced", table=LARGE, old=OLD, new=NEW, subset="all")
    difference = both[NEW] - both[OLD]
    rho = stats.spearmanr(both[OLD], both[NEW]).statistic
    systems = both.groupby("model").mean()
    for name, value in (
        ("answers", len(both)), ("first", both[OLD].mean()), ("second", both[NEW].mean()),
        ("shift", difference.mean()), ("sd", difference.std()), ("rho", rho),
        ("same", (difference == 0).mean()), ("ccc", ccc(both[OLD], both[NEW])),
        ("tau", stats.kendalltau(systems[OLD], systems[NEW]).statistic),
        ("bridge", np.ceil((1.959964 * difference.std() / 0.1) ** 2)),
    ):  # fmt: skip
        assert moved[name] == pytest.approx(value, abs=EXACT), name
    # 14,077 pairs of equal answers were found by another look, of which two have no score.
    assert abs(moved["answers"] - 14_077) <= 2
    assert moved["rho"] == pytest.approx(0.88, abs=0.005)
    part = row(found, "replaced", table=LARGE, old=OLD, new=NEW, subset="ja-mt-bench-1shot")
    assert [part["first"], part["second"]] == pytest.approx([7.32, 5.63], abs=0.005)
    for judge, of in whole.groupby("judge"):
        used = row(found, "judges", table=LARGE, judge=judge)
        assert used["mean"] == pytest.approx(of["score"].mean(), abs=EXACT)
        assert used["sd"] == pytest.approx(of["score"].std(), abs=EXACT)
        assert used["unscored"] == of["score"].isna().sum()


def test_identical_outputs_of_wildbench_are_compared_and_copies_are_not_repeats() -> None:
    found = measured("wildbench_judges")
    moved = row(found, "replaced", table=LARGE, subset="all")
    whole = frame("wildbench_judges/scores.csv.gz")
    whole = whole.drop_duplicates(["session_id", "model", "output_sha", "judge", "verdict_sha"])
    keys = ["session_id", "model", "output_sha"]
    wide = whole.pivot_table(index=keys, columns="judge", values="score").dropna()
    assert moved["answers"] == len(wide) == 3065
    assert [moved["first"], moved["second"]] == pytest.approx(wide.mean().tolist(), abs=EXACT)
    assert [moved["first"], moved["second"]] == pytest.approx([7.37, 6.72], abs=0.01)
    again = row(found, "repeats", table=LARGE, judge="gpt-4o-2024-05-13")
    assert again["answers"] == 556
    assert again["same again"] == pytest.approx(0.716, abs=0.0005)


def test_a_heaped_scale_is_counted() -> None:
    found = measured("gemba_0_100")
    scores = frame("gemba_0_100/en-de.csv.gz")
    used = row(found, "judges", judge="GPT4", asked="DA | refA")
    values = scores["GPT4|DA|refA"]
    assert used["most given"] == 95
    assert used["most given share"] == pytest.approx((values == 95).mean(), abs=EXACT)
    assert used["most given share"] == pytest.approx(0.630, abs=0.0005)
    counts = values.value_counts()
    ties = (counts * (counts - 1)).sum() / (len(values) * (len(values) - 1))
    assert used["ties"] == pytest.approx(ties, abs=EXACT)
    moved = row(found, "replaced", old="GPT4", new="Turbo", asked="DA | refA", subset="all")
    rho = stats.spearmanr(values, scores["Turbo|DA|refA"]).statistic
    assert moved["rho"] == pytest.approx(rho, abs=EXACT)


JUDGES = {
    "gpt-5.4": (0.728, 0.822), "claude-sonnet-4-6": (0.727, 0.829),
    "claude-haiku-4-5": (0.730, 0.852), "gpt-5.4-nano": (0.528, 0.721),
}  # fmt: skip
USUAL = "base, temperature 1.0"


def icc_1(values: pd.DataFrame) -> float:
    """One-way ICC of rows with two or more values."""
    values = values[values.notna().sum(axis=1) >= 2]
    count, mean = values.notna().sum(axis=1), values.mean(axis=1)
    grand = values.stack().mean()
    between = (count * (mean - grand) ** 2).sum() / (len(values) - 1)
    within = ((values.sub(mean, axis=0) ** 2).sum().sum()) / (count.sum() - len(values))
    size = (count.sum() - (count**2).sum() / count.sum()) / (len(values) - 1)
    return float((between - within) / (between + (size - 1) * within))


def test_eight_repeats_choose_the_right_answer_as_pandas_says() -> None:
    found = measured("rb2_repeats8")
    assert (found.verdicts, found.unscored) == (1_227_424, 3_683)
    whole = frame("rb2_repeats8/scores8.csv.gz")
    samples = [f"s{n}" for n in range(1, 9)]
    usual = whole[(whole["prompt"] == "base") & (whole["temperature"] == 1)]
    for judge, known in JUDGES.items():
        mine = usual[usual["judge"] == judge]
        mine = mine.assign(mean=mine[samples].mean(axis=1))
        for repeats, column, told in ((1, "s1", known[0]), (8, "mean", known[1])):
            wide = mine.pivot(index=["subset", "id"], columns="answer", values=column)
            wide = wide[wide[[1, 2, 3]].notna().any(axis=1)]
            right = wide[0] > wide[[1, 2, 3]].max(axis=1)
            shown = row(found, "choices", judge=judge, asked=USUAL, repeats=repeats)
            assert shown["right"] == pytest.approx(right.mean(), abs=EXACT)
            # The look that told these figures took the 40 ids that two subsets share for one item.
            merged = mine.pivot_table(index="id", columns="answer", values=column)
            alike = (merged[0] > merged[[1, 2, 3]].max(axis=1)).mean()
            assert alike == pytest.approx(told, abs=0.001)
            assert shown["right"] == pytest.approx(told, abs=0.0115)
        again = row(found, "repeats", judge=judge, asked=USUAL)
        assert again["reliability of one"] == pytest.approx(icc_1(mine[samples]), abs=EXACT)


def test_judges_and_experts_agree_as_scipy_says() -> None:
    found = measured("summeval_panel")
    whole = frame("summeval_panel/scores.csv.gz")
    keys = ["doc", "system"]
    here = whole[whole["dimension"] == "coherence"]
    experts = here[here["rater"].str.startswith("expert")].groupby(keys)["score"].mean()
    for judge, asked, known in (("gpt-4o", "alttest", 0.53), ("gpt-4-0314", "rts", 0.44)):
        mine = here[(here["rater"] == judge) & (here["prompt"] == asked)]
        both = pd.concat([mine.groupby(keys)["score"].mean(), experts], axis=1).dropna()
        shown = row(found, "humans", table=LARGE, board="coherence", judge=judge,
                    asked=asked, humans="expert", repeats=1)  # fmt: skip
        columns = [both.iloc[:, n] for n in (0, 1)]
        assert shown["rho"] == pytest.approx(stats.spearmanr(*columns).statistic, abs=EXACT)
        assert shown["r"] == pytest.approx(stats.pearsonr(*columns).statistic, abs=EXACT)
        assert shown["rho"] == pytest.approx(known, abs=0.006)
        apart = columns[0] - columns[1]
        assert shown["bias"] == pytest.approx(apart.mean(), abs=EXACT)
        assert shown["distance"] == pytest.approx(apart.abs().mean(), abs=EXACT)
        systems = both.groupby("system").mean()
        rho = stats.spearmanr(systems.iloc[:, 0], systems.iloc[:, 1]).statistic
        assert shown["of_systems"] == pytest.approx(rho, abs=EXACT)


def test_repeats_of_a_reasoning_judge_and_humans() -> None:
    found = measured("topicalchat_repeats")
    whole = frame("topicalchat_repeats/scores20.jsonl.gz")
    here = whole[(whole["dimension"] == "coherence") & (whole["prompt"] == "analyze_rate")]
    values = pd.DataFrame(here["scores"].tolist(), index=here.index).astype(float)
    here_only = {"table": "scores20.jsonl.gz", "board": "coherence", "asked": "analyze_rate"}
    again = row(found, "repeats", **here_only)
    assert again["reliability of one"] == pytest.approx(icc_1(values), abs=EXACT)
    shown = row(found, "humans", repeats=20, **here_only)
    rho = stats.spearmanr(values.mean(axis=1), here["human"]).statistic
    assert shown["rho"] == pytest.approx(rho, abs=EXACT)


def test_pairs_in_both_orders() -> None:
    found = measured("llmbar_orders")
    whole = frame("llmbar_orders/pairwise.csv.gz")
    for (judge, asked), of in whole.groupby(["judge", "prompt"]):
        shown = row(found, "pairs", judge=judge, asked=asked)
        both = of.dropna(subset=["winner_12", "winner_21"])
        same = (both["winner_12"] == both["winner_21"]).mean()
        first = pd.concat([of["winner_12"] == 1, of["winner_21"] == 2])
        first = first[pd.concat([of["winner_12"].notna(), of["winner_21"].notna()])]
        assert shown["same"] == pytest.approx(same, abs=EXACT)
        assert shown["place"] == pytest.approx(first.mean(), abs=EXACT)
        assert shown["both_orders"] == len(both)
        right = pd.concat([of[order] == of["label"] for order in ("winner_12", "winner_21")])
        right = right[pd.concat([of["winner_12"].notna(), of["winner_21"].notna()])]
        assert shown["right"] == pytest.approx(right.mean(), abs=EXACT)
        twice = (both["winner_12"] == both["label"]) & (both["winner_21"] == both["label"])
        assert shown["right_twice"] == pytest.approx(twice.mean(), abs=EXACT)


def test_an_oracle_on_a_part_of_the_answers() -> None:
    shown = row(measured("arena_oracle"), "humans")
    whole = frame("arena_oracle/rows.jsonl.gz")
    keys = ["part", "prompt_id", "response"]
    both = whole.groupby(keys)[["judge_score", "oracle_label"]].mean().dropna()
    assert shown["answers"] == len(both) == 1110
    rho = stats.spearmanr(both["judge_score"], both["oracle_label"]).statistic
    assert shown["rho"] == pytest.approx(rho, abs=EXACT)


ANSWER = {  # file with every verdict, and what tells one answer from another
    "arena_oracle": ("rows.jsonl.gz", ["part", "prompt_id", "response"]),
    "gemba_0_100": ("en-de.csv.gz", ["index"]),
    "llmbar_orders": ("ratings.csv.gz", ["subset", "pair", "answer"]),
    "rb2_repeats8": ("scores8.csv.gz", ["subset", "id", "answer"]),
    "shaberi_judges": (LARGE, ["dataset", "q", "model", "answer_sha"]),
    "summeval_panel": (LARGE, ["doc", "system"]),
    "topicalchat_repeats": ("scores20.jsonl.gz", ["dialogue", "system"]),
    "wildbench_judges": (LARGE, ["session_id", "model", "output_sha"]),
}


def every_score(folder: str) -> pd.DataFrame:
    """The scores of a folder's large file, one a row, with judge, asked and board (dimension)."""
    file, answer = ANSWER[folder]
    names = {"rater": "judge", "prompt": "asked", "dimension": "board", "judge_score": "score"}
    whole = frame(f"{folder}/{file}")
    if folder == "gemba_0_100":
        asked = [name for name in whole.columns if "|" in name]
        whole = whole.reset_index().melt(answer, asked, value_name="score")
        parts = whole["variable"].str.split("|", n=1, expand=True)
        return whole.assign(judge=parts[0], asked=parts[1].str.replace("|", " | "))
    if folder == "rb2_repeats8":
        asked_as = ["judge", "prompt", "temperature"]
        samples = [f"s{number}" for number in range(1, 9)]
        whole = whole.melt([*answer, *asked_as], samples, value_name="score")
        heat = whole["temperature"].astype(float).astype(str)
        return whole.assign(asked=whole["prompt"] + ", temperature " + heat)
    if folder == "llmbar_orders":
        scores = whole.rename(columns={"score_1": 1, "score_2": 2})
        keys = ["subset", "pair", "judge", "prompt"]
        whole = scores.melt(keys, [1, 2], var_name="answer", value_name="score")
    if folder == "arena_oracle":
        whole = whole.drop(columns="prompt")  # the text itself
    if folder == "topicalchat_repeats":
        whole = whole.explode("scores").rename(columns={"scores": "score"})
    if folder == "wildbench_judges":
        whole = whole.drop_duplicates([*answer, "judge", "verdict_sha"])
    if folder == "summeval_panel":
        whole = whole[whole["rater_type"] == "llm"]
    whole = whole.rename(columns=names)
    alone = {"judge": "judge", "asked": ""}
    return whole.assign(**{name: one for name, one in alone.items() if name not in whole})


@pytest.mark.parametrize("folder", list(ANSWER))
def test_every_judges_use_of_the_scale_is_what_pandas_says(folder: str) -> None:
    scores, (file, answer) = every_score(folder), ANSWER[folder]
    keys = [name for name in ("judge", "asked", "board") if name in scores]
    here = [one for one in measured(folder).tables["judges"] if one["table"] == file]
    shown = {tuple(one[name] for name in keys): one for one in here}
    for key, of in scores.assign(score=scores["score"].astype(float)).groupby(keys):
        given = of["score"].dropna()
        if given.empty:
            continue
        counts, means = given.value_counts(), of.groupby(answer)["score"].mean().dropna()
        for name, value in (
            ("verdicts", len(given)), ("answers", len(means)),
            ("mean", means.mean()), ("sd", means.std()), ("distinct", len(counts)),
            ("most given share", counts.max() / len(given)),
            ("ties", (counts * (counts - 1)).sum() / (len(given) * (len(given) - 1))),
            ("effective values", np.exp(stats.entropy(counts))),
        ):  # fmt: skip
            assert shown[key][name] == pytest.approx(value, abs=EXACT), (key, name)


def alpha(wide: pd.DataFrame, is_ordinal: bool) -> float:
    """Krippendorff's alpha of (answer, judge): 1 - observed / expected squared difference."""
    values = wide.to_numpy(float)
    values = values[(~np.isnan(values)).sum(1) >= 2]
    known = ~np.isnan(values)
    if is_ordinal:  # ranks, whose distance is what the ordinal metric counts between two values
        values[known] = stats.rankdata(values[known])
    count, n = known.sum(1), known.sum()
    pairs = 2 * (count * np.nansum(values**2, 1) - np.nansum(values, 1) ** 2)
    every = 2 * (n * np.nansum(values**2) - np.nansum(values) ** 2)
    return float(1 - (n - 1) * (pairs / (count - 1)).sum() / every)


def icc_2(wide: pd.DataFrame) -> dict[str, float]:
    """Two-way ICCs of the answers that all have scored (McGraw and Wong 1996)."""
    values = wide.dropna().to_numpy(float)
    n, k = values.shape
    rows, columns = values.mean(1, keepdims=True), values.mean(0, keepdims=True)
    of_rows = k * rows.var(ddof=1)
    of_columns = n * columns.var(ddof=1)
    error = ((values - rows - columns + values.mean()) ** 2).sum() / ((n - 1) * (k - 1))
    above, of_one = of_rows - error, of_rows + (k - 1) * error
    return {
        "icc a1": above / (of_one + k * (of_columns - error) / n),
        "icc ak": above / (of_rows + (of_columns - error) / n),
        "icc c1": above / of_one,
    }


PANELS = [name for name in ANSWER if name not in ("arena_oracle", "topicalchat_repeats")]


@pytest.mark.parametrize("folder", PANELS)
def test_how_judges_agree_is_what_plain_formulas_say(folder: str) -> None:
    scores, (file, answer) = every_score(folder), ANSWER[folder]
    keys = [name for name in ("asked", "board") if name in scores]
    scores = scores.assign(score=scores["score"].astype(float))
    tables = measured(folder).tables
    rows = [one for one in tables["agreement"] if one["table"] == file]
    assert rows
    for one in rows:
        here = scores[(scores[keys] == [one[name] for name in keys]).all(axis=1)]
        wide = here.pivot_table(index=answer, columns="judge", values="score")
        assert one["judges"] == len(wide.columns)
        assert one["answers"] == here.groupby(answer).ngroups  # also without a score
        expected = icc_2(wide) if one["by all"] > 1 else {}
        expected |= {"alpha": alpha(wide, False), "alpha ordinal": alpha(wide, True)}
        for name, value in expected.items():
            assert one[name] == pytest.approx(value, abs=EXACT), (one["asked"], name)
        apart = wide.sub(wide.mean(axis=1, skipna=False), axis=0).mean()
        for judge, value in apart.dropna().items():
            used = row(measured(folder), "judges", table=file, judge=judge,
                       **{name: one[name] for name in keys})  # fmt: skip
            assert used["leniency"] == pytest.approx(value, abs=EXACT), (judge, one["asked"])
        system = {"shaberi_judges": "model", "summeval_panel": "system"}.get(folder)
        if system and one["by all"] > 1:
            whole = wide.dropna()
            rest = whole - whole.groupby(level=system).transform("mean")
            between = rest.corr().to_numpy()[np.triu_indices(len(rest.columns), 1)].mean()
            many = len(rest.columns) / (1 + (len(rest.columns) - 1) * max(between, 0.0))
            assert one["effective judges at least"] == pytest.approx(many, abs=EXACT)


def test_length_is_associated_as_least_squares_say() -> None:
    whole = frame("shaberi_judges/scores.csv.gz")
    shown = measured("shaberi_judges").tables["length"]
    assert shown
    for judge in (OLD, NEW):
        (one,) = (each for each in shown if each["judge"] == judge and each["table"] == LARGE)
        mine = whole[(whole["judge"] == judge) & (whole["answer_chars"] > 0)]
        mine = mine.dropna(subset=["score"])
        items = mine["dataset"] + "/" + mine["q"].astype(str)
        effects = pd.get_dummies(pd.DataFrame({"item": items, "system": mine["model"]}))
        columns = np.column_stack([np.log2(mine["answer_chars"]), effects.to_numpy(float)])
        slope = np.linalg.lstsq(columns, mine["score"], rcond=None)[0][0]
        assert one["points for twice the length"] == pytest.approx(slope, abs=EXACT), judge
