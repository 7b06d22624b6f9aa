"""Rows in other people's formats, and the jobs of the stages that read them."""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from understudy.config import Config
from understudy.store.artifacts import Job

REAL = os.environ.get("UNDERSTUDY_REAL_DATA")
needs_real_data = pytest.mark.skipif(REAL is None, reason="UNDERSTUDY_REAL_DATA is not set")
REAL_FILE = Path(REAL or ".") / "no_robots_classification.jsonl"


def write(path: Path, rows: Iterable[dict[str, Any] | str]) -> Path:
    """JSON lines; a text stands as it is."""
    lines = (row if isinstance(row, str) else json.dumps(row) for row in rows)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def turns(*texts: str, system: str | None = None) -> list[dict[str, str]]:
    roles = ("user", "assistant")
    spoken = [{"role": roles[i % 2], "content": text} for i, text in enumerate(texts)]
    return [{"role": "system", "content": system}, *spoken] if system else spoken


def llamaduo(number: int, generator: str = "Human") -> dict[str, Any]:
    """A row of the published coverage and synthetic sets."""
    prompt = f"Sort the {number} apples of basket {number * 7} by colour and by weight, please."
    return {
        **{"generator": generator, "seed_prompt": "Unknown", "category": "Classify"},
        "prompt_id": f"{number:064x}" if generator == "Human" else generator,
        "messages": turns(prompt, f"Here are {number} apples."),
        "prompt": prompt,
    }


def evaluated(
    prompt: str, answer: str, model: str, evaluator: str | None = None, score: float | None = 80.0
) -> dict[str, Any]:
    """A row of the published response sets or, with an evaluator, of the evaluation sets."""
    row: dict[str, Any] = {
        **{"instructions": prompt, "target_responses": f"The answer to {prompt}"},
        **{"candidate_responses": answer, "model_id": model, "model_sha": "0123abc"},
    }
    if evaluator is None:
        return row
    scores = {"similarity_scores": score, "precision_scores": score}
    return row | scores | {"eval_prompts": "…", "evaluators": evaluator, "dates": "2024-07-01"}


def job(config: Config, at: Path, params: dict[str, Any] | None = None, **inputs: Path) -> Job:
    for name in ("out", "scratch"):
        (at / name).mkdir(parents=True)
    return Job(config, params or {}, inputs, at / "out", at / "scratch")
