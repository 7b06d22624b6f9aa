"""Promises about true accuracy over queries, from held-out labels that nothing was fitted on.

`promise` walks from the most accurate rule to cheaper ones and stops at the first whose accuracy
is not proved. Testing in an order that was fixed beforehand keeps the chance of any false proof at
delta however many prices are on the path (fixed-sequence testing; Angelopoulos et al. 2021,
"Learn then Test", arXiv 2110.01052).

Queries of a group (a conversation, user or template) are not independent, and large groups may be
harder. Accuracy over queries is a ratio of totals over groups, sum s_g / sum n_g, so what is tested
are the G values s_g - target n_g, and coming queries may be of groups that no label is from.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from understudy.errors import BadInput
from understudy.evaluation.statistics.intervals import cluster_totals, ratio_and_error
from understudy.routing.exact import Front, assign

Array = NDArray[np.float64]
Codes = NDArray[np.int64]
LEAST = 20  # labels, or groups of equal size; with fewer nothing is promised
_LEAST_UNEQUAL = 30  # groups: of a kind that one group in ten is of, 20 miss all in 12 % of cases
_STEPS = 200
_SMALLEST = 1e-9


class Promise(NamedTuple):
    """The cheapest rule that is proved; `price` is None when not even the dearest one is."""

    price: float | None  # lambda, in expected successes per USD
    target: float
    delta: float
    labels: int
    groups: int  # that the labels are of
    equal_groups: float  # groups of equal size that they count as, (sum n)^2 / sum n^2
    accuracy: float  # over the held-out queries, at the price, or at the dearest rule
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


def promise(
    p: Array,
    c: Array,
    y: Array,
    path: Array,
    target: float,
    delta: float,
    groups: Codes | None = None,
) -> Promise:
    """Choose the price so that P(true accuracy over queries >= target) >= 1 - delta.

    p, c and y are predicted success, USD and true success of n held-out queries drawn like those
    to come, each (n, M); `path` are rising prices. `groups` (n,) numbers the groups from 0, None
    where every query is one. Raises BadInput for a target or a delta outside 0 to 1.
    """
    for name, share in (("accuracy", target), ("delta", delta)):
        if not 0 < share < 1:
            raise BadInput(f"a promise needs {name} between 0 and 1, not {share:g}")
    n = len(y)
    rows = np.arange(n)
    # a test that looks at one label after the other needs them in an order without meaning
    order = np.random.default_rng(0).permutation(n)
    p, c, y = p[order], c[order], y[order]
    number = rows if groups is None else groups[order]
    sizes = np.bincount(number)
    equal = float(n**2 / (sizes**2).sum()) if n else 0.0
    why = _too_few(sizes, equal, target, delta)
    proved: tuple[float, Array, Array] | None = None
    for price in path if why is None else ():
        chosen = assign(p, c, float(price))
        success, usd = y[rows, chosen], c[rows, chosen]
        if not proves(success, target, delta, number):
            break
        proved = float(price), success, usd
    labels = f"{n:,} held-out labels"
    if len(sizes) < n:
        labels += f" in {len(sizes):,} groups"
    asked = f"accuracy of {target:g} with {1 - delta:.0%} confidence"
    price, mean, lower, cost = None, math.nan, math.nan, math.nan
    if proved is not None:
        price, success, usd = proved
    if why is None:
        mean, cost = float(success.mean()), float(usd.mean())
        lower = lower_limit(success, delta, number)
        why = f"the most accurate rule reached {mean:.4f} on them, which proves {lower:.4f}"
    sentence = f"cannot promise an {asked} from {labels}: {why}"
    if price is not None:
        sentence = (
            f"accuracy is at least {target:g} with {1 - delta:.0%} confidence: it was {mean:.4f} "
            f"on {labels}"
        )
    return Promise(price, target, delta, n, len(sizes), equal, mean, lower, cost, sentence)


def _too_few(sizes: Codes, equal: float, target: float, delta: float) -> str | None:
    """Why these groups cannot prove anything, whatever their labels; None where they can."""
    if (sizes == 1).all():
        least = max(LEAST, math.ceil(math.log(delta) / math.log(target)))
        return None if len(sizes) >= least else f"even without a mistake it would take {least:,}"
    if len(sizes) >= _LEAST_UNEQUAL and equal >= LEAST:
        return None
    return (
        f"it would take {_LEAST_UNEQUAL} groups that count as {LEAST} of equal size, and these "
        f"count as {equal:.0f}"
    )


def proves(success: Array, target: float, delta: float, groups: Codes | None = None) -> bool:
    """Whether a mean above `target` is proved at level delta; success (n,) in [0, 1].

    Exact binomial test for 0/1 labels. Graded ones are bet on: whatever the stakes, the capital of
    a bettor exceeds 1 / delta with chance at most delta if the mean is no more than the target
    (Waudby-Smith and Ramdas 2024, "Estimating means of bounded random variables by betting", with
    their predictable plug-in stakes); unlike with Hoeffding's bound, low variance then counts.
    Groups of several queries get a t test, see `_proves_of_groups`.
    """
    n = len(success)
    if groups is not None and (sizes := np.bincount(groups)).max() > 1:
        return _proves_of_groups(np.bincount(groups, success).astype(float), sizes, target, delta)
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


def _proves_of_groups(right: Array, sizes: Codes, target: float, delta: float) -> bool:
    """One-sided t test of right - target size over G groups and one that is wrong throughout.

    That one has the size of a random query's group, sum n^2 / sum n. Without it labels with few
    failures have next to no spread, and a sample that lacks the rare large and hard groups has
    both a high mean and a small spread: the test then errs in up to .84 and .19 of samples at a
    level of .05, with it in at most .051 (tests/routing/test_promise_worlds.py).
    """
    from scipy.special import stdtrit

    wrong = float((sizes**2).sum() / sizes.sum())
    above = np.append(right - target * sizes, -target * wrong)
    error = above.std(ddof=1) / math.sqrt(len(above))
    return bool(above.mean() >= stdtrit(len(above) - 1, 1 - delta) * error)


def lower_limit(success: Array, delta: float, groups: Codes | None = None) -> float:
    """The lower limit of the mean at confidence 1 - delta; Clopper-Pearson's for 0/1 labels."""
    low, high = _SMALLEST, float(success.mean())
    for _ in range(50):
        middle = (low + high) / 2
        if proves(success, middle, delta, groups):
            low = middle
        else:
            high = middle
    return low if low > _SMALLEST else 0.0


def band(
    p: Array,
    residuals: Array | None = None,
    groups: Codes | None = None,
    held_groups: Codes | None = None,
    confidence: float = 0.95,
) -> Band | None:
    """The accuracy of N queries whose chosen LLMs have the predicted successes p, shape (N,).

    Without residuals the predictions are taken for calibrated and the queries for independent:
    variance = sum p (1 - p) / N^2. The residuals (true minus predicted success at the chosen LLM)
    of n held-out queries move the centre by their mean over queries. Its cluster-robust error
    counts once for that mean and once, at the number of groups to come, for what these are like;
    the former variance is the least of the latter. `groups` (N,) and `held_groups` (n,) are None
    where every query is a group. None when residuals are of fewer than 20 groups.
    """
    from scipy.special import ndtri, stdtrit

    shares = np.clip(p, 0, 1)
    expected, tail = float(shares.mean()), (1 + confidence) / 2
    variance, quantile = float((shares * (1 - shares)).sum()) / len(shares) ** 2, ndtri(tail)
    if residuals is not None:
        held_groups = np.arange(len(residuals)) if held_groups is None else held_groups
        right, sizes = cluster_totals(held_groups, residuals, np.ones(len(residuals)))
        if len(sizes) < LEAST:
            return None
        moved, error = map(float, ratio_and_error(right, sizes))
        coming = len(shares) if groups is None else len(np.unique(groups))
        expected += moved
        variance = error**2 + max(variance, error**2 * len(sizes) / coming)
        quantile = stdtrit(len(sizes) - 1, tail)
    margin = float(quantile) * math.sqrt(variance)
    low, middle, high = np.clip([expected - margin, expected, expected + margin], 0, 1).tolist()
    return Band(low, middle, high, confidence)
