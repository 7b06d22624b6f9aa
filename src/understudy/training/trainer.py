"""TRL's trainer with our schedule, our validation loss and checkpoints that survive a crash.

Importing this costs nine seconds; `finetune.run` does so, and nothing else should.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate.data_loader import SeedableRandomSampler
from datasets import Dataset, concatenate_datasets
from torch.utils.data import Sampler
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainerControl, TrainerState
from trl import SFTConfig, SFTTrainer, pack_dataset

from understudy.config import Config
from understudy.config.accelerate import AccelerateConfig, split_batch
from understudy.errors import Internal
from understudy.models import load, ranks
from understudy.store.progress import Loss, note_loss
from understudy.training import checkpoints as saved
from understudy.training import unpadded
from understudy.training.checkpoints import check_finite, chosen, is_stale
from understudy.training.data import IGNORED, Conversation, Encoded, StepPlan, conversations

_BLANK = [0, 0]


class Shared(Trainer):  # type: ignore[misc]
    """What every trainer of TRL's does as we need it; stands before it among the bases."""

    blank_rows = 0  # at the end of the training rows, where several ranks share them

    @property
    def tokens_seen(self) -> int:
        """Tokens trained on by this command, without padding."""
        return int(self._total_train_tokens)

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        # zero1 and zero2 leave the weights whole; Accelerate's copy of them unties tied ones.
        if self.is_deepspeed_enabled and self.accelerator.deepspeed_plugin.zero_stage < 3:
            state_dict = None
        super()._save(output_dir, state_dict)

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> Any:
        if ranks.count() == 1:
            return super()._get_train_sampler(train_dataset)
        rows = len(self.train_dataset) - self.blank_rows
        per_device = self.args.per_device_train_batch_size
        batch = per_device * self.args.gradient_accumulation_steps * ranks.count()
        steps = math.ceil(rows / batch)
        return Order(rows, per_device, lambda: self.state.global_step // steps)

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """Write none: the export stage makes the card that people read."""


class LossTrainer(Shared, SFTTrainer):  # type: ignore[misc]
    """SFTTrainer that measures the validation loss per token, whatever the batch size."""

    blank_rows = 1

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Mean loss per answer token; the stock one averages the means of padded batches."""
        self.model_wrapped.eval()
        totals = torch.zeros(2, dtype=torch.float64)  # loss, tokens
        for batch in self.get_eval_dataloader():
            inputs = self._prepare_inputs(batch)
            tokens = int((inputs["labels"][:, 1:] != IGNORED).sum())
            with torch.no_grad(), self.compute_loss_context_manager():
                # Divided by one item only, the loss is the batch's sum; times the ranks, for DDP.
                one = torch.tensor(1)
                loss = self.compute_loss(self.model_wrapped, inputs, num_items_in_batch=one)
            totals += torch.tensor([float(loss) / ranks.count(), tokens], dtype=torch.float64)
        totals = ranks.total(totals)
        metrics = {"eval_loss": float(totals[0] / totals[1])}
        self.log(metrics)
        self.control: TrainerControl = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """The stock loss, or that of a line."""
        if "line" not in inputs:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        if model.training:
            self._total_train_tokens += unpadded.tokens(inputs)
            self._metrics["train"]["num_tokens"] = [self._total_train_tokens]
        return unpadded.loss(model, inputs, num_items_in_batch)


class Schedule(TrainerCallback):  # type: ignore[misc]
    """Says when to evaluate, save and stop, marks whole checkpoints, and reports progress."""

    def __init__(
        self,
        steps: StepPlan,
        config: Config,
        has_validation: bool,
        advance: Callable[..., None],
        signals: ranks.Signals,
    ) -> None:
        self.steps = steps
        self._signals = signals
        self._recipe = config.trainer
        self._kind = config.accelerate.kind
        self._has_validation = has_validation
        self._advance = advance
        self._saved = time.monotonic()

    def on_train_begin(
        self, args: Any, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self._advance(state.global_step)
        self._saved = time.monotonic()

    def on_step_end(
        self, args: Any, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        is_checkpoint = state.global_step in self.steps.checkpoints
        control.should_evaluate = is_checkpoint and self._has_validation
        control.should_save = is_checkpoint or self._is_time_to_save()
        if self._signals.have_come() and state.global_step < self.steps.total:
            control.should_save = control.should_training_stop = True

    def _is_time_to_save(self) -> bool:
        """Whether `trainer.checkpoint_minutes` are over on any rank; every rank must ask."""
        minutes = self._recipe.checkpoint_minutes
        if minutes is None:
            return False
        return ranks.any_of(time.monotonic() - self._saved >= 60 * minutes)

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
        # Before a broken model is saved
        check_finite(state.log_history[-1], self._recipe.lr, has_scaler=args.fp16)
        if "loss" in logs:
            self._advance(1, f"loss {logs['loss']:.3f}")
        if ranks.rank() == 0:
            for key, name in (("loss", "train_loss"), ("eval_loss", "validation_loss")):
                if key in logs:
                    loss = Loss(state.global_step, self.steps.total, name, float(logs[key]))
                    note_loss(Path(args.output_dir).parent, loss)

    def on_save(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        ranks.barrier()  # every rank has written its part
        if ranks.rank() == 0:
            checkpoints = Path(args.output_dir)
            saved.mark_complete(checkpoints, state.global_step, self._kind)
            # Paths in the trainer's own state go stale when an attempt is continued under a new
            # name, so the rotation is ours: keep what may be shipped and what is resumed from.
            keep = {state.global_step, chosen(state.log_history, self._recipe.keep)}
            saved.keep_only(checkpoints, keep)
        ranks.barrier()  # none leaves before the mark
        self._saved = time.monotonic()


def _host_optimizer(args: Any) -> tuple[type, dict[str, Any]]:
    """DeepSpeed's AdamW for weights in the host's memory (named in its file, it logs a late lr)."""
    from deepspeed.ops.adam import DeepSpeedCPUAdam

    betas = (args.adam_beta1, args.adam_beta2)
    return DeepSpeedCPUAdam, {"lr": args.learning_rate, "betas": betas, "eps": args.adam_epsilon}


def _check_distribution(trainer: Any, asked: AccelerateConfig) -> None:
    """Refuse what Accelerate does in silence: train alone, or without the shards asked for."""
    if (world := trainer.accelerator.num_processes) != ranks.count():
        raise Internal(f"the trainer is one of {world} processes, not of {ranks.count()}")
    shards = {"fsdp": "FSDP"}.get(asked.kind, "DEEPSPEED" if asked.uses_deepspeed else None)
    found = trainer.accelerator.distributed_type.value
    if shards and found != shards:
        raise Internal(f"accelerate={asked.kind} is distributed as {found}, not as {shards}")


def first_conversations(trainer: LossTrainer) -> Iterator[Conversation]:
    """Those of a batch as the model will get it; the random numbers of the training stay put."""
    with torch.random.fork_rng(devices=[]):
        batch = next(iter(trainer.get_train_dataloader()))
    return (one for one in conversations(batch) if not is_blank(one.ids))


# --- ranks share what one process would train on, so that they train the very same steps ----------
#
# The stock loaders repeat rows until every rank has equally many, which changes the last step of
# every epoch and the validation loss. Ours fill up with blank rows: no loss, no tokens counted.


def is_blank(ids: Sequence[int]) -> bool:
    """Whether a conversation is only there to fill up."""
    return list(ids) == _BLANK


def with_blanks(rows: Dataset, count: int) -> Dataset:
    """The rows, and `count` blank ones after them."""
    blank = {"input_ids": _BLANK, "labels": [IGNORED] * len(_BLANK), "seq_lengths": [len(_BLANK)]}
    columns = {name: [blank[name]] * count for name in rows.column_names}
    return concatenate_datasets([rows, Dataset.from_dict(columns, features=rows.features)])


class Order(Sampler):  # type: ignore[misc]
    """The rows in the order in which one process takes them, then blanks until all have a share.

    `rows` is also the index of the blank row; `epoch` says which one begins. (Told by
    `set_epoch`, as stock samplers are, several processes that resume shuffle as in epoch 0.)
    """

    def __init__(self, rows: int, per_device: int, epoch: Callable[[], int]) -> None:
        self._shuffled = SeedableRandomSampler(range(rows))
        self._blank = rows
        self._blanks = -rows % (per_device * ranks.count())
        self._epoch = epoch

    def __iter__(self) -> Iterator[int]:
        self._shuffled.set_epoch(self._epoch())
        yield from self._shuffled
        yield from [self._blank] * self._blanks

    def __len__(self) -> int:
        return self._blank + self._blanks


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
) -> LossTrainer:
    """The trainer of this config; the data arrive ready, so TRL prepares nothing."""
    recipe = config.trainer
    common = arguments(config, checkpoints, schedule)
    if ranks.count() > 1:
        train = with_blanks(train, LossTrainer.blank_rows)
        rest = -len(validation or ()) % (common["per_device_eval_batch_size"] * ranks.count())
        validation = validation and with_blanks(validation, rest)
    args = SFTConfig(
        **common,
        max_length=recipe.max_length,
        packing=recipe.packing,
        eval_packing=False,
        dataset_kwargs={"skip_prepare_dataset": True},
    )
    if recipe.unpadded:
        unpadded.attend(model.get_base_model() if recipe.trains == "lora" else model)
    trainer = LossTrainer(
        data_collator=unpadded.collate if recipe.unpadded else None,
        model=model,
        args=args,
        train_dataset=train,
        eval_dataset=validation,
        processing_class=tokenizer,
        callbacks=[schedule],
    )
    settle(trainer, config)
    return trainer


def arguments(config: Config, checkpoints: Path, schedule: "Schedule") -> dict[str, Any]:
    """What every kind of training is told."""
    recipe = config.trainer
    per_device, accumulation = split_batch(
        recipe.batch_size, recipe.per_device_batch, recipe.packing, ranks.count()
    )
    has_gpu = torch.cuda.is_available()
    precision = load.precision(recipe.precision)
    checkpointing = recipe.gradient_checkpointing
    return {
        "output_dir": str(checkpoints),
        "max_steps": schedule.steps.total,
        "per_device_train_batch_size": per_device,
        "per_device_eval_batch_size": 8 if recipe.packing else per_device,
        "gradient_accumulation_steps": accumulation,
        "learning_rate": recipe.lr,
        "lr_scheduler_type": recipe.schedule,
        "warmup_steps": round(recipe.warmup * schedule.steps.total),
        "weight_decay": recipe.weight_decay,
        "seed": config.seed,
        "use_cpu": not has_gpu,
        "bf16": precision == "bf16",
        "fp16": precision == "fp16",
        "gradient_checkpointing": None,  # TRL's default is the deprecated name of the next line
        # On a CPU it only costs time.
        "activation_checkpointing": has_gpu if checkpointing is None else checkpointing,
        "dataloader_pin_memory": has_gpu,
        "eval_strategy": "no",  # `Schedule` says when
        "save_strategy": "no",
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "disable_tqdm": True,
        "report_to": "none",
        "ddp_find_unused_parameters": False,
    }


def settle(trainer: Any, config: Config) -> None:
    """Do what TRL's constructors leave open; refuse a distribution that was not asked for."""
    if config.accelerate.kind == "zero3_offload":
        trainer.optimizer_cls_and_kwargs = _host_optimizer(trainer.args)
    _check_distribution(trainer, config.accelerate)
    trainer.remove_callback(PrinterCallback)  # it prints every log to stdout
