"""The training set of a data size: all human train rows, then the first n synthetic ones."""

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import fields

from understudy.artifacts import Job, RowLog, write_atomically
from understudy.data.card import Making, card
from understudy.errors import BadInput
from understudy.prompts import synthesis as prompt
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
    split = job.rows("split", Coverage)
    human = [row for row in split if row.split == "train"]
    blocks = [role for role in job.inputs if role.startswith("block.")]
    synthetic = [row for role in blocks for row in job.rows(role, Synthetic)]
    pools = [job.summary(role) for role in blocks]
    size = job.params["data_size"]
    if len(synthetic) < size:
        usd = [pool["usd"] for pool in pools if pool.get("usd") is not None]
        price = price_of(size - len(synthetic), sum(usd) if usd else None, len(synthetic))
        raise BadInput(
            f"data_size={size}, but the pool has {len(synthetic)} accepted rows: "
            f"{size - len(synthetic)} are missing, {price}"
        )
    log = RowLog(job.out, Coverage)
    taken = first_by_rank(synthetic, size)
    wanted = [*human, *map(_as_coverage, taken)]
    log.append(row for row in wanted if row.key not in log.rows)
    log.finish()
    teacher = job.config.synthesis.service
    terms = {teacher.name: teacher.terms} if teacher else {}
    making = Making(
        held_out=Counter(str(row.split) for row in split if row.split != "train"),
        pools=pools,
        prompt=prompt.template(job.config.task.name) if teacher else None,
        is_rehearsal=job.config.is_rehearsal,
    )
    write_atomically(job.out / "README.md", card(human, taken, terms, making))
    job.notes["rows"] = {"human": len(human), "synthetic": size}


def price_of(missing: int, usd: float | None, rows: int) -> str:
    """A clause about what `missing` rows would cost, when `rows` have cost `usd` dollars."""
    if not usd or not rows:
        return "and what they would cost is not known, because these were not paid for here"
    each = usd / rows
    return f"which would cost about ${missing * each:.2f} at ${each:.6f} a row"


def first_by_rank(rows: Iterable[Synthetic], count: int) -> list[Synthetic]:
    """The first `count` rows by (block, hash of the id): 1k ⊂ 2k ⊂ 4k whatever the ladder."""
    return sorted(rows, key=_rank)[:count]


def _rank(row: Synthetic) -> tuple[int, bytes]:
    return row.block, hashlib.sha256(row.id.encode()).digest()


def _as_coverage(row: Synthetic) -> Coverage:
    return Coverage(**{item.name: getattr(row, item.name) for item in fields(Coverage)})
