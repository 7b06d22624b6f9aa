"""The 95 % intervals of a few worlds hold the truth; `make soak` measures all of them."""

import pytest

from support.coverages import LEAST, coverages
from support.worlds import World

# Of 40 groups with rare failures the limits held it in .81 to .89 while five failing ones were
# enough for the studentised draws.
CELLS = [
    World("perfect", "g40", 4, 10),
    World("skew", "g40", 4, 10),
    World("gaussian", "g20"),
    World("two", "n100"),
]


@pytest.mark.slow
@pytest.mark.parametrize("world", CELLS, ids=lambda world: world.name)
def test_intervals_hold_the_truth_where_groups_fail_whole_and_rarely(world: World) -> None:
    loops = 300
    found = coverages(world, loops)
    print(f"\n{world.name}: {found}")
    # Two errors of so few samples are .03.
    assert all(one is None or one[0] >= LEAST - 0.03 for one in found.values())
