"""How often 95 % intervals hold the truth in the worlds, 2,000 samples a cell: for `make soak`.

    PYTHONPATH=tests python tests/benchmarks/soak_intervals.py [--out FILE] [--only TEXT]

With 20 clusters or more an interval is to hold it in .93 to .98, with fewer in .93 or more. What is
finished stands in the file, one JSON line a cell. At the end the table of the docs is printed.
"""

import sys

from support import soak
from support.coverages import NAMES, World, cells, coverages, is_held
from support.soak import Row


def measured(world: World, loops: int) -> Row:
    """How often each interval of a cell holds the truth."""
    return {"world": world.name, "loops": loops} | coverages(world, loops)


def main() -> None:
    """Measure what is not measured yet; exit 1 where an interval holds too little or too much."""
    rows = soak.rows_of(__doc__, "soak_intervals.jsonl", 2000, cells(), measured)
    sys.exit(show(rows))


def show(rows: list[Row]) -> int:
    """Print the least and the most of the cells that share prompts; how many are out of bounds."""
    known, out = {world.name: world for world in cells()}, 0
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(known[row["world"]].prompts, []).append(row)
    print("|prompts|" + "|".join(NAMES) + "|\n" + "|---" * (len(NAMES) + 1) + "|")
    for prompts, of in groups.items():
        spans = []
        for name in NAMES:
            held = [row[name][0] for row in of if row[name] is not None]
            spans.append(f"{min(held):.3f}-{max(held):.3f}".replace("0.", "."))
        print(f"|{prompts}|" + "|".join(spans) + "|")
    for row in rows:
        world: World = known[row["world"]]
        for name in NAMES:
            if row[name] is not None and not is_held(world, row[name][0], row["loops"]):
                out += 1
                print(f"{world.name}: {name} {row[name]}")
    print(f"{len(rows)} cells, {out} intervals out of bounds")
    return int(out > 0)


if __name__ == "__main__":
    main()
