"""What the printed cells of LlamaDuo say by themselves."""

import csv
import itertools
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from support.analysis import module


@pytest.fixture(scope="module")
def printed() -> pd.DataFrame:
    found: pd.DataFrame = module("cells").published()
    return found


def test_every_printed_cell_is_there(printed: pd.DataFrame) -> None:
    counts = Counter(printed["place"])
    assert counts["Table 1"] == 4 * 7 * 3 * 2 * 3
    assert counts["P-Match (best local / best service)"] == 4 * 3 * 2 * 3
    assert not printed["value"].isna().any()
    assert not printed.duplicated(module("cells").SHARED).any()
    with module("published").OPTLLM.open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert len(rows) == 430
    assert {row["dataset"] for row in rows} == {"AGNEWS", "COQA", "HEADLINES", "SCIQ", "LogPai"}
    assert all(float(row["value"]) is not None and row["source"] for row in rows)


def test_p_match_follows_from_the_cells_but_once(printed: pd.DataFrame) -> None:
    table = module("published").p_matches(printed)
    wrong = table[(table["computed"] - table["printed"]).abs() > 0.01]
    assert len(table) == 72
    assert wrong[["task", "judge", "metric", "statistic"]].to_numpy().tolist() == [
        ["coding", "gemini-1.5-flash", "similarity", "coverage@70"]
    ]
    assert wrong["computed"].tolist() == pytest.approx([87.80], abs=0.01)


def test_what_the_paper_contradicts_is_found_by_itself(printed: pd.DataFrame) -> None:
    found = {(one.place, one.printed): one for one in module("published").errata(printed)}
    assert {key for key in found if not key[0].startswith("OptLLM")} == {
        ("Table 1", 36.31),
        ("Table 1", 18.0),
        ("P-Match", 97.8),
        ("Table 2", 3369),
    }
    assert "38.40 to 75.70" in found["Table 1", 36.31].because
    assert "87.80" in found["P-Match", 97.8].because
    assert "3399" in found["Table 2", 3369].because


def test_what_optllm_contradicts_is_found_by_itself(printed: pd.DataFrame) -> None:
    found = [one for one in module("published").errata(printed) if "OptLLM" in one.place]
    assert [(one.what, one.printed) for one in found] == [
        ("AGNEWS, Delta of OptLLM", 0.55),
        ("HEADLINES, Delta of OptLLM", 0.53),
        ("SCIQ, Delta of OptLLM", 0.58),
        ("SCIQ, OptLLM", 0.70),
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("place", "change", "what"),
    [
        ("Table 1", {"statistic": "coverage@50", "value": 3.0}, "Table 1"),
        ("Table 1", {"statistic": "mean", "value": 1.0}, "Table 1"),
        ("P-Match (best local / best service)", {"statistic": "mean", "value": 3.0}, "P-Match"),
    ],
)
def test_another_wrong_value_is_another_erratum(
    place: str, change: dict[str, Any], what: str, printed: pd.DataFrame
) -> None:
    here = (printed["place"] == place) & (printed["statistic"] == change["statistic"])
    row = printed.index[here][5]
    changed = printed.copy()
    changed.loc[row, "value"] = change["value"]
    errata = module("published").errata
    before, after = set(errata(printed)), set(errata(changed))
    assert any(one.place == what for one in after - before)


def test_one_of_96_local_means_reaches_the_default_threshold(printed: pd.DataFrame) -> None:
    published = module("published")
    table = published.systems(printed)
    local = table[~table["model"].isin(published.SERVICES)]
    assert len(local) == 96
    assert (local["mean"] >= 90).sum() == 1


@pytest.mark.parametrize("seed", range(20))
def test_no_scores_are_closer_together_than_the_least_deviation(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.choice([rng.uniform(0, 100, 400), rng.beta(4, 1, 400) * 100][seed % 2], 400)
    shares = [(scores >= cut).mean() for cut in (50, 70)]
    least = module("published").least_deviation(scores.mean(), *shares)
    assert 0 <= least <= scores.std() + 1e-9


def test_the_least_deviation_is_that_of_scores_at_the_ends_of_their_ranges() -> None:
    least = module("published").least_deviation
    assert least(80.0, 1.0, 1.0) == pytest.approx(0, abs=1e-9)  # all may be 80
    assert least(60.0, 0.5, 0.5) == pytest.approx(10, abs=1e-6)  # half 50 (below), half 70
    assert np.isnan(least(36.31, 0.58, 0.47))


def test_a_coverage_that_differs_on_few_answers_cannot_be_significant(
    printed: pd.DataFrame,
) -> None:
    table = module("published").p_matches(printed)
    row = table[
        (table["task"] == "summarization")
        & (table["judge"] == "gpt-4o")
        & (table["metric"] == "precision")
        & (table["statistic"] == "coverage@50")
    ].iloc[0]
    assert row["difference"] == pytest.approx(-4)  # of 100 answers: on four prompts at most
    assert row["p"] == pytest.approx(2 * 0.5**4)


def test_no_rows_make_a_sign_flip_test_less_than_the_least_p() -> None:
    published, prompts = module("published"), 6
    least = dict.fromkeys(range(1, 6), 2.0)
    for counts in itertools.product(
        range(prompts + 1), repeat=4
    ):  # of prompts that differ by 1 to 4
        if not 0 < sum(counts) <= prompts:
            continue
        chance = np.ones(1)  # of each sum of answers, when models are swapped prompt by prompt
        for answers, count in enumerate(counts, 1):
            swap = np.zeros(2 * answers + 1)
            swap[[0, -1]] = 0.5
            for _ in range(count):
                chance = np.convolve(chance, swap)
        sums = np.arange(len(chance)) - len(chance) // 2
        for differ in least:
            if chance[sums == differ].sum() > 0:
                found = float(chance[abs(sums) >= differ].sum())
                least[differ] = min(least[differ], found)
    size = published.Sizes(prompts, 100)
    wanted = {differ: published.least_p(50.0, 50.0 + differ, size) for differ in least}
    assert least == pytest.approx(wanted)


def test_the_scores_of_the_example_make_its_statistics(printed: pd.DataFrame) -> None:
    said = printed[printed["place"] == "PR 6"].set_index(["metric", "statistic"])["value"]
    made = module("published").example().set_index(["metric", "statistic"])["value"]
    assert len(made) == 6
    assert made.to_dict() == pytest.approx(said.to_dict())


@pytest.mark.slow
def test_a_perturbed_value_names_its_cell(
    printed: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    published, cells, reproduce = (module(name) for name in ("published", "cells", "reproduce"))
    old = cells.expected(cells.EXPECTED)
    old = old[old["place"].str.contains("printed|computed|PR 6")]
    for place in (100, 560, 590):  # of Table 1, P-Match and Table 2
        changed = printed.copy()
        row = changed.index[place]
        changed.loc[row, "value"] += 7
        published.build(tmp_path, changed)
        table = cells.compare(cells.ours(tmp_path), changed, old, "made up")
        reproduce.say(table)
        said = capsys.readouterr().out
        assert any(map(reproduce.is_red, module("tables").rows_of(table)))  # exit code 1
        assert "drift: " in said
        assert module("labels").label(str(changed.loc[row, "metric"])) in said


def test_every_contradiction_stands_on_the_errata_page(printed: pd.DataFrame) -> None:
    page = (Path(__file__).parents[2] / "docs" / "reproduction.md").read_text(encoding="utf-8")
    table = page.partition("### Errata")[2].partition("\nChoices")[0]
    lines = [line.lower().replace(",", "") for line in table.splitlines() if line.startswith("|")]
    for one in module("published").errata(printed):
        spelt = f"{one.printed:.2f}".removeprefix("0")
        texts = {spelt, spelt.removesuffix(".00")}
        what = one.what.replace(" / ", " ").replace(",", " ").split()
        named = {module("labels").label(word).lower() for word in what} - {"of", "optllm", "model"}
        best = [line for line in lines if any(text in line.split("|")[1] for text in texts)]
        assert best, f"{one.printed:g} ({one.what}) stands nowhere"
        hits = max(sum(word in line for word in named) for line in best)
        assert hits >= len(named) / 2, f"{one.what} is not named beside {one.printed:g}"
