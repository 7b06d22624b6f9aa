"""TRL's trainer with our schedule, our validation loss and checkpoints that survive a crash.

Importing this costs nine seconds; `finetune.run` does so, and nothing else should.
"""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import PrinterCallback, TrainerCallback, TrainerControl, TrainerState
from trl import SFTConfig, SFTTrainer, pack_dataset

from understudy import local_model
from understudy.config import Config
from understudy.config import Trainer as Recipe
from understudy.finetune_data import IGNORED, Encoded, Steps, split_batch
from understudy.finetune_history import History, chosen, is_stale

_COMPLETE = "COMPLETE"  # written into a checkpoint last; without it, the checkpoint is torn
_TO_SHIP = ("model*.safetensors*", "config.json", "generation_config.json", "adapter_*")


class Trainer(SFTTrainer):  # type: ignore[misc]
    """SFTTrainer that measures the validation loss per token, whatever the batch size."""

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Mean loss per answer token; the stock one averages the means of padded batches."""
        self.model.eval()
        totals = torch.zeros(2, dtype=torch.float64)  # loss, tokens
        for batch in self.get_eval_dataloader():
            inputs = self._prepare_inputs(batch)
            tokens = int((inputs["labels"][:, 1:] != IGNORED).sum())
            with torch.no_grad(), self.compute_loss_context_manager():
                # Divided by one item only, the loss is the batch's sum.
                loss = self.compute_loss(self.model, inputs, num_items_in_batch=torch.tensor(1))
            totals += torch.tensor([float(loss), tokens], dtype=torch.float64)
        metrics = {"eval_loss": float(totals[0] / totals[1])}
        self.log(metrics)
        self.control: TrainerControl = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics

    @property
    def tokens_seen(self) -> int:
        """Tokens trained on by this process, without padding."""
        return int(self._total_train_tokens)

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """Write none: the export stage makes the card that people read."""


class Schedule(TrainerCallback):  # type: ignore[misc]
    """Says when to evaluate, save and stop, marks whole checkpoints, and reports progress."""

    def __init__(
        self, steps: Steps, recipe: Recipe, has_validation: bool, advance: Callable[..., None]
    ) -> None:
        self.steps = steps
        self._recipe = recipe
        self._has_validation = has_validation
        self._advance = advance

    def on_train_begin(
        self, args: Any, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self._advance(state.global_step)

    def on_step_end(
        self, args: Any, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        is_checkpoint = state.global_step in self.steps.checkpoints
        control.should_evaluate = is_checkpoint and self._has_validation
        control.should_save = is_checkpoint

    def on_evaluate(
        self, args: Any, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        if is_stale(state.log_history, self._recipe.patience):
            control.should_training_stop = True

    def on_log(
        self,
        args: Any,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float],
        **_: Any,
    ) -> None:
        if "loss" in logs:
            self._advance(1, f"loss {logs['loss']:.3f}")

    def on_save(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        checkpoints = Path(args.output_dir)
        _mark_complete(checkpoint(checkpoints, state.global_step))
        # Paths in the trainer's own state go stale when an attempt is continued under a new
        # name, so the rotation is ours: keep what may be shipped and what is resumed from.
        keep = {state.global_step, chosen(state.log_history, self._recipe.keep)}
        for path in checkpoints.glob("checkpoint-*"):
            if _step(path) not in keep:
                shutil.rmtree(path)


def checkpoint(checkpoints: Path, step: int) -> Path:
    """Where the trainer saves after `step`."""
    return checkpoints / f"checkpoint-{step}"


def newest_complete(checkpoints: Path) -> Path | None:
    """The checkpoint to go on from; those torn by a crash are deleted."""
    complete = []
    for path in checkpoints.glob("checkpoint-*"):
        if (path / _COMPLETE).is_file():
            complete.append(path)
        else:
            shutil.rmtree(path)
    return max(complete, key=_step, default=None)


def history_of(path: Path) -> History:
    """The log history that a checkpoint carries."""
    state = json.loads((path / "trainer_state.json").read_text(encoding="utf-8"))
    history: History = state["log_history"]
    return history


def ship(path: Path, model_dir: Path) -> None:
    """Copy the model, without optimiser and random states, out of a checkpoint."""
    shutil.rmtree(model_dir, ignore_errors=True)
    model_dir.mkdir()
    for pattern in _TO_SHIP:
        for file in path.glob(pattern):
            shutil.copy2(file, model_dir / file.name)


def _step(path: Path) -> int:
    return int(path.name.rpartition("-")[2])


def _mark_complete(path: Path) -> None:
    """Leave the mark only after every byte of the checkpoint is on the disk."""
    for file in path.iterdir():
        with file.open("rb") as written:
            os.fsync(written.fileno())
    (path / _COMPLETE).touch()


def first_batch(trainer: Trainer) -> dict[str, Any]:
    """A batch as the model will get it, without moving the random numbers of the training."""
    with torch.random.fork_rng(devices=[]):
        batch: dict[str, Any] = next(iter(trainer.get_train_dataloader()))
    return batch


def dataset(rows: list[Encoded], packed_to: int | None) -> Dataset:
    """The rows as the trainer's collator takes them: ids and labels, packed or not."""
    made = Dataset.from_dict(
        {"input_ids": [list(row.ids) for row in rows], "labels": [row.labels for row in rows]}
    )
    return made if packed_to is None else pack_dataset(made, packed_to, "bfd")


def make_trainer(
    config: Config,
    model: Any,
    tokenizer: Any,
    train: Dataset,
    validation: Dataset | None,
    checkpoints: Path,
    schedule: Schedule,
) -> Trainer:
    """The trainer of this config; the data arrive ready, so TRL prepares nothing."""
    recipe = config.trainer
    per_device, accumulation = split_batch(recipe)
    has_gpu = torch.cuda.is_available()
    precision = local_model.precision(recipe.precision)
    checkpointing = recipe.gradient_checkpointing
    args = SFTConfig(
        output_dir=str(checkpoints),
        max_steps=schedule.steps.total,
        per_device_train_batch_size=per_device,
        per_device_eval_batch_size=8 if recipe.packing else per_device,
        gradient_accumulation_steps=accumulation,
        learning_rate=recipe.lr,
        lr_scheduler_type=recipe.schedule,
        warmup_steps=round(recipe.warmup * schedule.steps.total),
        weight_decay=recipe.weight_decay,
        seed=config.seed,
        max_length=recipe.max_length,
        packing=recipe.packing,
        eval_packing=False,
        dataset_kwargs={"skip_prepare_dataset": True},
        use_cpu=not has_gpu,
        bf16=precision == "bf16",
        fp16=precision == "fp16",
        gradient_checkpointing=None,  # TRL's own default is the deprecated name of the next line
        # On a CPU it only costs time.
        activation_checkpointing=has_gpu if checkpointing is None else checkpointing,
        dataloader_pin_memory=has_gpu,
        eval_strategy="no",  # `Schedule` says when
        save_strategy="no",
        logging_steps=1,
        logging_nan_inf_filter=False,
        disable_tqdm=True,
        report_to="none",
    )
    trainer = Trainer(
        model=model,
        args=args,
        train_dataset=train,
        eval_dataset=validation,
        processing_class=tokenizer,
        callbacks=[schedule],
    )
    trainer.remove_callback(PrinterCallback)  # it prints every log to stdout
    return trainer
