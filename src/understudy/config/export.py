"""Names and types of `conf/export/`: what an export holds, and how its parity is checked."""

from typing import Literal

from pydantic import PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass

from understudy.config.source import STRICT, FilePath


@dataclass(config=STRICT, frozen=True)
class Parity:
    """The prompts of the test split that all forms of the model answer; tolerances are fixed."""

    prompts: PositiveInt
    tokens: PositiveInt  # of an answer, whose distributions are compared
    server: Literal["serve", "none"]  # none: no server is asked, and the card says so
    server_seconds: PositiveFloat  # until a server must be ready


@dataclass(config=STRICT, frozen=True)
class ExportConfig:
    """What `understudy export` writes."""

    what: Literal["merged", "adapter", "gguf"]
    dtype: Literal["auto", "float32", "bfloat16", "float16"]  # auto = as it was judged
    llama_cpp: FilePath | None  # a checkout of llama.cpp, for gguf
    python: FilePath | None  # that runs llama.cpp's converter; null = this one
    parity: Parity
