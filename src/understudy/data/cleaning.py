"""The cleaning stage: a ready-made synthetic set becomes a pool, and nothing is paid for it.

Rows enter in file order, in the blocks that a teacher of ours would have filled, so `data_size`
nests in the same way. What is dropped is counted by reason.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

from understudy.artifacts import Job, RowLog
from understudy.config import Synthesis
from understudy.data import formats, sources
from understudy.data.clusters import same
from understudy.data.subset import block_ends
from understudy.records import Coverage, Message, Synthetic


class Ready(NamedTuple):
    """A pair that somebody's model wrote."""

    messages: list[Message]
    teacher: str | None
    licence: str | None


def run(job: Job) -> None:
    """Write every row that is new, held out nowhere, and not human."""
    raws = sources.read(job.config.synthesis)
    taken = take(job.config.synthesis)
    sources.log(taken.bad)
    dropped = taken.not_wanted + Counter(bad_row=len(taken.bad))
    human = job.rows("split", Coverage)
    held_out = {same(row.instruction) for row in human if row.split != "train"}
    known = {same(row.instruction) for row in human if row.split == "train"}
    accepted: list[Ready] = []
    for _, ready in taken.rows:
        instruction = same(ready.messages[-2]["content"])
        if instruction in held_out:
            dropped["held_out_instruction"] += 1
        elif instruction in known:
            dropped["duplicate_instruction"] += 1
        else:
            known.add(instruction)
            accepted.append(ready)
    log = RowLog(job.out, Synthetic)
    log.append(row for row in _rows(job, accepted) if row.key not in log.rows)
    log.finish()
    summary = {"rows": len(accepted), "read": len(raws), "dropped": dict(sorted(dropped.items()))}
    job.write_summary(summary)
    job.notes.update(summary)


def take(source: Synthesis) -> "sources.Taken[Ready]":
    """The pairs of a source, without the human ones."""
    raws = sources.read(source)
    names = formats.columns(raws)
    kind = formats.detect(names, sources.where(source), source.format)
    licence = formats.column("licence", None, names, "")

    def convert(values: dict[str, Any]) -> Ready:
        generator = values.get("generator")
        if generator == formats.HUMAN:
            raise formats.NotWanted("human")
        found = values.get(licence) if licence else None
        teacher = None if generator is None else str(generator)
        return Ready(formats.conversation(values, kind), teacher, found)

    return sources.take(raws, convert, source.tolerance)


def _rows(job: Job, accepted: list[Ready]) -> Iterator[Synthetic]:
    ends = block_ends(len(accepted))
    block = 0
    source = job.config.synthesis
    name = "file" if source.repo is None else f"{source.repo}@{source.revision or 'local'}"
    for number, ready in enumerate(accepted):
        block += number >= ends[block]
        row_id = f"s{block:02d}-{number:07d}-00"
        yield Synthetic(
            id=row_id,
            group_id=row_id,
            messages=ready.messages,
            task=job.config.task.name,
            licence=ready.licence,
            source=f"synthesis:{name}",
            split="train",
            seed_id="unknown",
            block=block,
            call_id=number,
            depth=1,
            teacher=ready.teacher or "unknown",
        )
