"""From verdict rows to arrays, and the whole judge report as JSON."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from support.panels import panel as panel_of
from understudy.evaluation import reliability
from understudy.evaluation.panel import build
from understudy.records import Answer, Verdict


def answer(prompt: str, generator: str, text: str = "one two three") -> Answer:
    return Answer(prompt, f"group {prompt}", 0, text, 3, "stop", generator, f"of {generator}")


def verdict(prompt: str, generator: str, judge: str, m: int | None, score: float | None) -> Verdict:
    status = "not_json" if score is None else "scored"
    place = (prompt, generator, 0, judge, f"of {judge}", "default", "reference_first", m, "0-100")
    return Verdict(*place, score, score, None, None, status)


ANSWERS = [
    answer("q", "local"),
    answer("p", "local", "one two three four five six"),
    answer("p", "gpt"),
]
REFERENCES = {"p": "one two three", "q": "one two three"}
VERDICTS = [
    verdict("p", "local", "strict", 0, 40),
    verdict("p", "local", "strict", 1, 50),
    verdict("p", "local", "kind", 0, 80),
    verdict("p", "gpt", "kind", 1, None),
]


def test_verdicts_become_answers_by_judges_by_repeats() -> None:
    found = build(VERDICTS, ANSWERS, REFERENCES, "precision", {("p", "local", 0): 33.0})
    assert (found.judges, found.judge_families) == (["kind", "strict"], ["of kind", "of strict"])
    assert (found.systems, found.system_families) == (["gpt", "local"], ["of gpt", "of local"])
    assert found.scores.shape == (3, 2, 2)
    # Answers in the order of their keys: (p, gpt), (p, local), (q, local).
    assert list(found.system) == [0, 1, 1]
    assert list(found.prompt) == list(found.cluster) == [0, 0, 1]
    assert found.means[1] == pytest.approx([80, 45])
    assert np.isnan(found.means[[0, 2]]).all()
    assert list(np.isnan(found.truth)) == [True, False, True]


def test_length_is_relative_to_the_reference_and_bounded() -> None:
    found = build(VERDICTS, ANSWERS, REFERENCES, "precision").length
    assert list(found[[0, 2]]) == [0, 0]
    assert 0.5 < found[1] < 1
    same = build(VERDICTS, [replace(a, text="a b c") for a in ANSWERS], REFERENCES, "precision")
    assert np.isnan(same.length).all()


def test_an_imported_average_is_one_verdict() -> None:
    found = build([verdict("p", "gpt", "kind", None, 71.5)], ANSWERS, REFERENCES, "similarity")
    assert found.scores[:, 0, 0].tolist()[0] == 71.5


def a_panel(rng: Any) -> Any:
    true = rng.normal(75, 12, size=(300, 1, 1))
    scores = np.rint(np.clip(true + rng.normal(0, 5, size=(300, 3, 2)), 0, 100))
    scores[rng.random(scores.shape) < 0.02] = np.nan
    return panel_of(scores, ["a", "b", "c"], per_cluster=2, systems=("a", "other"))


def test_the_report_is_plain_json_and_complete() -> None:
    rng = np.random.default_rng(0)
    found = reliability.report(a_panel(rng), a_panel(rng), {"other": "b"}, draws=199)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert list(found["judges"]) == ["a", "b", "c"]
    assert list(found["pairs"]) == ["a / b", "a / c", "b / c"]
    assert {"self_family", "teacher_family", "position"} <= found["bias"].keys()
    own = found["bias"]["self_family"]["judges"]
    assert list(own) == ["a"]
    assert own["a"]["claim"] == "not proved"
    assert own["a"]["value"]["low"] < 0 < own["a"]["value"]["high"]
    assert found["bias"]["length"]["pooled"]["because"] == "the lengths are unknown"
    assert found["icc"]["ak"]["mean"] > found["icc"]["a1"]["mean"] > 0.7
    assert len(found["missing"]) == 6
    position = found["bias"]["position"]
    assert {name: one["claim"] for name, one in position["judges"].items()} == dict.fromkeys(
        "abc", "measured"
    )
    assert (found["answers"], found["clusters"]) == (300, 150)


def test_the_report_of_one_judge_says_what_one_judge_can() -> None:
    found = reliability.report(panel_of([[80.0], [60.0], [90.0]]), draws=99)
    assert found["judges"]["j0"]["mean"]["mean"] == pytest.approx(230 / 3)
    assert found["alpha"]["mean"] is found["icc"]["a1"]["mean"] is None
    assert found["pairs"] == {}
    said = {name: one["pooled"]["because"] for name, one in found["bias"].items()}
    assert said["position"] == "the order was not swapped"
    assert said["self_family"] == "no system is of a judge's family"
    assert found["effective_judges"]["value"]["mean"] is None


def test_the_same_panel_gives_the_same_report() -> None:
    once, again = (
        reliability.report(a_panel(np.random.default_rng(1)), draws=99) for _ in range(2)
    )
    assert once == again
