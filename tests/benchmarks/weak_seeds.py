"""The data of experiments/weak_seeds, and what its runs say.

python tests/benchmarks/weak_seeds.py plant SEED FILE
python tests/benchmarks/weak_seeds.py collect ROOT FILE

Most train rows are coding; a few are classification, which is what the judge finds weak: a wrong
label has nothing of the right one. The test split is 200 fresh classification prompts.
"""

import json
import sys
from pathlib import Path
from typing import Any

from understudy import playground

SIZES = {  # split -> task -> rows
    "train": {"coding": 72, "classification": 18},
    "validation": {"coding": 8, "classification": 8},
    "test": {"classification": 200},
}


def plant(seed: int, path: Path) -> None:
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


def facts(root: Path, name: str) -> dict[str, Any] | None:
    """The rule's pass rate on the cluster's prompts, the calls, and what was aimed at."""
    record = json.loads((root / "run" / name / "run.json").read_text())
    if record["decision"] is None:
        return None
    stages = record["rounds"][0]["stages"]

    def read(stage: str, file: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((root / stages[stage] / file).read_text())
        return found

    made = [json.loads(line) for line in (root / stages["synthesis.0"] / "out/rows.jsonl").open()]
    return {
        "passed": read("evaluation.offline", "out/summary.json")["rule"]["passed"],
        "calls": read("synthesis.0", "out/summary.json")["calls"],
        "rows_in_cluster": sum("def " not in row["messages"][-1]["content"] for row in made),
        "aim": read("synthesis.0", "meta.json").get("weak"),
    }


def collect(root: Path, path: Path) -> None:
    """Write what both kinds of seeds gave, by seed, and print it as a table."""
    found = {}
    for run in sorted(root.glob("rehearsal/run/weak-*"), key=lambda at: int(at.name[5:])):
        number = run.name[5:]
        both = {kind: facts(root / "rehearsal", f"{kind}-{number}") for kind in ("uniform", "weak")}
        if all(both.values()):
            found[number] = both
    higher = sum(both["weak"]["passed"] > both["uniform"]["passed"] for both in found.values())  # type: ignore[index]
    text = json.dumps({"higher": higher, "seeds": len(found), "of_200": found}, indent=1)
    path.write_text(text + "\n", encoding="utf-8")
    print("| seed | uniform | weak | calls | pool rows in the cluster |\n|---|---|---|---|---|")
    for number, both in found.items():
        cells = [
            " / ".join(str(both[kind][fact]) for kind in ("uniform", "weak"))  # type: ignore[index]
            for fact in ("calls", "rows_in_cluster")
        ]
        rates = [f"{both[kind]['passed'] / 200:.1%}" for kind in ("uniform", "weak")]  # type: ignore[index]
        print(f"| {' | '.join([number, *rates, *cells])} |")
    print(f"\nweak is higher in {higher} of {len(found)} seeds")


if __name__ == "__main__":
    verb, first, second = sys.argv[1:]
    if verb == "plant":
        plant(int(first), Path(second))
    else:
        collect(Path(first), Path(second))
