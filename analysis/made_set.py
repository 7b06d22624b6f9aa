"""A made-up set in the published llama-duo schema: Figure 2's grid and Table 1's rows, small.

python -m analysis.made_set --out DIR

It stands in for the published sets where there is no network. Nobody answered or judged anything:
its generators are of the owner `rehearsal`, so every table and figure made from it says REHEARSAL.
The numbers come from the standard library's generator and are the same everywhere.
"""

import argparse
import json
import random
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from understudy.store.artifacts import write_atomically

PROMPTS, ANSWERS, SEED = 16, 2, 7
_JUDGES = {"gpt-4o": 0.0, "claude-3-sonnet-20240229": 4.0, "gemini-1.5-flash-001": -6.0}
_TEACHERS = {"gpt4o": 0.0, "claude3sonnet": 2.0}
_SIZES = (1, 4, 16, 64, 256)  # thousands of rows
_TASKS = {"summarize": "Summarise note", "coding": "Write function"}


def write(out: Path) -> list[Path]:
    """One file per task, as the hub holds them."""
    out.mkdir(parents=True, exist_ok=True)
    paths = []
    for task in _TASKS:
        path = out / f"{task}-eval.jsonl"
        write_atomically(path, "".join(f"{json.dumps(row)}\n" for row in rows(task)))
        paths.append(path)
    return paths


def rows(task: str) -> Iterator[dict[str, Any]]:
    """Every answer of every generator under every judge."""
    draw = random.Random(f"{SEED} {task}")
    hardness = [draw.gauss(0, 8) for _ in range(PROMPTS)]
    for name, level in _generators(task).items():
        for prompt in range(PROMPTS):
            for k in range(ANSWERS):
                quality = level - hardness[prompt] + draw.gauss(0, 5)
                text = f"answer {k} of {name} to {prompt}: " + "word " * draw.randint(3, 20)
                for judge, leniency in _JUDGES.items():
                    score = quality + leniency + draw.gauss(0, 2)
                    yield {
                        "instructions": f"{_TASKS[task]} number {prompt} of the made-up set.",
                        "target_responses": f"The reference answer to number {prompt}, made up.",
                        "candidate_responses": text.strip(),
                        "model_id": f"rehearsal/{name}",
                        "model_sha": "made-up",
                        "eval_prompts": "made up; nobody was asked",
                        "similarity_scores": _score(score - 8),
                        "precision_scores": _score(score),
                        "evaluators": judge,
                        "dates": "2024-01-01",
                    }


def _generators(task: str) -> dict[str, float]:
    """Name -> quality: services, a sweep over sizes and teachers, and a smaller model."""
    found = {"gpt4o": 91.0, "claude3sonnet": 92.0}
    if task == "summarize":
        for teacher, better in _TEACHERS.items():
            for size in _SIZES:
                gained = 55 * size / (size + 6)
                found[f"gemma7b-{task}-{teacher}-{size}k"] = 35 + gained + better
        found[f"gemma2b-{task}-gpt4o-128k"] = 75.0
        found[f"gemma7b-{task}-gpt4o-128k"] = 87.0
    else:
        found[f"gemma2b-{task}-gpt4o-100k"] = 80.0
        found[f"gemma7b-{task}-gpt4o-100k"] = 89.0
    return found


def _score(value: float) -> float:
    """An average of ten whole numbers from 0 to 100."""
    return round(min(max(value, 0.0), 100.0), 1)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the made-up set."""
    parser = argparse.ArgumentParser(prog="python -m analysis.made_set", description=main.__doc__)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where files go")
    for path in write(parser.parse_args(arguments).out):
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
