"""Try how fast this machine is: the stages' own functions on a few rows, ten seconds in all.

    python -m understudy.plan.trial < TRIALS.json     (`probe.py` starts it)

Prints a line of JSON for each trial: seconds before the work, of a unit of it (least, expected,
most), and of a checkpoint. Importing and loading come on top of the ten seconds.
"""

import importlib
import json
import math
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

from understudy import config as configuration
from understudy.config import Config, changed
from understudy.errors import UnderstudyError
from understudy.models import gguf, load
from understudy.pipeline.stages import named
from understudy.plan.compute import tokens_a_row
from understudy.records import Coverage, dumps, read_rows
from understudy.store.artifacts import Job

PROBE_S = 10.0  # for all that is tried together,
_LEAST_S = 1.0  # for each
_STEPS = 200
_MODULES = {"inference": "understudy.inference.decode", "finetune": "understudy.training.trainer"}
_ROWS = 256  # that answers' lengths are taken from


def main() -> int:
    """Print a line of JSON for each trial."""
    asked = json.loads(sys.stdin.read())
    budget = max(_LEAST_S, PROBE_S / len(asked))
    importing_s = _import({one["key"][0] for one in asked})
    with tempfile.TemporaryDirectory(prefix="understudy-probe-") as scratch:
        for number, one in enumerate(asked):
            config = configuration.build(one["config"])
            config = gguf.dequantized(config, Path(config.paths.root).expanduser())
            rows = list(read_rows(Path(one["split"]) / "rows.jsonl", Coverage))
            random.Random(0).shuffle(rows)
            tries = _train if one["key"][0] == "finetune" else _answer
            try:
                tried = tries(named(one["run"]), config, rows, Path(scratch) / str(number), budget)
                tried["start_s"] += importing_s[one["key"][0]]
            except UnderstudyError as error:
                tried = {"problem": str(error)}
            print(json.dumps(tried), flush=True)
    return 0


def _import(kinds: set[str]) -> dict[str, float]:
    """Import what the stages import, and return how long that took: each stage does so itself."""
    began, took = time.monotonic(), dict[str, float]()
    load.quiet()
    for kind, module in _MODULES.items():
        if kind in kinds:
            importlib.import_module(module)
            took[kind] = time.monotonic() - began
    return took


Tried = dict[str, Any]


def _train(
    run: Callable[[Job], None], config: Config, rows: list[Coverage], at: Path, budget_s: float
) -> Tried:
    """One step, for what comes before it, then as many as fit."""
    tokens = (
        float(config.trainer.max_length) if config.trainer.packing else tokens_a_row(config, rows)
    )
    rows = [row for row in rows if row.split == "train"]
    recipe: dict[str, Any] = {"min_steps": 0, "epochs": 1e6, "evaluations": 1}
    recipe |= {"patience": None, "keep": "last", "start": "base"}
    given = {f"trainer.{leaf}": value for leaf, value in recipe.items()}
    if config.accelerate.kind != "cpu":
        given["accelerate.kind"] = "single"

    def steps(count: int) -> tuple[float, float, Job]:
        """Seconds in all, those of the steps and of one checkpoint, and the job."""
        now = changed(config, given | {"trainer.max_steps": count})
        job = _job(at / str(count), now, rows[: count * config.trainer.batch_size], rows)
        run(job)
        summary = json.loads((job.out / "summary.json").read_text(encoding="utf-8"))
        work_s = summary["tokens"] * summary["epochs"] / job.notes["tokens_per_second"]
        return float(job.notes["seconds"]), work_s, job

    whole_s, first_s, _ = steps(1)
    count = max(2, min(_STEPS, int(budget_s / first_s)))
    _, work_s, job = steps(count)
    pause_s = _writing_s(job.scratch / "checkpoints", at / "copy")
    step_s = max(work_s - pause_s, 0.5 * work_s) / count
    unit_s = step_s / (config.trainer.batch_size * tokens)
    return {"start_s": whole_s - first_s, "unit_s": (unit_s,) * 3, "pause_s": pause_s}


def _answer(
    run: Callable[[Job], None], config: Config, rows: list[Coverage], at: Path, budget_s: float
) -> Tried:
    """A batch of two tokens each, then one as long as fits; how long answers get is a guess.

    At least as long as the mean of the references, as a rule as the longest in twenty, at most
    `inference.max_new_tokens`: a batch goes on till its last answer ends.
    """
    asked = [row for row in rows if row.split == "test"][: config.inference.batch_size]
    shown = [row for row in rows if row.split == "train" and config.inference.shots]

    def tokens(count: int) -> tuple[float, float, int]:
        """Seconds in all and of answering, and how many tokens the longest answer has."""
        now = changed(config, {"inference.max_new_tokens": count, "inference.k": 1})
        job, began = _job(at / str(count), now, [], [*shown, *asked]), time.monotonic()
        run(job)
        made = (job.out / "rows.jsonl").read_text(encoding="utf-8").split("\n")[:-1]
        longest = max(1, *(json.loads(line)["tokens"] or 0 for line in made))
        return time.monotonic() - began, float(job.notes["seconds"]) or 0.05, longest

    most = config.inference.max_new_tokens
    first = min(2, most)
    whole_s, short_s, few = tokens(first)
    count = min(most, int(2 * budget_s / short_s))
    _, long_s, many = tokens(count) if count > first else (whole_s, short_s, few)
    step_s = (long_s - short_s) / (many - few) if many > few else long_s / many
    step_s = max(step_s, 0.1 * long_s / many)
    read_s = max(0.0, short_s - few * step_s)
    tokenizer = load.tokenizer(config.model)
    texts = [row.response for row in rows[:_ROWS]]
    lengths = sorted(min(most, len(tokenizer(text)["input_ids"])) for text in texts)
    guess = lengths[math.ceil(0.95 * len(lengths)) - 1]
    sizes = (min(fmean(lengths), guess), guess, most)
    seconds = [(read_s + size * step_s) / len(asked) for size in sizes]
    return {"start_s": whole_s - short_s, "unit_s": seconds, "pause_s": 0.0}


def _job(at: Path, config: Config, subset: list[Coverage], split: list[Coverage]) -> Job:
    inputs = {"subset": at / "subset", "split": at / "split"}
    for path, rows in zip(inputs.values(), (subset, split), strict=True):
        path.mkdir(parents=True)
        text = "".join(dumps(row.to_dict()) + "\n" for row in rows)
        (path / "rows.jsonl").write_text(text, encoding="utf-8")
    for name in ("out", "scratch"):
        (at / name).mkdir()
    params = {"split": "test", "generator": "probe"}
    return Job(config, params, inputs, at / "out", at / "scratch")


def _writing_s(source: Path, target: Path) -> float:
    """How long a checkpoint takes: what is written is flushed, too."""
    began = time.monotonic()
    shutil.copytree(source, target)
    for path in target.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
    return time.monotonic() - began


if __name__ == "__main__":
    sys.exit(main())
