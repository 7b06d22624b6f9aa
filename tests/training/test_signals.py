"""Signals that come while modules are imported: never lost, never told as a bug."""

import subprocess
import sys
from pathlib import Path

import pytest

from support import launched

LOST = """
import os, signal
from understudy.models import ranks
from understudy.models.ranks import Signals

class Import:
    def __del__(self):  # Python drops what is raised here, as in the callbacks of an import
        os.kill(os.getpid(), signal.SIGUSR1)
        sum(range(100))

ranks.end_like_ctrl_c()
Import()
with Signals() as signals:
    print(signals.have_come())
"""
BROKEN = """
import os, signal, sys
from understudy.models import ranks
from understudy.pipeline import worker

ranks.end_like_ctrl_c()
try:
    os.kill(os.getpid(), signal.SIGTERM)
    sum(range(100))
except KeyboardInterrupt:
    pass
sys.exit(worker.main([sys.argv[1]]))
"""


def python(code: str, *words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)


def test_a_signal_that_an_import_swallowed_ends_the_training() -> None:
    done = python(LOST)
    assert "KeyboardInterrupt" in done.stderr, "it was not swallowed"
    assert done.stdout == "True\n"


@pytest.mark.slow
def test_what_fails_after_a_signal_was_interrupted_and_leaves_no_failure(tmp_path: Path) -> None:
    stage = launched.prepare(tmp_path, tmp_path / "nowhere", stage="gate")
    done = python(BROKEN, str(stage.path))
    assert (done.returncode, done.stderr) == (130, "")
    assert not (stage.path / "failed.json").exists()
    assert "stage failed" in (stage.path / "log.txt").read_text()
    assert not stage.is_done
