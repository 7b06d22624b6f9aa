"""What is checked of a run's own data before its first stage: one sentence now, not in an hour."""

from pathlib import Path
from typing import NamedTuple

from understudy.config import Config, changed
from understudy.data import answers, cleaning, coverage, formats, sources
from understudy.data.reading import blocks, read_file
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
        if source.path is None:
            continue
        if Path(source.path).expanduser().stat().st_size > _READ_UP_TO:
            config = _pinned(config) if group == "coverage" else config
            continue
        try:
            if group == "coverage":
                config = _pinned(config)
            notices += _look(config, group)
        except BadInput as error:
            raise BadInput(f"{group}: {error}") from None
    return Prepared(config, notices)


def _pinned(config: Config) -> Config:
    """The config with the columns that mean something, of those that stages did not read once.

    A file without them keeps its fingerprint; of a big file the first megabyte tells.
    """
    path = Path(str(config.coverage.path)).expanduser()
    if path.stat().st_size > _READ_UP_TO:
        raws = tuple(next(blocks(str(path))).rows())
    else:
        raws = read_file(path)
    source = config.coverage
    names = formats.columns(raws)
    kind = formats.detect(names, sources.where(source), source.format, source.columns)
    found = {
        f"coverage.columns.{leaf}": name
        for leaf, name in formats.meaningful(raws, kind).items()
        if getattr(source.columns, leaf) is None
    }
    config = changed(config, found)
    if config.coverage.columns.weight is not None and config.trainer.loss == "all":
        raise BadInput(
            f"{path} has turns with a {config.coverage.columns.weight}, which trainer.loss=all "
            "would not heed; give trainer.loss=answer, which trains on the last answer alone"
        )
    return config


def _look(config: Config, group: str) -> list[str]:
    task = config.task.name
    if group == "inference":
        return answers.load(config.inference, task).notices
    if group == "synthesis":
        return _look_at_pool(config)
    return coverage.find(config.coverage, task).notices(config.coverage.licence)


def _look_at_pool(config: Config) -> list[str]:
    rows = len(cleaning.take(config.synthesis).rows)
    if rows < max(config.sizes):
        raise BadInput(
            f"{config.synthesis.path} has {rows} rows of a model, but round sizes are "
            f"{config.sizes}: {max(config.sizes) - rows} are missing, which a file cannot be paid "
            "for; lower data_size or loop.sizes, or choose a teacher (synthesis=gpt_4o)"
        )
    return [f"synthesis: {rows} ready-made rows in {config.synthesis.path}, before cleaning"]
