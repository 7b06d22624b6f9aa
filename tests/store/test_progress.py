"""Progress of a stage where there is no terminal."""

import itertools
import time

import pytest

from understudy.store import progress
from understudy.store.progress import track


def test_a_slow_start_has_no_rate_yet_and_says_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seconds = itertools.count(0, 20)
    monkeypatch.setattr(time, "monotonic", lambda: float(next(seconds)))
    with track("work", 10) as advance:
        advance(0)
        assert capsys.readouterr().err == ""
        advance(2, "slowly")
        assert capsys.readouterr().err == "  work: 2/10 rows, 0.1/s, 160 s left slowly\n"
        advance(8)
        assert capsys.readouterr().err == ""


def test_a_first_step_that_takes_long_is_told_of_before_it_ends(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "_PLAIN_EVERY_S", 0.01)
    with track("finetune", 75, "steps") as advance:
        told, until = "", time.monotonic() + 10
        while not told and time.monotonic() < until:
            told += capsys.readouterr().err
            time.sleep(0.01)
        advance(1)
    assert told == "  finetune: 0/75 steps yet, the first is under way\n"
