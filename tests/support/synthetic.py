"""Rows that a synthesis stage reads."""

from pathlib import Path

from understudy import playground
from understudy.config import Config
from understudy.data import naming
from understudy.data.split import split
from understudy.records import Coverage
from understudy.store.artifacts import RowLog


def split_rows(config: Config, at: Path, count: int = 30) -> Path:
    at.mkdir()
    pairs = playground.generate(config.task.name, 0, 0, count)
    messages = [
        [{"role": "user", "content": p.instruction}, {"role": "assistant", "content": p.response}]
        for p in pairs
    ]
    rows = [
        Coverage(i, i, m, config.task.name, "CC0", "test", None)
        for i, m in zip(naming.row_ids(messages), messages, strict=True)
    ]
    log = RowLog(at, Coverage)
    log.append(split(rows, config.coverage.split, 0))
    log.finish()
    return at
