"""`preference`: what follows SFT where `trainer.kind` is dpo or kto.

The model that SFT has trained answers the train prompts itself; its mistakes teach it. DPO
(Rafailov et al. 2023, arXiv 2305.18290) prefers the wanted answer to each of them, KTO takes every
answer with its verdict alone, here with the loss apo_zero_unpaired (D'Oosterlinck et al. 2024,
arXiv 2408.06266), which has no term that depends on a row's neighbours in the batch.
"""

from typing import Annotated

from pydantic import Field, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass

from understudy.config.source import STRICT


@dataclass(config=STRICT, frozen=True)
class PreferenceConfig:
    """How answers are sampled and labelled, and the recipe that learns from them."""

    samples: PositiveInt  # to each train and validation prompt
    temperature: PositiveFloat
    judge: str | None  # null = every answer in other words than the wanted one is worse
    m: PositiveInt  # verdicts of that judge on an answer
    good: Annotated[float, Field(ge=0, le=100)]  # the mean score from which an answer is as good
    lr_share: PositiveFloat  # times trainer.lr
    epochs: PositiveFloat
    max_steps: PositiveInt | None
    batch_size: PositiveInt  # pairs of dpo, answers of kto
    beta: PositiveFloat
