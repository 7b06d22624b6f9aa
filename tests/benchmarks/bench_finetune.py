"""Our finetune stage beside a bare TRL `SFTTrainer`: `python tests/benchmarks/bench_finetune.py`.

Same model (the tiny one), tokens, batch, schedule and steps, so the losses are equal, which is
checked. Two processes do each step one after the other, and take turns in going first; the ratio of
a step is ours / bare on the same tokens. On one thread CPU seconds leave out most of what else the
machine does: their median ratio is held to 1.02, exit code 1 above. `--steps 5` is a quick look.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import stage_clock

from support import tiny_model
from understudy.config import Config
from understudy.models import load
from understudy.records import Coverage
from understudy.training.data import encode

BOUND = 1.02
BATCH, LENGTH = 4, 256


def settings(steps: int) -> Config:
    return tiny_model.build(
        "package:tiny",
        **{"model__context": 512, "trainer__max_length": LENGTH, "trainer__batch_size": BATCH},
        **{"trainer__lr": 1e-4, "trainer__warmup": 0.0, "trainer__keep": "last"},
        **{"trainer__max_steps": steps + 2, "trainer__evaluations": 1},
    )


def rows(count: int) -> list[Coverage]:
    """Conversations of about 160 tokens."""
    return [
        tiny_model.row(
            f"r{n}", f"List item {n}. " * 8, " ".join(f"value {n + i}" for i in range(20))
        )
        for n in range(count)
    ]


def ours(root: Path, config: Config, data: list[Coverage]) -> Callable[[], Any]:
    return stage_clock.stage(root, config, data)


def bare(root: Path, config: Config, data: list[Coverage]) -> Callable[[], Any]:
    """TRL as its documentation uses it, set to the same training, on the same tokens."""

    def train() -> None:
        import transformers
        from datasets import Dataset
        from trl import SFTConfig, SFTTrainer

        tokenizer = load.tokenizer(config.model)
        stop = load.stop_id(tokenizer, config.model)
        encoded = [one for row in data if (one := encode(row, tokenizer, stop))]
        tokens = [{"input_ids": list(one.ids), "labels": one.labels} for one in encoded]

        transformers.set_seed(config.seed)
        recipe = config.trainer
        args = SFTConfig(
            output_dir=str(root),
            max_steps=recipe.max_steps,
            per_device_train_batch_size=BATCH,
            learning_rate=recipe.lr,
            lr_scheduler_type=recipe.schedule,
            warmup_steps=0,
            weight_decay=recipe.weight_decay,
            seed=config.seed,
            max_length=LENGTH,
            packing=False,
            dataset_kwargs={"skip_prepare_dataset": True},
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=None,
            activation_checkpointing=False,
            dataloader_pin_memory=False,
            save_strategy="no",
            logging_steps=1,
            disable_tqdm=True,
            report_to="none",
        )
        trainer = SFTTrainer(
            model=load.base(config.model, load.full_precision()),
            args=args,
            train_dataset=Dataset.from_list(tokens),
            processing_class=tokenizer,
        )
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.train()

    return train


def side(make: Any, steps: int) -> None:
    """Train, in a process of its own: a line out after each step, a line in before the next."""

    def pause() -> None:
        print(flush=True)
        sys.stdin.readline()

    load.quiet()
    load.use_threads(1)
    with tempfile.TemporaryDirectory() as root:
        train = make(Path(root), settings(steps), rows(BATCH * (steps + 2)))
        clock = stage_clock.timed(train, stage_clock.Clock(steps, pause))
    told = {name: getattr(clock, name) for name in ("wall", "cpu", "tokens", "losses")}
    print(json.dumps(told), flush=True)


def measure(steps: int) -> list[Any]:
    """Ours and bare, step by step, each the first of every other step."""
    sides = []
    for name in ("ours", "bare"):
        command = [sys.executable, __file__, "--side", name, "--steps", str(steps)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        side = subprocess.Popen(command, text=True, stderr=subprocess.DEVNULL, **pipes)
        assert side.stdout.readline() == "\n", f"{name} ended before its second step"
        sides.append(side)
    for step in range(steps):
        for side in sides[:: (-1) ** step]:
            side.stdin.write("\n")
            side.stdin.flush()
            told = side.stdout.readline()
            assert told, "a training ended early"
            side.told = told
    for side in sides:
        side.communicate()  # it ends with its input
    return [argparse.Namespace(**json.loads(side.told)) for side in sides]


def ratios(mine: list[float], bare: list[float]) -> list[float]:
    """Of each step but the first, which warms up; sorted."""
    return sorted(cost / beside for cost, beside in zip(mine[1:], bare[1:], strict=True))


def interval(ordered: list[float]) -> tuple[float, float]:
    """95 % for the median: the order statistics n/2 +- 0.98 sqrt(n), by the binomial."""
    middle, half = len(ordered) / 2, 0.98 * len(ordered) ** 0.5
    return ordered[max(0, int(middle - half))], ordered[min(len(ordered) - 1, int(middle + half))]


def main(arguments: argparse.Namespace) -> int:
    if arguments.side:
        side({"ours": ours, "bare": bare}[arguments.side], arguments.steps)
        return 0
    load.quiet()
    if load.device().type == "cuda":
        print("bench_finetune.py is of the CPU; bench_gpu.py is of this GPU")
        return 0
    mine, other = measure(arguments.steps)
    assert mine.losses == other.losses, "not the same training"
    tokens = (mine.tokens[-1] - mine.tokens[0]) / arguments.steps
    print(f"{arguments.steps} steps of {BATCH} rows, {tokens:.0f} tokens, in turns, one thread")
    for name, steps in (("our finetune stage", mine), ("bare SFTTrainer", other)):
        middle = statistics.median(steps.cpu[1:])
        print(f"  {name:<20}{1000 * middle:8.1f} CPU ms a step, median")
    for name in ("wall", "cpu"):
        found = ratios(getattr(mine, name), getattr(other, name))
        median, (low, high) = statistics.median(found), interval(found)
        print(f"  {name + ' ratio':<20}{median:8.4f}   95 % {low:.4f} to {high:.4f}")
    print(f"  {'bound':<20}{BOUND:8.4f}   on the median CPU ratio")
    return int(median > BOUND)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--side", choices=("ours", "bare"), help=argparse.SUPPRESS)
    sys.exit(main(parser.parse_args()))
