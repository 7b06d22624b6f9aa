"""The arrays of support/worlds.py decide as `understudy decide` does on files of verdict rows.

Every kind of values meets every kind of missing scores; prompts, K and M take turns. `make soak`
draws 200 samples of each.
"""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from support import world_rows
from support.worlds import MISSING, VALUES, Scores, World, draw, totals_of, verdicts, yes
from understudy.cli.main import main
from understudy.evaluation import decision
from understudy.evaluation.looks import level

DRAWS = int(os.environ.get("UNDERSTUDY_DRAWS", "4"))  # of each kind; `make soak` raises it
TURNS = [
    *(("n60", 1, 1), ("g20", 1, 1), ("n100", 4, 1), ("n50", 1, 10)),
    *(("g40", 1, 1), ("n60", 4, 10), ("z40", 1, 1), ("n200", 1, 1), ("z20", 1, 10)),
]
KINDS = [
    World(values, *TURNS[(len(MISSING) * row + column) % len(TURNS)], missing)
    for row, values in enumerate(VALUES)
    for column, missing in enumerate(MISSING)
]
MEAN = -1.0  # so that many samples say MIGRATE, and many do not


def test_all_kinds_of_prompts_answers_and_verdicts_have_a_turn() -> None:
    taken = {(world.prompts, world.k, world.m) for world in KINDS}
    assert taken == set(TURNS)


@pytest.mark.slow
@pytest.mark.parametrize("world", KINDS, ids=lambda world: world.name)
def test_rows_decide_as_arrays_do(world: World, tmp_path: Path) -> None:
    drawn = verdicts(world, DRAWS, np.random.default_rng(7), MEAN)
    means = drawn._replace(local=drawn.local.mean(-1), service=drawn.service.mean(-1))
    expected = yes(totals_of(means), level(0.05, 1), decision.DRAWS)
    said = []
    for local, service in zip(drawn.local, drawn.service, strict=True):
        root = tmp_path / "runs"
        world_rows.write(root, Scores(local, service, drawn.cluster))
        code = main(["decide", world_rows.NAME, "--root", str(root)])
        assert code in (0, 1)
        said.append(code == 0)
        shutil.rmtree(root)
    print(f"\n{world.name}: MIGRATE in {sum(said)} of {DRAWS}")
    assert said == list(expected)


@pytest.mark.parametrize("values", VALUES)
def test_means_over_verdicts_have_the_law_of_verdicts_one_by_one(values: str) -> None:
    world, found = World(values, "n50", 1, 10, "judge"), []
    for made in (draw, verdicts):
        scores = made(world, 400, np.random.default_rng(3))
        sides = [side if made is draw else side.mean(-1) for side in scores[:2]]
        moments = []
        for side in sides:
            centred = np.nan_to_num(side - np.nanmean(side))
            sd = max(centred.std(), 1.0)
            shared = (centred[..., 0] * centred[..., 1]).mean() / sd**2
            skewness = (centred**3).mean() / sd**3
            moments += [np.isnan(side).mean(), np.nanmean(side) / 5, sd / 5, shared, skewness]
        found.append(moments)
    assert found[0] == pytest.approx(found[1], abs=0.1, rel=0.1)
