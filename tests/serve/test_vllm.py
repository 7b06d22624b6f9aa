"""The engine vLLM behind our app: the real worker script, over a stand-in for vLLM's server."""

import asyncio
import json
import shutil
import subprocess
import sys
import threading
import time
import venv
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from support import configs, servers
from support.served_models import NO_END
from support.servers import Server, chat, metric, post
from understudy import locations
from understudy.cli.main import main
from understudy.errors import EnvironmentFailed
from understudy.inference import DecodeRequest
from understudy.inference.vllm import VllmServer
from understudy.serve import Piece
from understudy.serve.model import Served, of_directory
from understudy.serve.process import serving
from understudy.serve.vllm import VllmEngine

STAND_INS = Path(__file__).parents[1] / "support" / "stand_ins"


@pytest.fixture(scope="module")
def _stand_in() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(STAND_INS))
        yield


@pytest.fixture(scope="module")
def server(_stand_in: None) -> Iterator[Server]:
    with servers.tiny(engine="vllm", python=sys.executable) as running:
        yield running


@pytest.fixture(scope="module")
def other() -> Iterator[Server]:
    with servers.tiny() as running:
        yield running


@pytest.mark.slow
def test_greedy_responses_are_those_of_transformers(server: Server, other: Server) -> None:
    for fields in (
        {},
        {"max_tokens": 3},
        {"stop": "Tues"},
        {"n": 2},
        {"logprobs": True, "top_logprobs": 3, "return_token_ids": True},
        {"logit_bias": NO_END, "max_tokens": 30},
    ):
        mine, theirs = (post(one.url, chat(**fields)) for one in (server, other))
        assert mine.status == theirs.status == 200, mine.text
        for choice, wanted in zip(mine.json["choices"], theirs.json["choices"], strict=True):
            told, told_wanted = choice.pop("logprobs"), wanted.pop("logprobs")
            assert choice == wanted
            if told is not None:
                for one, one_wanted in zip(told["content"], told_wanted["content"], strict=True):
                    assert one["token"] == one_wanted["token"]
                    assert one["logprob"] == pytest.approx(one_wanted["logprob"], abs=1e-4)
                    assert [t["bytes"] for t in one["top_logprobs"]] == [
                        t["bytes"] for t in one_wanted["top_logprobs"]
                    ]
        assert mine.json["usage"] == theirs.json["usage"]


@pytest.mark.slow
def test_schemas_are_vllms_own_business_and_prompts_are_scored(
    server: Server, other: Server
) -> None:
    schema = {"type": "object", "properties": {"a": {"enum": ["x", "y"]}}, "required": ["a"]}
    form = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    made = post(server.url, chat(response_format=form, max_tokens=60)).json["choices"][0]
    assert made["finish_reason"] == "length" or json.loads(made["message"]["content"])["a"]
    refused = {**form, "json_schema": {"name": "a", "schema": {"not": {}}}}
    assert post(server.url, chat(response_format=refused)).status == 400
    body = {"model": "tiny", "prompt": "The sky is", "max_tokens": 0, "echo": True, "logprobs": 2}
    mine, theirs = (
        post(one.url, body, "/v1/completions").json["choices"][0]["logprobs"]
        for one in (server, other)
    )
    assert mine["tokens"] == theirs["tokens"]
    assert mine["token_logprobs"][1:] == pytest.approx(theirs["token_logprobs"][1:], abs=1e-4)


@pytest.mark.slow
def test_streams_add_up_and_a_client_that_leaves_ends_them(server: Server) -> None:
    whole = post(server.url, chat()).json["choices"][0]["message"]["content"]
    events = post(server.url, chat(stream=True, stream_options={"include_usage": True})).text
    lines = [line.removeprefix("data: ") for line in events.splitlines() if line]
    assert lines.pop() == "[DONE]"
    chunks = [json.loads(line) for line in lines]
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks if chunk["choices"]]
    assert "".join(delta.get("content", "") for delta in deltas) == whole
    assert chunks[-1]["usage"]["completion_tokens"] > 3
    with servers.sent(server.url, max_tokens=900, logit_bias=NO_END, stream=True) as client:
        assert client.recv(10).startswith(b"HTTP/1.1 2")
    deadline = time.monotonic() + 30
    while metric(server.url, "understudy_answers"):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert metric(server.url, "understudy_cancelled_total") == 1


@pytest.mark.slow
@pytest.mark.usefixtures("_stand_in")
def test_a_vllm_that_dies_while_it_loads_is_told_in_one_sentence(tmp_path: Path) -> None:
    shutil.copytree(locations.model("package:tiny"), tmp_path / "model")
    (tmp_path / "fault.json").write_text('{"says": "CUDA out of memory."}')
    settings = configs.serve(engine="vllm", python=sys.executable)
    with (
        pytest.raises(EnvironmentFailed, match=r"exit code 1: RuntimeError: CUDA out of memory\."),
        serving(of_directory(tmp_path / "model"), settings),
    ):
        pass


class _Odd(BaseHTTPRequestHandler):
    """Answers what vLLM never has."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'data: {"choices": [{}]}\n\n')

    def log_message(self, *_: Any) -> None:
        pass


def test_whatever_vllm_says_the_request_hears_of_it_and_no_proxy_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # discard: nobody listens
    child = subprocess.Popen(["true"])
    child.wait()

    async def told(url: str) -> Piece:
        served = Served("tiny", None, 64, frozenset(), (), 1.0, lambda kind: None, None)
        engine = VllmEngine(VllmServer(url, "key", child), served)
        await engine.open()
        pieces: asyncio.Queue[Piece] = asyncio.Queue()
        engine.start(DecodeRequest(ids=(1,), max_tokens=3), pieces.put_nowait)
        try:
            return await asyncio.wait_for(pieces.get(), 10)
        finally:
            await engine.close()

    with HTTPServer(("127.0.0.1", 0), _Odd) as odd:
        threading.Thread(target=odd.serve_forever, args=(0.01,), daemon=True).start()
        piece = asyncio.run(told(f"http://127.0.0.1:{odd.server_port}"))
        odd.shutdown()
    assert (piece.finish, piece.text) == ("error", "vLLM: 'index'")


def test_a_python_without_vllm_is_refused_before_anything_is_loaded(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("PYTHONPATH", raising=False)

    def said(python: str) -> str:
        assert main(["serve", "x", "serve.engine=vllm", f"serve.python={python}"]) == 2
        return capsys.readouterr().err

    venv.create(tmp_path / "bare", symlinks=True)
    assert "bare/bin/python has no vllm; make a virtual environment" in said(
        str(tmp_path / "bare/bin/python")
    )
    assert "serve.python=/nowhere cannot be run" in said("/nowhere")
