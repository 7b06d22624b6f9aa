"""The lease of an endpoint and of a purse: held by workers, waited for, and free after a kill."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from support import paid
from understudy.services.account import leases, open_ledger
from understudy.store import locks

TESTS = Path(paid.__file__).parents[1]
_HOLD = """
import sys, time
from pathlib import Path
from support import paid
from understudy.services.account import open_ledger
account = paid.account(Path(sys.argv[1]), purse=sys.argv[2], budget_usd=1.0)
with open_ledger(paid.service(model=sys.argv[3]), account, "online"):
    print("held", flush=True)
    time.sleep(float(sys.argv[4]))
"""


def holding(
    root: Path, seconds: float, purse: str = "run/a", model: str = "gpt-test"
) -> "subprocess.Popen[str]":
    """A worker that takes the leases and keeps them for a while; it says `held`."""
    return subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(root), purse, model, str(seconds)],
        cwd=TESTS,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def says(child: "subprocess.Popen[str]") -> str:
    assert child.stdout is not None
    return child.stdout.readline().strip()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("purse", "model"),
    [("run/other", "gpt-test"), ("run/a", "another-model")],
    ids=["endpoint", "purse"],
)
def test_the_leases_of_a_killed_worker_are_free_within_seconds(
    tmp_path: Path, purse: str, model: str
) -> None:
    first = holding(tmp_path, 600)
    assert says(first) == "held"
    second = holding(tmp_path, 0, purse, model)
    assert second.stderr is not None
    waiting = second.stderr.readline()
    assert f"waiting for process {first.pid} on " in waiting
    first.kill()
    killed = time.monotonic()
    first.communicate()
    assert says(second) == "held"
    assert time.monotonic() - killed < 5  # a pause while waiting is a second at most
    _, said = second.communicate(timeout=60)
    assert (second.returncode, said) == (0, ""), "it says once for whom it waits"


def test_other_endpoints_and_purses_are_not_waited_for(tmp_path: Path) -> None:
    one = paid.account(tmp_path, purse="run/a", budget_usd=1.0)
    other = paid.account(tmp_path, purse="run/b", budget_usd=1.0)
    with (
        open_ledger(paid.service(), one, "online"),
        open_ledger(paid.service(model="another-model"), other, "online"),
    ):
        assert len(leases(tmp_path / "journal")) == 4


def test_who_waits_looks_ever_more_rarely_up_to_once_a_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses = list[float]()
    monkeypatch.setattr("time.sleep", pauses.append)
    lock = tmp_path / "LOCK"
    with (
        locks.hold(lock, give_up=lambda: False),
        locks.hold(lock, give_up=lambda: len(pauses) == 10) as is_mine,
    ):
        assert not is_mine
    assert pauses == sorted(pauses)
    assert (pauses[0], pauses[-1]) == (0.1, 1.0)


@pytest.mark.slow
def test_a_lease_is_cleared_once_its_worker_is_gone_and_not_before(tmp_path: Path) -> None:
    """As who has started it does: on another node, all that is known is that its job lives."""
    child = holding(tmp_path, 600)
    assert says(child) == "held"
    held = leases(tmp_path / "journal")
    for lease in held:
        locks.clear(lease)
    assert len(held) == 2
    assert leases(tmp_path / "journal") == held, "its worker lives"
    child.kill()
    child.communicate()
    for lease in held:
        locks.clear(lease)
    assert not leases(tmp_path / "journal")
