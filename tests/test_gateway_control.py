"""What may change while the gateway runs: taken over whole, dropping nothing."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest

import test_gateway_log as processes
from gateways import ask, gateway, stage, until
from understudy.cli import main
from understudy.config_gateway import Gateway
from understudy.deploy.gateway import control
from understudy.deploy.gateway.control import Control, Local
from understudy.errors import BadInput

BASE = Control("record")
TWO = Control("split", 20.0, (Local("http://a/v1", "m1"), Local("http://b/v1", "m2")))


def test_set_changes_what_is_given_and_rollback_only_the_local_model() -> None:
    made = control.changed(BASE, {"local": "http://a/v1", "local_model": "m1", "mode": "shadow"})
    assert made == Control("shadow", 0.0, (Local("http://a/v1", "m1"),))
    made = control.changed(made, {"mode": "split", "share": "20%"})
    assert (made.mode, made.share) == ("split", 20.0)
    made = control.changed(made, {"local": "http://b/v1"})
    assert made.local == Local("http://b/v1")
    back = control.rolled_back(made)
    assert (back.local, back.mode, back.share) == (Local("http://a/v1", "m1"), "split", 20.0)
    with pytest.raises(BadInput, match="no earlier local model"):
        control.rolled_back(back)
    other = control.changed(back, {"local_model": "m9"})
    assert other.local == Local("http://a/v1", "m9")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"mode": "splt"}, ["mode=splt", "record, shadow, split"]),
        ({"mood": "split"}, ["mood", "did you mean mode?"]),
        ({"share": "120"}, ["share=120", "0 to 100"]),
        ({"share": "nan"}, ["share=nan"]),
        ({"mode": "split"}, ["mode=split", "needs a local model"]),
        ({"local": "localhost:8000"}, ["local=localhost:8000", "http://"]),
        ({"router": "nowhere"}, ["router=nowhere", "router.json"]),
    ],
)
def test_a_wrong_change_is_one_sentence(given: dict[str, str], words: list[str]) -> None:
    with pytest.raises(BadInput) as error:
        control.changed(BASE, given)
    assert "\n" not in str(error.value)
    assert all(word in str(error.value) for word in words)


def test_the_file_says_again_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "control.json"
    assert control.read(path) is None
    control.write(path, TWO)
    found = control.read(path)
    assert found == TWO
    assert found.digest == TWO.digest != BASE.digest
    first = control.first(Gateway(mode="local", local="http://a/v1"))
    assert first.local == Local("http://a/v1")


def test_a_file_that_cannot_be_meant_changes_nothing_and_is_told(tmp_path: Path) -> None:
    with stage() as star, gateway(tmp_path, star.url) as running:
        path = tmp_path / "control.json"
        for text, words in (
            ("{", "cannot be read"),
            ("[]", "control.json"),
            ('{"mode": "splt"}', "mode=splt"),
            ('{"mode": "split"}', "needs a local model"),
            ('{"mode": "record", "mood": 1}', "mood"),
        ):
            path.write_text(text)
            until(lambda words=words: words in (running.get("/health").json()["problem"] or ""))
            assert running.post().status_code == 200
        assert "The control file is not in force" in running.get("/").text
        control.write(path, control.first(Gateway(mode="failover", local=star.url)))
        until(lambda: running.get("/health").json()["mode"] == "failover")
        assert running.get("/health").json()["problem"] is None


def test_changes_and_rollback_under_load_drop_nothing(tmp_path: Path) -> None:
    stop, found = threading.Event(), list[tuple[int, str, str]]()
    with (
        stage(latency_s=0.02) as star,
        stage(text="old", latency_s=0.02) as old,
        stage(text="new", latency_s=0.02, piece_s=0.01) as new,
        gateway(tmp_path, star.url) as running,
        ThreadPoolExecutor(8) as pool,
    ):
        path = tmp_path / "control.json"

        def load(number: int) -> None:
            with httpx2.Client(trust_env=False, timeout=10.0) as web:
                for turn in range(10_000):
                    if stop.is_set():
                        return
                    body = ask(f"{number} {turn}", stream=turn % 2 == 0)
                    reply = web.post(f"{running.url}/v1/chat/completions", json=body)
                    ended = reply.text.endswith("[DONE]\n\n" if turn % 2 == 0 else "}")
                    said = "whole" if ended else "torn"
                    found.append((reply.status_code, said, reply.headers["x-understudy-by"]))

        loads = [pool.submit(load, number) for number in range(8)]
        made = control.first(running.gate.config)
        for change in (
            {"local": old.url, "mode": "split", "share": "50"},
            {"local": new.url},
            {"mode": "local"},
            None,
            {"mode": "failover"},
        ):
            count = len(found)
            made = control.changed(made, change) if change else control.rolled_back(made)
            control.write(path, made)
            until(lambda made=made: running.get("/health").json()["control"] == made.digest)
            until(lambda count=count: len(found) > count + 40)
        stop.set()
        for each in loads:
            each.result()
        assert {status for status, _, _ in found} == {200}
        assert {said for _, said, _ in found} == {"whole"}
        assert old.bodies
        assert new.bodies
        assert len(running.lines("requests")) == len(found)
        assert running.gate.live.control.local == Local(old.url)


# --- the command line ----------------------------------------------------------------------------


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
            assert main(["gateway", "set", "local=http://127.0.0.1:9/v1", *root]) == 0
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


def test_a_rehearsal_keeps_its_logs_apart(tmp_path: Path) -> None:
    from understudy.service.rehearsal import RehearsalServer

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
