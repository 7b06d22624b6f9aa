"""Kills, Ctrl-C and two processes: what has left is in the journal, and nothing leaves twice."""

import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from support import paid
from understudy.services.journal import key_of, open_journal

TESTS = Path(paid.__file__).parents[1]


def start(root: Path, count: int, seconds: float) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "support.paid_child", str(root), str(count), str(seconds)],
        cwd=TESTS,
        stderr=subprocess.PIPE,
        text=True,
    )


def end(child: "subprocess.Popen[str]") -> tuple[int, str]:
    _, said = child.communicate(timeout=60)
    return child.returncode, said


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def uncertain(root: Path) -> Counter[str]:
    """Number of calls by index that the journal says may have been billed without a reply."""
    names = {
        key_of(paid.service(), request): str(n) for n, request in enumerate(paid.requests(999))
    }
    with open_journal(root / "journal") as journal:
        sql = "SELECT call, key FROM sent"
        return Counter(names[key] for _, key in journal._open(sql))


@pytest.mark.slow
def test_kills_lose_nothing_but_the_calls_in_flight_and_these_are_counted(tmp_path: Path) -> None:
    rng = random.Random(7)
    for kill in range(5):
        child = start(tmp_path, 240, 0.08)
        before = len(lines(tmp_path / "left"))
        wait_for(lambda: len(lines(tmp_path / "left")) > before)  # noqa: B023
        time.sleep(rng.uniform(0, 0.25))
        child.kill()
        end(child)
        left, lost = Counter(lines(tmp_path / "left")), uncertain(tmp_path)
        with open_journal(tmp_path / "journal") as journal:
            (total,) = journal.totals()
        assert total.uncertain_calls == lost.total() <= 24 * (kill + 1)
        # Whatever has left is in the journal; what is in the journal was at least next in line.
        assert left.total() <= total.calls + lost.total() <= left.total() + 8 * (kill + 1)
    assert end(start(tmp_path, 240, 0.01))[0] == 0
    left = Counter(lines(tmp_path / "left"))
    with open_journal(tmp_path / "journal") as journal:
        (total,) = journal.totals()
        assert total.calls == 240
        for n, request in enumerate(paid.requests(240)):
            assert journal.find(key_of(paid.service(), request)) is not None
            assert left[str(n)] <= 1 + lost[str(n)]
        assert journal.purse_total("run/test") == 240 * 450 + lost.total() * 1183
    assert 240 <= left.total() <= 240 + lost.total()
    assert len(list((tmp_path / "journal").glob("*.sqlite"))) == 1  # each took the dead one's over


@pytest.mark.slow
def test_ctrl_c_finishes_keeps_and_hands_out_what_is_in_flight(tmp_path: Path) -> None:
    child = start(tmp_path, 200, 0.4)
    wait_for(lambda: len(lines(tmp_path / "left")) >= 16)
    child.send_signal(signal.SIGINT)
    code, said = end(child)
    assert code == 130
    assert "finishing the calls in flight" in said
    assert "Traceback" not in said
    assert sorted(lines(tmp_path / "out")) == sorted(lines(tmp_path / "left"))
    with open_journal(tmp_path / "journal") as journal:
        (total,) = journal.totals()
    assert (total.calls, total.uncertain_calls) == (len(lines(tmp_path / "left")), 0)
    assert 16 <= total.calls < 60


def test_a_second_ctrl_c_drops_what_is_in_flight_at_once(tmp_path: Path) -> None:
    child = start(tmp_path, 50, 60.0)
    wait_for(lambda: len(lines(tmp_path / "left")) >= 16)
    child.send_signal(signal.SIGINT)
    assert child.stderr is not None
    said = child.stderr.readline() + child.stderr.readline()
    assert "Ctrl-C again drops them" in said
    pressed = time.monotonic()
    child.send_signal(signal.SIGINT)
    code, rest = end(child)
    assert time.monotonic() - pressed < 5
    assert code == 130
    assert "Traceback" not in rest
    assert 16 <= uncertain(tmp_path).total() <= 24
    assert not list((tmp_path / "journal").glob("service-*.lock"))


@pytest.mark.slow
def test_two_processes_share_one_service_and_buy_every_reply_once(tmp_path: Path) -> None:
    children = [start(tmp_path, 60, 0.05) for _ in range(2)]
    ends = [end(child) for child in children]
    assert [code for code, _ in ends] == [0, 0]
    assert sum("waiting for process" in said for _, said in ends) == 1
    assert sorted(map(int, lines(tmp_path / "left"))) == list(range(60))
    assert len(lines(tmp_path / "out")) == 120
