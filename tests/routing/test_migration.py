"""Outcomes from the evaluation stages of runs."""

import json
from pathlib import Path

import numpy as np
import pytest

from support import records
from support.fake_runs import CONFIG, evaluation, human, stage, verdict, write_run
from support.judged_services import run_with_baseline
from understudy.errors import BadInput
from understudy.records import Answer, Row, Verdict
from understudy.routing.costs import Price
from understudy.routing.migration import outcomes

PRICES = {"offline": Price(1.0, 2.0)}


def test_judged_scores_become_graded_success(tmp_path: Path) -> None:
    found = outcomes([run_with_baseline(tmp_path)], PRICES)
    assert found.llms == ["tiny", "offline"]
    assert found.ids == ["p0", "p1", "p2"]
    assert found.text == ["question 0", "question 1", "question 2"]
    assert found.groups == {"group": ["g0", "g1", "g2"]}
    np.testing.assert_allclose(found.success[:2], [[0.9, 0.9], [0.2, 0.2]])
    assert np.isnan(found.success[2]).all()  # never scored: missing, not failed
    note = "1 of 3 prompts lack some model's score, so are unlabelled; a promise counts them as "
    assert found.notes == (note + "failures",)
    assert found.unscored == (2,)
    np.testing.assert_array_equal(found.cost[:, 0], 0)
    np.testing.assert_allclose(found.cost[:, 1], (10 / 4 + 2 * 10) / 1e6)
    assert found.is_rehearsal


def test_repeats_and_judges_are_averaged_per_prompt(tmp_path: Path) -> None:
    path = run_with_baseline(tmp_path)
    rows: list[Row] = [verdict("p0", 50.0), verdict("p0", 70.0, m=1), verdict("p1", 40.0)]
    strict = [
        Verdict(**{**row.to_dict(), "judge": "strict", "precision": 10.0, "similarity": 0.0})
        for row in rows
    ]
    first = evaluation(tmp_path, "evaluation/e1")
    (tmp_path / first / "out/rows.jsonl").unlink()
    for name, content in (("e2", rows), ("e3", strict)):
        stage(tmp_path, f"evaluation/{name}", list(content))
    text = path.read_text().replace(
        '"evaluation.offline": "evaluation/e0"',
        '"evaluation.offline": "evaluation/e2", "evaluation.strict": "evaluation/e3"',
    )
    path.write_text(text)
    found = outcomes([path], PRICES)
    np.testing.assert_allclose(found.success[:2, 0], [(0.6 + 0.1) / 2, (0.4 + 0.1) / 2])
    similar = outcomes([path], PRICES, metric="similarity")
    np.testing.assert_allclose(similar.success[0, 0], 0.3)


def test_a_run_without_a_service_is_one_llm(tmp_path: Path) -> None:
    found = outcomes([write_run(tmp_path)], {})
    assert found.llms == ["tiny"]


def test_local_models_of_several_runs_are_told_apart_and_a_shared_service_is_one(
    tmp_path: Path,
) -> None:
    one = run_with_baseline(tmp_path, "one")
    two = tmp_path / "run" / "two" / "run.json"
    two.parent.mkdir()
    two.write_text(one.read_text().replace('"name": "one"', '"name": "two"'))
    found = outcomes([one, two], PRICES)
    assert found.llms == ["tiny (one)", "offline", "tiny (two)"]


def test_every_generator_of_ready_made_answers_is_an_llm(tmp_path: Path) -> None:
    path = write_run(tmp_path, config=CONFIG | {"inference": {"kind": "file"}}, stages={})
    record = json.loads(path.read_text())
    first = record["rounds"][0]["stages"]
    answers: list[Row] = [
        Answer(f"p{n}", f"g{n}", 0, "x" * 40, None, "stop", "other", "x") for n in range(3)
    ]
    second = first | {"inference": stage(tmp_path, "inference/i1", answers)}
    record["rounds"].append({"round": 1, "data_size": None, "stages": second, "decision": "fail"})
    record["stages"] = {"split": "split/p0"}
    path.write_text(json.dumps(record))
    found = outcomes([path], {"other": Price(0, 1)})
    assert found.llms == ["tiny", "other"]
    np.testing.assert_allclose(found.cost[0], [0, 10 / 1e6])  # 40 bytes count as 10 tokens


@pytest.mark.parametrize(
    ("prices", "said"),
    [
        ({}, "the price of offline is not known: give --price-of offline=IN/OUT"),
        ({**PRICES, "gpt": Price(1, 1)}, "a price is given for gpt, but the models are tiny, off"),
    ],
)
def test_prices_must_fit_the_models(tmp_path: Path, prices: dict[str, Price], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        outcomes([run_with_baseline(tmp_path)], prices)


def test_runs_that_cannot_be_put_side_by_side_are_refused(tmp_path: Path) -> None:
    real = run_with_baseline(tmp_path / "a", rehearsal=False)
    rehearsed = run_with_baseline(tmp_path / "b")
    with pytest.raises(BadInput, match="never mix"):
        outcomes([real, rehearsed], PRICES)
    with pytest.raises(BadInput, match="speed is no metric; choose from similarity, precision"):
        outcomes([real], PRICES, metric="speed")
    stage(tmp_path / "c", "split/p0", [human(0, "test", "x")])
    unjudged = tmp_path / "c" / "run" / "new" / "run.json"
    unjudged.parent.mkdir(parents=True)
    begun = records.record(name="new", rehearsal=True, stages={"split": "split/p0"})
    unjudged.write_text(json.dumps(begun))
    with pytest.raises(BadInput, match="the run new has no finished evaluation yet"):
        outcomes([unjudged], {})
