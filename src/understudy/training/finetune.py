"""Stage finetune: the local model, trained on the subset's rows.

reads   `subset` (rows to train on), `split` (its validation rows, for early stopping only) and,
        for `trainer.start=previous`, `previous` (an earlier finetune)
writes  model/ (the whole model, or a PEFT adapter), summary.json, curve.jsonl

With `start=previous`, lora goes on training the earlier adapter, so that what is shipped is one
adapter on the base model, whatever the round.
"""

import json
import resource
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

from understudy.config import Model
from understudy.errors import BadInput
from understudy.models import load, ranks
from understudy.records import Coverage, dumps
from understudy.store.artifacts import Job, write_atomically
from understudy.store.progress import track
from understudy.training import checkpoints as saved
from understudy.training import model as finetune_model
from understudy.training.data import Encodings, check_batch, encode_rows, plan_steps
from understudy.training.failures import explained
from understudy.training.history import History, chosen, curve, facts, is_over
from understudy.training.signals import Signals


def run(job: Job) -> None:
    """Encode, train, ship the chosen checkpoint, write down how it went."""
    recipe, model = job.config.trainer, job.config.model
    started = time.monotonic()
    load.quiet()
    load.use_threads(job.config.cluster.threads)
    tokenizer = load.tokenizer(model)
    data = _encode(job, tokenizer)
    rows = len(job.rows("subset", Coverage))
    with explained(job.config):
        model_now, of_model = finetune_model.start(job, tokenizer, rows)
        history = _train(job, tokenizer, model_now, data)
    ranks.part()
    if ranks.rank() > 0:
        return

    model_dir = job.out / "model"
    step = chosen(history, recipe.keep)
    saved.ship(saved.checkpoint(_checkpoints(job), step), model_dir)
    tokenizer.save_pretrained(model_dir)
    _make_portable(model_dir / "adapter_config.json", model)
    lines = "".join(f"{dumps(line)}\n" for line in curve(history))
    write_atomically(job.out / "curve.jsonl", lines)
    job.write_summary(
        data.counts() | facts(history, recipe.keep) | of_model | {"seed": job.config.seed}
    )
    job.notes["seconds"] = round(time.monotonic() - started, 1)
    job.notes.update(accelerate=job.config.accelerate.kind, processes=ranks.count())
    job.notes["peak_memory_mb"] = _peak_memory_mb()


class Data(NamedTuple):
    """What is trained on, and what is only measured."""

    train: Encodings
    validation: Encodings

    def counts(self) -> dict[str, int]:
        """The part of the summary that the data tell."""
        return {
            "rows": len(self.train.rows),
            "rows_over_length": self.train.over_length,
            "rows_misaligned": self.train.misaligned,
            "tokens": sum(len(row.ids) for row in self.train.rows),
            "answer_tokens": sum(len(row.ids) - row.prompt_tokens for row in self.train.rows),
            "validation_rows": len(self.validation.rows),
            "validation_rows_over_length": self.validation.over_length,
            "validation_rows_misaligned": self.validation.misaligned,
        }


def _encode(job: Job, tokenizer: Any) -> Data:
    recipe = job.config.trainer
    rows = job.rows("subset", Coverage)
    held = [row for row in job.rows("split", Coverage) if row.split == "validation"]
    if not rows:
        raise BadInput("the subset is empty: there is no row to train on")
    if not held and (recipe.keep == "best" or recipe.patience is not None):
        raise BadInput(
            f"trainer.keep={recipe.keep} with trainer.patience={recipe.patience} needs "
            "validation rows and there are none: raise coverage.split.validation, or give "
            "trainer.keep=last trainer.patience=null"
        )
    stop = load.stop_id(tokenizer, job.config.model)
    return Data(
        encode_rows(rows, tokenizer, stop, recipe.max_length, "training", recipe.loss),
        encode_rows(held, tokenizer, stop, recipe.max_length, "validation", recipe.loss),
    )


def _train(job: Job, tokenizer: Any, model: Any, data: Data) -> History:
    """Train, or go on from the newest whole checkpoint; what was logged on the way."""
    from understudy.training import trainer as trl_side  # nine seconds, so not at the top

    config, recipe = job.config, job.config.trainer
    train = trl_side.dataset(data.train.rows, recipe.max_length if recipe.packing else None)
    held = trl_side.dataset(data.validation.rows, None) if data.validation.rows else None
    steps = plan_steps(len(train), recipe)
    resumed = saved.newest_complete(_checkpoints(job), config.accelerate.kind)
    is_first = ranks.rank() == 0
    bar = track("finetune", steps.total, "steps") if is_first else nullcontext(lambda *_: None)
    with bar as advance, Signals() as signals:
        schedule = trl_side.Schedule(steps, config, held is not None, advance, signals)
        trainer = trl_side.make_trainer(
            config, model, tokenizer, train, held, _checkpoints(job), schedule
        )
        check_batch(
            trl_side.first_conversations(trainer),
            load.stop_id(tokenizer, config.model),
            {row.ids: row.masked for row in data.train.rows},
        )
        if resumed:
            history = saved.history_of(resumed)
            # A crash after the last checkpoint leaves nothing to train.
            if is_over(history, steps.total, recipe.patience):
                return history
        began = time.monotonic()
        trainer.train(resume_from_checkpoint=str(resumed) if resumed else None)
        job.notes["tokens_per_second"] = round(trainer.tokens_seen / (time.monotonic() - began), 1)
    logged: History = trainer.state.log_history
    if not is_over(logged, steps.total, recipe.patience):
        if is_first:
            done = f"step {trainer.state.global_step} of {steps.total}"
            print(f"  finetune: interrupted, a checkpoint is at {done}", file=sys.stderr)
        raise KeyboardInterrupt
    return logged


def _checkpoints(job: Job) -> Path:
    return job.scratch / "checkpoints"


def _make_portable(path: Path, model: Model) -> None:
    """Let an adapter name its base by what it is, not by where it was on this machine."""
    if path.is_file():
        adapter = json.loads(path.read_text(encoding="utf-8"))
        adapter["base_model_name_or_path"] = model.repo or model.name
        adapter["revision"] = model.revision
        if isinstance(adapter["target_modules"], list):
            adapter["target_modules"].sort()  # PEFT writes a set, in this process's hash order
        write_atomically(path, json.dumps(adapter, indent=1, sort_keys=True))


def _peak_memory_mb() -> float:
    import torch

    if torch.cuda.is_available():
        megabytes = float(torch.cuda.max_memory_allocated()) / 2**20
    else:
        megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    return round(megabytes, 1)
