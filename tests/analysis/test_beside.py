"""The paper's cells with what released rows and our own runs say beside them."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from support.analysis import module

CODING = {"task": "coding", "judge": "gemini-1.5-flash"}


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, pd.DataFrame]:
    """Rows in the published schema that do not call themselves made up, and the same as a frame."""
    folder = tmp_path_factory.mktemp("released")
    made = [Path(path) for path in module("made_set").write(folder)]
    file = next(path for path in made if "coding" in path.name)
    text = file.read_text().replace('"rehearsal/', '"llama-duo/')
    file.write_text(text)
    return module("sources").load([str(file)], folder), pd.read_json(file, lines=True)


def cell(table: pd.DataFrame, **names: str) -> dict[str, Any]:
    for name, value in names.items():
        table = table[table[name] == value]
    assert len(table) == 1
    found: dict[str, Any] = table.iloc[0].to_dict()
    return found


@pytest.mark.slow
def test_a_released_row_stands_beside_its_printed_cell(
    released: tuple[Any, pd.DataFrame],
) -> None:
    data, rows = released
    beside, published = module("beside"), module("published")
    table = published.table_1(module("cells").published(), beside.sides(data))
    assert len(table) == 504
    found = cell(table, **CODING, metric="precision", model="gemma-7b", statistic="mean")
    mine = rows[rows["model_id"].str.contains("gemma7b-coding-gpt4o-100k")]
    mine = mine[mine["evaluators"] == "gemini-1.5-flash-001"]
    assert found["released.mean"] == pytest.approx(mine["precision_scores"].mean())
    assert found["released.low"] < found["released.mean"] < found["released.high"]
    other = cell(table, **(CODING | {"task": "closed_qa"}), metric="precision", model="gemma-7b",
                 statistic="mean")  # fmt: skip
    assert pd.isna([found["ours.mean"], other["released.mean"]]).all()


@pytest.mark.slow
def test_runs_are_ours_and_their_largest_size_counts(
    released: tuple[Any, pd.DataFrame],
) -> None:
    data, _ = released
    beside = module("beside")
    ones = [replace(one, system=replace(one.system, run="mine")) for one in data.evaluations]
    small = [
        replace(one, precision=0 * one.precision, system=replace(one.system, data_size=10.0))
        for one in ones
        if one.system.role == "local"
    ]
    mine = replace(
        data, evaluations=ones + small, runs=[SimpleNamespace(name="mine", rehearsal=False)]
    )
    theirs, found = beside.sides(data)["released"], beside.sides(mine)
    assert not found["released"].cells
    assert found["ours"].cells == theirs.cells
    assert found["ours"].p_matches
    key = ("coding", "gemma-7b", "gemini-1.5-flash", "precision", "mean")
    twice = replace(mine, evaluations=[*ones, *ones])  # as two seeds that agree
    pooled = beside.sides(twice)["ours"].cells[key]
    assert (pooled.mean, pooled.low) == pytest.approx((theirs.cells[key].mean,) * 2)


def test_what_is_made_up_stands_beside_nothing(released: tuple[Any, pd.DataFrame]) -> None:
    data, _ = released
    made_up = [
        replace(one, system=replace(one.system, is_rehearsal=True)) for one in data.evaluations
    ]
    found = module("beside").sides(replace(data, evaluations=made_up))
    assert all(not side.cells and not side.evaluations for side in found.values())


@pytest.mark.slow
def test_the_table_says_which_differences_can_be_significant() -> None:
    published = module("published")
    table = published.table_1(module("cells").published())
    local = table[~table["model"].isin(published.SERVICES)]
    assert table[table["model"].isin(published.SERVICES)]["p"].isna().all()
    coverages = local[local["statistic"] != "mean"]
    assert len(coverages) == 4 * 4 * 3 * 2 * 2
    for row in coverages.to_dict("records"):
        size = published.sizes()[row["task"]]
        answers = round(abs(row["difference"]) / 100 * size.answers)
        assert row["p"] == min(1.0, 2.0 ** (1 - min(answers, size.prompts)))
    best = local.loc[local.groupby([*published.COLUMN, "statistic"])["printed"].idxmax()]
    ratios = published.p_matches(module("cells").published())
    assert sorted(best["p"].dropna()) == sorted(ratios["p"].dropna())


def test_table_2_follows_from_its_parts_but_once() -> None:
    table = module("published").table_2(module("cells").published())
    totals = table[table["months"] > 0]
    assert len(totals) == 8
    wrong = totals[totals["computed"] != totals["printed"]]
    assert wrong[["workload", "model", "months"]].to_numpy().tolist() == [
        ["light", "local model", 2]
    ]
    assert wrong["computed"].tolist() == [3399]


@pytest.mark.slow
def test_the_papers_figures_are_drawn_with_rows_and_without(
    released: tuple[Any, pd.DataFrame], tmp_path: Path
) -> None:
    beside, figures = module("beside"), module("fig_published")
    for name, sides in (("with", beside.sides(released[0])), ("without", beside.NONE)):
        names = {path.name for path in figures.build(tmp_path / name, sides)}
        assert names == {
            f"fig_published_{one}.{kind}"
            for one in ("scaling_similarity", "scaling_precision", "density", "cost")
            for kind in ("pdf", "png")
        }
