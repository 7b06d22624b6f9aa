"""Answers to a split's prompts, by the local model or the service; what decoding is asked for.

The stage is `stage.py`; `decode.py` is the one loop in which it and the server sample, and
`vllm.py` the one bridge to vLLM. Importing this is cheap: torch is theirs.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

from understudy.records import Tool


class PromptSample(NamedTuple):
    """One sampling of the stage: of the k-th answer or, when greedy, of all answers to a prompt."""

    prompt_id: str
    group_id: str
    ids: tuple[int, ...]  # the prompt's tokens
    ks: tuple[int, ...]
    tools: tuple[Tool, ...] | None = None  # None: of a prompt without tools, whose answer is text

    @property
    def k(self) -> int:
        """The number of the first of its answers."""
        return self.ks[0]


@dataclass(frozen=True)
class Sampling:
    """How the stage samples all answers; a temperature of 0 is greedy."""

    seed: int
    temperature: float
    max_new_tokens: int
    stop_ids: frozenset[int]
    stop_texts: tuple[str, ...]
    shares_start: bool = False  # what all prompts of a batch begin with is read once


class Generated(NamedTuple):
    """One answer of the stage; the stop token is neither in `text` nor among `tokens`."""

    tokens: list[int]
    text: str
    is_stopped: bool


@dataclass(frozen=True, kw_only=True)
class DecodeRequest:
    """`n` answers to the prompt `ids`, and how each is sampled."""

    ids: tuple[int, ...]
    max_tokens: int
    n: int = 1
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()
    presence: float = 0.0
    frequency: float = 0.0
    bias: dict[int, float] = field(default_factory=dict)  # token -> added to its logit
    top_k: int = 0  # the likeliest tokens that are drawn from; 0 = all
    min_p: float = 0.0  # the least probability of a token, as a share of the likeliest one's
    min_tokens: int = 0  # before any stop token; not for an answer that keeps to a schema
    stop_ids: tuple[int, ...] = ()  # beside the model's own
    ignores_end: bool = False  # go on at the model's own stop tokens
    schema: str | None = None  # the JSON schema that the text must keep to
    top_logprobs: int | None = None  # None = no log-probabilities at all
    scores_prompt: bool = False  # log-probabilities of the prompt, too
    is_streamed: bool = False  # the text is wanted while it grows

    @property
    def key(self) -> str:
        """The prompt's name in `decode.uniforms`: equal prompts draw equal numbers."""
        return " ".join(map(str, self.ids))


class Logprob(NamedTuple):
    """A token's natural log-probability under the model, before temperature and penalties."""

    token: int
    logprob: float
    top: list[tuple[int, float]]  # the likeliest tokens, best first
