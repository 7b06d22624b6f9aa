"""`understudy rehearse`: alone, and around a run that pays."""

import json
import shlex
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from support.files import evaluated, write
from understudy.cli.main import main
from understudy.rehearsal.server import RehearsalServer

SERVICE = """name: mine
provider: openai
model: mine-1
family: openai
terms: null
temperature: null
max_output_tokens: 400
key_env: A_KEY_THAT_NOBODY_HAS
timeout_s: 20
prices: {input: 2.5, cached: 1.25, output: 10.0, batch: 0.5, date: '2026-11-01', source: test}
"""
JUDGE = """# @package _global_
# Judge: service/mine
defaults:
  - /service@judges.mine: mine
"""


def rehearse(*words: str) -> int:
    return main(["rehearse", *words])


@pytest.fixture
def judging(tmp_path: Path) -> list[str]:
    """The words of a run that judges twelve ready-made answers by a paid service."""
    conf = tmp_path / "conf"
    for name, text in (("service", SERVICE), ("judge", JUDGE)):
        (conf / name).mkdir(parents=True)
        (conf / name / "mine.yaml").write_text(text)
    rows = [evaluated(f"Question {n}?", f"Answer {n}.", "m") for n in range(12)]
    answers = write(tmp_path / "answers.jsonl", rows)
    return [
        *("run", "inference=file", f"inference.path={answers}", "judge=mine", "evaluation.m=2"),
        *("run.name=ready", f"paths.root={tmp_path / 'runs'}", "--config-dir", str(conf)),
    ]


@pytest.mark.slow
def test_a_rehearsed_run_pays_what_the_server_bills_and_nothing_when_repeated(
    judging: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    faults = ("--faults", "500=0.1,429=0.1,broken=0.2", "--retry-after", "0.05")
    assert rehearse(*faults, "--", *judging) == 0
    said = capfd.readouterr().err
    bill, ledger = (line for line in said.splitlines() if line.startswith("the "))
    assert ledger.endswith("; equal")
    assert "faults played: " in bill
    assert "$0.000000" not in bill
    run = json.loads((tmp_path / "runs/rehearsal/run/ready/run.json").read_text())
    assert run["rehearsal"] is True
    assert rehearse("--", *judging) == 0
    assert "the bill:   0 calls, $0.000000" in capfd.readouterr().err


@pytest.mark.slow
def test_what_stops_a_rehearsed_run_says_the_rehearse_command_that_goes_on(
    judging: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def words(budget: str) -> list[str]:
        return ["understudy", "rehearse", "--latency", "1", "--", "run", budget, *judging[1:]]

    assert main(words("budget.usd=0.01")[1:]) == 3
    assert hint_in(capfd.readouterr().err) == words("budget.usd=0.02")
    begun = set(tmp_path.glob("runs/rehearsal/evaluation/*/attempts/*"))
    command = words("budget.usd=1")
    python = [sys.executable, "-m"]
    with subprocess.Popen([*python, *command], stderr=subprocess.PIPE, text=True) as process:
        while begun == set(tmp_path.glob("runs/rehearsal/evaluation/*/attempts/*")):
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert hint_in(said) == command


def hint_in(said: str) -> list[str]:
    """The words of the only command that a run says goes on."""
    (hint,) = (line for line in said.splitlines() if "To go on: " in line)
    return shlex.split(hint.partition("To go on: ")[2])


def test_only_verbs_that_ask_services_can_be_rehearsed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert rehearse("--", "status") == 2
    said = capsys.readouterr().err
    verbs = "run, plan, preview, config, gateway"
    assert said == f"understudy: rehearse cannot do status; choose from {verbs}\n"


@pytest.mark.slow
def test_the_override_is_added_among_the_others(
    judging: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    assert rehearse("--", "config", *judging[1:]) == 0
    said = capfd.readouterr()
    assert "rehearsal.url: 'http://127.0.0.1:" in said.out
    assert "judges.mine.model: 'mine-1'" in said.out


@pytest.mark.parametrize(
    ("options", "override", "sentence"),
    [
        ((), "evaluation.n=3", "evaluation.n is not a config key"),
        (("--faults", "teapot=1"), "seed=1", "teapot=1 in faults=teapot=1 is no fault"),
    ],
)
def test_a_mistake_is_one_sentence_before_anything_starts(
    judging: list[str],
    capsys: pytest.CaptureFixture[str],
    options: tuple[str, ...],
    override: str,
    sentence: str,
) -> None:
    assert rehearse(*options, "--", *judging[:-2], override, *judging[-2:]) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert sentence in said


def test_a_port_in_use_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with RehearsalServer() as server:
        port = server.url.rpartition(":")[2]
        assert rehearse("--port", port) == 4
    assert f"port {port} of 127.0.0.1 cannot be opened" in capsys.readouterr().err


@pytest.mark.slow
def test_the_server_alone_prints_its_url_and_serves_until_ctrl_c() -> None:
    command = ("-m", "understudy", "rehearse", "--rpm", "60")
    piped = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([sys.executable, *command], text=True, **piped) as process:  # type: ignore[call-overload]
        url = process.stdout.readline().strip()
        with urllib.request.urlopen(f"{url}/rehearsal/bill", timeout=10) as response:
            assert json.load(response)["calls"] == 0
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=10)
        assert process.returncode == 0
    assert "Traceback" not in said
