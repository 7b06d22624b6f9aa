"""The verb `gateway`: what is set reaches the gateway that runs, and what cannot be is said."""

import json
from pathlib import Path
from typing import Any

import httpx2
import pytest

from support import gateway_process as processes
from support.gateways import ask, gateway, stage, until
from understudy.cli.main import main
from understudy.gateway import control
from understudy.gateway.control import Control

BASE = Control("record")


@pytest.mark.slow
def test_a_change_that_the_gateway_refuses_is_taken_back_and_a_right_one_is_not_blamed_for_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory, root = tmp_path / "gateway", ["--root", str(tmp_path)]
    (tmp_path / "router.json").write_text("[]")
    with stage() as star, gateway(directory, star.url) as running:
        change = ["gateway", "set", "mode=route", f"local={star.url}"]
        before = control.read(directory / "control.json")
        assert main([*change, f"router={tmp_path}", *root]) == 2
        assert "the gateway does not take it" in capsys.readouterr().err
        assert control.read(directory / "control.json") == before
        (directory / "control.json").write_text("{")
        until(lambda: running.get("/health").json()["problem"])
        control.write(directory / "control.json", BASE)
        assert main(["gateway", "set", "local=http://127.0.0.1:9/v1", *root]) == 2
        assert "does not answer: unreachable" in capsys.readouterr().err
        assert control.read(directory / "control.json") == BASE
        assert main(["gateway", "set", f"local={star.url}", *root]) == 0
        assert "in force" in capsys.readouterr().out


@pytest.mark.slow
def test_the_gateway_that_runs_is_meant_be_it_the_rehearsal_s(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    key, root = "a-key-of-sixteen-characters", ["--root", str(tmp_path)]
    with stage() as star:
        with gateway(tmp_path / "gateway", star.url):
            pass
        rehearsed = tmp_path / "rehearsal" / "gateway"
        shown = {"client_key": key, "key_env": "GATEWAY_KEY"}
        with gateway(rehearsed, star.url, mode="failover", local=star.url, **shown) as running:
            assert main(["gateway", "status", *root]) == 2
            assert "wants its key in GATEWAY_KEY" in capsys.readouterr().err
            monkeypatch.setenv("GATEWAY_KEY", key)
            assert main(["gateway", "status", *root]) == 0
            assert f"{running.url}: ok" in capsys.readouterr().out
        assert main(["gateway", "status", *root]) == 0
        assert "mode record" in capsys.readouterr().out


@pytest.mark.slow
def test_set_rollback_and_status_speak_to_the_gateway_that_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = ["--root", str(tmp_path)]
    with stage() as star, stage() as small:
        with processes.process(tmp_path, star.url) as (_, url):
            local = f"local={small.url}"
            assert main(["gateway", "set", local, "mode=split", "share=100", *root]) == 0
            said = capsys.readouterr().out.splitlines()
            assert said[0].startswith("mode split, 100 % to the local model")
            assert said[1] == "in force"
            reply = httpx2.post(f"{url}/v1/chat/completions", json=ask(), trust_env=False)
            assert reply.headers["x-understudy-by"] == "local"
            assert main(["gateway", "set", f"local={star.url}", *root]) == 0
            assert main(["gateway", "rollback", *root]) == 0
            assert small.url in capsys.readouterr().out
            assert main(["gateway", "status", *root]) == 0
            assert f"{url}: ok" in capsys.readouterr().out
            base = "gateway.service.base_url=http://127.0.0.1:9/v1"
            again = ["gateway", "gateway.service=openai_compatible", base]
            assert main([*again, *root]) == 2
            assert "runs in" in capsys.readouterr().err
        (tmp_path / "gateway" / "address.json").unlink()
        assert main(["gateway", "set", "mode=local", *root]) == 0
        assert "no gateway runs" in capsys.readouterr().out
        with processes.process(tmp_path, star.url) as (_, url):
            reply = httpx2.post(f"{url}/v1/chat/completions", json=ask(), trust_env=False)
            assert reply.headers["x-understudy-by"] == "local"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["stop"], "gateway stop is not known"),
        (["set"], "needs something to set"),
        (["set", "mode"], "mode is not of the form"),
        (["rollback", "mode=x"], "takes no mode=x"),
        (["status"], "no gateway was ever started"),
        (["gateway.mode=record"], "understudy options service"),
        (["gateway.prt=1"], "did you mean gateway.port?"),
        (["gateway.mode=splt"], "gateway.mode=splt"),
        (["gateway.service=gpt_9"], "gpt_9"),
        (["gateway.service=offline"], "is no service on a wire"),
        (["gateway.host=0.0.0.0", "gateway.service=gpt_4o"], "give gateway.key_env=NAME"),
        (["gateway.key_env=NOT_THERE", "gateway.service=gpt_4o"], "NOT_THERE"),
        (["gateway.local_key_env=NOT_THERE", "gateway.service=gpt_4o"], "NOT_THERE"),
        (["gateway.mode=local", "gateway.service=gpt_4o"], "needs a local model"),
        (["gateway.usd_per_day=1", "gateway.service=openai_compatible",
          "gateway.service.base_url=http://127.0.0.1:9/v1"], "needs the prices"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_one_sentence_and_exit_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], sentence: str
) -> None:
    assert main(["gateway", *words, "--root", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert len(error.splitlines()) == 1


@pytest.mark.slow
def test_another_address_is_bound_with_a_key_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = "a-key-of-sixteen-characters"
    monkeypatch.setenv("GATEWAY_KEY", key)
    settings = ("gateway.host=0.0.0.0", "gateway.key_env=GATEWAY_KEY")
    with stage() as star, processes.process(tmp_path, star.url, *settings) as (_, url):
        body: Any = ask()
        place = f"{url}/v1/chat/completions"
        assert httpx2.post(place, json=body, trust_env=False).status_code == 401
        shown = {"authorization": f"Bearer {key}"}
        assert httpx2.post(place, json=body, headers=shown, trust_env=False).status_code == 200
        assert "authorization" not in star.headers[0]


@pytest.mark.slow
def test_a_rehearsal_keeps_its_logs_apart(tmp_path: Path) -> None:
    from understudy.rehearsal.server import RehearsalServer

    with RehearsalServer() as played:
        settings = (f"rehearsal.url={played.url}", "gateway.service=gpt_4o")
        with processes.process(tmp_path, "http://127.0.0.1:9/v1", *settings) as (_, url):
            body = ask(model="gpt-4o")
            reply = httpx2.post(f"{url}/v1/chat/completions", json=body, trust_env=False)
            assert reply.status_code == 200
            assert "REHEARSAL" in httpx2.get(url, trust_env=False).text
        (path,) = (tmp_path / "rehearsal" / "gateway" / "requests").iterdir()
        line = json.loads(path.read_text().splitlines()[0])
        assert line["rehearsal"] is True
        assert line["microusd"] == played.bill().microusd
        assert not (tmp_path / "gateway").exists()
