"""Runs whose holdout is judged, written as the pipeline writes them, and the verb on them."""

import argparse
import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from support import records
from support.evaluations import write
from understudy.cli import decide as cli_decide
from understudy.records import Coverage, Verdict

COMMAND = "understudy run task=closed_qa"


def stage(root: Path, path: str, rows: list[Any]) -> str:
    write(root / path / "out", rows)
    (root / path / "out/summary.json").write_text("{}")
    (root / path / "DONE").touch()
    return path


def verdicts(judge: str, generator: str, scores: Any, family: str = "third") -> list[Verdict]:
    return [
        Verdict(
            *(f"p{number}", generator, 0, judge, family, "default", "reference_first", m, "0-100"),
            *(score, score, None, None, "scored"),
        )
        for number, score in enumerate(scores.tolist())
        for m in range(2)
    ]


def made(
    root: Path,
    difference: float,
    prompts: int = 80,
    judge_family: str = "third",
    judge: str = "j",
    task: str = "closed_qa",
) -> Path:
    """A finished run whose local model is `difference` points from the service on the holdout."""
    mark = f"{difference}-{prompts}-{judge}-{task}"
    rng = np.random.default_rng(0)
    theirs = rng.uniform(80, 90, prompts)
    ours = theirs + difference + rng.normal(0, 2, prompts)
    message = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}]
    rows = [
        Coverage(f"p{n}", f"g{n}", message, "closed_qa", None, "file", "holdout")
        for n in range(prompts)
    ]
    rows.append(Coverage("t", "t", message, "closed_qa", None, "file", "test"))
    stages = {
        f"{role}.{judge}": stage(
            root, f"evaluation/{name}{mark}", verdicts(judge, generator, scores, judge_family)
        )
        for role, name, generator, scores in (
            ("evaluation", "local", "tiny", ours),
            ("baseline", "service", "gpt", theirs),
        )
    }
    service = {"name": "gpt", "model": "gpt-1", "family": "openai"}
    config = {
        "gate": {"kind": "paper"},
        "baseline": {"kind": "service", "service": service},
        "synthesis": {"kind": "none"},
        "task": {"name": task},
        "model": {"name": "tiny"},
    }
    record = records.record(
        name=f"run{mark}",
        command=COMMAND,
        stages={"split": stage(root, f"split/{mark}", rows)},
        config=config,
        decision={"passed": True, "round": 0, "reason": "All means reach."},
        holdout={"round": 0, "stages": stages},
    )
    run_json = root / "run" / str(record["name"]) / "run.json"
    run_json.parent.mkdir(parents=True, exist_ok=True)
    run_json.write_text(json.dumps(record))
    return run_json


def decide(root: Path, *arguments: str) -> int:
    parser = argparse.ArgumentParser()
    cli_decide.register(parser.add_subparsers())
    given = parser.parse_args(["decide", *arguments, "--root", str(root)])
    return int(given.verb(given))


def looks_of(said: str) -> list[int]:
    """The numbers of the looks that were told, in order."""
    return [int(number) for number in re.findall(r", look (\d+)", said)]
