"""Finished and unfinished runs, written as the pipeline and its stages write them."""

import json
from pathlib import Path
from typing import Any

from support import records
from understudy.records import Answer, Coverage, Row, Verdict, dumps
from understudy.store.artifacts import write_atomically

JUDGE = "offline"
CONFIG: dict[str, Any] = {
    "task": {"name": "closed_qa"},
    "model": {"name": "tiny"},
    "trainer": {"kind": "full"},
    "synthesis": {"kind": "none"},
    "seed": 0,
    "gate": {"kind": "paper", "similarity": 60.0, "precision": 70.0, "judges": None},
    "data_size": None,
}
_SCORES = ("mean", "low", "high", "coverage@50", "coverage@70")


def score(*values: float | None) -> dict[str, float | None]:
    """A `similarity` or `precision` part of a summary."""
    return dict(zip(_SCORES, values, strict=True))


def stage(root: Path, path: str, rows: list[Row] | None = None, /, **summary: Any) -> str:
    """A finished stage directory; returns its path as run.json holds it."""
    out = root / path / "out"
    out.mkdir(parents=True)
    if rows is not None:
        write_atomically(out / "rows.jsonl", "".join(dumps(r.to_dict()) + "\n" for r in rows))
    if summary:
        write_atomically(out / "summary.json", json.dumps(summary))
    git = {"commit": "abc1234", "dirty": False}
    meta = {"seconds": 12.5, "git": git, "versions": {"torch": "2.9.0"}}
    write_atomically(root / path / "meta.json", json.dumps(meta))
    write_atomically(root / path / "DONE", "")
    return path


def human(number: int, split: str, answer: str) -> Coverage:
    messages = [
        {"role": "user", "content": f"question {number}"},
        {"role": "assistant", "content": answer},
    ]
    return Coverage(f"p{number}", f"g{number}", messages, "closed_qa", None, "test", split)  # type: ignore[arg-type]


def verdict(prompt: str, value: float | None, m: int = 0) -> Verdict:
    status = "unparsable" if value is None else "scored"
    return Verdict(
        *(prompt, "tiny", 0, JUDGE, "offline", "default", "reference_first", m, "0-100"),
        *(value, value, None, None, status),
    )


def judged(root: Path, path: str, answers: str) -> str:
    """Note which answers to which prompts an evaluation is about."""
    inputs = {"inputs": {"answers": answers, "split": "split/p0"}}
    write_atomically(root / path / "inputs.json", json.dumps(inputs))
    return path


def answers(generator: str, text: str) -> list[Row]:
    return [Answer(f"p{n}", f"g{n}", 0, text, 3, "stop", generator, "understudy") for n in range(3)]


def evaluation(root: Path, path: str, **changed: Any) -> str:
    """A finished evaluation of three answers, the last of them never scored."""
    summary: dict[str, Any] = {
        **{"judge": JUDGE, "judge_family": "offline", "generator": "tiny", "family": "understudy"},
        **{"prompt_variant": "default", "order": "reference_first", "m": 1, "k": 1},
        **{"n_prompts": 3, "n_groups": 3, "n_answers": 3, "n_verdicts": 3, "n_unscored": 1},
        **{"unscored": {"unparsable": 1}, "n_missing_answers": 0, "interval": "95 % bootstrap"},
        "similarity": score(41.25, 33.5, 48.75, 0.5, 0.25),
        "precision": score(52.5, 44.5, 60.25, 0.625, 0.375),
        "rule": {"n": 3, "passed": 1, "rate": 1 / 3, "low": 0.0617, "high": 0.7923},
    }
    rows: list[Row] = [verdict("p0", 90.0), verdict("p1", 20.0), verdict("p2", None)]
    return stage(root, path, rows, **(summary | changed))


def gate(root: Path, path: str, number: int, decision: str) -> str:
    whole = {"value": 87.5, "low": 81.25, "high": 93.75}
    common = {"judge": JUDGE, "n_prompts": 3, "n_unscored": 1, "n_missing_answers": 0}
    rule = {"n": 3, "passed": 1, "rate": 1 / 3, "low": 0.0617, "high": 0.7923}
    scores = {"similarity": score(41.25, 33.5, 48.75, 0.5, 0.25)}
    scores["precision"] = score(None, None, None, None, None)
    match = {"similarity": whole, "precision": dict.fromkeys(("value", "low", "high"))}
    local = {**common, "role": "local", "generator": "tiny", **scores, "rule": rule}
    service = {**common, "role": "baseline", "generator": "offline", **scores, "rule": None}
    return stage(
        *(root, path),
        kind="paper",
        decision=decision,
        reason="precision 52.5 is below 70",
        thresholds={"similarity": 60.0, "precision": 70.0},
        round=number,
        data_size=0,
        table=[{**local, "p_match": match}, {**service, "p_match": None}],
    )


def finetune(root: Path, path: str) -> str:
    stage(root, path, n_rows=32, steps=20, best_step=10, best_validation_loss=0.75)
    lines = [
        {"step": 10, "train_loss": 1.5, "validation_loss": 0.75, "lr": 0.001},
        {"step": 20, "train_loss": 0.5, "validation_loss": None, "lr": 0.0},
    ]
    write_atomically(root / path / "out" / "curve.jsonl", "\n".join(map(dumps, lines)) + "\n")
    return path


def first_round(root: Path, text: str = "forty two") -> dict[str, Any]:
    stages = {
        "subset": stage(
            *(root, "subset/s0", [human(9, "train", "three")]),
            rows=35,
            human=32,
            synthetic=3,
            contaminated=2,
            contaminated_human=2,
            contaminated_synthetic=0,
            leaks_refused=0,
        ),
        "finetune": finetune(root, "finetune/f0"),
        "inference": stage(root, "inference/i0", answers("tiny", text)),
        f"evaluation.{JUDGE}": judged(root, evaluation(root, "evaluation/e0"), "inference/i0"),
        "gate": gate(root, "gate/g0", 0, "fail"),
    }
    return {"round": 0, "data_size": 0, "stages": stages, "decision": "fail"}


def write_run(
    root: Path, name: str = "demo", rehearsal: bool = True, text: str = "forty two", **changed: Any
) -> Path:
    """A run of one failed round with its baseline; returns its run.json."""
    common: list[Row] = [human(n, "test", "one" if n else "three") for n in range(3)]
    baseline = evaluation(
        *(root, "evaluation/b0"),
        generator="offline",
        similarity=score(80.5, 75.25, 85.75, 1.0, 0.75),
        precision=score(None, None, None, None, None),
        rule=None,
    )
    stage(root, "baseline/a0", answers("offline", text))
    judged(root, baseline, "baseline/a0")
    run = records.record(
        **{"name": name, "command": "understudy run experiment=demo", "rehearsal": rehearsal},
        config=CONFIG,
        stages={"split": stage(root, "split/p0", common), f"baseline.{JUDGE}": baseline},
        rounds=[first_round(root, text)],
        decision={"passed": False, "round": None, "reason": "the ladder ends at 0 rows"},
    )
    run |= changed
    path = root / "run" / name / "run.json"
    path.parent.mkdir(parents=True)
    write_atomically(path, json.dumps(run))
    return path
