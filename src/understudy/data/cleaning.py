"""The cleaning stage: a ready-made synthetic set becomes a pool, and nothing is paid for it.

Rows enter in file order, in the blocks that a teacher of ours would have filled, so `data_size`
nests in the same way. What is dropped is counted by reason.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from understudy.config import SynthesisConfig
from understudy.config.source import Dedup
from understudy.data import formats, sources
from understudy.data.duplicates import NONE, paper_drops, rule_of
from understudy.data.rejects import NotWanted
from understudy.data.screening import Drop, NewPair, Screen, contamination, doing, write_report
from understudy.data.subset import block_ends
from understudy.records import Coverage, Message, Synthetic, Tool, last_question, written
from understudy.store.artifacts import Job, RowLog


class ReadyPair(NamedTuple):
    """A pair that somebody's model wrote."""

    messages: list[Message]
    teacher: str | None
    licence: str | None
    tools: list[Tool] | None = None
    response_format: dict[str, Any] | None = None

    @property
    def instruction(self) -> str:
        """The last question, with what tools were called and said since."""
        return "\n".join(map(written, last_question(self.messages[:-1])))


def run(job: Job) -> None:
    """Write every row that is new, leaks nothing held out, and is not human.

    `dropped.jsonl` says of every other pair why and because of which row; its pairs are numbered
    from 1 in the source's order, human and bad rows left out.
    """
    raws = sources.read(job.config.synthesis)
    taken, columns = take(job.config.synthesis)
    sources.log(taken.bad)
    if warnings := columns.warnings("synthesis", len(raws)):
        job.notes["warnings"] = warnings
    accepted: list[ReadyPair] = []
    drops: list[Drop] = []
    pairs = [
        NewPair(
            f"pair {number}",
            ready.instruction,
            written(ready.messages[-1]),
            doing=doing(ready.instruction, ready.messages[-1], ready.tools),
        )
        for number, (_, ready) in enumerate(taken.rows, 1)
    ]
    sifted = sift(pairs, list(job.rows("split", Coverage)), job.config.synthesis.dedup)
    for (_, ready), drop in zip(taken.rows, sifted, strict=True):
        if drop is None:
            accepted.append(ready)
        else:
            drops.append(drop)
    dropped = taken.not_wanted + Counter(bad_row=len(taken.bad))
    dropped += write_report(job.out / "dropped.jsonl", drops)
    log = RowLog(job.out, Synthetic)
    log.append(row for row in _rows(job, accepted) if row.key not in log.rows)
    log.finish()
    summary = {
        "rows": len(accepted),
        "read": len(raws),
        "dropped": dict(sorted(dropped.items())),
        "contaminated": contamination(dropped),
    }
    job.write_summary(summary)
    job.notes.update(summary)


def sift(
    pairs: Sequence[NewPair], human: Sequence[Coverage], dedup: Dedup
) -> Iterator[Drop | None]:
    """The objection to each pair; by the paper's rule no copy of a near-duplicate is left."""
    if dedup.kind == "default":
        yield from (drop for _, drop in Screen(human, rule_of(dedup)).sift(pairs))
        return
    copies = paper_drops([pair.response for pair in pairs], dedup)
    for number, (pair, drop) in enumerate(Screen(human, NONE).sift(pairs)):
        near = copies.get(number)
        if drop is None and near is not None:
            of = pairs[near.row].id
            drop = Drop(pair.id, "duplicate_response", near.rule, round(near.value, 4), of)
        yield drop


def take(source: SynthesisConfig) -> "tuple[sources.Taken[ReadyPair], formats.ColumnUse]":
    """The pairs of a source, without the human ones, and what became of its columns."""
    raws, given = sources.read(source), source.columns
    names, where = formats.columns(raws), sources.where(source)
    kind = formats.detect(names, where, source.format, given)
    licence = formats.column("licence", given.licence, names, where)

    def convert(values: dict[str, Any]) -> ReadyPair:
        generator = values.get("generator")
        if generator == formats.HUMAN:
            raise NotWanted("human")
        teacher = None if generator is None else str(generator)
        found = formats.value_of(values, licence)
        messages = formats.conversation(values, kind, given)
        return ReadyPair(messages, teacher, found, *formats.offered(values, given))

    taken = sources.take(raws, convert, source.tolerance)
    read = ("generator", *([licence] if licence else []))
    return taken, formats.use(raws, kind, given, read)


def _rows(job: Job, accepted: list[ReadyPair]) -> Iterator[Synthetic]:
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
            tools=ready.tools,
            response_format=ready.response_format,
        )
