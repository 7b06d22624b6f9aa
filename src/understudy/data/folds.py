"""One fold of the train split for the probe: its rows are answered by a model that never saw them.

In this stage's rows `test` is the fold, `train` the other folds, and validation stays; the real
test and holdout rows are left out, so nothing of them can steer synthesis.
"""

import hashlib
from dataclasses import replace

from understudy.errors import BadInput
from understudy.records import Coverage
from understudy.store.artifacts import Job, RowLog


def run(job: Job) -> None:
    """Write the rows of `params.fold` of `params.folds`; groups are never divided."""
    rows = job.rows("split", Coverage)
    groups = {row.group_id for row in rows if row.split == "train"}
    folds = job.params["folds"]
    if len(groups) < folds:
        raise BadInput(
            f"synthesis.seeds=weak divides the train split into {folds} folds, but it has only "
            f"{len(groups)} groups of rows; choose synthesis.seeds=uniform"
        )
    order = sorted(groups, key=lambda group: hashlib.sha256(group.encode()).digest())
    mine = set(order[job.params["fold"] :: folds])
    log = RowLog(job.out, Coverage)
    log.append(
        replace(row, split="test") if row.split == "train" and row.group_id in mine else row
        for row in rows
        if row.split in ("train", "validation") and row.key not in log.rows
    )
    job.notes["rows"] = len(log.finish())
