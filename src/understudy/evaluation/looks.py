"""The ledger of looks: which tests have been made on a holdout, in the order they were made.

A look is recorded before its result is told, in one append-only file per holdout that all runs
below a root share. The same evidence again (the same evaluations, margin, alpha and metric) is the
same look.
"""

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from understudy.records import dumps
from understudy.store.artifacts import fingerprint, whole_lines


def file_of(root: Path, prompts: Sequence[str]) -> Path:
    """The file of the holdout that consists of these prompts, whatever run they are part of."""
    return root / "looks" / f"{fingerprint(sorted(prompts))}.jsonl"


def look(file: Path, run: str, evidence: dict[str, Any]) -> int:
    """Record this look unless it has been taken before; its number, from 1.

    One write, on disk before its number is told: of two at a time one comes after the other.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    key = fingerprint(evidence)
    if key not in _order(file):
        when = datetime.now(UTC).isoformat(timespec="seconds")
        line = dumps({"look": key, "run": run, "when": when, "evidence": evidence}) + "\n"
        descriptor = os.open(file, os.O_WRONLY | os.O_APPEND)
        try:
            os.write(descriptor, line.encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    return _order(file).index(key) + 1


def _order(file: Path) -> list[str]:
    """The looks in the order in which they were taken, each once."""
    return list(dict.fromkeys(line["look"] for line in whole_lines(file)))
