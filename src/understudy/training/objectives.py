"""TRL's trainers of preferences, with our schedule, checkpoints and validation loss.

What SFT's trainer does about checkpoints, ranks and signals is shared; only data, loss and the
reference, which is the model of SFT as it was, are these trainers' own.
"""

import functools
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import TrainerControl
from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer

from understudy.config import Config
from understudy.training import trainer as sft
from understudy.training.data import Example


class _Preferring(sft.Shared):
    """What both have in common: data that arrive as tokens, and a loss per example."""

    def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
        return dataset

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Mean loss per example of validation; every rank computes all of it, so none is padded."""
        self.model_wrapped.eval()
        total, size = 0.0, self.args.per_device_eval_batch_size
        for start in range(0, len(self.eval_dataset), size):
            examples = self.eval_dataset.select(
                range(start, min(start + size, len(self.eval_dataset)))
            ).to_list()
            inputs = self._prepare_inputs(self.data_collator(examples))
            with torch.no_grad(), self.compute_loss_context_manager():
                total += float(self.compute_loss(self.model_wrapped, inputs)) * len(examples)
        metrics = {"eval_loss": total / len(self.eval_dataset)}
        self.log(metrics)
        self.control: TrainerControl = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics


class PairTrainer(_Preferring, DPOTrainer):  # type: ignore[misc]
    """DPO: the wanted answer before a worse one of the model's own."""


class AnswerTrainer(_Preferring, KTOTrainer):  # type: ignore[misc]
    """KTO: each answer alone, good or bad."""


def make_trainer(
    config: Config,
    model: Any,
    reference: Any,
    tokenizer: Any,
    train: list[Example],
    validation: list[Example],
    checkpoints: Path,
    schedule: sft.Schedule,
) -> PairTrainer | AnswerTrainer:
    """The trainer of this config; `reference` None = the adapter as it is now."""
    common = sft.arguments(config, checkpoints, schedule)
    common |= {"beta": config.preference.beta, "max_length": config.trainer.max_length}
    args: DPOConfig | KTOConfig
    kind: type[PairTrainer | AnswerTrainer]
    if config.trainer.kind == "dpo":
        args, kind = DPOConfig(**common), PairTrainer
    else:
        # The other loss takes its KL from a row's neighbours, which differ from rank to rank.
        loss = {"loss_type": "apo_zero_unpaired", "train_sampling_strategy": "random"}
        args, kind = KTOConfig(**common, **loss), AnswerTrainer
    made = kind(
        model=model,
        ref_model=reference,
        args=args,
        train_dataset=Dataset.from_list(train),
        eval_dataset=Dataset.from_list(validation) if validation else None,
        processing_class=tokenizer,
        callbacks=[schedule],
    )
    if config.trainer.trains == "lora":
        # TRL keeps the reference as a second adapter; saved, it would be gone on from.
        model.save_pretrained = functools.partial(
            model.save_pretrained, selected_adapters=["default"]
        )
    sft.settle(made, config)
    return made
