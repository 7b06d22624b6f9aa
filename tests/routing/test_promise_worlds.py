"""A promise holds where groups of queries are neither equal in size nor alike."""

import numpy as np
import pytest

from support.routing_worlds import grouped_workload
from understudy.routing.allocate import Goal, chosen, learn
from understudy.routing.costs import lengths
from understudy.routing.exact import assign


@pytest.mark.slow
@pytest.mark.xfail(
    strict=True, reason="accuracy over groups is estimated, over queries is promised"
)
def test_a_promise_over_groups_of_which_the_larger_are_harder_is_kept() -> None:
    rng = np.random.default_rng(0)
    coming = grouped_workload(40_000, rng)
    assert coming.text is not None
    broken = 0
    for seed in range(20):
        learnt = learn(
            grouped_workload(900, rng), Goal("accuracy", 0.76), learner="logistic", seed=seed
        ).learnt
        assert learnt is not None
        assert learnt.promise is not None
        if learnt.promise.price is not None:
            success = learnt.router.predictor(coming.text)
            usd = learnt.router.costs(lengths(coming.text))
            rule = assign(success, usd, learnt.promise.price)
            broken += bool(chosen(coming.success, rule).mean() < 0.76)
    assert broken <= 3
