"""Write a data set with a planted weak cluster: `python planted.py SEED FILE`.

Most train rows are classification, few are coding, which are the weak cluster; the test split is
200 fresh coding prompts.
"""

import json
import sys
from pathlib import Path

from understudy import playground

SIZES = {  # split -> task -> rows
    "train": {"classification": 120, "coding": 24},
    "validation": {"classification": 16, "coding": 16},
    "test": {"coding": 200},
}


def main(seed: int, path: Path) -> None:
    """Pairs of the playground, numbered on from split to split, so that no two are the same."""
    starts = dict.fromkeys(playground.TASKS, 0)
    rows = []
    for split, sizes in SIZES.items():
        for task, count in sizes.items():
            pairs = playground.generate(task, 1000 + seed, starts[task], count)
            starts[task] += count
            rows += [
                {"prompt": p.instruction, "response": p.response, "split": split} for p in pairs
            ]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
