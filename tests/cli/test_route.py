"""`understudy route` from the outside."""

import argparse
import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from support.files import REAL, needs_real_data
from support.judged_services import run_with_baseline
from support.routing_worlds import workload, write_csv
from understudy.cli import route as cli_route
from understudy.errors import BadInput


def route(*words: str | Path) -> int:
    parser = argparse.ArgumentParser()
    cli_route.register(parser.add_subparsers(required=True))
    arguments = parser.parse_args(["route", *map(str, words)])
    return int(arguments.verb(arguments))


@pytest.mark.slow
def test_a_table_of_predictions_is_routed_within_a_budget(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "p.csv"
    table.write_text("id,a,a_cost,b,b_cost\nx,.5,.1,.9,1\ny,.8,.1,.9,1\nz,.1,.1,.9,1\n")
    assert route(table, "--budget", "2.1", "--out", tmp_path / "out") == 0
    rows = list(csv.DictReader((tmp_path / "out" / "assignment.csv").read_text().splitlines()))
    assert [(row["id"], row["llm"]) for row in rows] == [("x", "b"), ("y", "a"), ("z", "b")]
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["cost"] == pytest.approx(2.1)
    assert summary["certificate"]["gap"] == pytest.approx(0)
    assert (tmp_path / "out" / "routing.svg").stat().st_size > 5000
    said = capsys.readouterr().out
    assert "3 queries for 2.1 USD, expected accuracy 0.8667" in said
    assert "no assignment has a better accuracy than 0.866667" in said
    assert not (tmp_path / "out" / "router").exists()


@pytest.mark.slow
def test_labels_are_learnt_from_and_promise_or_say_they_cannot(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = write_csv(workload(300, labelled=0.8), tmp_path / "labels.csv")
    assert route(table, "--accuracy", "0.8", "--out", tmp_path / "out") == 0
    said = capsys.readouterr().out
    assert "promise: accuracy is at least 0.8 with 95% confidence" in said
    assert "60 queries for" in said
    band = json.loads((tmp_path / "out" / "summary.json").read_text())["band"]
    assert f"expected accuracy {band['expected']:.4f}" in said
    assert "anything to route? go: the router beats every single LLM" in said
    assert (tmp_path / "out" / "router" / "router.npz").is_file()
    assert route(table, "--accuracy", "0.99", "--out", tmp_path / "out") == 0
    said = capsys.readouterr().out
    assert "promise: cannot promise an accuracy of 0.99" in said
    assert "even without a mistake it would take 299" in said
    assert "expected accuracy" not in said
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["accuracy"] is None
    with pytest.raises(BadInput, match="60 of 300 queries have no success"):
        route(table, "--as-given", "--out", tmp_path / "out")


@pytest.mark.slow
def test_a_handful_of_labels_is_no_ground_for_an_expected_accuracy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = write_csv(workload(36, labelled=0.5), tmp_path / "labels.csv")
    assert route(table, "--learner", "logistic", "--out", tmp_path / "out") == 0
    said = capsys.readouterr().out
    assert "expected accuracy" not in said
    assert "realised accuracy: not known" in said
    assert "anything to route? open: 9 groups of labelled queries say nothing" in said
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (summary["accuracy"], summary["band"]) == (None, None)
    assert "plan" not in summary["picture"]


@pytest.mark.slow
def test_hindsight_is_called_hindsight(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = write_csv(workload(20), tmp_path / "labels.csv")
    route(table, "--as-given", "--out", tmp_path / "out")
    assert "this is hindsight" in capsys.readouterr().err


@pytest.mark.slow
def test_runs_become_a_router_between_local_model_and_service(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_with_baseline(tmp_path / "runs" / "rehearsal")
    words = (run.parent, "--price-of", "offline=1/2", "--out", tmp_path / "out")
    assert route(*words) == 0
    said = capsys.readouterr()
    assert "REHEARSAL" in said.out
    assert "1 of 3 prompts lack some model's score" in said.err
    router = json.loads((tmp_path / "out" / "router" / "router.json").read_text())
    assert router["llms"] == ["offline", "tiny"]
    assert router["facts"]["rehearsal"] is True
    named = ("demo", "--root", tmp_path / "runs", "--price-of", "offline=1/2")
    assert route(*named, "--out", tmp_path / "out") == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["t.csv", "u.csv"], "give one file, or runs"),
        (["t.csv", "--price-of", "a=1/1"], "--price-of is for runs"),
        (["nowhere", "--root", "."], "no run 'nowhere'"),
        (["nowhere.csv"], "nowhere.csv does not exist"),
        (["t.csv", "experiment=routing/logpai"], "give data or runs, or KEY=VALUE"),
        (["experiment=routing/logpai"], "routing.data is not set"),
        (["experiment=routing/mnist"], "Could not find 'experiment/routing/mnist'"),
        (["t.csv", "--budget", "0.001"], "a budget of 0.001 USD is below"),
        (["t.csv", "--budget", "nan"], "a budget of nan USD"),
        (["t.csv", "--solver", "optllm"], "serves a budget or an accuracy, not a knee"),
        (["t.csv", "--seed", "-1"], "--seed=-1 is no seed"),
        (["t.csv", "--price", "-1"], "a price of -1"),
        (["t.csv", "--accuracy", "1.5"], "an accuracy of 1.5 is above"),
    ],
)
def test_an_odd_command_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("t.csv", "u.csv"):
        Path(name).write_text("a,a_cost,b,b_cost\n.5,1,.9,2\n")
    with pytest.raises(BadInput) as error:
        route(*words)
    assert said in str(error.value)


def test_one_query_and_one_llm_are_routed(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,a_cost\n0,0\n")
    assert route(tmp_path / "t.csv", "--out", tmp_path / "out") == 0
    text = (tmp_path / "out" / "assignment.csv").read_text()
    assert text == "id,llm,expected_success,expected_usd\n0,a,0,0\n"


def test_help_names_the_formats_and_starts_fast() -> None:
    code = (
        "import argparse; from understudy.cli import route\n"
        "p = argparse.ArgumentParser(); route.register(p.add_subparsers())\n"
        "import sys; print(sorted({'numpy', 'sklearn', 'pandas', 'hydra'} & set(sys.modules)))\n"
        "p.parse_args(['route', '--help'])"
    )
    environment = os.environ | {"COLUMNS": "100"}
    said = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    ).stdout
    assert said.startswith("[]\n")
    assert "NAME_cost" in said
    assert "understudy route labels.csv --accuracy 0.9" in said


@pytest.mark.slow
@needs_real_data
def test_a_published_table_is_printed_beside_ours(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(str(REAL)) / "routing"
    words = [f"routing.data={folder}", "routing.seeds.ours=2", "routing.seeds.published=0"]
    words += ["routing.seeds.knn=1", "routing.seeds.clusters=1"]
    assert route("experiment=routing/overruling", *words, "--out", tmp_path) == 0
    said = capsys.readouterr().out
    assert "| random | zero router | 0 | gpt-4 (0.95" in said
    assert "| random | ours | 22 |" in said
    assert "unseen line does not apply: each line occurs once" in said
    for suffix in ("csv", "md", "tex", "json", "svg"):
        assert (tmp_path / f"overruling.{suffix}").stat().st_size > 100
    document = json.loads((tmp_path / "overruling.json").read_text())
    assert len(document["rows"]) == 4
    latex = (tmp_path / "overruling.tex").read_text()
    assert r"\toprule" in latex
    assert np.isfinite(document["lines"][1]["gain"])
