"""A stage is three places: its `run` (support/polish.py), its Spec, and its place in a flow."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from support.plans import SMALL
from understudy.cli.main import main
from understudy.config import Config
from understudy.pipeline import flow, worker
from understudy.pipeline import run as pipeline
from understudy.pipeline.flow import Flow
from understudy.pipeline.stages import SPECS, Spec, Stage
from understudy.records import Answer, read_rows


class Polished(Flow):
    """The baseline's answers are polished before they are judged."""

    @property
    def shared(self) -> dict[str, Stage]:
        """The stages before the rounds, one more among them."""
        stages = super().shared
        polished = self._make("polish", inputs={"answers": stages["baseline"]})
        return stages | {"polish": polished}


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SPECS, "polish", Spec("support.polish:run", ("model.name",), gpus="one"))
    monkeypatch.setitem(flow.FLOWS, "local", Polished)


@pytest.mark.slow
def test_it_is_planned_submitted_with_a_gpu_run_and_shown(
    tmp_path: Path, composed: Callable[..., Config], capsys: pytest.CaptureFixture[str]
) -> None:
    root = f"paths.root={tmp_path / 'runs'}"
    assert main(["plan", *SMALL, "data_size=0", root]) == 0
    planned = capsys.readouterr().out
    assert re.search(r"^polish +0 +1 +0 ", planned, re.MULTILINE), planned

    gpus = ["cluster=dry_run", "cluster.gpu.gpus=4", "cluster.gpu.gpu_type=a100"]
    assert main(["run", *SMALL, "data_size=0", *gpus, root]) == 0
    lines = capsys.readouterr().out.splitlines()
    (line,) = (line for line in lines if "-polish" in line)
    assert "--gres=gpu:a100:1" in line
    assert "gpu-stage.sbatch" in line

    run = pipeline.Run(composed(*SMALL, "data_size=0", "run.name=shiny"), ["understudy", "run"])
    for task in run.steps():
        worker.run(task.directory)
        if task.directory.path.parent.name == "polish":
            break
    stage = run.flow.shared["polish"]
    rows = list(read_rows(run.root / stage.path / "out" / "rows.jsonl", Answer))
    assert len(rows) == 4 * 2
    capsys.readouterr()

    assert main(["status", "shiny", "--root", str(tmp_path / "runs")]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"done: .*polish", shown), shown
