"""Graders as judges: their stage, and a gate that asks of a judge only what it measures."""

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from support.evaluations import answers_to, coverage, job, service, write
from support.evaluations import config as composed_by_hand
from understudy import config as schema
from understudy.config import Config, changed
from understudy.errors import BadInput
from understudy.evaluation import decision, gate, grading
from understudy.evaluation.gate import GateLine
from understudy.evaluation.scores import METRICS, measured
from understudy.pipeline.flow import Flow
from understudy.records import Coverage, Verdict, read_rows
from understudy.store.artifacts import Job

EXACT = {"exact": {"kind": "exact", "ignore": ["space"]}}


def config(graders: dict[str, Any] = EXACT, **gates: Any) -> Config:
    """A config whose judges are these graders."""
    values = asdict(composed_by_hand(judges=[service("offline")]))
    gates = values["gate"] | {"similarity": 0} | gates
    return schema.build(values | {"judges": {}, "graders": graders, "gate": gates})


def graded(path: Path, skill: float, of: Config | None = None) -> tuple[list[Verdict], Any]:
    of = of or config()
    path.mkdir()
    rows = coverage(12)
    given = [*answers_to(rows, skill=skill)]
    given[3] = replace(given[3], finish="error", text="")
    ours = job(path, of, rows, given)
    grading.run(ours)
    summary = json.loads((ours.out / "summary.json").read_text())
    return list(read_rows(ours.out / "rows.jsonl", Verdict)), summary


def test_a_grader_writes_ordinary_verdicts_of_precision_alone(tmp_path: Path) -> None:
    rows, summary = graded(tmp_path / "a", 0.5)
    scored = [row for row in rows if row.status == "scored"]
    assert len(rows) == 24
    assert {row.precision for row in scored} == {0.0, 100.0}
    assert {row.similarity for row in rows} == {None}
    assert [row.status for row in rows if row.status != "scored"] == ["no_answer"]
    assert all(row.reason_precision for row in scored if row.precision == 0)
    assert summary["measures"] == ["precision"]
    assert summary["n_missing_answers"] == summary["n_unscored"] == 1
    assert summary["similarity"]["mean"] is None
    assert graded(tmp_path / "b", 0.5) == (rows, summary)


@pytest.mark.parametrize("kind", ["paper", "noninferiority"])
def test_the_gate_asks_a_grader_for_precision_only(tmp_path: Path, kind: str) -> None:
    of = config(kind="paper", precision=90, max_unscored=1)
    of = changed(of, {"gate.kind": kind, "gate.tail": 20.0})
    inputs = {"split": write(tmp_path / "split", coverage(12))}
    for role, skill in (("evaluation", 1.0), ("baseline", 1.0)):
        graded(tmp_path / role, skill, of)
        inputs[f"{role}.exact"] = tmp_path / role / "out"
    (tmp_path / "gate").mkdir()
    gate.run(Job(of, {"round": 0, "data_size": 0}, inputs, tmp_path / "gate", tmp_path))
    summary = json.loads((tmp_path / "gate" / "summary.json").read_text())
    assert summary["decision"] == "pass", summary["reason"]
    assert "similarity" not in summary["reason"]
    (ours, _) = summary["table"]
    assert ours["measures"] == ["precision"]
    assert ours["p_match"].keys() == {"precision"}
    assert summary["screen"]["beside"] == {}
    assert summary["screen"]["missing_scores"] == 2  # the one that was never given, of both sides


def test_a_line_of_both_metrics_has_the_bytes_that_it_had() -> None:
    line = GateLine("j", "local", "tiny", {}, {}, None, 9, 0, 0, None)
    assert "measures" not in line.to_dict()
    assert measured({"judge": "j"}) == METRICS


def test_in_a_mixed_panel_each_metric_is_compared_by_those_who_measure_it() -> None:
    both = Verdict("p", "g", 0, "llm", "f", "d", "o", 0, "0-100", 80, 90, None, None, "scored")
    rule = replace(both, judge="exact", similarity=None, precision=100.0)
    sides = {"llm": [both], "exact": [rule]}
    measures = {"llm": METRICS, "exact": METRICS[1:]}
    pairs = decision.pairs_of(sides, sides, ["p"], measures)
    assert pairs["similarity"].judges.keys() == {"llm"}
    assert pairs["similarity"].missing == pairs["precision"].missing == 0
    assert pairs["precision"].judges.keys() == {"llm", "exact"}
    alone = decision.pairs_of({"exact": [rule]}, sides, ["p"], measures)
    assert alone.keys() == {"precision"}


def test_a_threshold_that_no_judge_of_the_gate_measures_is_refused() -> None:
    with pytest.raises(BadInput, match=r"gate\.similarity=90, but no judge of the gate measures"):
        config(similarity=90)
    values = asdict(composed_by_hand(judges=[service("offline")]))
    mixed = schema.build(values | {"graders": EXACT})
    assert mixed.gate_judges == ["offline", "exact"]
    with pytest.raises(BadInput, match="exact: precision only"):
        schema.build(values | {"graders": EXACT, "gate": values["gate"] | {"judges": ["exact"]}})


@pytest.mark.parametrize(
    ("graders", "said"),
    [
        ({"a": {"kind": "exat"}}, "graders.a=.*'exact', 'label'"),
        ({"a": {"kind": "exact", "ignore": ["vowels"]}}, "graders.a.ignore.0=vowels is not valid"),
        ({"exact": {"kind": "exact"}}, "graders.exact.ignore is not set"),
        ({"offline": EXACT["exact"]}, "offline is the name of a judge and of a grader"),
        ({"a": {"kind": "sql", "seconds": 1, "memory_mb": 9, "database": None}}, "a SQLite file"),
    ],
)
def test_a_grader_that_cannot_grade_is_one_sentence(graders: Any, said: str) -> None:
    values = asdict(composed_by_hand(judges=[service("offline")]))
    with pytest.raises(BadInput, match=said):
        schema.build(values | {"graders": graders})


def test_a_grader_s_leaves_and_the_contents_of_its_files_are_in_its_fingerprint(
    tmp_path: Path,
) -> None:
    def stages(path: Path, *ignore: str) -> dict[str, str]:
        values = {"kind": "json", "ignore": list(ignore), "lists": "any_order", "whole": False}
        both = {"json": values | {"schema": str(path)}, **EXACT}
        found = Flow(config(both)).round(0)
        assert found["evaluation.json"].spec.room == "cpu"
        return {name: stage.fingerprint for name, stage in found.items()}

    for name, text in (("a", "{}"), ("b", "{}"), ("c", '{"type": "object"}')):
        (tmp_path / name).write_text(text)
    first = stages(tmp_path / "a")
    assert stages(tmp_path / "b") == first
    for other in (stages(tmp_path / "c"), stages(tmp_path / "a", "case")):
        differ = {name for name in first if first[name] != other[name]}
        assert differ == {"evaluation.json", "gate"}


def test_what_a_row_expects_is_absent_where_nothing_is(tmp_path: Path) -> None:
    (row,) = coverage(1)
    assert "expected" not in row.to_dict()
    assert Coverage.from_dict(row.to_dict()) == row
    more = replace(row, expected={"test": "assert f()"})
    assert Coverage.from_dict(more.to_dict()) == more


def test_a_file_s_columns_become_what_graders_expect(
    tmp_path: Path, composed: Callable[..., Config]
) -> None:
    from understudy.data.coverage import find

    rows = [{"prompt": f"q{n}", "response": "a", "test": f"t{n}", "x": {"y": n}} for n in range(3)]
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    of = composed("coverage=file", f"coverage.path={file}", "baseline=none")
    source = replace(of.coverage, expected={"test": "test", "entry": "x.y"})
    found = find(source, "closed_qa")
    assert [pair.expected for pair in found.pairs] == [
        {"test": f"t{n}", "entry": n} for n in range(3)
    ]
    assert found.columns.unread == {}
    with pytest.raises(BadInput, match="has no column tests"):
        find(replace(source, expected={"test": "tests"}), "closed_qa")
