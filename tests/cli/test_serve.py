"""`understudy serve`: a run's model in a process of its own, offline, until it is told to end."""

import json
import shutil
import signal
import socket
import time
from pathlib import Path

import pytest

from support import configs, servers, tiny_model
from support.served_models import NO_END, a_run, process
from support.servers import chat, get, post
from understudy.cli.main import main
from understudy.config.compose import compose
from understudy.models import load
from understudy.serve.process import key_for

REPO, REVISION = "acme/tiny-base", "0123456789abcdef" * 2 + "01234567"


def in_cache(home: Path) -> None:
    """The shipped model as the hub's client leaves a download."""
    snapshot = home / "hub" / f"models--{REPO.replace('/', '--')}" / "snapshots" / REVISION
    shutil.copytree(load.directory(tiny_model.build("package:tiny").model), snapshot)


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
        with servers.sent(
            url, stream=True, model="mine", max_tokens=60, logit_bias=NO_END
        ) as stream:
            assert b"200 OK" in stream.recv(4096)
            child.send_signal(signal.SIGTERM)
            until_refused(url)
            rest = b"".join(iter(lambda: stream.recv(65536), b""))
            assert b"data: [DONE]" in rest
        _, errors = child.communicate(timeout=30)
        assert child.returncode == 0
        assert errors == "note: UNDECIDED: nobody looked at the holdout: understudy decide mine\n"


def until_refused(url: str) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            servers.connected(url).close()
        except ConnectionRefusedError:
            return
        time.sleep(0.01)
    raise AssertionError("new connections are still taken")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_aborts_what_is_under_way(number: signal.Signals) -> None:
    model = str(load.directory(tiny_model.build("package:tiny").model))
    with (
        process(model, "--port", "0") as (child, url),
        servers.sent(url, stream=True, n=16, max_tokens=990, logit_bias=NO_END) as stream,
    ):
        assert b"200 OK" in stream.recv(4096)
        child.send_signal(number)
        until_refused(url)
        assert child.poll() is None
        child.send_signal(number)
        assert child.wait(timeout=5) == 128 + number


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["serve", *arguments]) == 2
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
    monkeypatch.setenv("UNDERSTUDY_API_KEY", "sesame-open-thyself\n")
    assert key_for("0.0.0.0") == "sesame-open-thyself"
    monkeypatch.setenv("UNDERSTUDY_API_KEY", " ")
    assert key_for("127.0.0.1") is None


@pytest.mark.slow
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

    assert config.build(compose([], None)).serve == configs.serve()
