"""Print what the finished runs of run.sh say: `python collect.py ROOT`."""

import json
import sys
from pathlib import Path
from typing import Any


def summary(root: Path, stage: str) -> dict[str, Any]:
    """A stage's summary."""
    found: dict[str, Any] = json.loads((root / stage / "out" / "summary.json").read_text())
    return found


def main(root: Path) -> None:
    """One line per seed: the rule's pass rate on the cluster's 200 fresh prompts, and calls."""
    root = root / "rehearsal"
    higher = total = 0
    print("| seed | uniform | weak | calls |\n|---|---|---|---|")
    for path in sorted(root.glob("run/weak-*/run.json"), key=lambda p: int(p.parent.name[5:])):
        number = path.parent.name[5:]
        rates, calls = {}, {}
        for seeds in ("uniform", "weak"):
            record = json.loads((root / "run" / f"{seeds}-{number}" / "run.json").read_text())
            if record["decision"] is None:
                break
            stages = record["rounds"][0]["stages"]
            rates[seeds] = summary(root, stages["evaluation.offline"])["rule"]["rate"]
            calls[seeds] = summary(root, stages["synthesis.0"])["calls"]
        else:
            total += 1
            higher += rates["weak"] > rates["uniform"]
            asked = f"{calls['uniform']} / {calls['weak']}"
            print(f"| {number} | {rates['uniform']:.1%} | {rates['weak']:.1%} | {asked} |")
    print(f"\nweak is higher in {higher} of {total} seeds")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
