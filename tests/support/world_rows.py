"""A sample of a world as a finished run on disk, for `understudy decide` to read."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from support import records
from support.worlds import Scores
from understudy.records import Coverage, Verdict, dumps

NAME = "world"
CONFIG: dict[str, Any] = {
    "task": {"name": "closed_qa"},
    "synthesis": {"kind": "none"},
    "baseline": {"kind": "service", "service": {"name": "s", "model": "s", "family": "openai"}},
    "gate": {"margin": 5.0, "alpha": 0.05},
}


def write(root: Path, scores: Scores) -> None:
    """A run whose holdout is one sample: scores of (prompts, K, judges, M), one verdict each."""
    prompts = [f"p{number:03}" for number in range(len(scores.cluster))]
    split = _stage(
        root,
        "split",
        [
            Coverage(prompt, f"g{c:03}", [], "closed_qa", None, "world", "holdout").to_dict()
            for prompt, c in zip(prompts, scores.cluster, strict=True)
        ],
    )
    stages = {
        f"{role}.j{judge}": _stage(root, f"{role}-j{judge}", _verdicts(prompts, side, judge, role))
        for role, side in (("evaluation", scores.local), ("baseline", scores.service))
        for judge in range(side.shape[2])
    }
    run = records.record(
        name=NAME,
        config=CONFIG,
        stages={"split": split},
        holdout={"round": 0, "stages": stages},
        decision={"passed": True, "round": 0, "reason": "all means reach their thresholds"},
    )
    path = root / "run" / NAME / "run.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(run))


def _verdicts(prompts: list[str], side: Any, judge: int, role: str) -> list[dict[str, Any]]:
    """The verdicts of one judge on one side, in the order of a finished stage."""
    head = Verdict(
        *("p", role, 0, f"j{judge}", "f", "default", "reference_first", 0, "0-100"),
        *(None, None, None, None, "not_json"),
    ).to_dict()
    rows = []
    for place, k, m in np.ndindex(side.shape[0], side.shape[1], side.shape[3]):
        row = head | {"prompt_id": prompts[place], "k": k, "m": m}
        if not np.isnan(score := float(side[place, k, judge, m])):
            row |= {"similarity": score, "precision": score, "status": "scored"}
        rows.append(row)
    return rows


def _stage(root: Path, path: str, rows: list[dict[str, Any]]) -> str:
    out = root / path / "out"
    out.mkdir(parents=True)
    (out / "rows.jsonl").write_text("".join(dumps(row) + "\n" for row in rows))
    (out / "summary.json").write_text("{}")  # which names what a judge measures only if less
    (root / path / "DONE").write_text("")
    return path
