"""How often a decision errs, and how often it helps, in the worlds of support/worlds.py.

`tests/benchmarks/soak_worlds.py` measures all cells; these are forty of them, by name.
"""

import numpy as np
import pytest
from scipy import stats

from support.worlds import VALUES, World, migrates
from understudy.evaluation.looks import level as level_of

FIRST = level_of(0.05, 1)  # what the first look has of 5 %
NAMED = [
    *(World(values, prompts) for values in VALUES for prompts in ("n50", "n60", "n100")),
    *(World(values, "g40") for values in VALUES),
    *(World(values, "n200", 4, 10) for values in ("skew", "ties", "perfect", "two")),
    *(World(values, "z40") for values in ("perfect", "ten")),
    World("skew", "n100", 4),
    *(World("two", "n100", 4, 1, missing) for missing in ("some", "local", "judge")),
    World("one", "g20"),
    World("perfect", "n400", 1, 1, "local"),
]
FLOORS = [
    (World("gaussian", "n200"), 0.0, 0.99),
    (World("gaussian", "n200"), -2.0, 0.83),
    (World("skew", "n200"), 0.0, 0.95),
    (World("gaussian", "g40"), 0.0, 0.60),
    (World("one", "n100"), 0.0, 0.70),
    (World("one", "n200"), 0.0, 0.95),
]


def test_forty_worlds_are_named() -> None:
    assert len(set(NAMED)) == len(NAMED) == 40


@pytest.mark.slow
@pytest.mark.parametrize("world", NAMED, ids=lambda world: world.name)
def test_a_loss_of_the_margin_is_called_migrate_in_at_most_six_of_a_hundred(world: World) -> None:
    loops = 2000
    wrong = migrates(world, loops) / loops
    print(f"\n{world.name}: {wrong:.4f}")
    # A true .053 is above .06 in one of twelve cells; then ten times as many other samples decide.
    assert wrong <= 0.06 or migrates(world, 10 * loops, seed=1) / (10 * loops) <= 0.055


@pytest.mark.slow
@pytest.mark.parametrize(("world", "mean", "floor"), FLOORS, ids=lambda value: str(value)[:60])
def test_a_first_look_has_the_power_it_promises(world: World, mean: float, floor: float) -> None:
    loops = 2000
    found = migrates(world, loops, mean, FIRST) / loops
    many = migrates(world._replace(k=4, m=10), loops, mean, FIRST) / loops
    print(f"\n{world.name} at {mean:g}: {found:.3f}, K=4 M=10 {many:.3f}")
    assert found >= floor
    assert many >= found - 2 * np.sqrt(found * (1 - found) / loops)


def test_missing_scores_of_the_local_model_forbid_the_power_that_complete_ones_have() -> None:
    # 5 % of the local answers unscored, all others right on both sides but for 1 % each way: at
    # worst 5 points are lost, the margin itself. A rule that says MIGRATE there says so as often
    # where those answers were failures, and then the loss is the margin: power <= level.
    prompts, missing, rate = 200, 0.05, 0.01
    # The most a rule for counts can do: no more losses than its level allows at the boundary.
    allowed = int(stats.binom.ppf(FIRST, prompts, 0.05)) - 1
    power = stats.binom.cdf(allowed, prompts, missing + rate * (1 - missing))
    assert power <= FIRST
