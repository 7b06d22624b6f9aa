"""The table and the figure of routing, from what `understudy route` wrote."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from support.analysis import module
from support.routing_worlds import workload
from understudy import locations
from understudy.errors import BadInput
from understudy.report.page import load_analysis
from understudy.routing.allocate import Goal, learn, of_table
from understudy.routing.output import picture

LINE: dict[str, Any] = {
    **{"split": "unseen_line", "router": "ours", "seeds": 10, "labels": 320, "reached": 9},
    **{"best_single": "Mixtral_8x7B", "tested": 100.0, "best_accuracy": 0.5911, "best_cost": 3.681},
    **{
        "highest_accuracy": 0.72,
        "gain": 0.15,
        "gain_sd": 0.01,
        "saving": 0.731,
        "saving_sd": 0.008,
    },
    **{"igd": 0.184, "delta": 0.951},
    **{"brier": 0.108, "ece": 0.055, "seconds": 5.0},
}
PAPER = {
    **{"source": "a paper", "best_single": "Mixtral", "best_accuracy": 0.59, "best_cost": 3.68},
    **{"cost": 1.87, "saving": 0.4918, "highest_accuracy": 0.71},
    **{"igd": 0.19, "delta": 0.95, "seconds": 1088},
}

MATCH = {
    **{"source": "a paper", "accuracy": 0.42, "cost": 11.93},
    "optllm_cost": 1.83,
    "our_cost": None,
}


def written(folder: Path, *lines: dict[str, Any]) -> Path:
    document = {
        "dataset": "logpai",
        "share": 0.01,
        "lines": lines,
        "published": [PAPER],
        "matches": [MATCH],
        "leaks": {"random": "28 of the 100 queries repeat"},
        "inapplicable": {"unseen_system": "the data know no system"},
    }
    path = folder / "logpai.json"
    path.write_text(json.dumps(document))
    return path


@pytest.mark.slow
def test_the_table_stands_beside_the_paper_and_says_who_loses(tmp_path: Path) -> None:
    never = LINE | {"gain": -0.02, "gain_sd": None, "saving": None, "saving_sd": None, "reached": 0}
    path = written(tmp_path, LINE, never)
    said = load_analysis().table_routing(path)
    assert said == path.with_suffix(".md").read_text()
    lines = said.splitlines()
    assert lines[2] == (
        "| unseen line | ours | 320 | Mixtral_8x7B (0.5911, 3.681) | 0.7200 | 73.1 % ± 0.8 | 9/10 "
        "| 15.00 ± 1.00 | 0.18 | 0.95 | 0.108 | 0.055 | 5.0 |"
    )
    assert "| – | 0/10 | -2.00 (loses) |" in lines[3]
    assert (
        "| random | a paper | – | Mixtral (0.59, 3.68) | 0.71 | 49.18 % | – | – | 0.19 |"
        in lines[4]
    )
    assert "| a paper | 0.42 | 11.93 | 1.83 | – |" in lines
    assert "- random: 28 of the 100 queries repeat" in lines
    assert "- unseen system does not apply: the data know no system" in lines


def test_the_other_formats_hold_the_same_rows(tmp_path: Path) -> None:
    path = written(tmp_path, LINE)
    load_analysis().table_routing(path)
    rows = list(csv.DictReader(path.with_suffix(".csv").read_text().splitlines()))
    assert float(rows[0]["saving"]) == 0.731
    latex = path.with_suffix(".tex").read_text().splitlines()
    assert latex[0] == r"\begin{tabular}{ll" + "r" * 11 + "}"
    assert r"Mixtral\_8x7B (0.5911, 3.681)" in latex[4]
    assert r"73.1 \% $\pm$ 0.8" in latex[4]
    assert latex[-2:] == [r"\bottomrule", r"\end{tabular}"]


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["svg", "png"])
def test_the_figure_names_every_llm_and_the_plan(tmp_path: Path, suffix: str) -> None:
    made = workload(60)
    drawn = picture(learn(made, Goal()), made)
    out = load_analysis().fig_routing(drawn, tmp_path / "new" / f"f.{suffix}", True)
    assert out.stat().st_size > 5000
    with pytest.raises(BadInput, match="no figure that can be drawn"):
        load_analysis().fig_routing(drawn, tmp_path / "f.jpg")


@pytest.mark.slow
def test_the_picture_is_in_usd_per_thousand_queries() -> None:
    made = workload(60)
    learnt, believed = picture(learn(made, Goal()), made), picture(of_table(made, Goal()), made)
    large = next(one for one in learnt["singles"] if one["llm"] == "large")
    assert large["cost"] == pytest.approx(1000 * made.cost[:, 1].mean())
    assert large["accuracy"] == pytest.approx(made.success[:, 1].mean())
    assert max(learnt["oracle"]["accuracy"]) == pytest.approx(made.success.max(axis=1).mean())
    assert believed["oracle"] is None  # where labels are routed by, the router is the oracle
    assert np.all(np.diff(learnt["zero"]["cost"]) > 0)
    json.dumps(learnt, allow_nan=False)


def test_what_optllm_prints_of_a_data_set_is_that_of_the_experiment() -> None:
    experiment = locations.shared("conf") / "experiment" / "routing" / "logpai.yaml"
    said = yaml.safe_load(experiment.read_text())["routing"]["published"]
    found = {one["source"]: one for one in module("routing").printed("logpai")}
    assert len(found) == 7
    for one in said:
        if one["source"] in found:
            mine = found[one["source"]]
            for name in set(one) & set(mine) - {"source", "best_single"}:
                assert mine[name] == pytest.approx(one[name], abs=0.51 * (name == "seconds"))


@pytest.mark.parametrize("dataset", ["agnews", "coqa", "headlines", "sciq"])
def test_the_papers_other_data_sets_have_their_printed_rows(dataset: str, tmp_path: Path) -> None:
    path = written(tmp_path, LINE)
    path.write_text(
        json.dumps(json.loads(path.read_text()) | {"dataset": dataset, "published": []})
    )
    said = load_analysis().table_routing(path)
    assert said.count("(paper) |") >= 7
    assert "| random | OptLLM (paper) | – | " in said
    assert module("routing").printed("routerbench") == []


def test_the_table_says_how_much_more_ours_gains(tmp_path: Path) -> None:
    behind = {"ahead": 0.012, "ahead_low": -0.001, "ahead_high": 0.025}
    ours, other = LINE | dict.fromkeys(behind), LINE | behind | {"router": "k-means clusters"}
    said = load_analysis().table_routing(written(tmp_path, ours, other))
    assert (
        "- unseen line: ours gains 1.20 points more than k-means clusters [-0.10, 2.50] "
        "(95 %, over the draws of labels)"
    ) in said
