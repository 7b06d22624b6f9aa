"""How fast this machine is: what `trial.py` finds in a process of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

from understudy.config import Config
from understudy.models import hardware
from understudy.plan.compute import parameters, uses_gpu
from understudy.plan.ranges import Range
from understudy.plan.speed import Key, Measured, Speeds

_LIMIT_S = 600.0  # for importing, loading and all; a model that needs more is left to the table


class Trial(NamedTuple):
    """What to measure: a kind of stage with this config, on rows of this split stage."""

    key: Key
    run: str  # the stage's function
    config: Config
    split: Path


class Probed(NamedTuple):
    """What was found, and a sentence for each trial that failed."""

    speeds: Speeds
    problems: list[str]


def probe(trials: Sequence[Trial]) -> Probed:
    """Try each in another process, which takes its memory with it."""
    if not trials:
        return Probed(Speeds([]), [])
    asked = [
        one._asdict() | {"config": asdict(one.config), "split": str(one.split)} for one in trials
    ]
    env = os.environ | {"OMP_NUM_THREADS": str(trials[0].config.cluster.threads)}
    try:
        done = subprocess.run(
            [sys.executable, "-m", "understudy.plan.trial"],
            input=json.dumps(asked),
            env=env,
            timeout=_LIMIT_S,
            capture_output=True,
            text=True,
        )
    except subprocess.TimeoutExpired:
        return Probed(Speeds([]), [f"the probe took more than {_LIMIT_S:.0f} s and was given up"])
    found, problems = [], []
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    for trial, line in zip(trials, lines, strict=False):
        if "problem" in line:
            problems.append(f"{trial.key.kind} was not probed: {line['problem']}")
            continue
        found.append(
            Measured(
                key=trial.key,
                parameters=parameters(trial.config),
                hardware=hardware.name(uses_gpu(trial.config)),
                start_s=line["start_s"],
                unit_s=Range(*line["unit_s"]),
                pause_s=line["pause_s"],
                is_probe=True,
            )
        )
    if len(lines) < len(trials):
        last = done.stderr.strip().splitlines()[-1:] or ["it gave no reason"]
        problems.append(f"the probe ended with exit code {done.returncode}: {last[0]}")
    return Probed(Speeds(found), problems)
