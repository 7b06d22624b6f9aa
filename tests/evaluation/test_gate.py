"""The gate: pass or fail with a reason, and the table that says how it came about."""

import json
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.evaluations import answers_to, config, coverage, job, service, verdict, write
from understudy.config import Config, GateConfig, changed
from understudy.evaluation import gate, judge
from understudy.evaluation.gate import GateLine, RoundDecision, decide
from understudy.evaluation.scores import summarize
from understudy.records import Answer, Coverage
from understudy.store.artifacts import Job

PAPER = GateConfig(
    kind="paper",
    similarity=70,
    precision=85,
    judges=None,
    sd=15,
    icc=0.5,
    p95_s=None,
    refusals=None,
    floor=None,
    rho=0.7,
    rent_usd=None,
)


def line(
    judge_name: str,
    similarity: float | None,
    precision: float | None,
    role: Literal["local", "baseline"] = "local",
) -> GateLine:
    rest = {"rule": None, "n_prompts": 9, "n_unscored": 0, "n_missing_answers": 0, "p_match": None}
    return GateLine(judge_name, role, "tiny", {"mean": similarity}, {"mean": precision}, **rest)


def test_a_round_passes_when_both_means_reach_their_thresholds() -> None:
    assert decide(PAPER, [line("offline", 70.0, 91.239)]) == RoundDecision(
        "pass",
        "All means reach their thresholds: "
        "offline similarity 70.00 >= 70; offline precision 91.23 >= 85.",
    )


def test_one_short_mean_of_one_judge_fails_the_round_and_the_reason_names_it() -> None:
    table = [line("lenient", 99.0, 99.0), line("strict", 88.0, 84.9999)]
    assert decide(PAPER, table) == RoundDecision(
        "fail", "Short of the thresholds: strict precision 84.99 < 85."
    )


def test_a_missing_mean_fails_with_that_reason() -> None:
    assert decide(PAPER, [line("offline", None, 99.0)]) == RoundDecision(
        "fail",
        "Short of the thresholds: offline similarity is missing: no verdict could be scored.",
    )


def test_the_baselines_scores_do_not_decide() -> None:
    table = [line("offline", 90.0, 90.0), line("offline", 1.0, None, role="baseline")]
    assert decide(PAPER, table).decision == "pass"


MEANS = st.none() | st.floats(0, 100)


@settings(deadline=None)
@given(st.lists(st.tuples(MEANS, MEANS), min_size=1, max_size=4))
def test_a_round_passes_if_and_only_if_every_mean_is_there_and_high_enough(
    means: list[tuple[float | None, float | None]],
) -> None:
    table = [line(f"judge{n}", *pair) for n, pair in enumerate(means)]
    good = all(
        s is not None and s >= PAPER.similarity and p is not None and p >= PAPER.precision
        for s, p in means
    )
    assert decide(PAPER, table).decision == ("pass" if good else "fail")


def evaluated(path: Path, of: Config, name: str, rows: list[Coverage], by: list[Answer]) -> Path:
    """The out/ of a real evaluation of these answers."""
    work = job(path, of, rows, by)
    work.params["judge"] = name
    judge.run(work)
    return work.out


def gate_job(tmp_path: Path, of: Config, skill: float, baseline: bool) -> tuple[Job, Any]:
    """Run the gate on real evaluations of a local model with this skill; its summary too."""
    rows = coverage(8)
    inputs = {"split": write(tmp_path / "split", rows)}
    roles = {"evaluation": skill, **({"baseline": 1.0} if baseline else {})}
    for role, how_good in roles.items():
        for name in of.judges:
            answers = answers_to(rows, k=1, skill=how_good)
            path = tmp_path / role / name
            inputs[f"{role}.{name}"] = evaluated(path, of, name, rows, answers)
    out = tmp_path / "gate"
    out.mkdir()
    work = Job(of, {"round": 1, "data_size": 250}, inputs, out, tmp_path)
    gate.run(work)
    return work, json.loads((out / "summary.json").read_text())


PANEL = [service("offline"), service("offline_strict", bias={"offset": -8.0})]


@pytest.mark.slow
def test_the_stage_writes_the_decision_and_a_line_per_judge_and_role(tmp_path: Path) -> None:
    work, summary = gate_job(tmp_path, config(m=1, judges=PANEL), skill=0.5, baseline=True)
    keys = ["kind", "decision", "reason", "thresholds", "round", "data_size", "table"]
    assert list(summary) == keys
    assert (summary["decision"], summary["round"], summary["data_size"]) == ("fail", 1, 250)
    assert summary["thresholds"] == {"similarity": 90, "precision": 90}
    assert [(row["judge"], row["role"]) for row in summary["table"]] == [
        ("offline", "local"),
        ("offline", "baseline"),
        ("offline_strict", "local"),
        ("offline_strict", "baseline"),
    ]
    for row in summary["table"]:
        role = {"local": "evaluation", "baseline": "baseline"}[row["role"]]
        measured = work.summary(f"{role}.{row['judge']}")
        for key in ("similarity", "precision", "rule", "n_prompts", "n_unscored", "generator"):
            assert row[key] == measured[key]


def test_p_match_is_the_local_mean_over_the_services(tmp_path: Path) -> None:
    _, summary = gate_job(tmp_path, config(m=1), skill=0.5, baseline=True)
    local, baseline = summary["table"]
    assert baseline["p_match"] is None
    for metric in ("similarity", "precision"):
        match = local["p_match"][metric]
        expected = 100 * local[metric]["mean"] / baseline[metric]["mean"]
        assert match["value"] == pytest.approx(expected)
        assert match["low"] <= match["value"] <= match["high"]


def test_without_a_baseline_p_match_is_missing(tmp_path: Path) -> None:
    of = config(m=1, judges=[service("offline")])
    _, summary = gate_job(tmp_path, of, skill=1.0, baseline=False)
    assert summary["decision"] == "pass"
    assert [row["p_match"] for row in summary["table"]] == [None]


def test_only_the_gates_judges_decide(tmp_path: Path) -> None:
    of = config(m=1, judges=[PANEL[0], service("offline_strict", bias={"ceiling": 10.0})])
    of = changed(of, {"gate.judges": ["offline"]})
    _, summary = gate_job(tmp_path, of, skill=1.0, baseline=False)
    assert [row["judge"] for row in summary["table"]] == ["offline"]
    assert summary["decision"] == "pass"


def test_a_local_model_without_a_single_score_fails_and_has_no_p_match(tmp_path: Path) -> None:
    rows = coverage(2)
    short = config(m=1, judges=[service("offline", max_output_tokens=10)])
    fine = config(m=1, judges=[service("offline")])
    answers = answers_to(rows, k=1)
    inputs = {
        "split": write(tmp_path / "split", rows),
        "evaluation.offline": evaluated(tmp_path / "local", short, "offline", rows, answers),
        "baseline.offline": evaluated(tmp_path / "baseline", fine, "offline", rows, answers),
    }
    out = tmp_path / "gate"
    out.mkdir()
    work = Job(fine, {"round": 0, "data_size": 0}, inputs, out, tmp_path)
    gate.run(work)
    summary = json.loads((out / "summary.json").read_text())
    assert summary["decision"] == "fail"
    assert "offline precision is missing" in summary["reason"]
    nothing = {"value": None, "low": None, "high": None, "form": None}
    assert summary["table"][0]["p_match"] == {"similarity": nothing, "precision": nothing}
    assert summary["table"][0]["n_missing_answers"] == 2


@pytest.mark.slow
def test_the_noninferiority_gate_compares_with_the_service_on_the_test_split(
    tmp_path: Path,
) -> None:
    for skill, word in ((1.0, "pass"), (0.0, "fail")):
        of = config(m=1, judges=PANEL)
        of = changed(of, {"gate.kind": "noninferiority"})
        _, summary = gate_job(tmp_path / word, of, skill=skill, baseline=True)
        assert summary["decision"] == word
        assert summary["reason"].startswith("On the test split, local - service is")
        assert summary["screen"]["judges"].keys() == {"offline", "offline_strict"}
        assert summary["screen"]["prompts"] == 8


def verdicts_of(path: Path, role: str, scores: list[float | None]) -> Path:
    """The out/ of an evaluation with one verdict a prompt; None where the judge says N/A."""
    generator = "tiny" if role == "evaluation" else "service"
    rows = [verdict(f"p{n}", 0, 0, score, generator) for n, score in enumerate(scores)]
    answers = [
        Answer(f"p{n}", f"p{n}", 0, "text", 1, "stop", generator, "f") for n in range(len(scores))
    ]
    write(path, rows)
    summary = summarize(answers, rows) | {"generator": generator, "rule": None}
    (path / "summary.json").write_text(json.dumps(summary))
    return path


def gated(
    path: Path,
    local: list[float | None],
    service_scores: list[float | None] | None = None,
    **gate_values: Any,
) -> dict[str, Any]:
    """The gate's summary on these scores; the service has 95 unless scores are given."""
    of = changed(config(judges=[service("j")]), {f"gate.{k}": v for k, v in gate_values.items()})
    message = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}]
    rows = [Coverage(f"p{n}", f"p{n}", message, "t", None, "s", "test") for n in range(len(local))]
    inputs = {
        "split": write(path / "split", rows),
        "evaluation.j": verdicts_of(path / "local", "evaluation", local),
        "baseline.j": verdicts_of(
            path / "service", "baseline", service_scores or [95.0] * len(local)
        ),
    }
    out = path / "gate"
    out.mkdir()
    gate.run(Job(of, {"round": 0, "data_size": 0}, inputs, out, path))
    summary: dict[str, Any] = json.loads((out / "summary.json").read_text())
    return summary


N_A: list[float | None] = [None] * 40 + [95.0] * 6  # a judge that scored 6 of 46 answers


@pytest.mark.parametrize("kind", ["paper", "noninferiority"])
def test_too_few_scores_pass_no_round(tmp_path: Path, kind: str) -> None:
    found = gated(tmp_path, N_A, kind=kind, max_unscored=0.02)
    assert found["decision"] == "fail"
    assert found["reason"].startswith("Too few scores: j left 40 of 46 verdicts on tiny unscored")
    assert "40 not_json" in found["reason"]
    assert "With these at their worst: " in found["reason"]


def test_the_papers_gate_leaves_out_what_is_unscored(tmp_path: Path) -> None:
    found = gated(tmp_path, N_A, kind="paper", max_unscored=1)
    assert found["decision"] == "pass"


@pytest.mark.parametrize("kind", ["paper", "noninferiority"])
def test_a_few_unscored_verdicts_pass_where_they_are_few_enough_or_turn_nothing(
    tmp_path: Path, kind: str
) -> None:
    scores: list[float | None] = [None] + [95.0] * 45
    assert gated(tmp_path / "few", scores, kind=kind, max_unscored=0.03)["decision"] == "pass"
    harmless = gated(tmp_path / "worst", scores, kind=kind, max_unscored=0, margin=20)
    assert harmless["decision"] == "pass"
    assert harmless["reason"].endswith("(1 not_json): it passes at their worst, too.")


def test_a_round_that_is_short_anyway_is_short_for_that_reason(tmp_path: Path) -> None:
    found = gated(tmp_path, [None] * 40 + [50.0] * 6, kind="paper", max_unscored=0.02)
    assert found["reason"].startswith("Short of the thresholds: j similarity 50.00 < 90")


def test_what_is_unscored_of_the_service_counts_for_the_screen(tmp_path: Path) -> None:
    found = gated(
        tmp_path, [95.0] * 46, service_scores=N_A, kind="noninferiority", max_unscored=0.02
    )
    assert found["decision"] == "pass"  # the local model has 95 where the service might have 100
    found = gated(
        tmp_path / "b",
        [90.0] * 46,
        service_scores=[None] * 40 + [90.0] * 6,
        kind="noninferiority",
        max_unscored=0.02,
    )
    assert found["reason"].startswith("Too few scores: j left 40 of 46 verdicts on service")


HALF_BAD: list[float | None] = [95.0] * 40 + [60.0] * 6  # 13 % of the answers fall below 70


@pytest.mark.parametrize("kind", ["paper", "noninferiority"])
def test_a_tail_is_a_second_criterion_of_a_round(tmp_path: Path, kind: str) -> None:
    bar = {"kind": kind, "similarity": 80, "precision": 80, "margin": 30}
    assert gated(tmp_path / "none", HALF_BAD, **bar)["decision"] == "pass"
    found = gated(tmp_path / "tail", HALF_BAD, **bar, tail=10.0)
    assert found["decision"] == "fail"
    assert "coverage@70" in found["reason"].lower()
    assert "-13.04 points" in found["reason"]
    assert found["screen"]["tail"]["margin"] == 10.0
    assert gated(tmp_path / "wide", HALF_BAD, **bar, tail=40.0)["decision"] == "pass"


def test_what_is_unscored_is_at_its_worst_in_the_tail_too(tmp_path: Path) -> None:
    scores: list[float | None] = [95.0] * 40 + [None] * 6
    bar = {"kind": "paper", "similarity": 50, "precision": 50, "tail": 10.0}
    assert gated(tmp_path / "few", scores, **bar, max_unscored=0.2)["decision"] == "pass"
    found = gated(tmp_path / "many", scores, **bar, max_unscored=0.02)
    assert found["reason"].startswith("Too few scores: j left 6 of 46 verdicts on tiny unscored")
    assert "Coverage@70" in found["reason"]


def test_two_sides_that_may_be_on_another_scale_pass_no_screen(tmp_path: Path) -> None:
    low: list[float | None] = [8.0] * 45 + [7.0]
    found = gated(tmp_path / "low", low, service_scores=low, kind="noninferiority")
    assert found["decision"] == "fail"
    assert "But judge j gave neither side more than a tenth of its scale" in found["reason"]
    fine = [80.0 + (score or 0) for score in low]
    found = gated(tmp_path / "fine", [*fine], service_scores=[*fine], kind="noninferiority")
    assert found["decision"] == "pass"
