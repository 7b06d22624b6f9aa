"""Whole runs whose services are played by a rehearsal server, as a user starts them."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from understudy.records import Verdict, read_rows
from understudy.services.journal import Total, open_journal

SMALL = [
    "coverage.rows=60",
    "coverage.split.test=10",
    "coverage.split.validation=8",
    "inference.k=2",
    "inference.max_new_tokens=40",
    "trainer.max_steps=6",
    "trainer.evaluations=2",
]
KEYS = {
    "OPENAI_API_KEY": "sk-planted-openai-4f1d",
    "ANTHROPIC_API_KEY": "sk-ant-planted-7c2e",
    "GEMINI_API_KEY": "planted-gemini-91ab",
}


def start(root: Path, *words: str, verb: str = "run", **env: str) -> subprocess.Popen[str]:
    """Start `understudy VERB SMALL… words…` with every key planted."""
    return subprocess.Popen(
        [sys.executable, "-m", "understudy", verb, *SMALL, *words, f"paths.root={root}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | KEYS | env,
        start_new_session=True,
    )


def finish(process: subprocess.Popen[str], code: int = 0) -> tuple[str, str]:
    out, err = process.communicate(timeout=400)
    assert process.returncode == code, f"exit {process.returncode}\n{out}\n{err}"
    return out, err


def ledger(root: Path) -> Total:
    """Everything in the journal of the rehearsals below a root."""
    with open_journal(root / "rehearsal/journal") as journal:
        totals = journal.totals()
    return totals[0] if totals else Total()


def verdicts(root: Path) -> list[Verdict]:
    """The verdicts of all finished evaluations."""
    files = sorted(root.glob("rehearsal/evaluation/*/out/rows.jsonl"))
    return [row for file in files for row in read_rows(file, Verdict)]


def contents(root: Path, *stages: str) -> dict[str, bytes]:
    """What the finished stages of these names hand on."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for stage in stages
        for path in root.glob(f"rehearsal/{stage}/*/out/**/*")
        if path.is_file()
    }


def quick(*roles: str, **leaves: Any) -> list[str]:
    """Overrides of these leaves for the services of these roles."""
    return [f"{role}.{leaf}={value}" for role in roles for leaf, value in leaves.items()]
