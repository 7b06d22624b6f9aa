"""Numbers that no stage wrote: novelty of the test answers, time by stage."""

import pandas as pd


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
