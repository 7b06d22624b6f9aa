"""Worlds of labels: what a biased judge says of all prompts, and humans of some."""

from typing import Any, NamedTuple

import numpy as np

from support.worlds import World, draw


class Judge(NamedTuple):
    """What a judge makes of the true difference local - service."""

    bias: float = 0.0  # points in favour of the local model
    gain: float = 1.0  # below 1 it compresses
    noise: float = 10.0  # SD


JUDGES = {
    "fair": Judge(),
    "favours by 4": Judge(4.0),
    "favours by 8": Judge(8.0),
    "compresses": Judge(4.0, 0.5, 5.0),
    "noisy": Judge(0.0, 1.0, 20.0),
}
PROMPTS, LABELS = 200, (50, 100)


class Labelled(NamedTuple):
    """(S, N) each; weight is 0 where there is no label."""

    judge: Any
    human: Any
    weight: Any


def labelled(
    rng: Any, values: str, judge: Judge, labels: int, samples: int, mean: float
) -> Labelled:
    """`samples` holdouts of 200 prompts whose true difference is `mean`, labelled at random."""
    scores = draw(World(values, f"n{PROMPTS}"), samples, rng, mean)
    human = (scores.local - scores.service)[:, :, 0, 0]
    said = judge.gain * human + judge.bias + rng.normal(0, judge.noise, human.shape)
    weight = np.zeros(human.shape)
    chosen = np.argsort(rng.random(human.shape), axis=1)[:, :labels]
    np.put_along_axis(weight, chosen, 1.0, axis=1)
    return Labelled(said, human, weight)
