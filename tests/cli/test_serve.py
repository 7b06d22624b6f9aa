"""`understudy serve`: a run's model in a process of its own, offline, until it is told to end."""

import dataclasses
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import servers
import tiny_model
from servers import chat, get, post
from understudy import cli, local_model
from understudy.artifacts import write_atomically
from understudy.deploy import serving

REPO, REVISION = "acme/tiny-base", "0123456789abcdef" * 2 + "01234567"
STAGES = {"finetune": "finetune/f1", "inference": "inference/i1"}
NO_END = {"2": -100}

# What a process does when nothing but loopback can be reached, and whether it tried.
_WALLED_IN = """
import sys

def wall(event, args):
    host = None
    if event == "socket.connect" and isinstance(args[1], tuple):
        host = args[1][0]
    elif event == "socket.getaddrinfo":
        host = args[0]
    if host not in (None, "", "127.0.0.1", "localhost", "::1"):
        print(f"REACHED OUT to {host}", file=sys.stderr, flush=True)
        raise OSError(101, "Network is unreachable")

sys.addaudithook(wall)
from understudy.cli import main
sys.exit(main(sys.argv[1:]))
"""


def a_run(root: Path, **model: Any) -> Path:
    """A run whose second round passed: an adapter; its base is the shipped model unless given."""
    import peft
    import torch

    local_model.quiet()
    usual = {"path": "package:tiny", "context": 96, "stop": ["<|im_end|>"], **model}
    changes = {f"model__{name}": value for name, value in usual.items()}
    config = tiny_model.build(None, **changes, inference__temperature=0.0)
    base = tiny_model.build("package:tiny").model
    torch.manual_seed(1)
    lora = peft.LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
    tuned = peft.get_peft_model(local_model.base(base, torch.float32), lora)
    for name, parameter in tuned.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.3)
    stage = root / "finetune" / "f1"
    tuned.save_pretrained(stage / "out" / "model")
    local_model.tokenizer(base).save_pretrained(stage / "out" / "model")
    write_atomically(stage / "config.json", json.dumps({"config": dataclasses.asdict(config)}))
    write_atomically(stage / "DONE", "")
    run = {
        **{"name": "mine", "command": "understudy run", "stages": {}, "rehearsal": False},
        **{"config": dataclasses.asdict(config), "holdout": None},
        "rounds": [{"round": 1, "stages": STAGES, "decision": "pass"}],
        "decision": {"passed": True, "round": 1, "reason": "as good"},
    }
    path = root / "run" / "mine" / "run.json"
    path.parent.mkdir(parents=True)
    write_atomically(path, json.dumps(run))
    return path


def in_cache(home: Path) -> None:
    """The shipped model as the hub's client leaves a download."""
    snapshot = home / "hub" / f"models--{REPO.replace('/', '--')}" / "snapshots" / REVISION
    shutil.copytree(local_model.directory(tiny_model.build("package:tiny").model), snapshot)


@contextmanager
def process(*arguments: str, **environment: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server behind the wall, and its URL."""
    child = subprocess.Popen(
        [sys.executable, "-c", _WALLED_IN, "serve", *arguments],
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True},
        env={**os.environ, "HF_HUB_OFFLINE": "0", **environment},
    )
    assert child.stdout is not None
    assert child.stderr is not None
    try:
        told = child.stdout.readline()
        assert "http://" in told, child.stderr.read()
        yield child, "http://" + told.partition("http://")[2].partition("/v1")[0]
    finally:
        child.kill()
        child.communicate()


@pytest.mark.slow
def test_a_run_is_served_offline_and_ends_gently(tmp_path: Path) -> None:
    in_cache(tmp_path / "hf")
    a_run(tmp_path / "runs", path=None, repo=REPO, revision=REVISION)
    arguments = ("mine", "--root", str(tmp_path / "runs"), "--port", "0")
    home = {"HF_HOME": str(tmp_path / "hf"), "HF_ENDPOINT": "https://hub.example"}
    with process(*arguments, **home) as (child, url):
        (card,) = get(url, "/v1/models").json["data"]
        assert (card["id"], card["max_model_len"]) == ("mine", 96)
        made = post(url, chat(model="mine")).json
        usual = post(url, chat(model="mine", temperature=None)).json
        with servers.tiny() as base:
            of_base = post(base.url, chat()).json
        text = made["choices"][0]["message"]["content"]
        assert text == usual["choices"][0]["message"]["content"], "judged greedily, served so"
        assert text != of_base["choices"][0]["message"]["content"], "the adapter counts"
        with open_stream(url, model="mine", max_tokens=60, logit_bias=NO_END) as stream:
            assert b"200 OK" in stream.recv(4096)
            child.send_signal(signal.SIGTERM)
            until_refused(url)
            rest = b"".join(iter(lambda: stream.recv(65536), b""))
            assert b"data: [DONE]" in rest
        _, errors = child.communicate(timeout=30)
        assert child.returncode == 0
        assert errors == "note: UNDECIDED: nobody looked at the holdout: understudy decide mine\n"


def open_stream(url: str, **fields: Any) -> socket.socket:
    body = json.dumps(chat(stream=True, **fields)).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    client = socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=60)
    client.sendall(head.encode() + body)
    return client


def until_refused(url: str) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))).close()
        except ConnectionRefusedError:
            return
        time.sleep(0.01)
    raise AssertionError("new connections are still taken")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_aborts_what_is_under_way(number: signal.Signals) -> None:
    model = str(local_model.directory(tiny_model.build("package:tiny").model))
    with (
        process(model, "--port", "0") as (child, url),
        open_stream(url, n=16, max_tokens=990, logit_bias=NO_END) as stream,
    ):
        assert b"200 OK" in stream.recv(4096)
        child.send_signal(number)
        until_refused(url)
        assert child.poll() is None
        child.send_signal(number)
        assert child.wait(timeout=5) == 128 + number


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert cli.main(["serve", *arguments]) == 2
    lines = capsys.readouterr().err.splitlines()
    (said,) = [line for line in lines if not line.startswith("note: ")]
    return said


@pytest.fixture(autouse=True)
def _no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("UNDERSTUDY_API_KEY", raising=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.2", "::", "example.org"])
def test_an_open_address_needs_a_key_from_the_environment(
    capsys: pytest.CaptureFixture[str], host: str
) -> None:
    said = refused(capsys, "x", "--host", host)
    assert f"serve.host={host}" in said
    assert "UNDERSTUDY_API_KEY" in said


def test_a_key_from_a_file_with_a_last_newline_is_that_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNDERSTUDY_API_KEY", "sesame\n")
    assert serving.key_for("0.0.0.0") == "sesame"
    monkeypatch.setenv("UNDERSTUDY_API_KEY", " ")
    assert serving.key_for("127.0.0.1") is None


def test_wrong_settings_are_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert "did you mean serve.queue?" in refused(capsys, "x", "serve.quue=3")
    assert "trainer.lr=1 is no setting of `serve`" in refused(capsys, "x", "trainer.lr=1")
    assert "serve.port=99999 is not valid" in refused(capsys, "x", "--port", "99999")
    assert "no run 'x'" in refused(capsys, "x", "--root", str(tmp_path))
    said = refused(capsys, "x", "serve.engine=vllm")
    assert "serve.python" in said


def test_settings_may_stand_anywhere(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = ("--root", str(tmp_path), "serve.queue=64", "x", "--port", "0", "serve.max_tokens=9")
    assert "no run 'x'" in refused(capsys, *words)
    assert "serve.queue=-1 is not valid" in refused(capsys, "x", "--port", "0", "serve.queue=-1")


def test_an_address_that_is_taken_is_named(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    a_run(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        said = refused(capsys, "mine", "--root", str(tmp_path), "--port", port)
    assert f"serve.port={port} cannot be had: Address already in use" in said


def test_a_round_that_is_not_there_is_named(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    a_run(tmp_path)
    assert "round 7" in refused(capsys, "mine", "--root", str(tmp_path), "--round", "7")


def test_an_adapter_without_its_base_is_named(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    a_run(tmp_path)
    adapter = tmp_path / "finetune/f1/out/model"
    told = json.loads((adapter / "adapter_config.json").read_text())
    named = {**told, "base_model_name_or_path": "acme/unknown"}
    (adapter / "adapter_config.json").write_text(json.dumps(named))
    said = refused(capsys, str(adapter))
    assert "acme/unknown, which is neither a directory nor in the local cache" in said


def test_the_shipped_settings_are_those_of_the_schema() -> None:
    from understudy import config
    from understudy.config_serve import Serve

    assert config.build(cli.compose([], None).values).serve == Serve()
