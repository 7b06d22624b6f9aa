"""Cells of a grid that are judged, with the leaves that each of their stages has read."""

import json
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from support import judged_runs, records
from understudy.store.artifacts import fingerprint
from understudy.sweep.record import CellRecord, SweepRecord

# Leaves by the stage that reads them, as `pipeline.stages` has it.
_READS = {
    "split": ("coverage.",),
    "subset": ("loop.",),
    "finetune": ("model.", "trainer.", "seed"),
    "inference": ("model.", "inference.", "seed"),
    "baseline": ("baseline.",),
    "evaluation": ("evaluation.", "judges."),
}
RECIPES: dict[str, dict[str, Any]] = {
    "tiny": {"trainer.kind": "full", "trainer.lr": 1e-3, "trainer.epochs": 3},
    "lora": {"trainer.kind": "lora", "trainer.lr": 2e-4, "trainer.epochs": 3, "trainer.rank": 8},
}
PLAIN: dict[str, Any] = {
    **{"coverage.seed": 0, "model.name": "tiny", "inference.k": 2, "inference.temperature": 0.8},
    **{"loop.subsets": "nested", "baseline.kind": "service", "evaluation.m": 2, "seed": 0},
    **{"judges.offline.temperature": None},
}
Typed = Mapping[str, str]


def grid(**axes: Sequence[Any]) -> list[Typed]:
    """The overrides of every cell; the last axis varies fastest."""
    return [dict(zip(axes, map(str, one), strict=True)) for one in product(*axes.values())]


def write(
    root: Path,
    cells: Sequence[Typed],
    name: str = "grid",
    level: Callable[[dict[str, Any], int], float] | None = None,
    prompts: int = 8,
) -> Path:
    """Write the run of every cell, and the sweep; returns its sweep.json.

    A key is a leaf, `data_size`, or a recipe of `trainer`. `level` is the mean score by leaves
    and rows.
    """
    level = level or _level
    runs = [_run(root, f"{name}-{n:02}", cell, level, prompts) for n, cell in enumerate(cells)]
    axes = {key: [f"{key}={v}" for v in dict.fromkeys(c[key] for c in cells)] for key in cells[0]}
    path = root / "sweep" / name / "sweep.json"
    labels = (" ".join(cell.values()) for cell in cells)
    SweepRecord(
        path=path, name=name, command=f"understudy run sweep={name}", created="", rehearsal=False,
        axes=axes, cells=[CellRecord(*one) for one in zip(labels, runs, strict=True)],
    ).write()  # fmt: skip
    return path


def _level(leaves: dict[str, Any], rows: int) -> float:
    better = 6.0 if leaves["trainer.kind"] == "lora" else 0.0
    return 60 + better + 20 * rows / (rows + 800) + 3 * np.sin(7.0 * leaves["seed"])


def _run(
    root: Path, name: str, cell: Typed, level: Callable[[dict[str, Any], int], float], prompts: int
) -> str:
    leaves, size = dict(PLAIN), 0
    for key, text in {"trainer": "tiny", **cell}.items():
        if key == "data_size":
            size = int(text)
        elif key == "trainer":
            leaves |= RECIPES[text]
        else:
            leaves[key] = json.loads(text) if text[0] in "0123456789[" else text
    ids = [f"{number:016x}" for number in range(prompts)]
    made = _Made(root, leaves)
    split = made("split", {}, [judged_runs._coverage(one) for one in ids])
    subset = made("subset", {"split": split}, [], data_size=size, summary={"rows": 3 + size})
    tuned = made("finetune", {"subset": subset}, [], summary={"steps": 100})
    place = f"{leaves['seed']} {size} {leaves['trainer.kind']}"
    shared: dict[str, str] = {"split": split}
    stages = {"subset": subset, "finetune": tuned}
    generators = (("inference", leaves["model.name"], level(leaves, size), {"finetune": tuned}),
                  ("baseline", "gpt-4o", 88.0, {"split": split}))  # fmt: skip
    for kind, generator, mean, inputs in generators:
        rng = np.random.default_rng(sum(map(ord, f"{place if kind == 'inference' else ''}{kind}")))
        rows = [judged_runs._answer(one, k, generator) for one in ids for k in range(2)]
        answers = made(kind, inputs, rows)
        scores = np.rint(np.clip(mean + rng.normal(0, 4, (prompts, 2, 2)), 0, 100))
        verdicts = [
            judged_runs._verdict(ids[p], generator, k, "offline", m, float(scores[p, k, m]))
            for p, k, m in np.ndindex(*scores.shape)
        ]
        summary = judged_runs._summary("offline", generator, scores)
        of = made("evaluation", {"answers": answers, "split": split}, verdicts, summary=summary)
        (shared if kind == "baseline" else stages)[
            "baseline.offline" if kind == "baseline" else "evaluation.offline"
        ] = of
        (shared if kind == "baseline" else stages)[kind] = answers
        if kind == "inference":
            line = {"judge": "offline", "role": "local", "precision": summary["precision"]}
            line |= {"p_match": None}
            table = [{**line, "similarity": summary["similarity"]}]
            stages["gate"] = made("gate", {"a": of}, [], summary={"table": table})
    config = {
        **{"task": {"name": "summarization"}, "model": {"name": leaves["model.name"]}},
        **{"trainer": {"kind": leaves["trainer.kind"]}, "seed": leaves["seed"]},
        **{"synthesis": {"service": {"name": "gpt-4o", "family": "openai"}}},
        **{"gate": {"similarity": 70.0, "precision": 80.0}},
    }
    words = " ".join(f"{key}={value}" for key, value in cell.items())
    record = records.record(
        name=name, command=f"understudy run {words}", config=config, stages=shared,
        rounds=[{"round": 0, "data_size": size, "stages": stages, "decision": "fail"}],
        decision={"passed": False, "round": None, "reason": "Too low."},
    )  # fmt: skip
    judged_runs.put(root / "run" / name / "run.json", json.dumps(record))
    return f"run/{name}"


class _Made:
    """Stages named by what they read, so that cells share what is equal."""

    def __init__(self, root: Path, leaves: Mapping[str, Any]) -> None:
        self._root, self._leaves = root, leaves

    def __call__(
        self,
        kind: str,
        inputs: dict[str, str],
        rows: list[dict[str, Any]],
        summary: dict[str, Any] | None = None,
        **params: Any,
    ) -> str:
        read = {k: v for k, v in self._leaves.items() if k.startswith(_READS.get(kind, ()))}
        hashed = {"stage": kind, "version": 1, "config": read, "files": {}, "params": params}
        path = f"{kind}/{fingerprint([hashed, inputs])}"
        if not (self._root / path / "DONE").is_file():
            judged_runs.stage(self._root, path, rows, summary, inputs)
            judged_runs.put(self._root / path / "config.json", json.dumps({"hashed": hashed}))
        return path
