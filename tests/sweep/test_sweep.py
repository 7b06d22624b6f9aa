"""Sweeps: which cells there are, that each is what Hydra would compose, that nothing runs twice."""

import json
import math
import os
import random
import signal
import subprocess
import sys
import time
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from omegaconf import OmegaConf

from support import fake_runs, hydra_jobs, records
from understudy import locations
from understudy.cli.main import main
from understudy.config import compose
from understudy.pipeline import flow
from understudy.sweep import cells as sweep_cells
from understudy.sweep import sweep
from understudy.sweep.cells import Cell, Cells
from understudy.sweep.show import objective

SWEEPS = sorted(path.stem for path in (locations.shared("conf") / "sweep").glob("*.yaml"))
TINY = [
    "coverage.rows=24",
    "coverage.split.test=4",
    "coverage.split.validation=4",
    "inference.k=1",
    "inference.max_new_tokens=8",
    "evaluation.m=1",
]


@cache
def expand(*overrides: str) -> Cells:
    grid = compose.grid(list(overrides), None)
    return sweep_cells.expand(grid, compose.Composer(None))


def by_hydra(cell: Cell) -> Any:
    with initialize_config_dir(str(locations.shared("conf")), version_base="1.3"):
        return OmegaConf.to_container(hydra_compose("config", cell.overrides), resolve=True)


def stages(cells: Cells, role: str) -> set[str]:
    """The different stages of one role, over all cells and rounds."""
    flows = [flow.flow_of(cell.config) for cell in cells.cells]
    rounds = [f.round(number) for f in flows for number in range(len(f.sizes))]
    return {stage.path for plan in rounds for name, stage in plan.items() if name == role}


# --- the cells -----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", SWEEPS)
def test_every_committed_sweep_composes(name: str) -> None:
    grid = compose.grid([f"sweep={name}"], None)
    size = 1
    for key in grid.axes:
        size *= len(grid.terms[key])
    fixed = [] if "data_size" in grid.axes else ["data_size=0"]
    assert len(expand(f"sweep={name}", *fixed).cells) == size


@pytest.mark.slow
def test_ten_random_cells_equal_plain_hydra() -> None:
    cells = expand("sweep=full_grid").cells
    assert len(cells) == 4 * 4 * 9 * 3
    for cell in random.Random(0).sample(cells, 10):
        assert json.dumps(cell.values) == json.dumps(by_hydra(cell)), cell.label  # and in its order


@pytest.mark.slow
@pytest.mark.parametrize(
    "axes",
    [
        ["trainer=tiny,lora", "trainer.lr=2e-3,1e-4"],
        ["trainer=lora,tiny", "trainer.epochs=10", "task.topic=a,b", "task=coding,closed_qa"],
        ["experiment=curve,demo", "task=closed_qa,coding", "evaluation.m=3,4"],
        ["experiment=demo,curve", "coverage.rows=160,296"],
        ["judge=offline_panel,offline_strict", "gate.judges=[offline]", "seed=0,1"],
        ["coverage.split={test:9,validation:8},{test:8,validation:9}", "coverage.split.test=5,6"],
    ],
)
def test_axes_that_touch_the_same_value_still_equal_hydra(axes: list[str]) -> None:
    cells = expand("data_size=0", *axes).cells
    assert len(cells) > 3
    for cell in cells:
        assert json.dumps(cell.values) == json.dumps(by_hydra(cell)), cell.label


@pytest.mark.slow
def test_independent_axes_are_composed_once_per_value_and_numbers_not_at_all() -> None:
    asked: list[list[str]] = []

    class Counting(compose.Composer):
        def values(self, overrides: list[str]) -> dict[str, Any]:
            asked.append(overrides)
            return super().values(overrides)

    grid = compose.grid(["data_size=0,250", "seed=range(0,4)", "task=coding,closed_qa"], None)
    assert len(sweep_cells.expand(grid, Counting(None)).cells) == 16
    assert len(asked) == 1 + 1 + 1  # the first cell, the other task, the last as a check


@pytest.mark.slow
def test_the_command_line_replaces_the_file_s_axis_and_adds_others() -> None:
    given = ["model=tiny", "task=coding", "judge=offline", "data_size=0,1k", "seed=1,2"]
    cells = expand("sweep=full_grid", *given)
    assert [cell.label for cell in cells.cells] == ["0 1", "0 2", "1k 1", "1k 2"]
    assert {cell.config.task.name for cell in cells.cells} == {"coding"}


def test_two_sweep_files_are_one_sweep() -> None:
    found = compose.grid(["sweep=[tasks,judges]", "data_size=0"], None)
    assert found.axes == {"task", "judge"}
    assert [len(found.terms[key]) for key in ("task", "judge")] == [4, 3]


@pytest.mark.slow
def test_an_experiment_may_carry_a_sweep(tmp_path: Path) -> None:
    path = tmp_path / "experiment" / "mine.yaml"
    path.parent.mkdir()
    text = "# @package _global_\ndefaults:\n  - override /sweep: tasks\ndata_size: 0\n"
    path.write_text(text)
    found = compose.grid(["experiment=mine", "seed=0,1"], str(tmp_path))
    assert found.axes == {"task", "seed"}
    first = [terms[0] for terms in found.terms.values()]
    assert compose.Composer(str(tmp_path)).values(first)["data_size"] == 0


@pytest.mark.slow
def test_a_given_name_gets_the_cell_s_values_and_an_automatic_one_differs() -> None:
    named = expand("sweep=judges", "data_size=0", "run.name=night")
    assert named.name == "night"
    assert [cell.name for cell in named.cells][:2] == ["night-offline", "night-offline_lenient"]
    unnamed = expand("sweep=judges", "data_size=0,250", "seed=0,1", "gate.judges=[offline]").cells
    assert len({cell.name for cell in unnamed}) == len(unnamed) == 3 * 2 * 2


@pytest.mark.slow
def test_every_cell_of_the_full_grid_has_a_name_of_its_own() -> None:
    assert len({cell.name for cell in expand("sweep=full_grid").cells}) == 4 * 4 * 9 * 3


# --- what is shared, what is refused --------------------------------------------------------------


@pytest.mark.slow
def test_judges_times_sizes_trains_one_model_per_task_and_size_whatever_the_judges() -> None:
    cells = expand("sweep=full_grid")
    assert len({tuple(cell.config.judges) for cell in cells.cells}) == 3
    assert len(stages(cells, "finetune")) == len(stages(cells, "inference")) == 144


@pytest.mark.slow
def test_on_the_ladder_the_gate_s_judges_decide_the_same_in_every_cell() -> None:
    cells = expand("sweep=judges", "gate.judges=[offline]")
    assert len(stages(cells, "gate")) == len(stages(cells, "finetune")) == 4
    assert sorted(cells.cells[2].config.judges) == ["offline", "offline_strict"]
    assert all(
        len(stages(cells, f"evaluation.{name}")) == 4 for name in cells.cells[2].config.judges
    )


REFUSED = {
    "sweep=judges": "needs gate.judges=[NAME,…]",
    "sweep=judges gate.judges=[nobody]": "cell offline: gate.judges=['nobody']",
    "sweep=tasks trainer.start=previous": "trainer.start=previous",
    "sweep=data_sizes cluster.threads=1,2": "cells '0 1' and '0 2' would both be run",
    "data_size=0 paths.root=choice(a,b)": "paths.root cannot be swept",
    "sweep=data_sizes synthesis=none": "cell 250: synthesis=none",
}


@pytest.mark.slow
@pytest.mark.parametrize("command", REFUSED)
def test_a_refused_sweep_is_one_sentence_before_anything_runs(
    command: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["run", *command.split()]) == 2
    shown = capsys.readouterr()
    assert len(shown.err.strip().splitlines()) == 1
    assert REFUSED[command] in shown.err
    assert not list(tmp_path.iterdir())


# --- what is shown --------------------------------------------------------------------------------


def test_status_of_a_sweep_lists_its_cells_and_how_to_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cells = expand("seed=0,1", "data_size=0", "run.name=two", f"paths.root={tmp_path}")
    job = sweep.Sweep(cells, ["understudy", "run", "seed=0,1"], lambda given: given)
    job.record.cells[1].failed = "finetune/f0 ended with exit code 4"
    job.record.write()
    assert main(["status", "two", "--root", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "two · REHEARSAL" in shown
    assert "not begun" in shown
    assert "failed: finetune/f0 ended with exit code 4" in shown
    assert "to go on: understudy run seed=0,1" in shown


# --- whole sweeps ---------------------------------------------------------------------------------


def start(root: Path, *overrides: str, cwd: Path | None = None) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "understudy", "run", *overrides, *TINY, f"paths.root={root}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        cwd=cwd,
    )


def finish(process: subprocess.Popen[str], code: int = 0) -> tuple[str, str]:
    out, err = process.communicate(timeout=300)
    assert process.returncode == code, err
    return out, err


def stages_run(out: str) -> int:
    return int(out.rpartition("stages run: ")[2].partition(",")[0])


def done(root: Path, name: str = "*") -> list[Path]:
    return list(root.glob(f"rehearsal/{name}/*/DONE"))


@pytest.mark.slow
def test_a_sweep_and_hydra_s_own_run_the_same_stages_below_the_root(tmp_path: Path) -> None:
    root, elsewhere = tmp_path / "runs", tmp_path / "cwd"
    elsewhere.mkdir()
    axes = ["data_size=0,50", "judge=offline,offline_strict", "trainer.max_steps=2"]
    axes += ["trainer.evaluations=1"]
    out, _ = finish(start(root, *axes, cwd=elsewhere))
    assert stages_run(out) == len(done(root))
    assert len(done(root, "finetune")) == len(done(root, "inference")) == 2
    again, _ = finish(start(root, *axes, "cluster.processes=2", cwd=elsewhere))
    assert "cells: 4, stages run: 0" in again
    before = set(done(root))
    out, _ = finish(start(root, "-m", *axes, cwd=elsewhere))
    assert "cells: 4, stages run: 0" in out
    assert set(done(root)) == before
    assert list(root.glob("rehearsal/hydra/*/multirun.yaml"))
    assert not list(elsewhere.iterdir())
    assert {path.name for path in tmp_path.iterdir()} == {"runs", "cwd"}


@pytest.mark.slow
def test_four_processes_on_overlapping_sweeps_run_every_stage_once(tmp_path: Path) -> None:
    judges = "judge=offline,offline_lenient,offline_strict"
    commands = [
        [judges, "seed=0"],
        ["judge=offline_strict,offline", "seed=0,1"],
        [judges, "seed=1,0", "cluster.processes=2"],
        ["judge=offline_panel,offline", "seed=1"],
    ]
    started = [start(tmp_path, "data_size=0", "trainer=none", *each) for each in commands]
    counts = [stages_run(finish(process)[0]) for process in started]
    assert sum(counts) == len(done(tmp_path)), counts
    assert len(done(tmp_path, "inference")) == 2
    assert not list(tmp_path.glob("rehearsal/*/*/attempts"))
    assert not list(tmp_path.glob("rehearsal/*/*/LOCK"))


@pytest.mark.slow
def test_a_cell_that_fails_stops_no_other_and_its_stage_is_tried_once(tmp_path: Path) -> None:
    (tmp_path / "conf/model").mkdir(parents=True)
    tiny = (locations.shared("conf") / "model/tiny.yaml").read_text()
    broken = tiny.replace("name: tiny", "name: broken").replace(
        "package:tiny", f"{tmp_path}/broken"
    )
    (tmp_path / "conf/model/broken.yaml").write_text(broken)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/config.json").write_text("{}")
    root, judges = tmp_path / "runs", "judge=offline,offline_strict"
    process = start(
        *(root, "--config-dir", str(tmp_path / "conf"), "model=broken,tiny", judges),
        *("data_size=0", "trainer=none", "run.name=half"),
    )
    out, err = process.communicate(timeout=300)
    assert process.returncode in (2, 4, 70), err
    assert out.count("not passed") >= 2
    assert out.count("failed: inference/") == 2
    assert err.count("understudy: ") == 1, err
    logs = [path.read_text() for path in root.glob("rehearsal/inference/*/log.txt")]
    assert "".join(logs).count("stage failed") == 1


@pytest.mark.slow
def test_an_interrupted_sweep_stops_its_workers_and_goes_on(tmp_path: Path) -> None:
    axes = ["seed=0,1", "cluster.processes=2", "data_size=0", "trainer=none", "run.name=two"]
    process = start(tmp_path, *axes)
    deadline = time.monotonic() + 120
    while len(list(tmp_path.glob("rehearsal/inference/*/LOCK"))) < 2:
        assert time.monotonic() < deadline, "no two inferences side by side"
        time.sleep(0.05)
    holders = [json.loads(p.read_text())["pid"] for p in tmp_path.glob("rehearsal/*/*/LOCK")]
    process.send_signal(signal.SIGINT)  # to the command alone; a terminal sends it to all
    _, err = finish(process, code=130)
    assert "To go on: understudy run seed=0,1" in err
    for pid in holders:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    out, _ = finish(start(tmp_path, *axes))
    assert "cells: 2, stages run:" in out
    assert len(done(tmp_path, "inference")) == 2


def four_cells(root: Path) -> Path:
    """A sweep of four cells: not begun, failed, and two that have decided; returns its record."""
    cells = expand("seed=0,1,2,3", "data_size=0", "run.name=two", f"paths.root={root}")
    job = sweep.Sweep(cells, ["understudy", "run", "seed=0,1,2,3"], lambda given: given)
    job.record.cells[1].failed = "finetune/f0 ended with exit code 4"
    job.record.write()
    for number, mean in ((2, 61.5), (3, 83.25)):
        stage = fake_runs.gate(root / "rehearsal", f"gate/g{number}", 0, "fail")
        path = root / "rehearsal" / stage / "out" / "summary.json"
        summary = json.loads(path.read_text())
        summary["table"][0]["precision"] = fake_runs.score(mean, mean - 3, mean + 3, 1.0, 0.5)
        summary["table"][0]["n_groups"] = 2
        path.write_text(json.dumps(summary))
        step = {"round": 0, "data_size": 0, "stages": {"gate": stage}, "decision": "fail"}
        ended = {"passed": False, "round": None, "reason": "no"}
        write_run(job.lanes[number].run.directory, rounds=[step], decision=ended)
    return job.directory / "sweep.json"


def write_run(directory: Path, **known: Any) -> Path:
    directory.mkdir(parents=True)
    about = {"name": directory.name, "command": "understudy run", "rehearsal": True, "stages": {}}
    path = directory / "run.json"
    path.write_text(json.dumps(records.record(**about, config=fake_runs.CONFIG, **known)))
    return path


@pytest.mark.slow
def test_status_of_a_sweep_shows_scores_the_best_first_and_failures_last(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    four_cells(tmp_path)
    assert main(["status", "two", "--root", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    lines = [line for line in shown.splitlines() if "two-" in line]
    assert [line.split()[0] for line in lines] == ["3", "2", "0", "1"]
    assert "83.2 [80.2, 86.2]" in lines[0]
    assert "41.2 [33.5, 48.8]" in lines[0]
    assert "intervals over 3 prompts in 2 clusters" in shown.splitlines()
    assert "not begun" in lines[2]
    assert "failed" in lines[3]
    assert "1 failed: finetune/f0 ended with exit code 4" in shown.splitlines()


@pytest.mark.slow
def test_the_latest_may_be_a_sweep(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = four_cells(tmp_path)
    for words in ([], ["latest"]):
        assert main(["status", *words, "--root", str(tmp_path)]) == 0
        assert capsys.readouterr().out.startswith("two · REHEARSAL")
    alone = write_run(tmp_path / "rehearsal" / "run" / "alone", rounds=[])
    later = record.stat().st_mtime_ns + 10**10
    os.utime(alone, ns=(later, later))
    assert main(["status", "--root", str(tmp_path)]) == 0
    assert capsys.readouterr().out.startswith("alone")


@pytest.mark.slow
def test_hydra_s_sweeper_gets_the_score_of_a_cell(tmp_path: Path) -> None:
    four_cells(tmp_path)
    runs = sorted((tmp_path / "rehearsal" / "run").glob("two-*/run.json"))
    keep = "+hydra.callbacks.kept._target_=support.hydra_jobs.Returned"
    words = ["seed=2,3", "data_size=0", keep]
    left = iter(runs)
    compose.multirun(words, None, tmp_path / "hydra", lambda *_: objective(next(left)))
    assert hydra_jobs.Returned.values == [61.5, 83.25]
    assert math.isnan(objective(tmp_path / "nothing" / "run.json"))


def test_an_interval_without_a_search_is_refused_with_the_way_out(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["run", "trainer.lr=interval(0.1,0.2)"]) == 2
    assert "-m hydra/sweeper=optuna" in capsys.readouterr().err


@pytest.mark.skipif(find_spec("optuna") is not None, reason="the extra optuna is installed")
def test_a_search_without_optuna_says_what_to_install(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "-m", "hydra/sweeper=optuna", "seed=0,1"]) == 2
    assert "pip install 'understudy[optuna]'" in capsys.readouterr().err
