"""A run of any size, judged by a fair, a lenient and a strict judge, written as stages write it."""

import json
from pathlib import Path

import numpy as np

from support import fake_runs, records
from understudy.records import Coverage, Row, dumps
from understudy.store.artifacts import write_atomically

LENIENCY = {"fair": 0.0, "lenient": 8.0, "strict": -8.0}
_WORDS = {"prompt": 60, "reference": 80, "answer": 80, "reason": 20}


def write(
    root: Path, prompts: int = 6, repeats: int = 3, hostile: str = "", words: int | None = None
) -> Path:
    """A local model's and a service's answer per prompt; returns the run's run.json.

    `hostile` ends every text; `words` is the length of all texts.
    """
    say = _Speaker(hostile, words)
    asked: list[Row] = [
        Coverage(
            f"p{number}", f"g{number}",
            [{"role": "user", "content": say("prompt")},
             {"role": "assistant", "content": say("reference")}],
            "closed_qa" if number % 2 else "coding", None, "test", "test",
        )
        for number in range(prompts)
    ]  # fmt: skip
    stages = {"split": fake_runs.stage(root, "split/p0", asked)}
    local = {"inference": _answers(root, "inference/i0", "tiny", prompts, say)}
    _answers(root, "baseline/a0", "offline", prompts, say)
    for name, shift in LENIENCY.items():
        path = _judge(root, f"evaluation/l-{name}", "inference/i0", name, 70 + shift, repeats, say)
        local[f"evaluation.{name}"] = path
        path = _judge(root, f"evaluation/s-{name}", "baseline/a0", name, 80 + shift, repeats, say)
        stages[f"baseline.{name}"] = path
    run = records.record(
        **{"name": "panel", "rehearsal": True, "config": fake_runs.CONFIG, "stages": stages},
        rounds=[{"round": 0, "data_size": 0, "stages": local, "decision": "pass"}],
        decision={"passed": True, "round": 0, "reason": "all scores reach the thresholds"},
    )
    path = root / "run" / "panel" / "run.json"
    path.parent.mkdir(parents=True)
    write_atomically(path, json.dumps(run))
    return path


class _Speaker:
    """Random text whose words are as unequally frequent as English ones (Zipf)."""

    def __init__(self, hostile: str, words: int | None) -> None:
        self.rng = np.random.default_rng(0)
        letters = self.rng.integers(97, 123, size=(20_000, 9), dtype=np.uint8)
        sizes = self.rng.integers(2, 10, size=20_000)
        pairs = zip(letters, sizes, strict=True)
        self._vocabulary = [bytes(word[:size]).decode() for word, size in pairs]
        weights = 1 / np.arange(1, 20_001)
        self._edges = np.cumsum(weights / weights.sum())
        self._hostile, self._words = hostile, words

    def __call__(self, kind: str) -> str:
        size = self._words or _WORDS[kind]
        places = np.searchsorted(self._edges, self.rng.random(self.rng.poisson(size) + 1))
        return " ".join(self._vocabulary[min(place, 19_999)] for place in places) + self._hostile


def _answers(root: Path, path: str, generator: str, prompts: int, say: _Speaker) -> str:
    out = fake_runs.stage(root, path)
    family = {"tiny": "understudy"}.get(generator, generator)
    rows = (
        {"prompt_id": f"p{number}", "group_id": f"g{number}", "k": 0, "text": say("answer"),
         "tokens": 100, "finish": "stop" if number % 10 else "length", "generator": generator,
         "family": family}
        for number in range(prompts)
    )  # fmt: skip
    write_atomically(root / path / "out/rows.jsonl", "".join(dumps(row) + "\n" for row in rows))
    return out


def _judge(
    root: Path, path: str, answers: str, judge: str, centre: float, repeats: int, say: _Speaker
) -> str:
    prompts = (root / answers / "out/rows.jsonl").read_bytes().count(b"\n")
    generator = "tiny" if answers.startswith("inference") else "offline"
    level = np.random.default_rng(1).normal(centre, 10, size=(2, prompts, 1))
    noise = say.rng.normal(0, 3, size=(2, prompts, repeats))
    scores = (level + noise).clip(0, 100).round()
    lines = []
    for number in range(prompts):
        reasons = say("reason"), say("reason")
        for m in range(repeats):
            row = {
                "prompt_id": f"p{number}", "generator": generator, "k": 0, "judge": judge,
                "judge_family": judge, "prompt_variant": "default", "order": "reference_first",
                "m": m, "scale": "0-100", "similarity": scores[0, number, m],
                "precision": scores[1, number, m], "reason_similarity": reasons[0],
                "reason_precision": reasons[1], "status": "scored", "n_repeats": None,
            }  # fmt: skip
            lines.append(dumps(row) + "\n")
    ends = {"low": None, "high": None, "coverage@50": None, "coverage@70": None}
    summary = {
        **{"judge": judge, "judge_family": judge, "generator": generator, "family": "understudy"},
        **{"prompt_variant": "default", "order": "reference_first", "m": repeats, "k": 1},
        **{"n_prompts": prompts, "n_groups": prompts, "n_answers": prompts},
        **{"n_verdicts": prompts * repeats, "n_unscored": 0, "unscored": {}},
        **{"n_missing_answers": 0, "interval": "95 %", "rule": None},
        "similarity": {"mean": float(scores[0].mean()), **ends},
        "precision": {"mean": float(scores[1].mean()), **ends},
    }
    fake_runs.stage(root, path, **summary)
    write_atomically(root / path / "out/rows.jsonl", "".join(lines))
    return fake_runs.judged(root, path, answers)
