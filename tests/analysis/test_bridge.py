"""Published verdicts beside those of successors: the shift of each, as arrays and end to end."""

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from support.analysis import module
from understudy.cli.main import main


def coding_set(folder: Path, *generators: str) -> Path:
    """The coding part of the made-up set, in the published schema; all generators or these."""
    path = next(path for path in module("made_set").write(folder) if "coding" in path.name)
    lines = path.read_text().splitlines(keepends=True)
    names = {f"rehearsal/{name}" for name in generators}
    kept = [line for line in lines if not names or json.loads(line)["model_id"] in names]
    for other in folder.iterdir():
        other.unlink()
    path.write_text("".join(kept))
    return path


def test_a_successor_that_is_four_points_stricter_shifts_by_minus_four(tmp_path: Path) -> None:
    data = module("sources").load([str(coding_set(tmp_path / "set"))], tmp_path)
    again = [
        replace(
            one, judge="next", order="reference_first", prompt_variant="default",
            precision=one.precision - 4, similarity=one.similarity,
        )
        for one in data.evaluations
        if one.judge == "gpt-4o"
    ]  # fmt: skip
    found = module("evaluations").Data([*data.evaluations, *again], [])
    paths = module("table_bridge").build(found, tmp_path)
    assert [path.name for path in paths] == [f"table_bridge.{end}" for end in ("csv", "md", "tex")]
    table = pd.read_csv(paths[0]).set_index(["metric", "published"])
    assert set(table["successor"]) == {"next"}
    row = table.loc[("precision", "gpt-4o")]
    assert row[["shift.mean", "shift.low", "shift.high", "distance.mean"]].tolist() == (
        pytest.approx([-4, -4, -4, 4])
    )
    assert row["answers"] == 4 * 16 * 2
    lenient = table.loc[("precision", "claude-3-sonnet")]
    assert lenient["shift.low"] < lenient["shift.mean"]
    assert lenient["shift.mean"] == pytest.approx(-8, abs=1)  # 100 ends the scale
    assert table.loc[("similarity", "gpt-4o")]["shift.mean"] == pytest.approx(0)


def test_nothing_is_bridged_where_nobody_judged_again(tmp_path: Path) -> None:
    data = module("sources").load([str(coding_set(tmp_path / "set"))], tmp_path)
    assert module("table_bridge").build(data, tmp_path / "out") == []


@pytest.mark.slow
def test_the_experiment_bridges_a_folder_in_the_published_schema_to_three_judges(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = coding_set(tmp_path / "set", "gemma7b-coding-gpt4o-100k").parent
    command = ["run", "experiment=judge_bridge", "task=coding", f"inference.repo={folder}"]
    root = tmp_path / "runs"
    given = ["evaluation.m=2", "run.name=bridge", f"paths.root={root}"]
    assert main([*command, *given]) == 0
    assert "ready-made answers of rehearsal/gemma7b-coding-gpt4o-100k" in capfd.readouterr().out
    bridge = module("table_bridge")
    assert bridge.main(["bridge", "--root", str(root), "--out", str(tmp_path / "out")]) == 0
    table = pd.read_csv(tmp_path / "out/table_bridge.csv")
    assert len(table) == 2 * 3 * 3  # metrics, published judges, successors
    assert set(table["answers"]) == {32}
    assert (table["shift.low"] < table["shift.mean"]).all()
    assert (table["shift.mean"] < table["shift.high"]).all()
    by = table[table["metric"] == "precision"].groupby("successor")["shift.mean"].mean()
    ordered = [f"offline{kind} (paper)" for kind in ("_strict", "", "_lenient")]
    assert by.sort_values().index.tolist() == ordered
    page = (root / "rehearsal/run/bridge/report.html").read_text()
    assert "Successors of the published judges" in page
    main_table = module("table_main").main(["bridge", "--root", str(root), "--out", str(tmp_path)])
    assert main_table == 0
    assert "Gemma 7B, 100,000 rows by GPT-4o" in (tmp_path / "table_main.md").read_text()
