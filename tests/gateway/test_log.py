"""The gateway's logs: whole lines, nothing acknowledged is missing, and `collect` reads them."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import httpx2
import pytest

from support.gateway_process import process
from support.gateways import ask, gateway, stage, until
from understudy.cli.main import main
from understudy.gateway import log
from understudy.gateway.log import DayLog
from understudy.records import read_objects


def test_a_torn_line_is_cut_by_the_next_who_writes_and_skipped_by_who_reads(
    tmp_path: Path,
) -> None:
    path = tmp_path / f"{log.today()}.jsonl"
    path.write_bytes(b'{"n":1}\n' + b'{"n":2,"text":"' + b"x" * 200_000)
    assert list(read_objects(path)) == [{"n": 1}]
    file = DayLog(tmp_path)
    assert file.write(b'{"n":3}')
    file.close()
    assert path.read_bytes() == b'{"n":1}\n{"n":3}\n'


def test_a_file_without_a_whole_line_is_emptied(tmp_path: Path) -> None:
    path = tmp_path / f"{log.today()}.jsonl"
    path.write_bytes(b"half a line")
    file = DayLog(tmp_path)
    file.write(b"{}")
    file.close()
    assert path.read_bytes() == b"{}\n"


def test_a_full_disk_loses_whole_lines_only_and_says_so(tmp_path: Path) -> None:
    code = (
        "import resource, signal, sys, pathlib\n"
        "from understudy.gateway.log import DayLog\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "file = DayLog(pathlib.Path(sys.argv[1]))\n"
        "print([file.write(b'x' * 300) for _ in range(5)])\n"
        "print(file.write(b'y'))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[True, True, True, False, False]\nTrue\n"
    (path,) = tmp_path.iterdir()
    assert path.stat().st_mode & 0o077 == 0  # prompts are for their owner
    assert path.read_bytes() == (b"x" * 300 + b"\n") * 3 + b"y\n"


def test_a_disk_that_takes_nothing_stops_no_answer_and_is_told(tmp_path: Path) -> None:
    with stage() as star, gateway(tmp_path, star.url) as running:
        (tmp_path / "requests").write_text("a file where a folder should be")
        assert running.post().status_code == 200
        assert running.get("/health").json()["status"] == "log lines are lost"
        assert "1 log lines could not be written" in running.get("/").text


def collected(directory: Path, *options: str) -> list[dict[str, Any]]:
    out = directory / "coverage.jsonl"
    logs = sorted(map(str, (directory / "pairs").glob("*.jsonl")))
    assert main(["collect", *logs, "--out", str(out), "--redact", "none", *options]) == 0
    return [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]


def test_collect_reads_what_was_recorded_streamed_or_not(tmp_path: Path) -> None:
    with stage(text="It is\n42.") as star, gateway(tmp_path, star.url) as running:
        running.post(json.dumps(ask("one"), indent=2).encode())
        running.post(ask("two", stream=True, user="u7"))
        running.post(ask("three"), headers={"x-session-id": "s9"})
        system = [{"role": "system", "content": "Be brief."}, *ask("four")["messages"]]
        running.post(ask(messages=system))
        star.tools = True
        running.post(ask("five"))
        star.tools, star.how = False, "cut"
        running.post(ask("six", stream=True))
    rows = collected(tmp_path)
    said = [(row["messages"][-2]["content"], row["messages"][-1]["content"]) for row in rows]
    texts = ("one", "two", "three", "four")
    assert said == [*((text, "It is\n42.") for text in texts), ("five", None)]
    assert rows[4]["messages"][-1]["tool_calls"]
    assert [row["group_id"] for row in rows] == [None, "u7", "s9", None, None]
    assert rows[3]["messages"][0] == {"role": "system", "content": "Be brief."}
    assert rows[0]["source"] == "openai-chat:star-1"
    assert len(collected(tmp_path, "--force", "--model", "other*", "--model", "star-*")) == 5


def test_an_answer_that_speaks_of_the_end_of_a_stream_is_recorded_whole(tmp_path: Path) -> None:
    text = "A stream ends with data: [DONE] and nothing after it."
    with stage(text=text, piece_s=0.02) as star, gateway(tmp_path, star.url) as running:
        running.post(ask("one", stream=True))
    (row,) = collected(tmp_path)
    assert row["messages"][-1]["content"] == text


# --- kill -9 -------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("stream", [False, True])
def test_after_kill_9_no_acknowledged_request_is_missing_and_no_line_is_torn(
    tmp_path: Path, stream: bool
) -> None:
    acknowledged, stop = list[str](), threading.Event()

    def load(url: str, number: int) -> None:
        with httpx2.Client(trust_env=False, timeout=5.0) as web:
            while not stop.is_set():
                body = ask(f"{number} {len(acknowledged)} " + "long " * 3000, stream=stream)
                try:
                    reply = web.post(f"{url}/v1/chat/completions", json=body)
                except httpx2.HTTPError:
                    return
                if not stream or "[DONE]" in reply.text:
                    acknowledged.append(reply.headers["x-understudy-id"])

    with stage(text="word " * 2000) as star:
        for enough in (60, 120, 180):
            with process(tmp_path, star.url) as (running, url):
                threads = [threading.Thread(target=load, args=(url, n)) for n in range(6)]
                for thread in threads:
                    thread.start()
                until(lambda enough=enough: len(acknowledged) > enough)
                os.kill(running.pid, signal.SIGKILL)
                for thread in threads:
                    thread.join()
        with process(tmp_path, star.url) as (_, url):  # it cuts what was torn
            httpx2.post(f"{url}/v1/chat/completions", json=ask("last"), trust_env=False)
    for kind, name in (("requests", "id"), ("pairs", "request_id")):
        (path,) = (tmp_path / "gateway" / kind).iterdir()
        lines = [json.loads(line) for line in path.read_bytes().splitlines()]
        assert set(acknowledged) <= {line[name] for line in lines}
        assert len({line[name] for line in lines}) == len(lines)


@pytest.mark.slow
def test_sigterm_lets_what_is_in_flight_finish(tmp_path: Path) -> None:
    with stage(latency_s=0.5) as star, process(tmp_path, star.url) as (running, url):
        replies: list[int] = []

        def call() -> None:
            reply = httpx2.post(f"{url}/v1/chat/completions", json=ask(), trust_env=False)
            replies.append(reply.status_code)

        threads = [threading.Thread(target=call) for _ in range(5)]
        for thread in threads:
            thread.start()
        until(lambda: star.open == 5)
        running.terminate()
        for thread in threads:
            thread.join()
        assert replies == [200] * 5
        assert running.wait(10) == 0
        assert not (tmp_path / "gateway" / "address.json").exists()
