"""Stage finetune: the local model, trained on the subset's rows.

reads   `subset` (rows to train on), `split` (its validation rows, for early stopping only) and,
        for `trainer.start=previous`, `previous` (an earlier finetune)
writes  model/ (the whole model, or a PEFT adapter), summary.json, curve.jsonl

With `start=previous`, lora goes on training the earlier adapter, so that what is shipped is one
adapter on the base model, whatever the round.

`run_preferring` is the same stage after SFT (`trainer.kind` dpo or kto): it reads `preference`
(labelled answers) instead of rows, and `previous` is the model of SFT.
"""

import functools
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

from understudy.config import Config, ModelConfig
from understudy.config.accelerate import split_batch
from understudy.data import shots
from understudy.errors import BadInput, EnvironmentFailed
from understudy.models import load, ranks, tokens
from understudy.records import Coverage, dumps
from understudy.store.artifacts import Job, write_atomically
from understudy.store.progress import track
from understudy.training import checkpoints as saved
from understudy.training import contrast
from understudy.training.checkpoints import (
    History,
    Ready,
    checkpoints_of,
    chosen,
    curve,
    facts,
    is_over,
)
from understudy.training.contrast import Contrasted
from understudy.training.data import Encodings, adapter_size, check_batch, encode_rows, plan_steps

# torch.OutOfMemoryError, PyTorch's allocator for the CPU, the kernel's ENOMEM
_MEMORY = ("out of memory", "can't allocate memory", "cannot allocate memory")
# Gloo's and NCCL's words for a rank that is gone
_PEER = ("closed by peer", "reset by peer", "gloo", "nccl")


def run(job: Job) -> None:
    """Fine-tune on rows with their wanted answers."""
    _run(job, _encode)


def run_preferring(job: Job) -> None:
    """Go on from the model of SFT with its own answers, labelled."""
    _run(job, contrast.encoded)


def _run(job: Job, encode: Callable[[Job, Any], "Data | Contrasted"]) -> None:
    """Encode, train, ship the chosen checkpoint, write down how it went."""
    recipe, model = job.config.trainer, job.config.model
    started = time.monotonic()
    load.quiet()
    load.use_threads(job.config.cluster.threads)
    tokenizer = load.tokenizer(model)
    data = encode(job, tokenizer)
    rows = len(job.rows("subset", Coverage))
    with explained(job.config):
        model_now, of_model = start(job, tokenizer, rows)
        history = _train(job, tokenizer, model_now, data)
    ranks.part()
    if ranks.rank() > 0:
        return

    model_dir = job.out / "model"
    step = chosen(history, recipe.keep)
    saved.ship(saved.checkpoint(checkpoints_of(job), step), model_dir)
    tokenizer.save_pretrained(model_dir)
    _make_portable(model_dir / "adapter_config.json", model)
    lines = "".join(f"{dumps(line)}\n" for line in curve(history))
    write_atomically(job.out / "curve.jsonl", lines)
    job.write_summary(
        data.counts() | facts(history, recipe.keep) | of_model | {"seed": job.config.seed}
    )
    job.notes["seconds"] = round(time.monotonic() - started, 1)
    job.notes.update(accelerate=job.config.accelerate.kind, processes=ranks.count())
    job.notes["peak_memory_mb"] = round(ranks.peak_memory_mb(), 1)


class Data(NamedTuple):
    """What is trained on, and what is only measured."""

    train: Encodings
    validation: Encodings

    def counts(self) -> dict[str, int]:
        """The part of the summary that the data tell."""
        unlearnt = sum(end - begin for row in self.train.rows for begin, end in row.unlearnt)
        return ({"unlearnt_tokens": unlearnt} if unlearnt else {}) | {
            "rows": len(self.train.rows),
            "rows_over_length": self.train.over_length,
            "rows_misaligned": self.train.misaligned,
            "tokens": sum(len(row.ids) for row in self.train.rows),
            "answer_tokens": sum(len(row.ids) - row.prompt_tokens for row in self.train.rows),
            "validation_rows": len(self.validation.rows),
            "validation_rows_over_length": self.validation.over_length,
            "validation_rows_misaligned": self.validation.misaligned,
        }

    def ready(self, job: Job, tokenizer: Any, model: Any) -> Ready:
        """The data as the trainer takes them; the trainer is made once the steps are planned."""
        from understudy.training import trainer as trl_side  # nine seconds, so not at the top

        config, recipe = job.config, job.config.trainer
        train = trl_side.dataset(self.train.rows, recipe.max_length if recipe.packing else None)
        held = trl_side.dataset(self.validation.rows, None) if self.validation.rows else None

        def make(schedule: Any) -> Any:
            made = trl_side.make_trainer(
                config, model, tokenizer, train, held, checkpoints_of(job), schedule
            )
            stop = load.stop_id(tokenizer, config.model)
            check_batch(trl_side.first_conversations(made), stop, self.train.rows)
            return made

        return Ready(len(train), held is not None, make)


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
    if (first := shots.of(job.config, job.rows("split", Coverage))) is not None:
        most = recipe.max_length
        rows, held = (
            [first.around(row, load.counter(tokenizer, row.tools), most) for row in some]
            for some in (rows, held)
        )
    stop = load.stop_id(tokenizer, job.config.model)
    tolerance, made = job.config.coverage.tolerance, list[Encodings]()
    for what, some in (("training", rows), ("validation", held)):
        one = encode_rows(some, tokenizer, stop, recipe.max_length, what, recipe.loss, tolerance)
        made.append(one)
        if len(some) - len(one.rows) > tolerance * len(some):
            warning = one.lost(what, recipe.max_length)
            job.notes.setdefault("warnings", []).append(f"finetune: {warning}")
    return Data(*made)


def _train(job: Job, tokenizer: Any, model: Any, data: Data | Contrasted) -> History:
    """Train, or go on from the newest whole checkpoint; what was logged on the way."""
    from understudy.training import trainer as trl_side

    config, recipe = job.config, job.config.trainer
    ready = data.ready(job, tokenizer, model)
    steps = plan_steps(ready.sequences, recipe)
    resumed = saved.newest_complete(checkpoints_of(job), config.accelerate.kind)
    is_first = ranks.rank() == 0
    bar = track("finetune", steps.total, "steps") if is_first else nullcontext(lambda *_: None)
    with bar as advance, ranks.Signals() as signals:
        schedule = trl_side.Schedule(steps, config, ready.has_validation, advance, signals)
        trainer = ready.make(schedule)
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


def _make_portable(path: Path, model: ModelConfig) -> None:
    """Let an adapter name its base by what it is, not by where it was on this machine."""
    if path.is_file():
        adapter = json.loads(path.read_text(encoding="utf-8"))
        adapter["base_model_name_or_path"] = model.repo or model.name
        adapter["revision"] = model.revision
        if isinstance(adapter["target_modules"], list):
            adapter["target_modules"].sort()  # PEFT writes a set, in this process's hash order
        write_atomically(path, json.dumps(adapter, indent=1, sort_keys=True))


# --- the model to start from -----------------------------------------------------------------


def start(job: Job, tokenizer: Any, rows: int) -> tuple[Any, dict[str, int]]:
    """The base model, with a fresh adapter if the recipe wants one, or the earlier round's model.

    `rows` is the size of the training set, which may decide the adapter's rank. The second value
    is what the summary says of the model.
    """
    loaded = _load(job, tokenizer, rows)
    # Counted now: what shards a model while it trains leaves its parameters empty.
    trained = sum(p.numel() for p in loaded.parameters() if p.requires_grad)
    found = {"trainable_parameters": trained}
    if job.config.trainer.trains == "lora":
        found["lora_rank"] = loaded.peft_config["default"].r
    return loaded, found


def _load(job: Job, tokenizer: Any, rows: int) -> Any:
    import transformers

    recipe, model = job.config.trainer, job.config.model
    transformers.set_seed(job.config.seed)  # a fresh adapter starts at random
    if recipe.start == "previous" and "previous" in job.inputs:
        path = job.inputs["previous"] / "model"
        if load.is_adapter(path) != (recipe.trains == "lora"):
            raise BadInput(f"trainer.kind={recipe.trains} cannot go on from the model in {path}")
        if recipe.trains == "full":
            return load.finetuned(model, path, load.full_precision())
        base = _frozen_base(job.config)  # as before, NF4 weights and fp32 norms included
        return _ready(load.adapted(base, model, path, is_trainable=True))
    if recipe.trains == "full":
        return load.base(model, load.full_precision(), recipe)
    return _with_adapter(_frozen_base(job.config), job.config, tokenizer, rows)


def _frozen_base(config: Config) -> Any:
    recipe = config.trainer
    kind = load.frozen_precision(recipe.precision)
    base = load.base(config.model, kind, recipe)
    if recipe.quantization == "nf4":
        import peft

        # Checkpointing is the trainer's business; this makes norms and head fp32, as QLoRA does.
        base = peft.prepare_model_for_kbit_training(base, use_gradient_checkpointing=False)
    return base


def _with_adapter(base: Any, config: Config, tokenizer: Any, rows: int) -> Any:
    import peft

    recipe, model = config.trainer, config.model
    size = adapter_size(recipe, rows)
    trained_rows = None
    if model.new_tokens and recipe.new_token_rows == "trained":
        trained_rows = tokens.trainable(base, tokenizer, model.new_tokens)
    lora = peft.LoraConfig(
        r=size.rank,
        lora_alpha=size.alpha,
        lora_dropout=recipe.lora_dropout,
        target_modules=recipe.lora_targets or model.lora_targets,
        trainable_token_indices=trained_rows,
        task_type="CAUSAL_LM",
    )
    return _ready(peft.get_peft_model(base, lora))


def _ready(adapted: Any) -> Any:
    """The adapted model, fit for TRL, and saving no embeddings beside the adapter.

    New rows are made again where the adapter is loaded, or saved by themselves.
    """
    adapted.save_pretrained = functools.partial(
        adapted.save_pretrained, save_embedding_layers=False
    )
    head = adapted.get_output_embeddings()
    if not hasattr(head, "bias"):  # PEFT's wrapper of trained rows; TRL's fused loss asks for it
        head.bias = None
    return adapted


# --- what the machine is to blame for ----------------------------------------------------------


@contextmanager
def explained(config: Config) -> Iterator[None]:
    """Turn what the machine is to blame for, in the block, into EnvironmentFailed."""
    try:
        yield
    except (MemoryError, RuntimeError, OSError) as error:
        words = str(error).lower()
        if isinstance(error, MemoryError) or any(word in words for word in _MEMORY):
            raise EnvironmentFailed(_out_of_memory(config)) from error
        if ranks.count() > 1 and any(word in words for word in _PEER):
            ranks.await_cause()  # the launcher of the rank that died knows more
            raise EnvironmentFailed(
                f"rank {ranks.rank()} has lost another rank of the training (its host's log may "
                "say why); the last checkpoint is kept, and the same command goes on from it"
            ) from error
        raise


def _out_of_memory(config: Config) -> str:
    """What to change, in one sentence."""
    recipe, kind = config.trainer, config.accelerate.kind
    per_device, _ = split_batch(
        recipe.batch_size, recipe.per_device_batch, recipe.packing, ranks.count()
    )
    if per_device > 1:
        # The largest divisor below it keeps the division of the batch even.
        smaller = max(n for n in range(1, per_device) if per_device % n == 0)
        change = f"set trainer.per_device_batch={smaller} (now {per_device})"
    elif recipe.trains == "full":
        change = "choose trainer=lora, or a smaller model"
    else:
        change = "choose a smaller model"
    if kind != "zero3_offload":
        change += ", or choose accelerate=" + ("zero3_offload" if "zero3" in kind else "zero3")
    return (
        f"out of memory while fine-tuning model={config.model.name}: {change}; "
        "the last checkpoint is kept, and the command goes on from it"
    )
