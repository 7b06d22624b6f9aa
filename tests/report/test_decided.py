"""The head of a run's page holds all that `understudy decide` prints."""

import contextlib
import io
import json
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support import fake_runs
from understudy.cli.decide import show
from understudy.evaluation.decision import Decision, Pairs, decide
from understudy.evaluation.scores import METRICS
from understudy.evaluation.serving import Serving, Side, pays_from, read
from understudy.evaluation.statistics.intervals import cluster_rate
from understudy.pipeline.record import RunRecord
from understudy.report.page import load_analysis


def made() -> Decision:
    """A decision of a second look, in unequal clusters, with a tail and missing scores."""
    rng = np.random.default_rng(0)
    panel = {f"p{n}": float(d) for n, d in enumerate(rng.normal(-1, 20, 120))}
    groups = {prompt: f"g{n // 3 if n < 60 else n}" for n, prompt in enumerate(panel)}
    covered = {prompt: -100.0 if d < -40 else 0.0 for prompt, d in panel.items()}
    worst = panel | {"p0": -90.0}
    pairs: Any = dict.fromkeys(METRICS, Pairs(panel, {"j": panel}, worst, None, 1.0, 2, 1))
    tail = (3.0, Pairs(covered, {"j": covered}, covered, None, None))
    return decide(pairs, groups, look=2, level=0.0062, tail=tail, warnings=["so and so"])


def side(name: str) -> Side:
    share = cluster_rate([n == 0 for n in range(40)], [n // 2 for n in range(40)])
    return Side(name, 40, share, 0.5, 2.5, "40 calls")


@pytest.fixture
def page(tmp_path: Path) -> dict[str, Any]:
    run_json = fake_runs.write_run(tmp_path)
    serving = Serving(side("tiny"), side("gpt"), pays_from(2.0, 0.001, 500.0, 50.0))
    assert read(json.loads(json.dumps(serving.to_dict()))) == serving
    whole = made().to_dict() | {"serving": serving.to_dict(), "holdout": None}
    run_json.with_name("decision.json").write_text(json.dumps(whole, allow_nan=False))
    run = RunRecord.read(run_json)
    load_analysis()
    decided, frame = (import_module(f"understudy_analysis.{n}") for n in ("decided", "frame"))
    found: dict[str, Any] = decided.decision(run, frame.stages_frame(run))
    return found


def test_every_number_that_decide_prints_stands_on_the_page(page: dict[str, Any]) -> None:
    found = made()
    with contextlib.redirect_stdout(io.StringIO()) as out:
        show(found)
    printed, notes = out.getvalue(), " ".join(page["notes"])
    assert page["reason"] == found.reason
    for words in (
        *(f"{found.difference.clusters} clusters", f"worth {found.worth:.1f} of equal size"),
        *("one-sided level 0.0062", "0.0438 of alpha 0.05", "2 missing scores at their worst"),
        *(f"at least {found.worst_low:+.2f}", str(found.tail), "so and so"),
        *(f"excludes a loss of {found.excludes:.1f} points", "this panel of judges"),
        f"bout {found.more_prompts:,} more prompts would decide it",
    ):
        assert words in printed
        assert words in notes
    assert "The local model pays from" in notes
    assert {row["judge"] for row in page["rows"]} == {"all judges", "j"}
    assert all(row["value"]["clusters"] == found.difference.clusters for row in page["rows"])


def test_both_sides_stand_beside_quality(page: dict[str, Any]) -> None:
    local, service = page["sides"]
    assert (local["generator"], service["generator"]) == ("tiny", "gpt")
    assert (local["p50_s"], local["p95_s"], local["timed"]) == (0.5, 2.5, "40 calls")
    assert local["refusals"]["mean"] == pytest.approx(1 / 40)
    assert local["refusals"]["clusters"] == 20
