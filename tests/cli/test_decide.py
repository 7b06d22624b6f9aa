"""`understudy decide`: reads the judged holdout of a run, records the look, exits 0 or 1."""

import json
from pathlib import Path
from typing import Any

import pytest

from support.holdouts import COMMAND, decide, looks_of, made
from understudy.errors import BadInput


def test_as_good_on_the_holdout_migrates_with_exit_code_0(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_json = made(tmp_path, -1.0)
    assert decide(tmp_path) == 0
    said = capsys.readouterr().out
    assert said.startswith("MIGRATE: local - service is")
    assert "80 prompts (0 missing), look 1, one-sided level 0.0375" in said
    written = json.loads((run_json.parent / "decision.json").read_text())
    assert written["decision"] == "MIGRATE"
    assert written["difference"]["clusters"] == 80
    assert written["beside"].keys() == {"similarity"}
    assert written["holdout"] == json.loads(run_json.read_text())["holdout"]


def test_worse_on_the_holdout_does_not_with_exit_code_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made(tmp_path, -9.0)
    assert decide(tmp_path) == 1
    assert capsys.readouterr().out.startswith("NOT YET")


def test_few_prompts_are_inconclusive_and_it_says_how_many_more(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made(tmp_path, 0.0, prompts=40)
    assert decide(tmp_path) == 1
    said = capsys.readouterr().out
    assert said.startswith("INCONCLUSIVE")
    assert "about 10 more prompts would decide it" in said


def test_another_model_on_the_same_holdout_is_the_second_look(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [str(made(tmp_path, difference)) for difference in (-1.0, -2.0)]
    for run in (*runs, runs[0]):
        decide(tmp_path, run)
    assert looks_of(capsys.readouterr().out) == [1, 2, 1]


def test_another_margin_counts_as_a_look(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made(tmp_path, -6.0)
    assert decide(tmp_path) == 1
    assert decide(tmp_path, "--margin", "10") == 0
    assert "look 2" in capsys.readouterr().out


def test_a_holdout_that_grows_is_looked_at_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for prompts in (60, 61, 120, 60):
        decide(tmp_path, str(made(tmp_path, 0.0, prompts=prompts)))
    assert looks_of(capsys.readouterr().out) == [1, 2, 3, 1]


def test_another_panel_looks_again_and_another_task_for_the_first_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for judge, task in (("j", "closed_qa"), ("i", "closed_qa"), ("j", "coding")):
        decide(tmp_path, str(made(tmp_path, 0.0, judge=judge, task=task)))
    assert looks_of(capsys.readouterr().out) == [1, 2, 1]


def test_a_judge_of_the_services_family_is_warned_about(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made(tmp_path, 0.0, judge_family="openai")
    decide(tmp_path)
    assert "warning: judge j is of the family openai, as is the service gpt" in (
        capsys.readouterr().out
    )


def change(run_json: Path, **changed: Any) -> None:
    run_json.write_text(json.dumps(json.loads(run_json.read_text()) | changed))


def test_a_second_criterion_that_was_not_measured_stops_a_migration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_json = made(tmp_path, -1.0)
    config = json.loads(run_json.read_text())["config"]
    change(run_json, config=config | {"gate": {"kind": "paper", "p95_s": 2.0}})
    assert decide(tmp_path) == 1
    said = capsys.readouterr().out.splitlines()[0]
    assert said.startswith("NOT YET: local - service is")
    assert said.endswith("local latency was not measured: gate.p95_s=2.")
    written = json.loads((run_json.parent / "decision.json").read_text())
    assert written["serving"] == {"local": None, "service": None, "pays": None}


def test_a_run_that_passed_no_round_is_not_ready_and_nothing_is_looked_at(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_json = made(tmp_path, 0.0)
    change(run_json, decision={"passed": False, "round": None, "reason": "Short."})
    assert decide(tmp_path) == 1
    assert capsys.readouterr().out.startswith("NOT YET: no round passed on the test split")
    assert not (tmp_path / "looks").exists()


def test_a_holdout_that_is_not_judged_is_bad_input_and_no_look(tmp_path: Path) -> None:
    run_json = made(tmp_path, 0.0)
    next(tmp_path.glob("evaluation/local*/DONE")).unlink()
    with pytest.raises(BadInput, match=f"not finished evaluation.j on the holdout.*{COMMAND}"):
        decide(tmp_path)
    change(run_json, holdout=None)
    with pytest.raises(BadInput, match="no judged holdout"):
        decide(tmp_path)
    assert not (tmp_path / "looks").exists()


@pytest.mark.parametrize(("option", "value"), [("--margin", "0"), ("--alpha", "0.9")])
def test_a_margin_or_alpha_that_makes_no_sense_is_bad_input(
    tmp_path: Path, option: str, value: str
) -> None:
    made(tmp_path, 0.0)
    with pytest.raises(BadInput, match=option.removeprefix("--")):
        decide(tmp_path, option, value)


def test_clusters_stand_beside_prompts_and_the_level_says_for_whom_it_holds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made(tmp_path, 0.0)
    assert decide(tmp_path) == 0
    said = capsys.readouterr().out
    assert "80 clusters hold 80 prompts" in said
    assert "the level holds for this panel of judges" in said


def test_one_judge_is_no_sample_of_judges_and_asking_so_is_another_look(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made(tmp_path, 0.0)
    assert decide(tmp_path) == 0
    assert decide(tmp_path, "--judges", "random") == 1
    said = capsys.readouterr().out
    assert "One judge is no sample" in said
    assert "look 2" in said


def test_a_tail_is_a_second_criterion(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made(tmp_path, -4.0)  # 76 to 86 points, so all answers stay at 70 or more
    assert decide(tmp_path, "--tail", "7", "--margin", "10") == 0
    assert "coverage@70: " in capsys.readouterr().out
    with pytest.raises(BadInput, match="tail=0"):
        decide(tmp_path, "--tail", "0")


def test_the_gates_tail_is_asked_for_unless_the_command_names_another(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_json = made(tmp_path, -4.0)
    config = json.loads(run_json.read_text())["config"]
    change(run_json, config=config | {"gate": {"kind": "paper", "margin": 10.0, "tail": 0.5}})
    assert decide(tmp_path) == 1  # 80 prompts without a loss do not exclude one in 200
    said = capsys.readouterr().out
    assert "but coverage@70 is +0.00 points, at least -" in said.splitlines()[0]
    assert decide(tmp_path, "--tail", "9") == 0
    assert "look 2" in capsys.readouterr().out


def test_a_run_where_coverage_falls_by_more_than_the_tail_is_not_ready(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made(tmp_path, -20.0)  # 60 to 70 points, so next to no answer reaches 70
    assert decide(tmp_path, "--margin", "40", "--tail", "5") == 1
    first = capsys.readouterr().out.splitlines()[0]
    assert first.startswith("NOT YET: local - service is")
    assert first.endswith("< -5.")


def test_what_the_looks_so_far_have_spent_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for margin in ("5", "6", "7"):
        made(tmp_path, 0.0)
        decide(tmp_path, "--margin", margin)
    said = capsys.readouterr().out
    assert "look 3, one-sided level 0.00208333" in said
    assert "(all looks so far have 0.0458 of alpha 0.05)" in said


def test_two_sides_that_may_be_on_another_scale_do_not_migrate(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_json = made(tmp_path, 0.0)
    run = json.loads(run_json.read_text())
    for role, path in run["holdout"]["stages"].items():
        if "." in role:
            rows = run_json.parents[2] / path / "out/rows.jsonl"
            verdicts = [json.loads(line) for line in rows.read_text().splitlines()]
            for one in verdicts:
                one["similarity"], one["precision"] = one["similarity"] / 10, one["precision"] / 10
            rows.write_text("".join(json.dumps(one) + "\n" for one in verdicts))
    assert decide(tmp_path) == 1
    said = capsys.readouterr().out
    assert said.startswith("INCONCLUSIVE")
    assert "gave neither side more than a tenth of its scale" in said
