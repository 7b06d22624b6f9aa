"""Promises about true accuracy, from held-out labels that nothing was fitted on.

`promise` walks from the most accurate rule to cheaper ones and stops at the first whose accuracy
is not proved. Testing in an order that was fixed beforehand keeps the chance of any false proof at
delta however many prices are on the path (fixed-sequence testing; Angelopoulos et al. 2021,
"Learn then Test", arXiv 2110.01052).
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from understudy.errors import BadInput
from understudy.routing.exact import Front, assign

Array = NDArray[np.float64]
_STEPS = 200
_LEAST = 1e-9


class Promise(NamedTuple):
    """The cheapest rule that is proved; `price` is None when not even the dearest one is."""

    price: float | None  # lambda, in expected successes per USD
    target: float
    delta: float
    labels: int
    accuracy: float  # on the held-out queries, at the price, or at the dearest rule
    lower: float  # its lower confidence limit at 1 - delta
    cost: float  # USD per query there
    sentence: str


class Band(NamedTuple):
    """Where the accuracy that will be realised on a batch lies, with the given confidence."""

    low: float
    expected: float
    high: float
    confidence: float


def prices(path: Front, steps: int = _STEPS) -> Array:
    """Prices to test, from 0 (the most accurate rule) up: evenly along a front.

    The front must be of other queries than the held-out ones, so that the order is fixed.
    """
    points = np.linspace(len(path) - 1, 0, min(steps, len(path))).astype(int)
    return np.unique(np.concatenate([[0.0], path.price[points]]))


def promise(p: Array, c: Array, y: Array, path: Array, target: float, delta: float) -> Promise:
    """Choose the price so that P(true accuracy >= target) >= 1 - delta.

    p, c and y are predicted success, USD and true success of n held-out queries drawn like those
    to come, each (n, M); `path` are rising prices. Raises BadInput for a target or a delta outside
    0 to 1.
    """
    for name, share in (("accuracy", target), ("delta", delta)):
        if not 0 < share < 1:
            raise BadInput(f"a promise needs {name} between 0 and 1, not {share:g}")
    n = len(y)
    rows = np.arange(n)
    # a test that looks at one label after the other needs them in an order without meaning
    order = np.random.default_rng(0).permutation(n)
    p, c, y = p[order], c[order], y[order]
    proved: tuple[float, Array, Array] | None = None
    for price in path:
        chosen = assign(p, c, float(price)) if n else rows
        success, usd = y[rows, chosen], c[rows, chosen]
        if n == 0 or not proves(success, target, delta):
            break
        proved = float(price), success, usd
    if proved is not None:
        price, success, usd = proved
        mean, lower, cost = float(success.mean()), lower_limit(success, delta), float(usd.mean())
        sentence = (
            f"accuracy is at least {target:g} with {1 - delta:.0%} confidence: it was {mean:.4f} "
            f"on {n:,} held-out labels"
        )
        return Promise(price, target, delta, n, mean, lower, cost, sentence)
    mean = float(success.mean()) if n else math.nan
    lower = lower_limit(success, delta) if n else 0.0
    cost = float(usd.mean()) if n else math.nan
    least = math.ceil(math.log(delta) / math.log(target))
    why = f"the most accurate rule reached {mean:.4f} on them, which proves {lower:.4f}"
    if n < least:
        why = f"even without a mistake it would take {least:,}"
    sentence = (
        f"cannot promise an accuracy of {target:g} with {1 - delta:.0%} confidence from {n:,} "
        f"held-out labels: {why}"
    )
    return Promise(None, target, delta, n, mean, lower, cost, sentence)


def proves(success: Array, target: float, delta: float) -> bool:
    """Whether a mean above `target` is proved at level delta; success (n,) in [0, 1].

    Exact binomial test for 0/1 labels. Graded ones are bet on: whatever the stakes, the capital of
    a bettor exceeds 1 / delta with chance at most delta if the mean is no more than the target
    (Waudby-Smith and Ramdas 2024, "Estimating means of bounded random variables by betting", with
    their predictable plug-in stakes); unlike with Hoeffding's bound, low variance then counts.
    """
    n = len(success)
    if np.isin(success, (0.0, 1.0)).all():
        from scipy.special import betainc

        hits = round(float(success.sum()))
        return hits > 0 and float(betainc(hits, n - hits + 1, target)) <= delta
    seen = np.arange(1, n + 1)
    mean = (0.5 + np.cumsum(success)) / (seen + 1)
    variance = (0.25 + np.cumsum((success - mean) ** 2)) / (seen + 1)
    before = np.concatenate([[0.25], variance[:-1]])  # a stake knows only what came before it
    stake = np.minimum(np.sqrt(2 * math.log(1 / delta) / (n * before)), 0.75 / target)
    capital = np.cumsum(np.log1p(stake * (success - target)))
    return bool(capital.max() >= math.log(1 / delta))


def lower_limit(success: Array, delta: float) -> float:
    """The lower limit of the mean at confidence 1 - delta; Clopper-Pearson's for 0/1 labels."""
    low, high = _LEAST, float(success.mean())
    for _ in range(50):
        middle = (low + high) / 2
        if proves(success, middle, delta):
            low = middle
        else:
            high = middle
    return low if low > _LEAST else 0.0


def band(p: Array, residuals: Array | None = None, confidence: float = 0.95) -> Band:
    """The accuracy of N queries whose chosen LLMs have the predicted successes p, shape (N,).

    Variance = sum p (1 - p) / N^2 of the outcomes plus the error of the model. The latter is that
    of the mean residual (true minus predicted success at the chosen LLM) of n held-out queries,
    which also moves the centre; its standard error s / sqrt(n) is what a bootstrap over the
    queries converges to. Without residuals the band assumes that the predictions are calibrated.
    """
    from scipy.special import ndtri

    shares = np.clip(p, 0, 1)
    expected = float(shares.mean())
    variance = float((shares * (1 - shares)).sum()) / len(shares) ** 2
    if residuals is not None and len(residuals) > 1:
        expected += float(residuals.mean())
        variance += float(residuals.var(ddof=1)) / len(residuals)
    margin = float(ndtri((1 + confidence) / 2)) * math.sqrt(variance)
    low, high = expected - margin, expected + margin
    return Band(max(low, 0.0), min(max(expected, 0.0), 1.0), min(high, 1.0), confidence)
