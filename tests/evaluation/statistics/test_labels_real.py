"""Real judges beside dearer ones and experts: what a part of the labels makes of them."""

import csv
import gzip
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from understudy.evaluation.statistics.isotonic import transport
from understudy.evaluation.statistics.prediction_powered import powered, powered_limits

DATA = os.environ.get("UNDERSTUDY_REAL_DATA")
pytestmark = pytest.mark.skipif(DATA is None, reason="UNDERSTUDY_REAL_DATA is not set")
RESAMPLES, LABELS = 500, 120


def folder(name: str) -> Path:
    return Path(str(DATA)) / "judges" / name


def arena() -> dict[str, list[dict[str, Any]]]:
    parts: dict[str, list[dict[str, Any]]] = {}
    with gzip.open(folder("arena_oracle") / "rows.jsonl.gz", "rt") as lines:
        for line in lines:
            row = json.loads(line)
            parts.setdefault(row["part"], []).append(row)
    return parts


def both(rows: list[dict[str, Any]]) -> tuple[Any, Any]:
    """The cheap and the dear judge, in points, of the answers that have both."""
    known = [row for row in rows if row["oracle_label"] is not None]
    return tuple(
        np.array([100 * row[name] for row in known]) for name in ("judge_score", "oracle_label")
    )  # type: ignore[return-value]


def held(judge: Any, human: Any, labels: int, resamples: int, seed: int) -> tuple[Any, Any]:
    """Limits from random labels of the answers that have one; the others have a judge alone."""
    rng = np.random.default_rng(seed)
    known = np.flatnonzero(~np.isnan(human))
    weight = np.zeros((resamples, len(judge)))
    chosen = known[np.argsort(rng.random((resamples, len(known))), axis=1)[:, :labels]]
    np.put_along_axis(weight, chosen, 1.0, axis=1)
    judges = np.broadcast_to(judge, weight.shape)
    cluster = np.arange(len(judge))
    found = powered(judges, np.where(weight > 0, human, 0.0), weight, cluster)
    limits = powered_limits(found, weight, cluster, 0.025, 199)
    return limits.low, limits.high


def test_the_dear_judges_mean_is_inside_and_the_cheap_ones_is_not() -> None:
    rows = arena()["base_responses"]
    judge = np.array([100 * row["judge_score"] for row in rows])
    human = np.array([
        np.nan if row["oracle_label"] is None else 100 * row["oracle_label"] for row in rows
    ])  # fmt: skip
    low, high = held(judge, human, LABELS, RESAMPLES, 0)
    dear = np.nanmean(human)
    inside = ((low <= dear) & (dear <= high)).mean()
    raw = ((low <= judge.mean()) & (judge.mean() <= high)).mean()
    print(f"dear {dear:.1f} inside {inside:.3f}, cheap {judge.mean():.1f} inside {raw:.3f}")
    assert inside >= 0.90
    assert raw <= 0.05


@pytest.mark.parametrize(
    ("part", "holds"),
    [("clone_probe", True), ("parallel_universe_prompt_probe", True), ("unhelpful_probe", False)],
)
def test_a_bridge_holds_on_alike_systems_and_is_refused_on_the_unhelpful_one(
    part: str, holds: bool
) -> None:
    parts = arena()
    judge, human = both(parts["base_responses"])
    probe_judge, probe_human = both(parts[part])
    own, probe = np.arange(len(judge)), np.arange(len(probe_judge))
    found = transport(judge, human, own, probe_judge, probe_human, probe)
    print(f"{part}: {found.off.mean:+.1f} [{found.off.low:+.1f}, {found.off.high:+.1f}]")
    assert found.holds == holds
    assert found.within is not None
    assert (found.within < 12) == holds


@pytest.mark.slow
def test_experts_means_are_inside_each_judges_calibrated_interval() -> None:
    scores: dict[tuple[str, str], dict[tuple[str, str], list[float]]] = {}
    with gzip.open(folder("summeval_panel") / "scores.csv.gz", "rt") as lines:
        for row in csv.DictReader(lines):
            if row["rater_type"] == "llm" or row["rater"].startswith("expert"):
                rater = "experts" if row["rater_type"] == "human" else row["rater"]
                name = f"{rater} {row['prompt']}".strip()
                if row["score"] and row["rep"] == "0":
                    cell = scores.setdefault((name, row["dimension"]), {})
                    key = (row["system"], row["doc"])
                    cell.setdefault(key, []).append(25 * (float(row["score"]) - 1))
    shares: dict[str, list[bool]] = {}
    for number, ((name, dimension), cell) in enumerate(sorted(scores.items())):
        experts = scores["experts", dimension]
        if name == "experts":
            continue
        for system in sorted({key[0] for key in cell}):
            keys = [key for key in experts if key[0] == system and key in cell]
            judge, human = (
                np.array([np.mean(one[key]) for key in keys]) for one in (cell, experts)
            )
            low, high = held(judge, human, 40, 3, number)
            shares.setdefault(name, []).extend((low <= human.mean()) & (human.mean() <= high))
    found = {name: float(np.mean(one)) for name, one in shares.items()}
    print(found)
    assert len(found) >= 15
    assert min(found.values()) >= 0.90
