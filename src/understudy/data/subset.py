"""The training set of a data size: all human train rows, then the first n synthetic ones."""

import hashlib
from collections.abc import Iterable
from dataclasses import fields

from understudy.artifacts import Job, RowLog, write_atomically
from understudy.data.card import card
from understudy.errors import BadInput
from understudy.records import Coverage, Synthetic

_FIRST_BLOCK = 125


def block_ends(rows: int) -> list[int]:
    """The ends of the blocks that hold the first `rows` synthetic rows: 125·2^k."""
    ends: list[int] = []
    while rows > (ends[-1] if ends else 0):
        ends.append(ends[-1] * 2 if ends else _FIRST_BLOCK)
    return ends


def run(job: Job) -> None:
    """Write human and synthetic rows alike as coverage rows."""
    human = [row for row in job.rows("split", Coverage) if row.split == "train"]
    synthetic = [
        row for role in job.inputs if role.startswith("block.") for row in job.rows(role, Synthetic)
    ]
    size = job.params["data_size"]
    if len(synthetic) < size:
        raise BadInput(f"data_size={size}, but the pool has {len(synthetic)} accepted rows")
    log = RowLog(job.out, Coverage)
    taken = first_by_rank(synthetic, size)
    wanted = [*human, *map(_as_coverage, taken)]
    log.append(row for row in wanted if row.key not in log.rows)
    log.finish()
    teacher = job.config.synthesis.service
    terms = {teacher.name: teacher.terms} if teacher else {}
    write_atomically(job.out / "README.md", card(human, taken, terms))
    job.notes["rows"] = {"human": len(human), "synthetic": size}


def first_by_rank(rows: Iterable[Synthetic], count: int) -> list[Synthetic]:
    """The first `count` rows by (block, hash of the id): 1k ⊂ 2k ⊂ 4k whatever the ladder."""
    return sorted(rows, key=_rank)[:count]


def _rank(row: Synthetic) -> tuple[int, bytes]:
    return row.block, hashlib.sha256(row.id.encode()).digest()


def _as_coverage(row: Synthetic) -> Coverage:
    return Coverage(**{item.name: getattr(row, item.name) for item in fields(Coverage)})
