"""What a planted bias of the offline judge does to the mean of many scores."""

import random
import statistics
from collections.abc import Sequence
from typing import NamedTuple

from support import configs
from understudy.config import Bias
from understudy.services.providers.offline.judge import bend


class Effect(NamedTuple):
    """What a bias does to the mean of a set of scores, in points."""

    shift: float  # expected
    standard_error: float  # of a mean over the set, one judgement each


def true_effect(
    bias: Bias, quality: Sequence[float], lengths: Sequence[float], draws: int = 1000, seed: int = 0
) -> Effect:
    """The expected shift of the mean of true scores (0 to 100), by Monte Carlo over the noise."""
    rng = random.Random(seed)
    items = list(zip(quality, lengths, strict=True))
    plain = statistics.fmean(bend(score, z, 0.0, configs.bias()) for score, z in items)
    means = [
        statistics.fmean(bend(score, z, rng.gauss(), bias) for score, z in items)
        for _ in range(draws)
    ]
    return Effect(statistics.fmean(means) - plain, statistics.stdev(means))
