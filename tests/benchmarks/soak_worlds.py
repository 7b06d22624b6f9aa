"""False MIGRATE of all worlds, 4,000 samples a cell: `make soak` calls it. It can be interrupted.

    PYTHONPATH=tests python tests/benchmarks/soak_worlds.py [--out FILE] [--only TEXT] [--loops N]

A cell above .06 is measured again with ten times as many, other samples and must then be at most
.055. Finished cells stand in the file, one JSON line each, and are not measured again. At the end
the tables of docs/evaluation.md are printed.
"""

import sys
from collections.abc import Callable

from support import soak
from support.soak import Row
from support.worlds import MISSING, PROMPTS, VALUES, World, grid, migrates

LIMIT, AGAIN = 0.06, 0.055


def measured(world: World, loops: int) -> Row:
    """The share of a cell, and of its second measurement where there is one."""
    wrong = migrates(world, loops) / loops
    row: Row = {"world": world.name, "loops": loops, "wrong": wrong}
    if wrong > LIMIT:
        row["again"] = migrates(world, 10 * loops, seed=1) / (10 * loops)
    return row


def main() -> None:
    """Measure what is not measured yet; exit 1 where a cell's second measurement is too high."""
    # Cells of as many clusters share their draws.
    cells = sorted(grid(), key=lambda world: PROMPTS.index(world.prompts))
    rows = soak.rows_of(__doc__, "soak_worlds.jsonl", 4000, cells, measured)
    show(rows)
    bad = [row["world"] for row in rows if row.get("again", 0) > AGAIN]
    highest = max(rows, key=lambda row: row["wrong"], default=None)
    print(f"{len(rows)} cells, highest {highest}; above {AGAIN} when measured again: {bad}")
    sys.exit(bool(bad))


def show(rows: list[Row]) -> None:
    """Print the highest of the cells that share values and prompts, and values and the rest."""
    found = {row["world"]: float(row.get("again", row["wrong"])) for row in rows}
    cells = [(world, found[world.name]) for world in grid() if world.name in found]
    heads = [f"K={k}, M={m}, {missing}" for missing in MISSING for k in (1, 4) for m in (1, 10)]
    _table(PROMPTS, lambda world: world.prompts, cells)
    _table(heads, lambda world: f"K={world.k}, M={world.m}, {world.missing}", cells)


def _table(
    heads: list[str] | tuple[str, ...],
    column: Callable[[World], str],
    cells: list[tuple[World, float]],
) -> None:
    print("\n|" + "|".join(["highest", *heads]) + "|\n|" + "---|" * (len(heads) + 1))
    for values in VALUES:
        line = [values]
        for head in heads:
            of = [x for world, x in cells if (world.values, column(world)) == (values, head)]
            line.append(f"{max(of):.3f}".lstrip("0") if of else "")
        print("| " + " | ".join(line) + " |")
    print()


if __name__ == "__main__":
    main()
