"""A run root of version 90baa9b still opens: its stages, paid replies, looks and gateway log."""

import json
import shlex
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from support import golden_parts as parts

pytestmark = pytest.mark.slow
_DAY = "2026-11-29"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the root, which is found as its commands have found it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("UNDERSTUDY_ROOT", parts.NAME)
    return parts.unpack(tmp_path) / "rehearsal"


@pytest.fixture
def command(root: Path) -> list[str]:
    """The words of the command that the run has recorded; nobody listens at its addresses."""
    record = json.loads((root / "run/golden/run.json").read_text(encoding="utf-8"))
    program, *words = shlex.split(record["command"])
    assert program == "understudy"
    return words


def paid_calls(root: Path) -> int:
    with parts.open_journal(root / "journal") as journal:
        totals = journal.totals()
    assert not any(total.uncertain_calls for total in totals)
    return sum(total.calls for total in totals)


def test_decide_takes_the_look_that_was_taken(root: Path) -> None:
    looks = {path: path.read_bytes() for path in (root / "looks").iterdir()}
    assert len(looks) == 1
    said, _ = parts.said_by("decide", "golden", code=1)
    assert said == parts.stored("pages")["decide"]
    assert {path: path.read_bytes() for path in (root / "looks").iterdir()} == looks


def test_status_and_report_find_the_latest_run(root: Path) -> None:
    wanted = parts.stored("pages")
    assert parts.without(parts.said_by("status")[0], root.parent) == wanted["status"]
    assert parts.without(parts.said_by("report")[0], root.parent) == wanted["report"]


def test_run_finds_every_stage_before_the_verdicts_and_judges_anew_of_the_journal(
    root: Path, command: list[str]
) -> None:
    parts.said_by("report")
    before, calls = set(root.rglob("DONE")), paid_calls(root)
    old = [path for path in before if path.parent.parent.name == "evaluation"]
    said, told = parts.said_by(*command)
    # Evaluations read replies with other eyes, and the gate reads them.
    assert f"stages run: {len(old) + 1}" in said.splitlines()
    assert told.count("finished before") == len(before) - len(old) - 1
    made = set(root.rglob("DONE")) - before
    new = [path for path in made if path.parent.parent.name == "evaluation"]
    assert {path.parent.parent.name for path in made} == {"evaluation", "gate"}
    assert len(new) == len(old)
    assert paid_calls(root) == calls == 329
    verdicts = [
        sorted((path.parent / "out/rows.jsonl").read_bytes() for path in some)
        for some in (old, new)
    ]
    assert verdicts[0] == verdicts[1]


def test_stages_are_made_again_of_the_replies_that_were_paid_for(
    root: Path, command: list[str]
) -> None:
    calls = paid_calls(root)
    assert calls == 329
    record = json.loads((root / "run/golden/run.json").read_text(encoding="utf-8"))
    of_round, of_holdout = record["rounds"][0]["stages"], record["holdout"]["stages"]
    gone = [of_round["synthesis.0"], record["stages"]["baseline"], of_holdout["baseline"]]
    rows = {}
    for path in gone:
        rows[path] = (root / path / "out/rows.jsonl").read_bytes()
        shutil.rmtree(root / path)
    said, _ = parts.said_by(*command)
    assert (
        f"stages run: {len(gone) + 12 + 1}" in said.splitlines()
    )  # and all verdicts, and the gate
    assert {path: (root / path / "out/rows.jsonl").read_bytes() for path in gone} == rows
    assert paid_calls(root) == calls


# --- the gateway's log ----------------------------------------------------------------------------


def test_gateway_status_reads_the_control(root: Path) -> None:
    said, _ = parts.said_by("gateway", "status")
    assert said.splitlines() == [
        "mode shadow, local model small at http://127.0.0.1:18765/openai/v1",
        "no gateway runs",
    ]


def test_collect_reads_the_pairs(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "coverage.jsonl"
    parts.said_by("collect", str(root / "gateway/pairs" / f"{_DAY}.jsonl"), "--out", str(out))
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    wanted = parts.stored("pages")["collected"]
    assert rows == wanted
    assert len(rows) == 6


def test_the_shadows_are_answers_to_be_judged(root: Path) -> None:
    shadows = root / "gateway/shadow" / f"{_DAY}.jsonl"
    words = (f"inference.path={shadows}", "evaluation.m=1", "run.name=shadows")
    parts.said_by("run", "inference=file", *words)
    said, _ = parts.said_by("status", "shadows")
    assert "ready-made answers of small" in said
    assert "ready-made answers of gpt-6.1-terra" in said
    said, _ = parts.said_by("decide", "shadows", "--service", "gpt-6.1-terra", code=1)
    assert said.splitlines()[1].startswith("6 clusters hold 6 prompts (0 missing), look 1")


def test_the_gateway_goes_on_with_the_control_and_the_money_of_the_day(root: Path) -> None:
    log = root / "gateway/requests" / f"{_DAY}.jsonl"
    lines = log.read_text(encoding="utf-8").splitlines()
    spent = sum(json.loads(line).get("microusd") or 0 for line in lines)
    assert spent > 0
    today = datetime.now(UTC)
    for day in (today, today + timedelta(days=1)):  # as if it had been written today
        log.with_name(f"{day:%Y-%m-%d}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    with gateway() as url:
        page = get(f"{url}/")
    assert '<em id="mode">shadow</em>' in page
    assert '<span id="local">small at http://127.0.0.1:18765/openai/v1</span>' in page
    assert f'id="spend"><b>${spent / 1e6:,.4f}</b>' in page


@contextmanager
def gateway() -> Iterator[str]:
    """The gateway of the root, before a service that nobody plays."""
    words = ("gateway.service=gpt_6_1_terra", "rehearsal.url=http://127.0.0.1:9", "gateway.port=0")
    command = [sys.executable, "-m", "understudy", "gateway", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().partition("/v1")[0]
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(60)


def get(url: str, seconds: float = 60.0) -> str:
    """A page; the address is printed a moment before anybody listens at it."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    end = time.monotonic() + seconds
    while True:
        try:
            with opener.open(url, timeout=seconds) as response:
                return str(response.read().decode())
        except urllib.error.URLError as error:
            if not isinstance(error.reason, ConnectionRefusedError) or time.monotonic() > end:
                raise
            time.sleep(0.01)
