"""Whole runs against the rehearsal server: nothing lost, nothing paid twice, nothing mixed up."""

import json
import os
import random
import signal
import time
from pathlib import Path

import pytest

from support.paid_runs import KEYS, contents, finish, ledger, quick, start, verdicts
from understudy.rehearsal.server import RehearsalServer
from understudy.services.journal import open_journal

pytestmark = pytest.mark.slow

LOOP = ["judge=paper_panel", "synthesis=gpt_4o", "baseline=gpt_4o", "loop.sizes=[0,50]"]
PANEL = ("judges.gpt_4o", "judges.claude_3_sonnet", "judges.gemini_1_5_flash")
ROLES = (*PANEL, "synthesis.service", "baseline.service")
JUDGING = ["judge=gpt_4o", "baseline=none", "trainer=none", "data_size=0", "synthesis=none"]
KILLS = int(os.environ.get("UNDERSTUDY_KILLS", "5")) * 3  # `make soak` raises it


def test_under_faults_of_all_kinds_the_loop_ends_and_every_dollar_is_accounted_for(
    tmp_path: Path,
) -> None:
    faults = {"faults": "all=0.3", "retry_after_s": 0.05, "drip_s": 0.05}
    with RehearsalServer(**faults) as server:
        run = [*LOOP, "evaluation.m=3", f"rehearsal.url={server.url}", "run.name=faulty"]
        run += quick(*ROLES, timeout_s=2, concurrency=64)
        out, err = finish(start(tmp_path, *run))
        bill = server.bill()
        assert sum(bill.faults.values()) > 100
    assert "report:" in out
    rows = verdicts(tmp_path)
    assert len(rows) == 3 * 3 * 10 * 2 * 3  # generators (rounds, baseline), judges, prompts, k, m
    for row in rows:
        scores = (row.similarity, row.precision)
        assert all(s is not None for s in scores) == (row.status == "scored"), row
    unscored = {row.status for row in rows} - {"scored"}
    assert unscored <= {"refused", "blocked", "empty", "not_json", "cut_off", "ambiguous"} | {
        *("wrong_scale", "out_of_range", "missing_field", "not_a_number", "error", "no_answer")
    }
    total = ledger(tmp_path)
    assert (total.calls, total.microusd) == (len(bill.log), bill.microusd)
    with open_journal(tmp_path / "rehearsal/journal") as journal:
        assert len({call["key"] for call in journal.export()}) == total.calls  # none billed twice
    report = (tmp_path / "rehearsal/run/faulty/report.html").read_text()
    assert "REHEARSAL" in report
    for path in [p for p in tmp_path.rglob("*") if p.is_file()]:
        content = path.read_bytes()
        for key in KEYS.values():
            assert key.encode() not in content, path
            assert key not in out + err


def test_a_judging_run_that_is_killed_again_and_again_pays_twice_only_for_what_was_in_flight(
    tmp_path: Path,
) -> None:
    rng = random.Random(KILLS)
    judging = [*JUDGING, "evaluation.m=10", "run.name=killed", *quick(PANEL[0], concurrency=8)]
    with RehearsalServer(latency_s=0.1, repeatable=True) as server:
        finish(start(tmp_path / "straight", *judging, f"rehearsal.url={server.url}"))
        straight = contents(tmp_path / "straight", "evaluation")
    root, extra, in_flight, kills = tmp_path / "killed", 0, 0, 0
    with RehearsalServer(latency_s=0.1, repeatable=True) as server:
        judging.append(f"rehearsal.url={server.url}")
        while kills < KILLS:
            before = len(server.log)
            process = start(root, *judging)
            wanted = before + rng.randint(1, 2 * 200 // KILLS)
            while len(server.log) < wanted and process.poll() is None:
                time.sleep(0.002)
            if process.poll() is not None:
                break
            _kill_all(root, process.pid)
            process.communicate()
            kills += 1
            _settle(server)
            total = ledger(root)
            lost = len(server.log) - total.calls - extra  # billed, and died with the process
            assert 0 <= lost <= total.uncertain_calls - in_flight
            extra, in_flight = extra + lost, total.uncertain_calls
        finish(start(root, *judging))
        total = ledger(root)
        assert kills >= KILLS // 2
        assert total.calls == 10 * 2 * 10
        assert len(server.log) == total.calls + extra
    assert contents(root, "evaluation") == straight


def _settle(server: RehearsalServer) -> None:
    """Wait while the server bills what it has begun, and begins what lay in its sockets."""
    quiet = 0
    while quiet < 20:
        quiet = 0 if server.bill().open else quiet + 1
        time.sleep(0.01)


def _kill_all(root: Path, parent: int) -> None:
    """SIGKILL the command and its workers at the same moment."""
    workers = [
        int(cmdline.parent.name)
        for cmdline in Path("/proc").glob("[0-9]*/cmdline")
        if _is_worker(cmdline, root)
    ]
    for pid in (parent, *workers):
        os.kill(pid, signal.SIGKILL)


def _is_worker(cmdline: Path, root: Path) -> bool:
    try:
        words = cmdline.read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return False
    return "understudy.pipeline.worker" in words and any(str(root) in word for word in words)


def test_a_budget_is_never_passed_and_the_printed_command_goes_on(tmp_path: Path) -> None:
    with RehearsalServer(latency_s=0.05) as server:
        run = [*JUDGING, "evaluation.m=10", "inference.k=4", f"rehearsal.url={server.url}"]
        run += quick(PANEL[0], concurrency=128, max_output_tokens=300)
        _, err = finish(start(tmp_path, *run, "budget.usd=0.50"), code=3)
        assert 0.9 * 500_000 < server.bill().microusd <= 500_000
        assert "budget.usd" in err
        assert "To go on: " in err
        assert "budget.usd=1" in err
        _, err = finish(start(tmp_path, *run, "budget.usd=0.50"), code=3)  # again: still spent
        assert server.bill().microusd <= 500_000
        finish(start(tmp_path, *run, "budget.usd=5"))
        total = ledger(tmp_path)
        assert (total.calls, total.microusd) == (10 * 4 * 10, server.bill().microusd)
        assert total.calls == len(server.log)


def test_the_first_ctrl_c_keeps_what_is_in_flight_and_the_second_drops_it(tmp_path: Path) -> None:
    with RehearsalServer(latency_s=1.0) as server:
        run = [*JUDGING, "evaluation.m=10", f"rehearsal.url={server.url}"]
        process = start(tmp_path, *run)
        while len(server.log) < 16:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, err = finish(process, code=130)
        assert "finishing the calls in flight" in err
        assert "To go on: understudy run" in err
        total = ledger(tmp_path)
        assert (total.calls, total.uncertain_calls) == (len(server.log), 0)
    with RehearsalServer(latency_s=20.0) as server:
        process = start(tmp_path, *run[:-1], f"rehearsal.url={server.url}")
        while not server.bill().open:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        pressed = time.monotonic()
        finish(process, code=130)
        assert time.monotonic() - pressed < 10


def test_a_rehearsal_never_meets_a_real_runs_stages_journal_or_tables(tmp_path: Path) -> None:
    """A real service whose base_url is a rehearsal server is refused before it counts."""
    with RehearsalServer() as server:
        real = [*JUDGING, "evaluation.m=1", f"judges.gpt_4o.base_url={server.url}/openai/v1"]
        _, err = finish(start(tmp_path, *real), code=2)
        assert "rehears" in err
    assert not list((tmp_path / "evaluation").glob("*/DONE"))
    assert not list((tmp_path / "evaluation").glob("*/attempts/*/out/rows.jsonl")) or not any(
        path.read_text() for path in tmp_path.glob("evaluation/*/attempts/*/out/rows.jsonl")
    )
    with open_journal(tmp_path / "journal") as journal:
        assert sum(total.calls for total in journal.totals()) == 0
    with RehearsalServer() as server:
        rehearsed = [*JUDGING, "evaluation.m=1", f"rehearsal.url={server.url}"]
        out, _ = finish(start(tmp_path, *rehearsed))
    assert "REHEARSAL" in out
    assert not list(tmp_path.glob("gate"))
    run = json.loads(next(tmp_path.glob("rehearsal/run/*/run.json")).read_text())
    assert run["rehearsal"]
    assert list(tmp_path.glob("rehearsal/evaluation/*/DONE"))
