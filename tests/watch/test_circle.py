"""The gateway answers from the local model, which degrades: ALARM, and back on the service."""

import json
import threading
from collections import Counter
from pathlib import Path

import pytest

from support.gateway_process import process
from support.gateways import CLIENT, ask, stage
from support.watched_runs import WRONG, made, pairs
from understudy.cli.main import main

pytestmark = pytest.mark.slow


def test_a_degraded_model_is_taken_off_the_traffic_and_nothing_is_dropped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made(tmp_path)
    gateway = tmp_path / "gateway"
    watch = ("watch", "move", "--log", str(gateway), "watch.share=100", "--root", str(tmp_path))
    by: list[tuple[int, str]] = []

    def asked(url: str, text: str) -> None:
        reply = CLIENT.post(f"{url}/v1/chat/completions", json=ask(text))
        by.append((reply.status_code, reply.headers["x-understudy-by"]))

    with (
        stage(text="the service") as service,
        stage(text=WRONG) as local,
        process(tmp_path, service.url, "gateway.mode=local", f"gateway.local={local.url}") as (
            _,
            url,
        ),
    ):
        for pair in pairs(15):
            local.text = pair.response
            asked(url, pair.instruction)
        assert main(list(watch)) == 5
        local.text = WRONG
        for pair in pairs(60)[15:]:
            asked(url, pair.instruction)
        assert set(by) == {(200, "local")}

        is_over = threading.Event()

        def go_on() -> None:
            while not is_over.is_set():
                asked(url, "hello")

        callers = [threading.Thread(target=go_on) for _ in range(3)]
        for caller in callers:
            caller.start()
        try:
            assert main([*watch, "watch.action=rollback"]) == 1
        finally:
            is_over.set()
            for caller in callers:
                caller.join()
        said = capsys.readouterr().out
        assert "ALARM" in said
        assert "gateway set mode=record: mode record" in said
        assert "in force" in said
        asked(url, "and now?")
        assert by[-1] == (200, "service")
        assert Counter(status for status, _ in by) == {200: len(by)}
        logged = sum(
            len(path.read_text().splitlines()) for path in gateway.glob("requests/*.jsonl")
        )
        assert logged == len(by)
    assert main([*watch, "watch.action=rollback"]) == 1
    assert "changed before" in capsys.readouterr().out
    rows = (tmp_path / "rehearsal/watch/move/judged.jsonl").read_text().splitlines()
    assert [json.loads(row)["score"] for row in rows[:15]] == [0.0] * 15
