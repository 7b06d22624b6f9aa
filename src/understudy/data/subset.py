"""The training set of a data size: all human train rows, then the first n synthetic ones.

reads   `split` and the blocks `block.N`
writes  rows.jsonl of records.Coverage, README.md (the card), summary.json (how many rows, and how
        many repeat a held-out row) and contaminated.jsonl (which do, and why)
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from understudy.config import LoopConfig
from understudy.data.card import Making, card
from understudy.data.screening import audit, contamination, write_report
from understudy.errors import BadInput
from understudy.prompts import synthesis as prompt
from understudy.records import Coverage, Synthetic
from understudy.store.artifacts import Job, RowLog, write_atomically

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
    blocks = [role for role in job.inputs if role.startswith("block.")]
    pool = [row for role in blocks for row in job.rows(role, Synthetic)]
    pools = [job.summary(role) for role in blocks]
    size, is_prefix = job.params["data_size"], _is_prefix(job.config.loop, job.params["data_size"])
    human = [row for row in split if row.split == "train"]
    if is_prefix:
        taken = sorted(pool, key=lambda row: (row.block, row.call_id, row.id))[:size]
        human = human[: size - len(taken)]
    else:
        taken = first_by_rank(pool, size)
    if missing := size - len(taken) - (len(human) if is_prefix else 0):
        usd = [pool["usd"] for pool in pools if pool.get("usd") is not None]
        price = price_of(missing, sum(usd) if usd else None, len(pool))
        raise BadInput(
            f"data_size={size}, but the pool has {len(pool)} accepted rows: "
            f"{missing} are missing, {price}"
        )
    log = RowLog(job.out, Coverage)
    wanted = [*human, *map(_as_coverage, taken)]
    log.append(row for row in wanted if row.key not in log.rows)
    log.finish()
    summary = _summary(job.out, human, taken, split, pools)
    job.write_summary(summary)
    teacher = job.config.synthesis.service
    terms = {teacher.name: teacher.terms} if teacher else {}
    making = Making(
        held_out=Counter(str(row.split) for row in split if row.split != "train"),
        pools=pools,
        prompt=prompt.template(job.config.task.name) if teacher else None,
        contaminated=summary["contaminated"],
        is_rehearsal=job.config.is_rehearsal,
    )
    write_atomically(job.out / "README.md", card(human, taken, terms, making))
    job.notes["rows"] = {"human": len(human), "synthetic": len(taken)}


def rows_of(human: int, size: int, loop: LoopConfig) -> int:
    """How many rows the training set of a data size has beside so many human ones."""
    return size if _is_prefix(loop, size) else human + size


def _is_prefix(loop: LoopConfig, size: int) -> bool:
    """LlamaDuo's sizes: the first n rows of its merged set, in which the human rows come last."""
    return loop.subsets == "prefix" and size > 0


def _summary(
    out: Path,
    human: Sequence[Coverage],
    synthetic: Sequence[Synthetic],
    split: Sequence[Coverage],
    pools: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    by_humans, by_teachers = audit(human, split), audit(synthetic, split)
    write_report(out / "contaminated.jsonl", [*by_humans, *by_teachers])
    return {
        "rows": len(human) + len(synthetic),
        "human": len(human),
        "synthetic": len(synthetic),
        "contaminated": len(by_humans) + len(by_teachers),
        "contaminated_human": len(by_humans),
        "contaminated_synthetic": len(by_teachers),
        "leaks_refused": sum(contamination(pool["dropped"]) for pool in pools),
    }


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
