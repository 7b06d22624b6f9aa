"""Tables and figures from runs of ours: the numbers are those of the stages."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from support import judged_runs
from support.analysis import module
from understudy.errors import BadInput
from understudy.evaluation import gate
from understudy.evaluation.scores import METRICS, Metric, pool, summarize
from understudy.records import Answer, Verdict, read_rows
from understudy.store.artifacts import StageDir
from understudy.sweep.record import CellRecord, SweepRecord

SIZES = [0, 250, 1000, 4000]
COMMANDS = [
    *("table_main", "fig_scaling", "fig_kde", "table_cost", "fig_cost", "judges", "fig_rounds"),
    *("table_differences", "table_bridge"),
]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    judged_runs.write(root, SIZES, prompts=12, microusd_per_row=2000)
    return root


@pytest.fixture(scope="module")
def data(root: Path) -> Any:
    return module("sources").load(["big"], root)


@pytest.mark.slow
def test_every_number_of_table_1_is_the_one_the_evaluation_stage_would_write(
    root: Path, data: Any
) -> None:
    table = module("scores").table(data).set_index(["data_size", "judge"])
    for place, size in enumerate(SIZES, 1):
        for judge in judged_runs.JUDGES:
            path = StageDir(root / f"evaluation/e{place}-{judge}").out / "rows.jsonl"
            verdicts = list(read_rows(path, Verdict))
            answers = list(read_rows(root / f"inference/i{place}/out/rows.jsonl", Answer))
            summary = summarize(answers, verdicts)
            row = table.loc[(size, judge)]
            for metric in METRICS:
                for part in ("mean", "low", "high"):
                    assert row[f"{metric}.mean.{part}"] == pytest.approx(summary[metric][part])
                assert row[f"{metric}.coverage@70.mean"] == pytest.approx(
                    100 * summary[metric]["coverage@70"]
                )


@pytest.mark.slow
def test_the_ratio_to_the_service_is_that_of_the_gate(root: Path, data: Any) -> None:
    table = module("scores").table(data).set_index(["data_size", "judge"])
    sides = [
        list(read_rows(root / f"evaluation/e{place}-gpt-4o/out/rows.jsonl", Verdict))
        for place in (4, 0)
    ]
    groups = {verdict.prompt_id: verdict.prompt_id for verdict in sides[0]}
    wanted = gate.p_match(*sides, groups)["precision"]
    row = table.loc[(4000, "gpt-4o")]
    found = [row[f"precision.service_ratio.{part}"] for part in ("mean", "low", "high")]
    assert found == pytest.approx([wanted["value"], wanted["low"], wanted["high"]])


@pytest.mark.slow
def test_p_match_is_the_best_local_over_the_best_service_of_each_column(data: Any) -> None:
    scores = module("scores")
    table, matches = scores.table(data), scores.p_matches(data)
    columns = matches.to_dict("records")
    assert len(columns) == len(judged_runs.JUDGES) * len(METRICS) * len(scores.STATISTICS)
    for row in columns:
        column = table[table["judge"] == row["judge"]]
        best = column.groupby("role")[f"{row['metric']}.{row['statistic']}.mean"].max()
        assert row["p_match.mean"] == pytest.approx(100 * best["local"] / best["baseline"])


def test_a_ratio_to_a_service_near_zero_ends_and_carries_a_warning(data: Any) -> None:
    local, service = (
        next(one for one in data.evaluations if one.system.role == role)
        for role in ("local", "baseline")
    )
    poor = replace(service, precision=np.where(service.answer == 0, 1.0, 0.0))
    few = replace(data, evaluations=[local, poor])
    (row,) = module("scores").table(few).query("role == 'local'").to_dict("records")
    ends = [row[f"precision.service_ratio.{part}"] for part in ("mean", "low", "high")]
    assert 0 <= ends[1] <= ends[0] <= ends[2] <= 1000
    main = module("table_main")
    shown = [column.text(row) for column in main.table(few, module("scores").table(few)).columns]
    assert sum("service near 0" in text for text in shown) == 1
    matches = module("scores").p_matches(few).query("metric == 'precision'")
    assert matches["near_zero"].all()
    assert matches["p_match.mean"].max() <= 1000


def test_paired_differences_have_p_values_for_the_whole_family(root: Path, data: Any) -> None:
    metric: Metric = "precision"
    table = pd.DataFrame(module("table_differences")._family(data, metric))
    assert len(table) == len(SIZES) * len(judged_runs.JUDGES)
    row = table[(table["data_size"] == 250) & (table["judge"] == "gpt-4o")].iloc[0]
    ours, theirs = (
        pool(list(read_rows(root / f"evaluation/e{place}-gpt-4o/out/rows.jsonl", Verdict)), metric)
        for place in (2, 0)
    )
    differences = [ours.prompts[prompt] - theirs.prompts[prompt] for prompt in ours.prompts]
    assert row["difference.mean"] == pytest.approx(np.mean(differences))
    for name in ("holm", "max_t", "bh"):
        assert (table[name] >= table["p"] - 1e-3).all()
    assert (table["max_t"] <= table["holm"] + 0.01).all()


def test_an_unscored_verdict_is_missing_and_counted_and_never_zero(tmp_path: Path) -> None:
    judged_runs.write(tmp_path, [250], prompts=3, answers=1, repeats=2)
    path = tmp_path / "evaluation/e1-gpt-4o/out/rows.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rest = [row["precision"] for row in rows[2:]]
    for row in rows[:2]:
        row |= {"similarity": None, "precision": None, "status": "refused"}
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    table = module("scores").table(module("sources").load(["big"], tmp_path))
    row = table[(table["data_size"] == 250) & (table["judge"] == "gpt-4o")].iloc[0]
    assert row["unscored"] == 2
    assert row["precision.mean.mean"] == pytest.approx(np.mean(rest))


@pytest.mark.slow
def test_contamination_is_what_the_training_set_counted_and_else_a_dash_with_the_reason(
    tmp_path: Path,
) -> None:
    judged_runs.write(tmp_path, [250, 1000], prompts=3)
    summary = tmp_path / "subset/u2/out/summary.json"
    summary.write_text("{}")  # as before this was counted
    assert module("table_main").main(["big", "--root", str(tmp_path), "--out", str(tmp_path)]) == 0
    lines = (tmp_path / "table_main.md").read_text().splitlines()
    column = [part.strip() for part in lines[2].split("|")].index("Contaminated")
    shown = {line.split("|")[2].strip(): line.split("|")[column].strip() for line in lines[4:]}
    by = f", {{}} rows by {module('labels').label(judged_runs.TEACHER)}"
    said = {name.partition(",")[2]: text for name, text in shown.items()}
    assert said == {
        "": "– (not trained)",
        by.format("250")[1:]: "1 of 253",
        by.format("1,000")[1:]: "– (not counted)",
    }
    table = pd.read_csv(tmp_path / "table_main.csv")
    assert table["contaminated"].isna().tolist() == table["contamination_missing"].notna().tolist()


@pytest.fixture(scope="module")
def out(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What all commands wrote about the run."""
    out = tmp_path_factory.mktemp("out")
    for name in COMMANDS:
        assert module(name).main(["big", "--root", str(root), "--out", str(out)]) == 0
    return out


@pytest.mark.slow
@pytest.mark.parametrize(
    "file",
    [
        *("table_main", "table_scaling", "fig_scaling_summarization_precision"),
        "table_differences",
        *("fig_kde_summarization", "table_cost", "table_cost_assumptions", "fig_cost"),
        *("table_judges", "table_agreement", "table_bias", "fig_judges", "fig_rounds_big"),
    ],
)
def test_each_table_and_figure_has_every_format_and_says_that_it_is_a_rehearsal(
    file: str, out: Path
) -> None:
    for suffix in ("csv", "md", "tex") if file.startswith("table") else ("pdf", "png"):
        content = (out / f"{file}.{suffix}").read_bytes()
        assert content, f"{file}.{suffix} is empty"
        words = (b"REHEARSAL", "REHEARSAL".encode("utf-16-be"))  # a PDF's title is UTF-16
        assert suffix == "csv" or any(word in content for word in words)


@pytest.mark.slow
def test_equal_runs_give_equal_bytes(root: Path, out: Path, tmp_path: Path) -> None:
    for name in ("fig_cost", "table_main", "table_cost"):
        module(name).main(["big", "--root", str(root), "--out", str(tmp_path)])
    for file in sorted(tmp_path.iterdir()):
        assert file.read_bytes() == (out / file.name).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("name", [*COMMANDS, "reproduce", "made_set"])
def test_each_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        module(name).main(["--help"])
    assert ended.value.code == 0
    assert f"python -m analysis.{name}" in capsys.readouterr().out


@pytest.mark.slow
def test_the_next_doubling_costs_what_the_ledger_says_a_row_cost(out: Path) -> None:
    table = pd.read_csv(out / "table_scaling.csv")
    assert table["usd"].tolist() == pytest.approx([4000 * 0.002] * len(table))
    assert table["chance"].isna().all()  # of two steps between three sizes the last may be larger
    assert table["doubling"].eq(8000).all()


def test_the_ledger_of_the_run_replaces_the_assumptions_of_the_paper(root: Path, data: Any) -> None:
    found = module("table_cost").assumptions(data, [])
    assert found["migration_usd"].value == pytest.approx(sum(SIZES) * 0.002)
    assert "ledger of big" in found["migration_usd"].source
    given = module("table_cost").assumptions(data, ["migration_usd=5..7"])["migration_usd"]
    assert (given.value, given.low, given.high) == (6, 5, 7)


def test_a_tables_numbers_survive_latex() -> None:
    escape = module("tables").escape
    assert escape("50 % of a_b & $5") == r"50 \% of a\_b \& \$5"


@pytest.mark.parametrize(
    ("name", "arguments", "sentence"),
    [
        ("table_main", ["nosuch"], "no run 'nosuch'"),
        ("table_main", ["nosuch-*"], "no run below .* matches 'nosuch-\\*'"),
        ("table_main", ["nosuch.jsonl"], "nosuch.jsonl does not exist"),
        ("fig_kde", ["big", "--bandwidth", "0"], "must be above 0"),
        ("table_cost", ["big", "--set", "gpu_price=3"], "gpu_price is no assumption; choose from"),
        ("table_cost", ["big", "--set", "gpu_usd=7..3"], "no range LOW..HIGH"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(
    name: str,
    arguments: list[str],
    sentence: str,
    root: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert module(name).main([*arguments, "--root", str(root), "--out", str(tmp_path)]) == 2
    said = capsys.readouterr().err.strip()
    assert re.search(sentence, said)
    assert "\n" not in said


def test_real_runs_and_rehearsals_never_share_a_table(tmp_path: Path) -> None:
    for place, is_rehearsal in (("", False), ("rehearsal", True)):
        judged_runs.write(tmp_path / place, [250], prompts=3)
        record = tmp_path / place / "run/big/run.json"
        text = record.read_text().replace(
            '"rehearsal": true', f'"rehearsal": {str(is_rehearsal).lower()}'
        )
        record.write_text(text.replace('"name": "big"', f'"name": "big{place}"'))
    with pytest.raises(BadInput, match="never share a table"):
        module("sources").load(
            [str(tmp_path / place / "run/big") for place in ("", "rehearsal")], tmp_path
        )


@pytest.mark.slow
def test_runs_are_looked_for_where_the_commands_look(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("UNDERSTUDY_ROOT", str(root))
    assert module("table_main").main(["big", "--out", str(tmp_path)]) == 0
    assert "table_main" in capsys.readouterr().out


def test_a_sweep_stands_for_the_runs_of_its_cells(root: Path) -> None:
    cells = [CellRecord(name, f"run/{name}") for name in ("big", "not-begun")]
    about = {"name": "two", "command": "understudy run", "created": "", "rehearsal": False}
    place = root / "sweep" / "two" / "sweep.json"
    SweepRecord(path=place, axes={}, cells=cells, **about).write()
    by_sweep, by_name = (module("sources").load([name], root) for name in ("two", "big"))
    assert [run.path for run in by_sweep.runs] == [run.path for run in by_name.runs]
