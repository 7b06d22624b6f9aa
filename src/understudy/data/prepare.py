"""What is checked of a run's own data before its first stage: one sentence now, not in an hour."""

from pathlib import Path
from typing import NamedTuple

from understudy.config import Config
from understudy.data import answers, cleaning, coverage, sources
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
        if source.path is None or Path(source.path).expanduser().stat().st_size > _READ_UP_TO:
            continue
        try:
            notices += _look(config, group)
        except BadInput as error:
            raise BadInput(f"{group}: {error}") from None
    return Prepared(config, notices)


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
