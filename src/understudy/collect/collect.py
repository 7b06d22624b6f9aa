"""All blocks of all files → one coverage file: in input order, each conversation once, or nothing.

Exchanges that stand in one line come first, then those brought together from several lines, each
in the order of their (first) lines. The number of processes changes nothing.
"""

import gc
import gzip
import multiprocessing
import os
import secrets
import signal
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import IO, cast

from understudy.collect import formats, talks, work
from understudy.collect.waiting import Waiting
from understudy.collect.work import CollectedRow, CollectOptions, Done
from understudy.data import reading
from understudy.errors import BadInput, EnvironmentFailed

_LOOK_AT = 50  # rows, to tell a format
_GROUP_LINES = 2000  # lines of a block of joined exchanges
_ALONE_UP_TO = 8 << 20  # bytes; less is done before other processes have started
Task = Callable[[], Done]


@dataclass
class Summary:
    """What became of everything."""

    formats: dict[str, str] = field(default_factory=dict)  # by file
    lines: int = 0
    joined: int = 0  # lines that hold a part of an exchange
    kept: int = 0
    steps: int = 0  # of these, calls on the way to an answer
    duplicates: int = 0
    broken: int = 0
    named: list[str] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    changed: Counter[str] = field(default_factory=Counter)
    unread: Counter[str] = field(default_factory=Counter)
    redacted: Counter[str] = field(default_factory=Counter)
    tasks: Counter[str] = field(default_factory=Counter)
    licences: Counter[str | None] = field(default_factory=Counter)
    with_system: int = 0
    systems: int = 0  # distinct ones
    groups: int = 0
    ungrouped: int = 0
    largest_group: int = 0


def collect(
    paths: Sequence[str],
    out: Path,
    settings: CollectOptions,
    *,
    form: str | None = None,
    jobs: int = 1,
    max_broken: float = 0.01,
    advance: Callable[[float], None] = lambda _: None,
) -> Summary:
    """Write the coverage file `out` from the logs at `paths`; `advance` is told the bytes read.

    BadInput when a file cannot be read, when more than the share `max_broken` of the lines is
    broken, or when no row is left; then nothing is written.
    """
    sizes = [reading.size_of(path) for path in paths if path != reading.STDIN]
    is_small = len(sizes) == len(paths) and sum(sizes) < _ALONE_UP_TO
    with ExitStack() as stack:
        temporary = stack.enter_context(_appearing(out, paths))
        collector = _Collector(stack.enter_context(talks.Talks()))
        waiting = stack.enter_context(Waiting())
        pool = None if jobs == 1 or is_small else stack.enter_context(_pool(jobs))
        with _written(temporary, out.suffix) as file:
            for path in paths:
                waiting.new_file()
                found, blocks = _with_format(path, form, advance)
                collector.summary.formats[path] = found
                tasks = (
                    partial(work.of_block, block, found, settings, form is not None)
                    for block in blocks
                )
                for done in _in_order(tasks, pool, jobs):
                    waiting.add(done.halves)
                    file.writelines(collector.take(done))
            groups = waiting.groups(_GROUP_LINES)
            for done in _in_order(
                (partial(work.of_groups, some, settings) for some in groups), pool, jobs
            ):
                file.writelines(collector.take(done))
        collector.regroup(temporary, out.suffix)
        return _checked(collector.finish(), max_broken)


class _Collector:
    """Counts, and the conversations seen."""

    def __init__(self, conversations: talks.Talks) -> None:
        self.summary = Summary()
        self._talks = conversations
        self._seen: set[bytes] = set()
        self._systems: set[bytes] = set()
        self._groups: Counter[bytes] = Counter()

    def take(self, done: Done) -> Iterator[bytes]:
        """Count what became of a block; yield the lines of its new rows."""
        summary = self.summary
        summary.lines += done.lines
        summary.joined += len(done.halves)
        summary.skipped += done.skipped
        summary.changed += done.changed
        summary.unread += done.unread
        summary.broken += done.broken
        summary.named += done.named[: work.NAMED - len(summary.named)]
        for row in done.rows:
            if row.digest in self._seen:
                summary.duplicates += not row.is_step  # which the log holds by itself, too
            else:
                self._count(row)
                yield row.line

    def regroup(self, file: Path, suffix: str) -> None:
        """Write the file again with the turns of conversations that nobody has named."""
        if (groups := self._talks.groups()) is None:
            return
        again = file.with_name(f"{file.name}.again")
        try:
            again.touch()
            again.chmod(file.stat().st_mode & 0o777)
            with _opened(file, suffix) as rows, _written(again, suffix) as made:
                for line, group in zip(rows, groups, strict=True):
                    made.write(talks.grouped(line, group))
                    if group is not None:
                        self.summary.ungrouped -= 1
                        self._groups[group] += 1
            again.replace(file)
        finally:
            again.unlink(missing_ok=True)

    def finish(self) -> Summary:
        """The summary, with what only the end tells."""
        self.summary.systems = len(self._systems)
        self.summary.groups = len(self._groups)
        self.summary.largest_group = max(self._groups.values(), default=0)
        return self.summary

    def _count(self, row: CollectedRow) -> None:
        summary = self.summary
        self._seen.add(row.digest)
        summary.kept += 1
        summary.steps += row.is_step
        summary.tasks[row.task] += 1
        summary.licences[row.licence] += 1
        summary.redacted.update(row.redacted)
        if row.system is not None:
            summary.with_system += 1
            self._systems.add(row.system)
        self._talks.add(row.begins)
        if row.group is None:
            summary.ungrouped += 1
        else:
            self._groups[row.group] += 1


def _with_format(
    path: str, form: str | None, advance: Callable[[float], None]
) -> tuple[str, Iterator[reading.Block]]:
    """The format of a file, and all its blocks."""
    blocks = reading.blocks(path, advance)
    if form is not None:
        return form, blocks
    first = next(blocks, None)
    if first is None:
        raise BadInput(f"{path} holds no line")
    raws = list(islice(first.rows(), _LOOK_AT))
    rows = [raw.values for raw in raws if raw.values is not None]
    found = formats.detect(rows)
    if found is None and not rows:
        why = f": {raws[0].place} {raws[0].problem}" if raws else ""
        raise BadInput(f"{path} has no JSON object in its first lines{why}")
    if found is None:
        raise BadInput(
            f"{path} is of no known format: its first row has "
            f"{', '.join(list(rows[0])[:12]) or 'no key'}; give --format="
            f"{'|'.join(formats.FORMATS)} if it is one of them; `understudy init` tells which "
            "columns of a data set may be prompts and answers"
        )
    return found.name, chain((first,), blocks)


def _in_order(tasks: Iterable[Task], pool: ProcessPoolExecutor | None, jobs: int) -> Iterator[Done]:
    """The results in the order of the tasks, only a few of which are under way at once."""
    if pool is None:
        yield from (task() for task in tasks)
        return
    under_way: deque[Future[Done]] = deque()
    try:
        for task in tasks:
            under_way.append(pool.submit(task))
            if len(under_way) > 2 * jobs:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
    except BrokenProcessPool:
        raise EnvironmentFailed(
            "a process was ended from outside, as when memory runs out"
        ) from None
    finally:
        for future in under_way:
            future.cancel()


def _pool(jobs: int) -> ProcessPoolExecutor:
    spawning = multiprocessing.get_context("spawn")  # no threads of ours are copied
    return ProcessPoolExecutor(jobs, spawning, initializer=_prepare)


def _prepare() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that writes
    gc.disable()  # rows hold no cycles, and to look for some took a third of the time


@contextmanager
def _appearing(out: Path, paths: Sequence[str]) -> Iterator[Path]:
    """The path of a file that is there, whole, only when the block ends well.

    It is read by no more people than all of the logs are.
    """
    temporary = out.with_name(f".{out.name}.{secrets.token_hex(4)}")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch()
        mode = temporary.stat().st_mode
        for path in paths:
            mode &= 0o777 if path == reading.STDIN else Path(path).stat().st_mode | 0o600
        temporary.chmod(mode & 0o777)
    except OSError as error:
        raise BadInput(f"{out} cannot be written: {error.strerror}") from None
    try:
        yield temporary
        temporary.replace(out)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def _written(path: Path, suffix: str) -> Iterator[IO[bytes]]:
    """A file to write rows to, packed if `suffix` says so, and on disk when the block ends."""
    with path.open("wb") as raw:
        if suffix == ".gz":
            with gzip.GzipFile("", "wb", 6, raw, mtime=0) as packed:
                yield cast("IO[bytes]", packed)
        else:
            yield raw
        raw.flush()
        os.fsync(raw.fileno())


def _opened(path: Path, suffix: str) -> IO[bytes]:
    return cast("IO[bytes]", gzip.open(path)) if suffix == ".gz" else path.open("rb")


def _checked(summary: Summary, max_broken: float) -> Summary:
    if summary.broken > max_broken * summary.lines:
        raise BadInput(
            f"{summary.named[0]} ({summary.broken:,} of {summary.lines:,} lines are broken, and "
            f"--max-broken {max_broken:.3g} allows {int(max_broken * summary.lines):,})"
        )
    if not summary.kept:
        reasons = ", ".join(f"{count:,} {why}" for why, count in summary.skipped.most_common(5))
        raise BadInput(f"no row is left of {summary.lines:,} lines: {reasons or 'all are broken'}")
    return summary
