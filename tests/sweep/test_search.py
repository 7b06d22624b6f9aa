"""`-m hydra/sweeper=optuna`: trials that their scores lead, ending with the best cell."""

import json
import math
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from understudy.cli.main import main
from understudy.config import compose

# Optuna 2.10 warns of what SQLAlchemy and itself have moved since.
pytestmark = [
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(find_spec("optuna") is None, reason="the extra optuna is not installed"),
]
SPACE = ["trainer.lr=tag(log,interval(1e-5,1e-2))", "seed=choice(0,1)"]
ASKED = ["hydra/sweeper=optuna", "hydra.sweeper.n_trials=25", "hydra.sweeper.sampler.seed=1"]


def tried(tmp_path: Path, *words: str, score: Any) -> list[dict[str, Any]]:
    """The trials of a search whose score is a function of a cell's values."""
    found = []

    def job(overrides: list[str], values: dict[str, Any]) -> float | None:
        found.append({"overrides": overrides, "lr": values["trainer"]["lr"], "seed": values["seed"],
                      "epochs": values["trainer"]["epochs"]})  # fmt: skip
        return score(found[-1])

    compose.multirun([*compose.SEARCH, *ASKED, *words], None, tmp_path / "hydra", job)
    return found


@pytest.mark.slow
def test_the_search_goes_where_the_scores_are_high(tmp_path: Path) -> None:
    found = tried(tmp_path, *SPACE, score=lambda one: -abs(math.log10(one["lr"]) + 3) + one["seed"])
    assert len(found) == 25
    assert all(1e-5 <= one["lr"] <= 1e-2 for one in found)
    distance = [abs(math.log10(one["lr"]) + 3) for one in found]
    assert sum(distance[-8:]) < sum(distance[:8])
    assert max(found[-8:], key=lambda one: one["seed"])["seed"] == 1


@pytest.mark.slow
def test_ranges_and_whole_intervals_give_whole_numbers_and_a_failed_trial_ends_nothing(
    tmp_path: Path,
) -> None:
    words = ["trainer.epochs=int(interval(1,5))", "seed=range(0,10,2)", "hydra.sweeper.n_trials=6"]
    found = tried(tmp_path, *words, score=lambda one: None if one["seed"] else 1.0)
    assert len(found) == 6
    assert all(one["epochs"] in range(1, 6) and one["seed"] in range(0, 10, 2) for one in found)


@pytest.mark.slow
def test_six_trials_end_with_the_best_cell_s_config(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["run", "-m", "hydra/sweeper=optuna", "hydra.sweeper.n_trials=6", "data_size=0",
             "gate.similarity=interval(10.0,90.0)", "inference.k=choice(1,2)", "evaluation.m=1",
             "coverage.rows=32", "coverage.split.validation=4", "coverage.split.test=4",
             "coverage.split.holdout=0", "trainer=none", f"paths.root={tmp_path}"]  # fmt: skip
    assert main(words) == 0
    said = capsys.readouterr().out
    (record,) = (tmp_path / "rehearsal/sweep").glob("*/sweep.json")
    best = json.loads(record.with_name("best.json").read_text())
    cells = json.loads(record.read_text())["cells"]
    scores = {}
    for cell in cells:
        run = json.loads((tmp_path / cell["run"] / "run.json").read_text())
        gate = run["rounds"][0]["stages"]["gate"]
        summary = json.loads((tmp_path / "rehearsal" / gate / "out/summary.json").read_text())
        scores[cell["label"]] = summary["table"][0]["precision"]["mean"]
    assert len(cells) == 6
    assert best["score"] == pytest.approx(max(scores.values()))
    assert best["score"] == pytest.approx(scores[best["label"]])
    assert best["config"]["inference"]["k"] in (1, 2)
    assert f"best cell: {best['label']}, score {best['score']:.1f}" in said
    again = next(line for line in said.splitlines() if line.startswith("to run it: "))
    assert "understudy run " in again
    assert main(["status", record.parent.name, "--root", str(tmp_path)]) == 0
    assert main(["report", record.parent.name, "--root", str(tmp_path)]) == 0
