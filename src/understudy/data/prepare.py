"""What is checked of a run's own data before its first stage: one sentence now, not in an hour."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from understudy.config import Config, CoverageConfig, SynthesisConfig, changed
from understudy.data import answers, cleaning, coverage, formats, sources
from understudy.data.reading import Raw, blocks
from understudy.errors import BadInput

_READ_UP_TO = 64 * 2**20  # bytes; a bigger file is read by its stage only


class Prepared(NamedTuple):
    """A config whose hub names are pinned, and what to tell the user once."""

    config: Config
    notices: list[str]


def prepare(config: Config, record: Path) -> Prepared:
    """Check files and pin hub names, which are kept in `record`.

    BadInput begins with the config group at fault.
    """
    config = sources.check(config, record)
    notices: list[str] = []
    for group, source in sources.of(config).items():
        try:
            if group != "inference":
                config = _pinned(config, group)
            if source.path is not None and not _is_big(source.path):
                notices += _look(config, group)
        except BadInput as error:
            raise BadInput(f"{group}: {error}") from None
    return Prepared(config, notices)


def _pinned(config: Config, group: str) -> Config:
    """The config with the columns that mean something, of those that stages did not read once.

    A source without them keeps its fingerprint; of a big file the first megabyte tells.
    """
    source: CoverageConfig | SynthesisConfig = getattr(config, group)
    if source.path is not None and _is_big(source.path):
        raws: Sequence[Raw] = tuple(next(blocks(str(Path(source.path).expanduser()))).rows())
    else:
        raws = sources.read(source)
    where, names = sources.where(source), formats.columns(raws)
    kind = formats.detect(names, where, source.format, source.columns)
    found = {
        f"{group}.columns.{leaf}": name
        for leaf, name in formats.meaningful(raws, kind, source.columns).items()
        if getattr(source.columns, leaf) is None
    }
    return changed(config, found)


def _is_big(path: str) -> bool:
    return Path(path).expanduser().stat().st_size > _READ_UP_TO


def _look(config: Config, group: str) -> list[str]:
    task = config.task.name
    if group == "inference":
        return answers.load(config.inference, task).notices
    if group == "synthesis":
        return _look_at_pool(config)
    return coverage.find(config.coverage, task).notices(config.coverage.licence)


def _look_at_pool(config: Config) -> list[str]:
    taken, columns = cleaning.take(config.synthesis)
    rows = len(taken.rows)
    if rows < max(config.sizes):
        raise BadInput(
            f"{config.synthesis.path} has {rows} rows of a model, but round sizes are "
            f"{config.sizes}: {max(config.sizes) - rows} are missing, which a file cannot be paid "
            "for; lower data_size or loop.sizes, or choose a teacher (synthesis=gpt_4o)"
        )
    said = f"synthesis: {rows} ready-made rows in {config.synthesis.path}, before cleaning"
    total = rows + taken.not_wanted.total() + len(taken.bad)
    return [said, *columns.warnings("synthesis", total)]
