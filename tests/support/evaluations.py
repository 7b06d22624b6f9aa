"""Evaluation stages over made-up answers, coverage rows and scripted judges."""

import random
from pathlib import Path
from typing import Any, Literal

from support import tiny_model
from understudy import playground
from understudy.config import Config, build
from understudy.records import Answer, Coverage, Row, Verdict, dumps
from understudy.store.artifacts import Job

SplitName = Literal["train", "validation", "test", "holdout"]


def service(name: str, **changed: Any) -> dict[str, Any]:
    facts = {"name": name, "provider": "offline", "model": "playground-1", "family": "offline"}
    limits = {"terms": None, "temperature": None, "max_output_tokens": 4096, "concurrency": 4}
    return facts | limits | changed


def config(m: int = 3, judges: list[dict[str, Any]] | None = None, **gate: Any) -> Config:
    """A whole config, of which these stages read `judges`, `evaluation` and `gate`."""
    judges = judges or [service("offline", bias={"noise": 3.0})]
    split = {"validation": 4, "test": 8, "holdout": 0}
    coverage = {"kind": "playground", "rows": 32, "seed": 0, "licence": None, "split": split}
    model = {"name": "tiny", "family": "understudy", "licence": "Apache-2.0", "repo": None}
    model |= {"revision": None, "path": "package:tiny", "context": 512, "stop": []}
    trainer = {"kind": "full", "lr": 1e-3, "epochs": 1, "min_steps": 0, "max_steps": None}
    trainer |= {"batch_size": 8, "warmup": 0.1, "schedule": "linear", "weight_decay": 0.0}
    trainer |= {"max_length": 256, "packing": False, "evaluations": 1, "patience": None}
    trainer |= {"keep": "best", "lora_rank": 8, "lora_alpha": 16, "lora_dropout": 0.0}
    return build(
        {
            "coverage": coverage,
            "task": {"name": "closed_qa", "topic": "Closed QA", "execute_code": False},
            "model": model | {"lora_targets": "all-linear"},
            "synthesis": tiny_model.VALUES["synthesis"],
            "judges": {one["name"]: one for one in judges},
            "baseline": {"kind": "none"},
            "trainer": trainer | {"start": "base"},
            "inference": {"k": 2, "temperature": 0.8, "max_new_tokens": 64, "batch_size": 8},
            "evaluation": {"m": m, "prompt": "default", "order": "reference_first"},
            "gate": {"kind": "paper", "similarity": 90, "precision": 90, "judges": None} | gate,
            "loop": {"sizes": [0], "max_rounds": None},
            "data_size": None,
            "seed": 0,
            "budget": {"usd": None},
            "rehearsal": {"url": None},
            "cluster": {"kind": "local", "threads": 1},
            "tracking": {"kind": "none", "project": "understudy", "mode": "offline"},
            "paths": {"root": "runs"},
            "run": {"name": None},
        }
    )


def coverage(n: int, split: SplitName = "test", groups: int = 4) -> list[Coverage]:
    pairs = playground.generate("closed_qa", seed=1, start=0, count=n)
    return [
        Coverage(
            f"{split}{i}",
            f"g{i % groups}",
            [
                {"role": "user", "content": pair.instruction},
                {"role": "assistant", "content": pair.response},
            ],
            "closed_qa",
            None,
            "playground",
            split,
        )
        for i, pair in enumerate(pairs)
    ]


def answers_to(rows: list[Coverage], k: int = 2, skill: float = 0.5) -> list[Answer]:
    rng = random.Random(0)
    texts = [
        row.response if rng.random() < skill else playground.flawed(row.instruction, rng)
        for row in rows
        for _ in range(k)
    ]
    return [
        Answer(row.id, row.group_id, sample, texts.pop(0), 9, "stop", "tiny", "understudy")
        for row in rows
        for sample in range(k)
    ]


def write(directory: Path, rows: list[Any]) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    text = "".join(dumps(row.to_dict()) + "\n" for row in rows if isinstance(row, Row))
    (directory / "rows.jsonl").write_text(text, encoding="utf-8")
    return directory


def job(tmp_path: Path, of: Config, rows: list[Coverage], answers: list[Answer]) -> Job:
    inputs = {
        "split": write(tmp_path / "split", rows),
        "answers": write(tmp_path / "answers", answers),
    }
    out, scratch = tmp_path / "out", tmp_path / "scratch"
    out.mkdir(exist_ok=True)
    scratch.mkdir(exist_ok=True)
    return Job(of, {"judge": of.judge_names[0], "split": "test"}, inputs, out, scratch)


def verdict(prompt: str, k: int, m: int, score: float | None, generator: str = "tiny") -> Verdict:
    return Verdict(
        *(prompt, generator, k, "j", "f", "default", "reference_first", m, "0-100"),
        *(score, score, None, None, "scored" if score is not None else "not_json"),
    )
