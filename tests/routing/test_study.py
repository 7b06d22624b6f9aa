"""The study of RQ1: its splits, its rows, its table, and the composed experiments."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from support.files import REAL, needs_real_data
from support.routing_worlds import workload
from understudy import locations
from understudy.config.compose import Composer
from understudy.errors import BadInput
from understudy.routing import study
from understudy.routing.benchmarks import BENCHMARKS, PRICED, logpai
from understudy.routing.data import Outcomes
from understudy.routing.fitting import fit
from understudy.routing.splits import draw
from understudy.routing.value import Curve, curve

EXPERIMENTS = sorted((locations.shared("conf") / "experiment" / "routing").glob("*.yaml"))


def grouped(n: int = 240) -> Outcomes:
    """A workload whose queries repeat, with 4 systems and no templates."""
    made = workload(n // 2)
    twice = made.rows(np.tile(np.arange(n // 2), 2))
    assert twice.text is not None
    systems = [f"s{number % 4}" for number in range(n)]
    return replace(twice, groups={"line": twice.text, "system": systems})


@pytest.mark.slow
def test_rows_tell_splits_apart_and_warn_where_one_leaks() -> None:
    splits = ["random", "unseen_line", "unseen_system"]
    rows = list(study.run(grouped(), splits, {"ours": 1}, 0.2, "auto"))
    assert [row.split for row in rows] == splits
    assert rows[0].leak is not None
    assert rows[1].leak is None
    assert {row.labels for row in rows} == {48}
    assert rows[0].tested == 192
    assert rows[0].best_single == "large"
    assert rows[0].saving > 0.2
    assert rows[0].gain > 0.05


@pytest.mark.soak  # 20,000 trees
def test_the_published_predictor_is_routed_by_the_front_and_by_its_own_search() -> None:
    rows = list(study.run(grouped(120), ["random"], {"published": 1}, 0.2, "auto"))
    assert [row.router for row in rows] == ["published, exact front", "published, OptLLM-M"]
    assert rows[0].labels == 24
    assert rows[0].tested == 120 - 2 * 24  # as many again were for validation


def test_routers_of_a_seed_have_its_labels_and_the_features_of_the_texts() -> None:
    made, wanted = grouped(120), {"ours": 2, "knn": 1}
    rows = list(study.run(made, ["unseen_line"], wanted, 0.2, "logistic"))
    assert [(row.seed, row.router) for row in rows] == [(0, "ours"), (0, study.KNN), (1, "ours")]
    assert rows[0].best_cost == rows[1].best_cost != rows[2].best_cost
    labelled, test = draw(120, 0.2, 1, made.groups["line"])
    assert made.text is not None
    known, asked = ([made.text[row] for row in part] for part in (labelled, test))
    predictor, _ = fit(
        known, made.success[labelled], made.cost[labelled], kind="logistic", seed=1,
        groups=[made.groups["line"][row] for row in labelled],
    )  # fmt: skip
    alone = curve(predictor(asked), made.cost[test], made.success[test])
    np.testing.assert_allclose(rows[2].curve.accuracy, alone.accuracy)


def test_splits_that_do_not_apply_say_why() -> None:
    unique = replace(workload(20), groups={"line": [f"{n}" for n in range(20)]})
    assert study.inapplicable(unique, "random") is None
    assert study.inapplicable(unique, "unseen_line") == (
        "each line occurs once, so the random split is this split"
    )
    assert study.inapplicable(unique, "unseen_system") == "the data know no system"
    with pytest.raises(BadInput, match="the split unseen_template does not apply: the data know"):
        list(study.run(unique, ["unseen_template"], {"ours": 1}, 0.2, "auto"))
    with pytest.raises(BadInput, match="nobody is no predictor; choose from ours, pub"):
        list(study.run(unique, ["random"], {"nobody": 1}, 0.2, "auto"))
    graded = replace(unique, success=unique.success * 0.5)
    with pytest.raises(BadInput, match="these scores are graded"):
        list(study.run(graded, ["random"], {"published": 1}, 0.2, "auto"))
    with pytest.raises(BadInput, match="neither a text column nor features"):
        list(study.run(replace(unique, text=None), ["random"], {"ours": 1}, 0.2, "auto"))


def row(split: str, router: str, seed: int, saving: float, gain: float) -> study.Measurement:
    numbers = (320, 1000, "large", 0.9, 2.0, 0.8, saving, gain, 0.3, 0.9, 0.1, 0.05, 1.5)
    path = Curve(np.array([1.0, 2.0]), np.array([0.5, 0.8]))
    return study.Measurement(split, router, seed, *numbers, None, path)


def test_the_table_counts_the_seeds_that_reach_the_best_single_llm() -> None:
    nan = float("nan")
    rows = [row("random", "ours", 0, 0.5, 0.1), row("random", "ours", 1, nan, -0.3)]
    zero, ours = study.summarise(rows)
    assert (zero["router"], zero["saving"], zero["gain"], zero["reached"]) == (
        "zero router",
        0,
        0,
        2,
    )
    assert zero["highest_accuracy"] == 0.9
    assert (ours["saving"], ours["reached"], ours["seeds"]) == (0.5, 1, 2)
    assert ours["gain"] == pytest.approx(-0.1)
    assert ours["saving_sd"] is None
    never = study.summarise([row("random", "ours", 0, nan, 0.0)])[1]
    assert never["saving"] is None


@pytest.mark.slow
@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_every_experiment_composes_and_names_a_benchmark(path: Path) -> None:
    overrides = [f"experiment=routing/{path.stem}", "routing.data=somewhere"]
    built = study.build(Composer(None).values(overrides))
    assert built.dataset == path.stem
    assert built.dataset in {**BENCHMARKS, **PRICED}
    assert bool(built.prices) == (built.dataset in PRICED)
    assert built.data == "somewhere"


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"splits": ["sideways"]}, "routing.splits: sideways is none of random, unseen_line"),
        ({"dataset": "mmlu"}, "routing.dataset: mmlu is none of logpai"),
        (
            {"seeds": {"theirs": 1}},
            "routing.seeds: theirs is none of ours, published",
        ),
        ({"prices": {"gpt-4": "1/2"}}, "routing.prices: overruling has costs of its own"),
        ({"share": 2}, "routing: share=2 is not valid"),
        ({"learner": "oracle"}, "routing.learner: oracle is none of auto, forest"),
    ],
)
def test_odd_settings_are_one_sentence(changed: dict[str, object], said: str) -> None:
    values = Composer(None).values(["experiment=routing/overruling"])
    values["routing"] |= changed
    with pytest.raises(BadInput) as error:
        study.build(values)
    assert said in str(error.value)


def test_a_study_needs_a_name_and_a_directory() -> None:
    with pytest.raises(BadInput, match="nothing to reproduce is named"):
        study.build({})
    with pytest.raises(BadInput, match=r"routing\.data is not set"):
        study.build(Composer(None).values(["experiment=routing/logpai"])).load()


@pytest.mark.slow
def test_the_document_of_a_study_is_json(tmp_path: Path) -> None:
    made = grouped(80)
    rows = list(
        study.run(made, ["random", "unseen_line"], {"ours": 1, "published": 0}, 0.2, "auto")
    )
    overrides = ["experiment=routing/logpai"]
    document = study.document(study.build(Composer(None).values(overrides)), made, rows)
    again = json.loads(json.dumps(document, allow_nan=False))
    assert [line["router"] for line in again["lines"]] == ["zero router", "ours"] * 2
    assert set(again["picture"]["curves"]) == {"ours"}
    assert again["published"][0]["saving"] == 0.4918
    assert "unseen_template" in again["inapplicable"]
    assert [one["source"] for one in again["matches"]][:2] == ["NSGA-II (paper)", "MOPSO (paper)"]


def test_the_cost_to_match_a_baseline_is_missing_when_a_seed_never_gets_there() -> None:
    made = grouped(80)
    chosen = study.build(Composer(None).values(["experiment=routing/logpai"]))
    chosen.published = [
        study.Published("near", highest_accuracy=0.8, cost_at_highest=9.0),
        study.Published("far", highest_accuracy=0.9, cost_at_highest=9.0),
        study.Published("no cost", highest_accuracy=0.8),
    ]
    rows = [row("random", "ours", seed, 0.5, 0.1) for seed in range(2)]
    found = study.document(chosen, made, rows)["matches"]
    assert [(one["source"], one["our_cost"]) for one in found] == [("near", 2.0), ("far", None)]


@needs_real_data
@pytest.mark.slow
def test_logpai_with_one_percent_of_labels_saves_at_least_65_percent() -> None:
    outcomes = logpai(Path(str(REAL)) / "routing")
    rows = study.run(outcomes, ["random"], {"ours": 3}, 0.01, "auto")
    savings = [row.saving for row in rows]
    assert np.mean(savings) >= 0.65
