"""What differs between the chosen runs is a column and a series, or is refused; seeds repeat."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from support import grid_runs
from support.analysis import module
from understudy.errors import BadInput
from understudy.report import page

SIZES = (0, 250, 1000, 4000)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    grid_runs.write(root, grid_runs.grid(trainer=("tiny", "lora"), seed=(0, 1, 2), data_size=SIZES))
    return root


@pytest.fixture(scope="module")
def data(root: Path) -> Any:
    return module("sources").load(["grid"], root)


@pytest.mark.slow
def test_two_recipes_are_two_curves_whose_bars_are_between_their_seeds(data: Any) -> None:
    curves = [c for c in module("scaling").curves(data, "precision") if c.statistic == "mean"]
    assert sorted(module("setups").words(c.setup) for c in curves) == [
        "trainer lora", "trainer tiny"
    ]  # fmt: skip
    for curve in curves:
        assert list(curve.sizes) == list(SIZES)
        assert curve.of_seeds.shape == (3, len(SIZES))
        assert curve.values == pytest.approx(curve.of_seeds.mean(0))
        half = 4.302653 * curve.of_seeds.std(0, ddof=1) / np.sqrt(3)  # t, 2 degrees of freedom
        assert curve.high - curve.values == pytest.approx(half, rel=1e-4)


@pytest.mark.slow
def test_the_table_has_a_row_per_seed_and_one_of_all_seeds(data: Any) -> None:
    table = module("scores").table(data)
    local = table[(table["role"] == "local") & (table["data_size"] == 1000)]
    shown = sorted(zip(local["leaf.trainer"], local["seeds"], strict=True))
    assert shown == [(r, s) for r in ("lora", "tiny") for s in ("0", "0, 1, 2", "1", "2")]
    mine = local[local["leaf.trainer"] == "lora"].set_index("seeds")
    single = mine.loc[["0", "1", "2"], "precision.mean.mean"]
    assert mine.loc["0, 1, 2", "precision.mean.mean"] == pytest.approx(single.mean())
    assert mine.loc["0, 1, 2", "precision.mean.sd"] == pytest.approx(single.std())


@pytest.mark.slow
def test_printed_rows_of_a_grid_are_all_different(root: Path, tmp_path: Path) -> None:
    assert module("table_main").main(["grid", "--root", str(root), "--out", str(tmp_path)]) == 0
    lines = (tmp_path / "table_main.md").read_text().splitlines()
    heads = [part.strip() for part in lines[2].split("|")]
    rows = [dict(zip(heads, map(str.strip, line.split("|")), strict=True)) for line in lines[4:]]
    names = [(row["Model"], row["trainer"], row["Seed"], row["Judge"]) for row in rows]
    assert len(set(names)) == len(names) == 1 + 2 * 4 * len(SIZES)


def test_the_density_has_a_panel_per_recipe_and_every_seed_in_it(data: Any) -> None:
    (panels,) = module("fig_kde").shown(data).values()
    assert [(p.name, [one.system.seed for one in p.evaluations]) for p in panels] == [
        ("tiny, 4,000 rows by GPT-4o, trainer tiny", [0, 1, 2]),
        ("tiny, 4,000 rows by GPT-4o, trainer lora", [0, 1, 2]),
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("axes", "said"),
    [
        ({"trainer.lr": (0.1, 0.2)}, {"trainer.lr": {"0.1", "0.2"}}),
        ({"inference.temperature": (0.5, 1.0)}, {"inference.temperature": {"0.5", "1"}}),
        ({"coverage.seed": (1, 2)}, {"coverage.seed": {"1", "2"}}),
        ({"loop.subsets": ("nested", "prefix")}, {"loop.subsets": {"nested", "prefix"}}),
        ({"inference.engine": ("vllm",)}, {}),
        ({"model.name": ("gemma-2b", "gemma-7b")}, {}),  # every table names the model
        ({"trainer": ("tiny", "lora"), "trainer.lr": (0.1, 0.2)},
         {"trainer": {"tiny", "lora"}, "trainer.lr": {"0.1", "0.2"}}),
    ],
)  # fmt: skip
def test_any_leaf_that_differs_is_a_column(
    axes: dict[str, Any], said: dict[str, set[str]], tmp_path: Path
) -> None:
    grid_runs.write(tmp_path, grid_runs.grid(**axes, data_size=(250,)), prompts=3)
    table = module("scores").table(module("sources").load(["grid"], tmp_path))
    local = table[table["role"] == "local"]
    found = {c.removeprefix("leaf."): set(local[c]) for c in local if c.startswith("leaf.")}
    assert found == said


@pytest.mark.parametrize(
    ("key", "values", "names"),
    [
        ("evaluation.m", (2, 5), {"offline (m 2)", "offline (m 5)"}),
        ("judges.offline.temperature", (0, 1), {"offline (temperature 0)",
                                                "offline (temperature 1)"}),
    ],
)  # fmt: skip
def test_one_judge_asked_in_two_ways_is_two_judges(
    key: str, values: tuple[Any, ...], names: set[str], tmp_path: Path
) -> None:
    grid_runs.write(tmp_path, grid_runs.grid(**{key: values}, data_size=(250,)), prompts=3)
    table = module("scores").table(module("sources").load(["grid"], tmp_path))
    assert set(table["judge"]) == names
    assert len(table) == 4


@pytest.mark.slow
def test_more_curves_than_can_be_told_apart_are_refused_with_what_differs(tmp_path: Path) -> None:
    rates = [n / 100 for n in range(1, 31)]
    grid_runs.write(tmp_path, grid_runs.grid(**{"trainer.lr": rates}, data_size=(0, 9)), prompts=2)
    data = module("sources").load(["grid"], tmp_path)
    sentence = r"these differ: trainer\.lr; choose with --only trainer\.lr="
    with pytest.raises(BadInput, match=sentence):
        module("fig_scaling").build(data, tmp_path)
    few = module("sources").load(["grid"], tmp_path, ["trainer.lr=0.01,0.02"])
    curves = {curve.setup for curve in module("scaling").curves(few, "precision")}
    assert len(curves) == 2


@pytest.mark.parametrize(
    ("only", "sentence"),
    [
        ("trainer=qlora", "none of these has trainer=qlora; there are tiny, lora"),
        ("nosuch=3", "nosuch is nothing that these differ in; choose from"),
        ("trainer", "--only trainer is not of the form KEY=VALUE"),
    ],
)
def test_a_choice_that_cannot_be_made_is_one_sentence(
    only: str, sentence: str, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["grid", "--root", str(root), "--out", str(tmp_path), "--only", only]
    assert module("table_main").main(words) == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.slow
def test_a_choice_keeps_what_it_names(root: Path, tmp_path: Path) -> None:
    words = ["grid", "--root", str(root), "--out", str(tmp_path), "--only", "trainer=lora"]
    assert module("table_main").main([*words, "--only", "seed=1"]) == 0
    table = pd.read_csv(tmp_path / "table_main.csv")
    local = table[table["role"] == "local"]
    assert set(local["trainer"]) == {"lora"}
    assert set(local["seed"]) == {1}


def test_a_curve_of_unlike_runs_is_refused_with_what_differs(root: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"grid-00 and grid-20 would be one point .* trainer\.kind"):
        page.curve(root, "grid-*", tmp_path / "curve.svg")
