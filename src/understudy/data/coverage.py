"""The coverage dataset: real (prompt, response) pairs, as rows with ids."""

from collections import Counter
from typing import Any, NamedTuple

from understudy import playground
from understudy.config import Config, CoverageConfig
from understudy.data import formats, naming, sources
from understudy.data.duplicates import clusters
from understudy.data.rejects import NotWanted
from understudy.errors import BadInput
from understudy.records import (
    Coverage,
    Message,
    SplitName,
    Tool,
    last_question,
    written,
)
from understudy.store.artifacts import Job, RowLog

_THOUGHT = "</think>"


class FoundRow(NamedTuple):
    """What is known of one row of somebody's file."""

    id: str | None
    group: str | None
    split: SplitName | None
    licence: str | None
    category: str | None
    messages: list[Message]
    expected: dict[str, Any] | None = None  # what a grader reads
    tools: list[Tool] | None = None
    response_format: dict[str, Any] | None = None


class Found(NamedTuple):
    """The pairs of a file, and what it holds besides."""

    pairs: list[FoundRow]
    format: str
    total: int
    not_coverage: Counter[str]
    bad: list[str]
    columns: formats.ColumnUse

    def notices(self, licence: str | None) -> list[str]:
        """What a user should see once per run: counts, and licences where rows have none."""
        lines = [f"coverage: {len(self.pairs)} rows, format {self.format}"]
        if self.not_coverage:
            reasons = ", ".join(
                f"{count} {why}" for why, count in sorted(self.not_coverage.items())
            )
            lines.append(f"coverage: {self.not_coverage.total()} rows are not coverage: {reasons}")
        if self.bad:
            lines.append(f"coverage: {len(self.bad)} bad rows skipped; the first: {self.bad[0]}")
        given = [pair.id for pair in self.pairs if pair.id is not None]
        if len(set(given)) < len(given):
            lines.append("coverage: ids repeat, so rows are named by what they hold")
        unknown = licence or "not given (coverage.licence=…)"
        licences = Counter(pair.licence or unknown for pair in self.pairs)
        named = ", ".join(f"{name} ({count} rows)" for name, count in sorted(licences.items()))
        return [*lines, f"coverage: licence {named}", *self.warnings()]

    def warnings(self) -> list[str]:
        """What of the file nobody reads, and what is learnt though it may not be meant."""
        lines = self.columns.warnings("coverage", self.total)
        if thinking := sum(_THOUGHT in written(pair.messages[-1]) for pair in self.pairs):
            lines.append(
                f"coverage: {thinking} of {len(self.pairs)} answers hold a thought ({_THOUGHT}), "
                "which is learnt as a part of them; `understudy collect` takes thoughts out"
            )
        return lines


def run(job: Job) -> None:
    """Write every row of the source."""
    log = RowLog(job.out, Coverage)
    log.rows.clear()  # cheap to make again, and then no older content can be mixed in
    log.path.write_text("")
    if job.config.coverage.kind == "playground":
        rows = _playground(job.config)
    else:
        found = find(job.config.coverage, job.config.task.name)
        rows = _rows(found.pairs, job.config.coverage, job.config.task.name)
        sources.log(found.bad)
        job.notes["notices"] = found.notices(job.config.coverage.licence)
        job.notes["warnings"] = found.warnings()
        job.notes["columns_read"] = found.columns.read
        job.notes["columns_aside"] = found.columns.aside
        job.notes["columns_unread"] = found.columns.unread
        job.notes["format"] = found.format
        job.notes["not_coverage"] = dict(found.not_coverage)
        job.notes["bad"] = len(found.bad)
    log.append(rows)
    job.notes["rows"] = len(log.finish())


def find(source: CoverageConfig, task: str) -> Found:
    """The pairs of a file or hub data set, in its order."""
    raws = sources.read(source)
    where, names = sources.where(source), formats.columns(raws)
    kind = formats.detect(names, where, source.format, source.columns)
    at = {
        what: formats.column(what, getattr(source.columns, what), names, where)
        for what in formats.USUAL
    }
    for column in source.expected.values():
        formats.column("expected", column, names, where)
    category = source.categories.get(task)
    if category is not None and at["category"] is None:
        raise BadInput(
            f"{where} has no column with the category, of which task={task} takes {category}; "
            "give coverage.columns.category or coverage.categories={}"
        )

    def convert(values: dict[str, Any]) -> FoundRow:
        if kind == "llamaduo" and (generator := values.get("generator")) != formats.HUMAN:
            raise NotWanted(f"by generator {generator}")
        if category is not None and (other := formats.value_of(values, at["category"])) != category:
            raise NotWanted(f"of category {other}")
        given = {what: formats.value_of(values, name) for what, name in at.items()}
        offered = formats.offered(values, source.columns)
        return FoundRow(
            id=_word(given["id"]),
            group=_word(given["group"]),
            split=_split(source, given["split"]),
            licence=_word(given["licence"]),
            category=_word(given["category"]),
            messages=formats.conversation(values, kind, source.columns),
            expected=formats.expected(values, source.expected),
            tools=offered[0],
            response_format=offered[1],
        )

    taken = sources.take(raws, convert, source.tolerance)
    pairs = [pair for _, pair in taken.rows]
    if not pairs:
        reasons = ", ".join(f"{count} {why}" for why, count in taken.not_wanted.items())
        if taken.bad:
            bad = f"{len(taken.bad)} bad rows, the first: {taken.bad[0]}"
            reasons = f"{reasons}, {bad}" if reasons else bad
        raise BadInput(f"{where} has no coverage row among its {len(raws)}: {reasons}")
    if source.columns.id is not None:
        _check_ids(where, source.columns.id, pairs)
    others = [name for name in at.values() if name] + list(source.expected.values())
    read = formats.use(raws, kind, source.columns, others)
    return Found(pairs, kind, len(raws), taken.not_wanted, taken.bad, read)


def _split(source: CoverageConfig, word: Any) -> SplitName | None:
    """The split of a row of a file, by `parts` where it says what the word means."""
    if source.kind == "file" and word is not None and str(word) in source.parts:
        return source.parts[str(word)]
    return formats.split_of(word)


def _word(value: Any) -> str | None:
    return None if formats.is_missing(value) else str(value)


def _check_ids(where: str, name: str, pairs: list[FoundRow]) -> None:
    """Refuse ids that the user points to and that do not tell the rows apart."""
    for value, count in Counter(pair.id for pair in pairs).most_common(1):
        if count > 1:
            what = f"the value {value} in {count} rows" if value else f"no value in {count} rows"
            raise BadInput(
                f"{where} has {what} of column {name}, so coverage.columns.id={name} fails"
            )


def _rows(pairs: list[FoundRow], source: CoverageConfig, task: str) -> list[Coverage]:
    given = [pair.id for pair in pairs if pair.id is not None]
    is_unique = len(set(given)) == len(pairs)
    ids = given if is_unique else naming.names_of(map(_digest, pairs))
    first = clusters([asked(pair.messages) for pair in pairs])
    name = "file" if source.repo is None else f"{source.repo}@{source.revision or 'local'}"
    return [
        Coverage(
            id=row_id,
            group_id=pair.group or ids[cluster],
            messages=pair.messages,
            task=task,
            licence=pair.licence or source.licence,
            source=name,
            split=pair.split,
            expected=pair.expected,
            tools=pair.tools,
            response_format=pair.response_format,
        )
        for pair, row_id, cluster in zip(pairs, ids, first, strict=True)
    ]


def _digest(pair: FoundRow) -> bytes:
    return naming.digest(pair.messages, pair.tools, pair.response_format)


def asked(messages: list[Message]) -> str:
    """Return the user's last question, whatever tools were called since: what rows are alike by."""
    return written(last_question(messages)[0])


def _playground(config: Config) -> list[Coverage]:
    task, source = config.task.name, config.coverage
    assert source.rows is not None, "coverage=playground has a number of rows"
    if task == playground.tools.TASK:
        return _errands(config, source.rows)
    if task not in playground.TASKS:
        raise BadInput(
            f"task={task} is not one of the playground's: {', '.join(playground.TASKS)}, "
            f"{playground.tools.TASK}; "
            "choose one of them or another coverage"
        )
    conversations = [
        [
            {"role": "user", "content": pair.instruction},
            {"role": "assistant", "content": pair.response},
        ]
        for pair in playground.generate(task, source.seed, 0, source.rows)
    ]
    return [
        Coverage(
            id=row_id,
            group_id=row_id,
            messages=messages,
            task=task,
            licence=source.licence,
            source="playground",
            split=None,
        )
        for row_id, messages in zip(naming.row_ids(conversations), conversations, strict=True)
    ]


def _errands(config: Config, rows: int) -> list[Coverage]:
    """The rows of the playground's tool calls."""
    offered: list[Tool] = playground.tools.TOOLS
    conversations: list[list[Message]] = [
        [
            {"role": "user", "content": errand.instruction},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {"id": f"call{n:05}", "name": name, "arguments": given}
                    for n, (name, given) in enumerate(errand.calls)
                ],
            },
        ]
        for errand in playground.tools.generate(config.coverage.seed, 0, rows)
    ]
    names = naming.names_of(naming.digest(messages, offered) for messages in conversations)
    return [
        Coverage(
            id=row_id,
            group_id=row_id,
            messages=messages,
            task=config.task.name,
            licence=config.coverage.licence,
            source="playground",
            split=None,
            tools=offered,
        )
        for row_id, messages in zip(names, conversations, strict=True)
    ]
