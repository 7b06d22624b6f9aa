"""Runs of several rounds under a panel of judges, of any size, written as the stages write them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from support import records

JUDGES = {"gpt-4o": 0.0, "claude-3-sonnet": 4.0, "gemini-1.5-flash": -6.0}
SERVICE, MODEL, TEACHER = "gpt-4o", "gemma-7b", "gpt-4o"


def write(
    root: Path,
    sizes: Sequence[int],
    prompts: int,
    answers: int = 2,
    repeats: int = 2,
    judges: Mapping[str, float] = JUDGES,
    microusd_per_row: int | None = None,
) -> int:
    """The run `big`: a service and one round per size; returns the number of verdicts."""
    rng = np.random.default_rng(0)
    hard = rng.normal(0, 10, prompts)
    ids = [f"{number:016x}" for number in range(prompts)]
    split = stage(root, "split/s", [_coverage(one) for one in ids])
    rounds: list[dict[str, Any]] = []
    shared, verdicts = {"split": split}, 0
    for place, size in enumerate([None, *sizes]):
        level = 92.0 if size is None else 40 + 50 * size / (size + 6000)
        generator = SERVICE if size is None else MODEL
        stages = {} if size is None else _training(root, size, place, microusd_per_row)
        rows = [_answer(one, k, generator) for one in ids for k in range(answers)]
        stages["inference"] = stage(root, f"inference/i{place}", rows)
        for judge, leniency in judges.items():
            noise = rng.normal(0, 5, (prompts, answers, 1))
            noise = noise + rng.normal(0, 2, (prompts, answers, repeats))
            scores = np.rint(np.clip(level + leniency - hard[:, None, None] + noise, 0, 100))
            found = [
                _verdict(ids[p], generator, k, judge, m, float(scores[p, k, m]))
                for p in range(prompts)
                for k in range(answers)
                for m in range(repeats)
            ]
            verdicts += len(found)
            inputs = {"answers": stages["inference"], "split": split}
            path = f"evaluation/e{place}-{judge}"
            summary = _summary(judge, generator, scores)
            stages[f"evaluation.{judge}"] = stage(root, path, found, summary, inputs)
        if size is None:
            shared["baseline"] = stages.pop("inference")
            shared |= {name.replace("evaluation", "baseline"): s for name, s in stages.items()}
        else:
            rounds.append({"round": place - 1, "data_size": size, "stages": stages})
    put(root / "run/big/run.json", json.dumps(_record(shared, rounds)))
    return verdicts


def _training(root: Path, size: int, place: int, microusd: int | None) -> dict[str, str]:
    rows = [_coverage(f"train-{number}") for number in range(3)]
    calls = None if microusd is None else {
        "calls": size, "microusd": size * microusd, "input_tokens": 300 * size,
        "output_tokens": 100 * size,
    }  # fmt: skip
    return {
        "synthesis.0": stage(root, f"synthesis/y{place}", [], {"rows": size}, calls=calls),
        "subset": stage(root, f"subset/u{place}", rows, {"rows": 3 + size, "contaminated": 1}),
        "finetune": stage(root, f"finetune/f{place}", [], {"steps": 100 + place}),
    }


def _record(shared: dict[str, str], rounds: list[dict[str, Any]]) -> dict[str, Any]:
    config = {
        "task": {"name": "summarization"},
        "trainer": {"kind": "lora"},
        "seed": 0,
        "synthesis": {"service": {"name": TEACHER, "family": "openai"}},
        "gate": {"similarity": 70.0, "precision": 80.0},
    }
    return records.record(name="big", rehearsal=True, config=config, stages=shared, rounds=rounds)


def _coverage(name: str) -> dict[str, Any]:
    messages = [
        {"role": "user", "content": f"prompt {name}"},
        {"role": "assistant", "content": "the reference in so many words"},
    ]
    facts = {"task": "summarization", "licence": None, "source": "made", "split": "test"}
    return {"id": name, "group_id": name, "messages": messages} | facts


def _answer(prompt: str, k: int, generator: str) -> dict[str, Any]:
    text = "an answer of so many words" + " and more" * (k + len(prompt.strip("0")))
    facts = {"tokens": 6, "finish": "stop", "generator": generator, "family": "google"}
    return {"prompt_id": prompt, "group_id": prompt, "k": k, "text": text} | facts


def _verdict(
    prompt: str, generator: str, k: int, judge: str, m: int, score: float
) -> dict[str, Any]:
    reason = "The answer keeps the main points and leaves out one detail of the reference."
    head = {"prompt_id": prompt, "generator": generator, "k": k, "judge": judge}
    asked = {"judge_family": "openai", "prompt_variant": "default", "order": "reference_first"}
    scored = {"m": m, "scale": "0-100", "similarity": max(score - 8, 0.0), "precision": score}
    reasons = {"reason_similarity": reason, "reason_precision": reason}
    return head | asked | scored | reasons | {"status": "scored", "n_repeats": None}


def _summary(judge: str, generator: str, scores: Any) -> dict[str, Any]:
    """What the pages and the figure of rounds read."""
    mean = float(scores.mean())
    metric = {"mean": mean, "low": mean - 1, "high": mean + 1}
    asked = {"judge_family": "openai", "prompt_variant": "default", "order": "reference_first"}
    head = {"judge": judge, "generator": generator, "m": scores.shape[2]}
    return head | asked | {"similarity": metric, "precision": metric}


def stage(
    root: Path,
    path: str,
    rows: list[dict[str, Any]],
    summary: dict[str, Any] | None = None,
    inputs: dict[str, str] | None = None,
    calls: dict[str, int] | None = None,
) -> str:
    """A finished stage; returns its path as run.json holds it."""
    text = "".join(json.dumps(row, separators=(",", ":")) + "\n" for row in rows)
    put(root / path / "out/rows.jsonl", text)
    put(root / path / "out/summary.json", json.dumps(summary or {}))
    put(root / path / "inputs.json", json.dumps({"inputs": inputs or {}}))
    put(
        root / path / "meta.json",
        json.dumps({"seconds": 1.0} | ({"calls": calls} if calls else {})),
    )
    put(root / path / "DONE", "")
    return path


def put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
