"""Numbers that no stage wrote: sample answers, novelty of the test answers, time by stage."""

from typing import NamedTuple

import pandas as pd

from .frame import Sampled


class Sample(NamedTuple):
    """One judged answer, for reading."""

    title: str
    prompt_id: str
    messages: list[dict[str, str]]
    reference: str
    answer: str
    finish: str
    similarity: float
    precision: float


def samples(sampled: Sampled) -> list[Sample]:
    """The best, the median and the worst answer by the mean of both scores."""
    scored = sampled.verdicts[sampled.verdicts["status"] == "scored"]
    if scored.empty:
        return []
    means = scored.groupby(["prompt_id", "k"])[["similarity", "precision"]].mean()
    order = means.assign(both=means.mean(axis=1)).reset_index()
    # ties are broken by prompt and k, so that equal input gives an equal page
    order = order.sort_values(["both", "prompt_id", "k"], ascending=[False, True, True])
    answers = {(answer.prompt_id, answer.k): answer for answer in sampled.answers}
    picked = []
    places = {"Best": 0, "Median": (len(order) - 1) // 2, "Worst": len(order) - 1}
    for title, place in places.items():
        row = order.iloc[place]
        answer = answers[str(row["prompt_id"]), int(row["k"])]
        source = sampled.coverage[answer.prompt_id]
        picked.append(
            Sample(
                title,
                source.id,
                source.prompt,
                source.response,
                answer.text,
                answer.finish,
                float(row["similarity"]),
                float(row["precision"]),
            )
        )
    return picked


def absent_share(test: list[str], train: list[str] | None) -> float:
    """The share of test answers that are no training answer; missing without training rows."""
    if train is None or not test:
        return float("nan")
    seen = {answer.strip() for answer in train}
    return sum(answer.strip() not in seen for answer in test) / len(test)


def seconds_by_stage(stages: pd.DataFrame) -> dict[str, float]:
    """The wall time of the finished stages, added up by kind of stage, in the run's order."""
    # a directory shared by two rounds was filled once
    once = stages[stages["is_done"]].drop_duplicates(["stage", "fingerprint"])
    return {
        str(name): float(group["seconds"].sum(min_count=1))
        for name, group in once.groupby("stage", sort=False)
    }


def curve_order(scores: pd.DataFrame) -> pd.DataFrame:
    """The local model's rows by task; the untrained base model first, then by data size."""
    local = scores[scores["role"] == "local"]
    local = local.assign(is_base=local["trainer"] == "none")
    keys = ["task", "is_base", "data_size", "judge"]
    return local.sort_values(keys, ascending=[True, False, True, True]).reset_index(drop=True)
