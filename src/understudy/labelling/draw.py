"""Which prompts of the holdout humans see, with known probabilities.

Looking at the holdout's verdicts would be a look at the result. So a prompt is drawn more often, up
to three times, where judges disagree on the test prompts that are most like it. Of n prompts,
prompt i is drawn with probability pi_i proportional to its size, by Pareto sampling (Rosen 1997,
J. Statist. Plann. Inference 62:159): those with the least u (1 - pi) / ((1 - u) pi). A
prompt keeps its u, so a larger draw keeps what was labelled.
"""

import hashlib
import json
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from understudy.errors import BadInput
from understudy.evaluation.scores import pool
from understudy.evaluation.statistics.intervals import Floats
from understudy.pipeline.deciding import judged
from understudy.pipeline.measured import answers_of
from understudy.pipeline.record import RunRecord
from understudy.records import Answer, Coverage, Verdict, read_rows

MOST = 3.0  # times as often as the prompt on which judges agree best
_NEIGHBOURS, _WIDTH = 10, 2048


class DrawnItem(NamedTuple):
    """One prompt on the page: two answers, whose is whose is only in the draw."""

    item: str
    prompt_id: str
    weight: float
    a: tuple[str, int]  # generator and k
    b: tuple[str, int]


class Draw(NamedTuple):
    """What `draw.json` holds."""

    answers: dict[str, str]  # generator -> stage
    scale: str
    rubric: str
    items: list[DrawnItem]

    @classmethod
    def of(cls, values: dict[str, Any]) -> "Draw":
        """From plain values."""
        items = [
            DrawnItem(
                one["item"], one["prompt_id"], one["weight"], tuple(one["a"]), tuple(one["b"])
            )
            for one in values["items"]
        ]
        return cls(values["answers"], values["scale"], values["rubric"], items)

    def to_json(self) -> str:
        """As the file holds it."""
        return json.dumps(self._asdict() | {"items": [one._asdict() for one in self.items]})


class Shown(NamedTuple):
    """The texts of an item."""

    prompt: list[dict[str, Any]]
    a: str
    b: str
    reference: str = ""  # for judges; humans are not shown it


def draw(
    run: RunRecord, count: int, scale: str, rubric: str, seed: int, service: str | None
) -> tuple[Draw, list[Shown]]:
    """Choose prompts, an answer of each side and their places; the page's order is random."""
    sides = judged(run, service)
    found_stages = [answers_of(run, sides.stages, role) for role in ("evaluation", "baseline")]
    stages = [stage for stage in found_stages if stage is not None]
    if len(stages) < 2:
        raise BadInput(f"{run.name} no longer has the answers that were judged; run it again")
    rows = [list(read_rows(stage.out / "rows.jsonl", Answer)) for stage in stages]
    name = "test" if run.is_ready_made else "holdout"
    split = run.stage(run.stages["split"]).out / "rows.jsonl"
    coverage = [row for row in read_rows(split, Coverage) if row.split in (name, "test")]
    by_prompt: list[dict[str, list[Answer]]] = []
    for side in rows:
        found: dict[str, list[Answer]] = defaultdict(list)
        for row in side:
            if row.finish != "error":
                found[row.prompt_id].append(row)
        by_prompt.append(found)
    held = [row for row in coverage if row.split == name and all(row.id in s for s in by_prompt)]
    if not held:
        raise BadInput(f"{run.name} has no holdout prompt that both sides answered")
    if not count > 0:
        raise BadInput(f"--n {count} draws nothing; give a number of prompts, such as 100")
    tests = [] if run.is_ready_made else [row for row in coverage if row.split == "test"]
    sizes = _sizes(held, tests, _disagreement(run))
    chance = probabilities(sizes, min(count, len(held)))
    u = np.array([_uniform(seed, row.id) for row in held])
    with np.errstate(divide="ignore", invalid="ignore"):
        order = np.where(chance >= 1, 0.0, u * (1 - chance) / ((1 - u) * chance))
    chosen = np.argsort(order, kind="stable")[: min(count, len(held))]
    items, shown = [], []
    for place in chosen[np.argsort([_uniform(seed + 1, held[i].id) for i in chosen])]:
        row = held[place]
        rng = random.Random(f"{seed} {row.id}")
        pair = [rng.choice(side[row.id]) for side in by_prompt]
        rng.shuffle(pair)
        mark = hashlib.sha256(f"{seed} {row.id}".encode()).hexdigest()[:12]
        places = [(one.generator, one.k) for one in pair]
        items.append(DrawnItem(mark, row.id, float(1 / chance[place]), *places))
        shown.append(Shown(row.prompt, pair[0].text, pair[1].text, row.response))
    names = [side[0].generator for side in rows]
    if names[0] == names[1]:
        raise BadInput(f"both sides are called {names[0]}, so labels could not tell them apart")
    paths = [f"{stage.path.parent.name}/{stage.path.name}" for stage in stages]
    return Draw(dict(zip(names, paths, strict=True)), scale, rubric, items), shown


def probabilities(sizes: Floats, count: int) -> Floats:
    """(N,): proportional to the sizes, `count` in all, none above 1."""
    found = np.zeros(len(sizes))
    sure = np.zeros(len(sizes), dtype=bool)
    while True:
        rest = count - int(sure.sum())
        found = np.where(sure, 1.0, sizes * rest / max(float(sizes[~sure].sum()), 1e-300))
        above = (found >= 1) & ~sure
        if not above.any():
            return found
        sure |= above


def _uniform(seed: int, name: str) -> float:
    digits = hashlib.sha256(f"{seed} {name}".encode()).digest()[:8]
    return (int.from_bytes(digits, "big") + 0.5) / 2**64


def _disagreement(run: RunRecord) -> dict[str, float]:
    """Test prompt -> SD of the judges' means on the local answers, of the last round."""
    means: list[Mapping[str, float]] = []
    for role, path in (run.rounds[-1].stages if run.rounds else {}).items():
        stage = run.stage(path)
        if role.startswith("evaluation.") and stage.is_done and not run.is_ready_made:
            rows = list(read_rows(stage.out / "rows.jsonl", Verdict))
            means.append(pool(rows, "precision").prompts)
    if len(means) < 2:
        return {}
    common = set(means[0]).intersection(*means[1:])
    return {prompt: float(np.std([one[prompt] for one in means])) for prompt in common}


def _sizes(
    held: Sequence[Coverage], tests: Sequence[Coverage], apart: Mapping[str, float]
) -> Floats:
    """(N,) from 1 to MOST: how far judges are apart on the test prompts that are most alike."""
    tests = [row for row in tests if row.id in apart]
    if len(tests) < _NEIGHBOURS or not max(apart.values()) > 0:
        return np.ones(len(held))
    near = _words(held) @ _words(tests).T  # (N, T)
    most = np.argsort(-near, axis=1, kind="stable")[:, :_NEIGHBOURS]
    known = np.array([apart[row.id] for row in tests])[most].mean(1)
    found: Floats = 1 + (MOST - 1) * known / max(float(known.max()), 1e-12)
    return found


def _words(rows: Sequence[Coverage]) -> Floats:
    """(N, _WIDTH): hashed words of length 1."""
    found = np.zeros((len(rows), _WIDTH), dtype=float)
    for number, row in enumerate(rows):
        for word in row.instruction.lower().split():
            place = hashlib.blake2b(word.encode(), digest_size=4).digest()
            found[number, int.from_bytes(place, "big") % _WIDTH] += 1
    normed: Floats = found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1)
    return normed
