"""How often 95 % intervals hold the truth in the worlds, 2,000 samples a cell: for `make soak`.

    PYTHONPATH=tests python tests/benchmarks/soak_intervals.py [--out FILE] [--only TEXT]

With 20 clusters or more an interval is to hold it in .93 to .98, with fewer in .93 or more. What is
finished stands in the file, one JSON line a cell. At the end the table of the docs is printed.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from support.coverages import NAMES, World, cells, coverages, is_held

Row = dict[str, Any]


def main() -> None:
    """Measure what is not measured yet; exit 1 where an interval holds too little or too much."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/soak_intervals.jsonl"))
    parser.add_argument("--only", default="", help="cells whose name holds this")
    parser.add_argument("--loops", type=int, default=2000)
    given = parser.parse_args()
    given.out.parent.mkdir(parents=True, exist_ok=True)
    lines = given.out.read_text().splitlines() if given.out.exists() else []
    rows = [json.loads(line) for line in lines if line.endswith("}")]
    done = {row["world"] for row in rows}
    with given.out.open("a") as file:
        for world in cells():
            if given.only in world.name and world.name not in done:
                found = coverages(world, given.loops)
                rows.append({"world": world.name, "loops": given.loops} | found)
                print(json.dumps(rows[-1]), file=file, flush=True)
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
