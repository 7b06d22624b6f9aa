"""The data of experiments/weak_seeds, and what its runs say.

python experiments/weak_seeds/data.py plant SEED FILE
python experiments/weak_seeds/data.py cut ROOT SEED
python experiments/weak_seeds/data.py collect ROOT FILE

Most train rows are coding; a few are classification, which is what the judge finds weak: a wrong
label has nothing of the right one. The test split is 200 fresh classification prompts.
"""

import json
import sys
from pathlib import Path
from typing import Any

from understudy import playground

KINDS = ("uniform", "weak")
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


def block(root: Path, name: str) -> tuple[dict[str, Any], dict[str, Any], list[dict[str, Any]]]:
    """Of the pool that a run bought: its summary, its meta.json and its rows."""
    record = json.loads((root / "rehearsal/run" / name / "run.json").read_text())
    stage = root / "rehearsal" / record["rounds"][0]["stages"]["synthesis.0"]
    summary = json.loads((stage / "out/summary.json").read_text())
    rows = [json.loads(line) for line in (stage / "out/rows.jsonl").open(encoding="utf-8")]
    return summary, json.loads((stage / "meta.json").read_text()), rows


def cut(root: Path, seed: str) -> None:
    """Write the rows of as many calls as the other kind made; print kind, number and file."""
    blocks = {kind: block(root, f"{kind}-{seed}") for kind in KINDS}
    calls = min(summary["calls"] for summary, _, _ in blocks.values())
    for kind, (summary, _, rows) in blocks.items():
        if summary["calls"] > calls:
            file = root / f"{kind}-{seed}-cut.jsonl"
            taken = [row for row in rows if row["call_id"] < calls]
            lines = (json.dumps({"messages": row["messages"]}) + "\n" for row in taken)
            file.write_text("".join(lines), encoding="utf-8")
            print(kind, len(taken), file)


def facts(root: Path, kind: str, seed: str, calls: int) -> dict[str, Any]:
    """The rule's pass rate on the cluster's prompts, of the training on the rows of the calls."""
    summary, meta, rows = block(root, f"{kind}-{seed}")
    rows = [row for row in rows if row["call_id"] < calls]
    name = f"{kind}-{seed}" + "-cut" * (summary["calls"] > calls)
    record = json.loads((root / "rehearsal/run" / name / "run.json").read_text())
    evaluation = root / "rehearsal" / record["rounds"][0]["stages"]["evaluation.offline"]
    return {
        "passed": json.loads((evaluation / "out/summary.json").read_text())["rule"]["passed"],
        "rows": len(rows),
        "rows_in_cluster": sum("def " not in row["messages"][-1]["content"] for row in rows),
        "aim": meta.get("weak"),
    }


def collect(root: Path, path: Path) -> None:
    """Write what both kinds of seeds gave, by seed, and print it as a table."""
    found: dict[str, Any] = {}
    for planted in sorted(root.glob("planted-*.jsonl"), key=lambda at: int(at.stem[8:])):
        seed = planted.stem[8:]
        calls = min(block(root, f"{kind}-{seed}")[0]["calls"] for kind in KINDS)
        found[seed] = {"calls": calls} | {k: facts(root, k, seed, calls) for k in KINDS}
    higher = sum(both["weak"]["passed"] > both["uniform"]["passed"] for both in found.values())
    text = json.dumps({"higher": higher, "seeds": len(found), "of_200": found}, indent=1)
    path.write_text(text + "\n", encoding="utf-8")
    print("| seed | calls | uniform | weak | rows | in the cluster |\n|---|---|---|---|---|---|")
    for seed, both in found.items():
        rates = [f"{both[kind]['passed'] / 200:.1%}" for kind in KINDS]
        cells = [
            " / ".join(str(both[kind][fact]) for kind in KINDS)
            for fact in ("rows", "rows_in_cluster")
        ]
        print(f"| {' | '.join([seed, str(both['calls']), *rates, *cells])} |")
    print(f"\nweak is higher in {higher} of {len(found)} seeds")


if __name__ == "__main__":
    verb, first, second = sys.argv[1:]
    if verb == "plant":
        plant(int(first), Path(second))
    elif verb == "cut":
        cut(Path(first), second)
    else:
        collect(Path(first), Path(second))
