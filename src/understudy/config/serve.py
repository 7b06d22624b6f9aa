"""Names and types of `conf/serve/`: where the finished model listens, and what it takes."""

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass

from understudy.config.source import STRICT, Count, FilePath


@dataclass(config=STRICT, frozen=True)
class ServeConfig:
    """How `understudy serve` serves, whichever engine computes."""

    host: str
    port: Annotated[int, Field(ge=0, le=65535)]  # 0 = a free one
    engine: Literal["transformers", "vllm"]
    python: FilePath | None  # that has vLLM; null = inference.python
    name: str | None  # the `model` that clients ask for; null = that of the run or directory
    threads: PositiveInt | None  # of the CPU; null = as many as torch chooses
    batch_size: PositiveInt  # answers that are decoded together
    queue: Count  # further answers that may wait; then 429
    context: PositiveInt | None  # tokens of prompt and answer; null = the model's
    max_tokens: PositiveInt | None  # of an answer; null = what the context leaves
    max_choices: PositiveInt  # `n` of one request
    max_body_bytes: PositiveInt
    prefill_tokens: PositiveInt  # of prompts that are read between two steps of decoding
    patience_s: PositiveFloat  # for a request to arrive, and for answers to end at shutdown
