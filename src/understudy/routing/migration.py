"""Outcomes from migrations: the judged answers of local and service models, prompt by prompt."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

import numpy as np

from understudy.errors import BadInput
from understudy.evaluation.scores import METRICS, Metric, pool
from understudy.pipeline.record import RunRecord
from understudy.records import Answer, Coverage, Verdict, read_rows
from understudy.routing.artifact import text_of
from understudy.routing.costs import BYTES_PER_TOKEN, FREE, Price, lengths
from understudy.routing.data import Outcomes
from understudy.store.artifacts import StageDir

_SCALE = 100.0  # of a judge's score


@dataclass(frozen=True)
class _Judged:
    llm: str
    is_service: bool
    scores: dict[str, float]  # prompt_id -> 0 to 1, the mean over samples, then over judges
    tokens: dict[str, float]  # prompt_id -> mean output tokens
    prompts: dict[str, Coverage]


def outcomes(
    runs: Sequence[Path], prices: Mapping[str, Price], metric: str = "precision"
) -> Outcomes:
    """The success of each run's local model (its last judged round) and of its service baseline.

    `runs` are run.json files. Judged scores are graded success in [0, 1]; of ready-made answers
    every generator is an LLM. What is not in `prices` is free if it is local; a service must be
    there. A prompt that a model has no score for is not labelled. Raises BadInput for runs that
    share no prompt, are not judged yet or mix rehearsals with real results, and for odd prices.
    """
    if metric not in METRICS:
        raise BadInput(f"{metric} is no metric; choose from {', '.join(METRICS)}")
    records = [RunRecord.read(path) for path in runs]
    if len({record.rehearsal for record in records}) > 1:
        raise BadInput("rehearsals and real runs never mix: route them apart")
    models = _named_apart([(record.name, _models(record, metric)) for record in records])
    _check_prices(models, prices)
    ids = sorted(set.intersection(*(set(model.prompts) for model in models)))
    if not ids:
        raise BadInput(f"the runs {', '.join(record.name for record in records)} share no prompt")
    prompts = [models[0].prompts[prompt_id] for prompt_id in ids]
    texts = [text_of(prompt.prompt) for prompt in prompts]
    tokens_in = lengths(texts) / BYTES_PER_TOKEN
    success = np.array([[model.scores.get(i, np.nan) for model in models] for i in ids])
    incomplete = np.isnan(success).any(axis=1)
    success[incomplete] = np.nan
    cost = [
        prices.get(model.llm, FREE)(tokens_in, np.array([model.tokens[i] for i in ids]))
        for model in models
    ]
    note = (
        f"{incomplete.sum():,} of {len(ids):,} prompts lack some model's score, so are unlabelled; "
        "a promise counts them as failures"
    )
    return Outcomes(
        [model.llm for model in models],
        success,
        np.stack(cost, axis=1),
        ids,
        texts,
        {"group": [prompt.group_id for prompt in prompts]},
        is_rehearsal=records[0].rehearsal,
        unscored=tuple(np.flatnonzero(incomplete).tolist()),
        notes=(note,) if incomplete.any() else (),
    )


def _models(record: RunRecord, metric: Metric) -> list[_Judged]:
    """The models of a run that were judged."""
    root = record.root
    split = record.stage(record.stages["split"]).out / "rows.jsonl"
    prompts = {row.id: row for row in read_rows(split, Coverage)}
    rounds = [
        model
        for step in record.rounds
        if (model := _model(root, step.stages, False, prompts, metric)) is not None
    ]
    service = _model(root, record.stages, True, prompts, metric)
    found = rounds if record.is_ready_made else rounds[-1:]
    found += [] if service is None else [service]
    if not found:
        raise BadInput(f"the run {record.name} has no finished evaluation yet: go on with it")
    return found


def _model(
    root: Path,
    stages: dict[str, str],
    is_service: bool,
    prompts: dict[str, Coverage],
    metric: Metric,
) -> _Judged | None:
    answers, judged = ("baseline", "baseline.") if is_service else ("inference", "evaluation.")
    panel = [StageDir(root / at) for name, at in stages.items() if name.startswith(judged)]
    if answers not in stages or not any(stage.is_done for stage in panel):
        return None
    by_judge = [
        pool(list(read_rows(stage.path / "out/rows.jsonl", Verdict)), metric).prompts
        for stage in panel
        if stage.is_done
    ]
    counts = defaultdict[str, list[float]](list)
    generator = ""
    for row in read_rows(root / stages[answers] / "out/rows.jsonl", Answer):
        guess = len(row.text.encode()) / BYTES_PER_TOKEN
        counts[row.prompt_id].append(guess if row.tokens is None else row.tokens)
        generator = row.generator
    scores = {
        prompt: fmean(scores[prompt] for scores in by_judge) / _SCALE
        for prompt in counts
        if all(prompt in scores for scores in by_judge)
    }
    tokens = {prompt: fmean(values) for prompt, values in counts.items()}
    return _Judged(generator, is_service, scores, tokens, {p: prompts[p] for p in counts})


def _named_apart(by_run: list[tuple[str, list[_Judged]]]) -> list[_Judged]:
    """All models; a service that several runs asked is one, equal local names get their run's."""
    local = Counter(m.llm for _, models in by_run for m in models if not m.is_service)
    found: dict[str, _Judged] = {}
    for run, models in by_run:
        for model in models:
            is_shared = not model.is_service and local[model.llm] > 1
            name = f"{model.llm} ({run})" if is_shared else model.llm
            found.setdefault(name, replace(model, llm=name))
    return list(found.values())


def _check_prices(models: list[_Judged], prices: Mapping[str, Price]) -> None:
    names = [model.llm for model in models]
    if unknown := sorted(set(prices) - set(names)):
        raise BadInput(f"a price is given for {unknown[0]}, but the models are {', '.join(names)}")
    unpriced = [model.llm for model in models if model.is_service and model.llm not in prices]
    if unpriced:
        raise BadInput(
            f"the price of {unpriced[0]} is not known: give --price-of {unpriced[0]}=IN/OUT, "
            "in USD per million tokens"
        )
