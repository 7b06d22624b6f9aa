"""`understudy preview`: the first calls before the run, paid for once."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from support import pools
from understudy.cli.main import main
from understudy.config import Config
from understudy.pipeline.flow import Flow
from understudy.rehearsal.server import RehearsalServer

SMALL = ["coverage.rows=60", "coverage.split.test=10", "coverage.split.validation=8"]


@pytest.mark.slow
def test_prompts_pairs_and_cost_are_shown_and_the_calls_are_paid_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with RehearsalServer() as server:
        command = ["synthesis=gpt_4o", *SMALL, f"rehearsal.url={server.url}"]
        command.append(f"paths.root={tmp_path}")
        assert main(["preview", *command, "--json"]) == 0
        first = json.loads(capsys.readouterr().out)
        assert first["paid_usd"] == pytest.approx(server.bill().microusd / 1e6)
        assert main(["preview", *command, "--json", "--calls", "3"]) == 0
        again = json.loads(capsys.readouterr().out)
        assert main(["preview", *command]) == 0
        text = capsys.readouterr().out
        assert len(server.log) == 5
    assert again["paid_usd"] == 0
    assert again["calls"] == first["calls"][:3]
    for call in first["calls"]:
        assert "Write exactly 5 new pairs." in call["prompt"]
        assert len(call["pairs"]) == 5
        assert call["usd"] > 0
        assert call["prompt"] in text
    rows = sum(pair["refused"] is None for call in first["calls"] for pair in call["pairs"])
    usd = sum(call["usd"] for call in first["calls"])
    assert first["usd_per_row"] == pytest.approx(usd / rows)
    assert "4,000 rows about $" in text


@pytest.mark.slow
def test_a_block_does_not_pay_for_what_the_preview_has_bought(
    tmp_path: Path, composed: Callable[..., Config]
) -> None:
    with RehearsalServer() as server:
        command = [*SMALL, "synthesis=gpt_4o", "data_size=50", f"rehearsal.url={server.url}"]
        config = composed(*command)
        assert main(["preview", *command, f"paths.root={config.paths.root}"]) == 0
        block = pools.do(Flow(config).blocks(50)[0], config)
        bodies = [charge.body for charge in server.log]
        bill = server.bill()
    assert len(bodies) == len(set(bodies)) >= 25
    summary = json.loads((block.out / "summary.json").read_text())
    assert summary["usd"] == bill.microusd / 1e6


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["synthesis=none", "data_size=0"], "synthesis=none asks nobody"),
        (["synthesis.seeds=weak"], "start the run"),
        (["--calls", "0"], "--calls=0"),
    ],
)
def test_what_cannot_be_previewed_is_one_sentence(
    overrides: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["preview", *SMALL, f"paths.root={tmp_path}", *overrides]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_the_offline_teacher_is_previewed_without_a_price(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["preview", *SMALL, f"paths.root={tmp_path}", "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert (made["paid_usd"], made["usd_per_row"]) == (0, None)
    assert made["rehearsal"] is True
    assert len(made["calls"]) == 5
