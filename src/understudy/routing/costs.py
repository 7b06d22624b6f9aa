"""What a call will cost before its answer is known.

A price list turns tokens into dollars; `CostModel` predicts the dollars of a call, or its output
tokens, from the length of the query, fitted on queries whose answers are known.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from understudy.errors import BadInput

Array = NDArray[np.float64]
BYTES_PER_TOKEN = (
    4.0  # English text under the byte-pair vocabularies in use; for input without count
)


@dataclass(frozen=True)
class Price:
    """USD per million input tokens, per million output tokens, and per request."""

    input: float
    output: float
    request: float = 0.0

    def __call__(self, tokens_in: Array, tokens_out: Array) -> Array:
        """USD of calls."""
        return (self.input * tokens_in + self.output * tokens_out) / 1e6 + self.request


FREE = Price(0, 0)


def parse_price(text: str) -> tuple[str, Price]:
    """`NAME=IN/OUT` or `NAME=IN/OUT/REQUEST`: USD per million tokens and per request."""
    name, equals, amounts = text.rpartition("=")
    try:
        values = [float(amount) for amount in amounts.split("/")]
    except ValueError:
        values = []
    if not (name and equals and len(values) in (2, 3) and all(0 <= v < np.inf for v in values)):
        raise BadInput(
            f"the price {text!r} is not NAME=IN/OUT or NAME=IN/OUT/REQUEST, in USD per million "
            "tokens (and per request), such as gpt-4o=2.5/10"
        )
    return name, Price(*values)


def lengths(texts: Sequence[str]) -> Array:
    """UTF-8 bytes of each text."""
    return np.array([len(text.encode(errors="surrogatepass")) for text in texts], float)


@dataclass(frozen=True)
class CostModel:
    """Per LLM a line in the query's length, never negative and never falling."""

    base: Array  # (M,)
    slope: Array  # (M,) per byte

    def __call__(self, bytes_in: Array) -> Array:
        """Predicted values, shape (N, M)."""
        return self.base + bytes_in[:, None] * self.slope


def fit_costs(bytes_in: Array, observed: Array) -> CostModel:
    """Least squares of dollars or output tokens, (n, M), on lengths, (n,).

    A line keeps the mean, so the total that is predicted for queries of the same kind has no bias:
    that is what a budget needs, and what a fit of logarithms would lose.
    """
    if len(bytes_in) == 0:
        raise BadInput("no call is known, so what a call costs cannot be predicted")
    centred = bytes_in - bytes_in.mean()
    spread = float(centred @ centred)
    mean = observed.mean(axis=0)
    slope = centred @ observed / spread if spread > 0 else np.zeros_like(mean)
    slope = np.maximum(slope, 0)
    base = mean - slope * bytes_in.mean()
    through_zero = mean / max(bytes_in.mean(), 1.0)
    return CostModel(np.maximum(base, 0), np.where(base < 0, through_zero, slope))
