"""Train, validation, test and holdout: drawn by group, so that lineage never straddles a split.

A fold of the train split, for the probe, is a split as well: its rows are answered by a model that
never saw them. There `test` is the fold, `train` the other folds, and validation stays; the real
test and holdout rows are left out, so nothing of them can steer synthesis.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace

from understudy.config import Split
from understudy.errors import BadInput
from understudy.records import Coverage, SplitName
from understudy.store.artifacts import Job, RowLog

_DRAWN: tuple[SplitName, ...] = ("test", "validation", "holdout")


def run(job: Job) -> None:
    """Write the coverage rows with their split."""
    rows = split(
        job.rows("coverage", Coverage), job.config.coverage.split, job.config.coverage.seed
    )
    log = RowLog(job.out, Coverage)
    log.append(row for row in rows if row.key not in log.rows)
    log.finish()
    counts: dict[str, int] = defaultdict(int)
    for row in rows:
        counts[str(row.split)] += 1
    job.notes["rows"] = dict(counts)


def split(rows: Sequence[Coverage], sizes: Split, seed: int) -> list[Coverage]:
    """Fill test, validation and holdout with whole groups in a seeded order; train is the rest.

    A row that already has a split keeps it, and the others of its group follow, held-out ones
    first. Raises BadInput when train or test would be empty.
    """
    groups: dict[str, list[Coverage]] = defaultdict(list)
    given: dict[str, set[SplitName]] = defaultdict(set)
    for row in rows:
        if row.split is not None:
            given[row.group_id].add(row.split)
    for row in rows:
        if row.split is None and row.group_id not in given:
            groups[row.group_id].append(row)
    # Ordered by hash: more rows later leave the relative order of these as it is.
    order = sorted(groups, key=lambda group: hashlib.sha256(f"{seed}:{group}".encode()).digest())
    splits: dict[str, SplitName] = {
        group: next((name for name in _DRAWN if name in names), "train")
        for group, names in given.items()
    }
    position = 0
    for name in _DRAWN:
        wanted, taken = _rows(getattr(sizes, name), len(rows)), 0
        while position < len(order) and taken < wanted:
            splits[order[position]] = name
            taken += len(groups[order[position]])
            position += 1
    drawn = [
        row if row.split is not None else replace(row, split=splits.get(row.group_id, "train"))
        for row in rows
    ]
    for needed in ("train", "test"):
        if not any(row.split == needed for row in drawn):
            sizes_of = Counter(row.group_id for row in rows)
            many = "group" if len(sizes_of) == 1 else "groups"
            raise BadInput(
                f"coverage.split leaves no {needed} row of {len(rows)}: validation="
                f"{sizes.validation:g}, test={sizes.test:g}, holdout={sizes.holdout:g}; the "
                f"{len(rows)} rows are {len(sizes_of)} {many}, the largest of "
                f"{max(sizes_of.values())}, and a group (one id in the group column, or "
                "near-duplicate prompts) is never divided"
            )
    return drawn


def _rows(size: float, total: int) -> int:
    return round(size * total) if size < 1 else round(size)


def run_fold(job: Job) -> None:
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
