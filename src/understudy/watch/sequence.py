"""Has the mean fallen below a floor? Two statements that hold at every moment of looking.

Scores x_1, x_2, … are from 0 to 1, and what is promised is E[x_t | past] >= m for all t.

**Alarm.** For each start s the capital of a gambler who bets against the promise from there,

    K_t(s) = mean over c of prod_{s < i <= t} (1 + c / (1 - m) (m - x_i))    c in BETS

is a nonnegative supermartingale while the promise holds (betting, Waudby-Smith and Ramdas 2024,
J. R. Statist. Soc. B 86:1, sections 4 and 5). Starts lie STEP answers apart and share the stake by
w_b = 1 / ((b + 1) (b + 2)), which adds up to 1, so E_t = sum_b w_b K_t(s_b), with K = 1 before its
start, is one too, and by Ville's inequality P(E_t >= 1 / alpha at any t) <= alpha. The later starts
find a fall that many good answers precede (an e-detector with a level instead of a run length:
Shin, Ramdas and Rinaldo 2022, arXiv 2203.03532).

**Interval.** The running mean of E[x_i | past], however these drift, is within s / t of the mean,

    sum_j exp(l_j s - psi(l_j) V_t) / J = 2 / alpha     psi(l) = -log(1 - l) - l

for all t with probability 1 - alpha: an empirical-Bernstein confidence sequence (Howard, Ramdas,
McAuliffe and Sekhon 2021, Ann. Statist. 49:1055, theorem 4), mixed over l. V_t adds up the squared
distances of each score from the mean of those before.
"""

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
VerdictWord = Literal["OK", "ALARM", "TOO EARLY"]
STEP = 50  # answers between two starts
BETS = (0.9, 0.45, 0.225, 0.1125)  # shares of the largest bet that cannot go bankrupt
_LAMBDAS = 0.8 * 0.5 ** np.arange(10)  # of the interval
_HALVINGS = 60


def evidence(x: Floats, floor: float) -> Floats:
    """The log of E_t after each score: (..., N) for x of (..., N), scores 0 to 1."""
    started = np.arange(x.shape[-1]) // STEP  # the last start before each answer
    places = np.arange(started[-1] + 1)
    found = np.broadcast_to(-np.log(started + 2.0), x.shape).copy()  # the stake of later starts
    for bet in BETS:
        capital = np.cumsum(np.log1p(bet / (1 - floor) * (floor - x)), axis=-1)
        first = np.zeros((*x.shape[:-1], 1))
        before = np.concatenate([first, capital[..., STEP - 1 : -1 : STEP]], axis=-1)  # each start
        stakes = -np.log((places + 1) * (places + 2)) - before
        of_starts = np.logaddexp.accumulate(stakes, axis=-1)[..., started]
        found = np.logaddexp(found, capital + of_starts - np.log(len(BETS)))
    return found


def began(x: Floats, floor: float) -> int:
    """The start, as answers before it, that holds most of the evidence at the end of (N,)."""
    starts = np.arange(0, len(x), STEP)
    worth = [
        np.logaddexp.reduce([np.log1p(b / (1 - floor) * (floor - x[s:])).sum() for b in BETS])
        - np.log((place + 1) * (place + 2))
        for place, s in enumerate(starts)
    ]
    return int(starts[int(np.argmax(worth))])


class Sequence(NamedTuple):
    """The running mean with its limits after each score, (N,) each, 0 to 1."""

    mean: Floats
    low: Floats
    high: Floats


def interval(x: Floats, alpha: float) -> Sequence:
    """The confidence sequence of (N,) scores."""
    counts = np.arange(1, len(x) + 1)
    mean = np.cumsum(x) / counts
    guess = np.concatenate([[0.5], (np.cumsum(x)[:-1] + 0.5) / (counts[:-1] + 1)])
    spread = np.cumsum((x - guess) ** 2)  # V_t
    psi = -np.log1p(-_LAMBDAS) - _LAMBDAS
    wanted = np.log(2 / alpha) + np.log(len(_LAMBDAS))
    low, high = np.zeros(len(x)), np.array(counts, dtype=float)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        reached = np.logaddexp.reduce(
            _LAMBDAS[:, None] * middle - psi[:, None] * spread, axis=0
        )  # (N,)
        is_above = reached >= wanted
        low, high = np.where(is_above, low, middle), np.where(is_above, middle, high)
    reach = high / counts
    return Sequence(mean, np.maximum(mean - reach, 0.0), np.minimum(mean + reach, 1.0))


class Watched(NamedTuple):
    """What a stream of scores says; scores 0 to 1."""

    word: VerdictWord
    log_evidence: float  # for a fall below the floor; an alarm at log(1 / alpha), ever
    alarm_at: int | None  # number of answers with which the alarm came
    since: int | None  # number of answers before the fall, to the STEP
    path: Sequence
    worst_low: float  # lower limit of the mean with what is unscored at its worst


def watched(x: Floats, floor: float, alpha: float) -> Watched:
    """ALARM once the evidence has reached 1 / alpha, OK while the interval is above the floor.

    NaN is an answer without a score: left out of the alarm, and at its worst for OK.
    """
    known, worst = x[~np.isnan(x)], np.nan_to_num(x, nan=0.0)
    if not len(known):
        nothing = np.zeros(0)
        return Watched("TOO EARLY", 0.0, None, None, Sequence(nothing, nothing, nothing), 0.0)
    found = evidence(known, floor)
    over = np.flatnonzero(found >= -np.log(alpha))
    path, least = interval(known, alpha), float(interval(worst, alpha).low[-1])
    if len(over):
        at = int(over[0]) + 1
        most = float(found.max())
        return Watched("ALARM", most, at, began(known[:at], floor), path, least)
    word: VerdictWord = "OK" if min(float(path.low[-1]), least) > floor else "TOO EARLY"
    return Watched(word, float(found[-1]), None, None, path, least)
