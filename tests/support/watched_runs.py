"""Migrated runs under an offline judge and service, and what a gateway has logged since."""

import dataclasses
import json
import os
import time
from pathlib import Path
from typing import Any

from support import evaluations, records
from understudy import playground
from understudy.config import Config, as_dict
from understudy.config.groups import BaselineConfig
from understudy.playground.pairs import TaskPair
from understudy.records import Verdict

WRONG = "I would rather not say."


def pairs(count: int, seed: int = 5) -> list[TaskPair]:
    return playground.generate("closed_qa", seed, 0, count)


def made(
    root: Path, name: str = "move", service_mean: float | None = None, config: Config | None = None
) -> Path:
    """The folder of the run; its service is the playground's, always right."""
    service = evaluations.config().judges["offline"]
    config = config or dataclasses.replace(
        evaluations.config(),
        baseline=BaselineConfig("service", dataclasses.replace(service, name="gpt", model="gpt-1")),
    )
    below = root / "rehearsal"
    rows = evaluations.coverage(60, "train", 60)
    evaluations.write(below / "split/s/out", rows)
    stages: dict[str, str] = {}
    if service_mean is not None:
        for role in ("evaluation", "baseline"):
            stages[f"{role}.offline"] = f"evaluation/{role}"
            folder = evaluations.write(below / f"evaluation/{role}" / "out", list[Verdict]())
            summary = {"precision": {"mean": service_mean}}
            (folder / "summary.json").write_text(json.dumps(summary))
            (folder.parent / "DONE").touch()
    record = records.record(
        name=name, rehearsal=True, config=as_dict(config), stages={"split": "split/s"},
        holdout={"round": 0, "stages": stages} if stages else None,
    )  # fmt: skip
    path = below / "run" / name / "run.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(record))
    return path.parent


def logged(
    folder: Path, asked: list[tuple[str, str]], day: str = "2026-11-30", **more: Any
) -> None:
    """Append (prompt, answer) to a gateway's local pairs."""
    path = folder / "local_pairs" / f"{day}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    control = folder / "control.json"
    if not control.exists():  # the gateway was told to ask the local model before it answered
        control.touch()
        os.utime(control, (time.time() - 1,) * 2)
    with path.open("a", encoding="utf-8") as lines:
        for number, (prompt, said) in enumerate(asked):
            message = {"role": "assistant", "content": said}
            choice = {"index": 0, "message": message, "finish_reason": "stop"} | more
            facts = {"time": time.time(), "mode": "local", "by": "local", "rehearsal": False}
            lines.write(json.dumps({
                "request_id": f"{day}-{number}-{time.time_ns()}", "metadata": facts,
                "request": {"model": "m", "messages": [{"role": "user", "content": prompt}]},
                "response": {"choices": [choice]},
            }) + "\n")  # fmt: skip
