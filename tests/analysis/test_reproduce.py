"""The published schema, the published values, and drift from what was committed to."""

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from support.analysis import module
from understudy import locations
from understudy.errors import BadInput

REFERENCE = locations.shared("analysis") / "reference"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The project's own set in the published schema."""
    paths = module("made_set").write(tmp_path_factory.mktemp("made"))
    return [str(path) for path in paths]


@pytest.fixture(scope="module")
def built(made: list[str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """Everything built from it."""
    out = tmp_path_factory.mktemp("out")
    data = module("sources").load(made, Path("runs"))
    module("reproduce").build(data, out)
    return data, out


def test_the_made_up_set_has_the_published_columns(made: list[str]) -> None:
    columns = list(json.loads(Path(made[0]).read_text().splitlines()[0]))
    assert columns == [
        *("instructions", "target_responses", "candidate_responses", "model_id", "model_sha"),
        *("eval_prompts", "similarity_scores", "precision_scores", "evaluators", "dates"),
    ]


def test_published_names_say_model_task_teacher_and_size() -> None:
    said = module("sources").generator("llama-duo/gemma7b-summarize-gemini1_5flash-64k")
    assert said == ("gemma-7b", "summarization", "gemini-1.5-flash", 64000)
    assert module("sources").generator("gpt-4o")[:3] == ("gpt-4o", None, None)


@pytest.mark.slow
def test_the_set_runs_through_every_table_and_figure(built: tuple[Any, Path]) -> None:
    names = {path.name for path in built[1].iterdir()}
    assert {"table_main.tex", "table_agreement.md", "fig_judges.pdf", "fig_cost.png"} <= names
    assert {"fig_kde_coding.pdf", "fig_scaling_summarization_precision.pdf"} <= names


@pytest.mark.slow
def test_means_of_published_rows_are_those_of_the_file(
    made: list[str], built: tuple[Any, Path]
) -> None:
    rows = pd.concat([pd.read_json(path, lines=True) for path in made])
    table = pd.read_csv(built[1] / "table_main.csv")
    wanted = rows[
        (rows["model_id"] == "rehearsal/gemma7b-coding-gpt4o-100k")
        & (rows["evaluators"] == "gemini-1.5-flash-001")
    ]["precision_scores"].mean()
    row = table[
        (table["task"] == "coding")
        & (table["model"] == "gemma-7b")
        & (table["judge"] == "gemini-1.5-flash")
    ]
    assert row["precision.mean.mean"].tolist() == pytest.approx([wanted])
    assert row["service"].tolist() == ["gpt-4o"]


@pytest.mark.slow
def test_planted_leniency_of_judges_is_in_the_judge_table(built: tuple[Any, Path]) -> None:
    table = pd.read_csv(built[1] / "table_judges.csv")
    part = table[(table["task"] == "coding") & (table["metric"] == "similarity")]
    lenient = part.set_index("judge")["leniency.mean"]
    assert lenient["claude-3-sonnet"] - lenient["gemini-1.5-flash"] == pytest.approx(10, abs=1)


@pytest.mark.slow
def test_nothing_drifts_from_the_committed_expectations(built: tuple[Any, Path]) -> None:
    data, out = built
    table = module("reproduce").compare(data, out, module("cells").EXPECTED)
    assert set(table["expected_says"]) - {""} == {"same"}
    assert (table["expected_says"] == "same").sum() > 400


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "name"), [(3, "value"), (200, "low"), (400, "high"), (800, "value"), (1700, "value")]
)
def test_one_perturbed_expectation_turns_exactly_its_cell_red(
    line: int,
    name: str,
    built: tuple[Any, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data, out = built
    old = module("cells").expected(module("cells").EXPECTED)
    place = old.index[line]
    old.loc[place, name] = old.loc[place, name] * 1.01 + 1
    changed = tmp_path / "expected.csv"
    module("cells").commit(old, changed)
    reproduce = module("reproduce")
    table = reproduce.compare(data, out, changed)
    red = table[[reproduce.is_red(row) for row in table.to_dict("records")]]
    assert len(red) == 1
    key = red.iloc[0][module("cells").KEY].tolist()
    assert key == old.loc[place, module("cells").KEY].tolist()
    text = (out / "table_reproduction.tex").read_text()
    numbers = {row.partition(" &")[0] for row in text.splitlines() if "textcolor{red}" in row}
    assert len(numbers) == 1  # of the row, whose columns go on in tables below
    reproduce.say(table)
    assert capsys.readouterr().out.count("drift: ") == 1


@pytest.mark.slow
def test_the_command_exits_with_1_on_drift_and_0_without(made: list[str], tmp_path: Path) -> None:
    rows = Path(made[1]).read_text().splitlines()
    chosen = [row for row in rows if "gpt4o-100k" in row or '"rehearsal/gpt4o"' in row]
    source, expected = tmp_path / "coding-eval.jsonl", tmp_path / "expected.csv"
    source.write_text("\n".join(chosen) + "\n")
    main = module("reproduce").main
    arguments = [str(source), "--out", str(tmp_path / "out"), "--expected", str(expected)]
    assert main(arguments) == 2  # there are no expectations yet
    assert main([*arguments, "--accept"]) == 0
    committed = expected.read_text()
    expected.write_text("")
    assert main(arguments) == 1
    expected.write_text(committed)
    assert main(arguments) == 0


@pytest.mark.slow
@pytest.mark.parametrize("change", ["missing", "new"])
def test_a_cell_that_is_expected_no_longer_or_in_vain_is_red(
    change: str, built: tuple[Any, Path], tmp_path: Path
) -> None:
    lines = module("cells").EXPECTED.read_text().splitlines(keepends=True)
    changed = tmp_path / "expected.csv"
    added = lines[7].replace("Table 1", "Table 9")
    changed.write_text("".join(lines[:7] + lines[8:] if change == "missing" else [*lines, added]))
    reproduce = module("reproduce")
    table = reproduce.compare(*built, changed)
    assert sum(map(reproduce.is_red, table.to_dict("records"))) == 1


@pytest.mark.slow
def test_a_perturbed_score_turns_only_cells_of_its_model_and_judge_red(
    made: list[str], tmp_path: Path
) -> None:
    rows = [json.loads(line) for line in Path(made[1]).read_text().splitlines()]
    place = next(n for n, row in enumerate(rows) if "gemma2b" in row["model_id"])
    rows[place]["precision_scores"] -= 30
    source = tmp_path / "coding-eval.jsonl"
    source.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    cells, data = module("cells"), module("sources").load([str(source)], tmp_path)
    module("table_main").build(data, tmp_path)
    old = cells.expected(cells.EXPECTED)
    old = old[(old["place"] == "Table 1") & (old["task"] == "coding")]
    table = cells.compare(cells.ours(tmp_path), cells.published(), old)
    red = table[table["expected_says"] == "drift"]
    assert set(red["model"]) == {"gemma-2b"}
    assert set(red["judge"]) == {module("labels").canonical(rows[place]["evaluators"])}
    assert set(red["metric"]) == {"precision"}


def test_no_published_number_is_without_source_and_certainty() -> None:
    with (REFERENCE / "published.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    known = [row for row in rows if row["value"]]
    assert len(known) == len(rows)
    for row in known:
        assert row["source"], f"{row} has no source"
        assert row["certainty"] in ("primary", "secondary", "computed", "inferred")


def test_no_cost_assumption_is_without_source() -> None:
    with (REFERENCE / "costs.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert all(row["source"] and row["unit"] for row in rows)


def test_the_committed_assumptions_give_the_published_costs() -> None:
    costs = module("costs")
    found = costs.assumptions()
    light, heavy = (costs.cost(found, workload) for workload in costs.WORKLOADS)
    assert [round(float(one.service[-1])) for one in (light, heavy)] == [23_400, 117_000]
    assert [round(float(one.local[-1])) for one in (light, heavy)] == [3_699, 23_992]
    assert light.low < light.break_even < light.high
    assert light.break_even == pytest.approx(1.74, abs=0.005)
    assert heavy.break_even == pytest.approx(2.22, abs=0.005)


def test_a_service_cheaper_than_electricity_is_never_left() -> None:
    costs = module("costs")
    one = costs.cost(costs.assumptions(["requests_per_day=0"]), "light")
    assert one.break_even == one.low == one.high == float("inf")


def test_agreement_is_said_of_real_comparisons_only() -> None:
    says = module("cells")._against_published
    row = {"place": "Table 1", "value": 80.0, "low": 75.0, "high": 85.0}
    assert says(row | {"published": 85.004}, "runs") == "differs"
    assert says(row | {"high": 84.996, "published": 85.0}, "runs") == "agrees"
    assert says(row | {"published": 80.4}, "released") == "outside"
    assert says(row | {"published": 80.0}, "released") == "agrees"
    assert says(row | {"published": 80.0}, "made up") == "made up"
    assert says(row | {"place": "Table 2", "published": 80.0}, "runs") == "derived"
    nan = float("nan")
    assert says(dict.fromkeys(row, nan) | {"published": 85.0}, "runs") == "not ours"


def test_a_file_that_does_not_say_its_task_is_refused(made: list[str], tmp_path: Path) -> None:
    rows = [json.loads(line) for line in Path(made[1]).read_text().splitlines()]
    source = tmp_path / "answers.jsonl"
    kept = [row for row in rows if row["model_id"] == "rehearsal/gpt4o"]
    source.write_text("".join(f"{json.dumps(row)}\n" for row in kept))
    sources = module("sources")
    with pytest.raises(BadInput, match="give TASK="):
        sources.of_set(str(source))
    assert sources.of_set(f"coding={source}")[0].system.task == "coding"


@pytest.mark.slow
def test_the_module_reproduces_the_committed_expectations_in_a_process_of_its_own(
    tmp_path: Path,
) -> None:
    checkout = Path(__file__).parents[2]
    command = [sys.executable, "-m", "analysis.reproduce", "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "drift" not in done.stdout
