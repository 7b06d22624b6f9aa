"""The arrays of support/worlds.py decide as verdict rows do on the way that `decide` takes."""

from typing import Any

import numpy as np
import pytest

from support.worlds import World, draw, yes
from understudy.evaluation.decision import DRAWS, decide, pair
from understudy.evaluation.scores import METRICS
from understudy.records import Verdict

WORLDS = [
    World("gaussian", "n60"),
    World("one", "n100", 4, 1, "some"),
    World("skew", "g40", 1, 1, "local"),
    World("two", "n60", 1, 10, "judge"),
]


def rows(scores: Any, judge: int) -> list[Verdict]:
    """One verdict per prompt and sample of this judge, (prompts, K, judges)."""
    return [
        Verdict(
            *(f"p{prompt:03}", "g", k, f"j{judge}", "f", "default", "reference_first", 0, "0-100"),
            *(None if np.isnan(score) else float(score),) * 2,
            *(None, None, "not_json" if np.isnan(score) else "scored"),
        )
        for prompt, samples in enumerate(scores[..., judge])
        for k, score in enumerate(samples)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("world", WORLDS, ids=lambda world: world.name)
def test_rows_decide_as_arrays_do(world: World) -> None:
    drawn = draw(world, 20, np.random.default_rng(7), mean=-2.0)
    groups = {f"p{prompt:03}": f"g{c:03}" for prompt, c in enumerate(drawn.cluster)}
    said = []
    for local, service in zip(drawn.local, drawn.service, strict=True):
        ours, theirs = (
            {f"j{judge}": rows(side, judge) for judge in range(side.shape[-1])}
            for side in (local, service)
        )
        pairs = {metric: pair(ours, theirs, sorted(groups), metric) for metric in METRICS}
        said.append(decide(pairs, groups, level=0.05).decision == "MIGRATE")
    assert said == list(yes(drawn, 0.05, DRAWS))
