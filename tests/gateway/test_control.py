"""What may change while the gateway runs: taken over whole, dropping nothing."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import numpy as np
import pytest

from support import configs
from support.gateways import ask, gateway, stage, until
from understudy.errors import BadInput
from understudy.gateway import control
from understudy.gateway.control import Control, Local
from understudy.routing import artifact

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
    assert control.changed(made, {"local": "http://b/v1"}) == made  # or rollback goes to itself
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
    first = control.first(configs.gateway(mode="local", local="http://a/v1"))
    assert first.local == Local("http://a/v1")


@pytest.mark.slow
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
        control.write(path, control.first(configs.gateway(mode="failover", local=star.url)))
        until(lambda: running.get("/health").json()["mode"] == "failover")
        assert running.get("/health").json()["problem"] is None


@pytest.mark.slow
def test_a_router_that_is_broken_is_told_and_the_next_change_is_seen(tmp_path: Path) -> None:
    folder = tmp_path / "router"
    folder.mkdir()
    np.savez(folder / "router.npz", means=np.zeros(2))
    (folder / "router.json").write_text("[]")
    with pytest.raises(BadInput, match=r"router\.json is no object"):
        artifact.load(folder)
    (folder / "router.npz").write_bytes(b"PK\x03\x04 cut off")
    (folder / "router.json").write_text('{"version": 1}')
    with stage() as star, gateway(tmp_path / "g", star.url) as running:
        local = {"local": star.url}
        path = tmp_path / "g" / "control.json"
        routed = control.changed(BASE, {"mode": "route", "router": str(folder)} | local)
        control.write(path, routed)
        until(lambda: "no router that can be read" in str(running.get("/health").json()["problem"]))
        control.write(path, control.changed(BASE, {"mode": "failover"} | local))
        until(lambda: running.get("/health").json()["mode"] == "failover")
        assert running.get("/health").json()["problem"] is None


def test_another_model_served_at_the_same_address_is_asked_by_its_name(tmp_path: Path) -> None:
    with (
        stage() as star,
        stage(serves="first") as small,
        gateway(tmp_path, star.url, mode="local", local=small.url) as running,
    ):
        assert running.post().status_code == 200
        small.serves = "second"
        assert running.post().status_code == 200
        assert [json.loads(body)["model"] for body in small.bodies] == ["first", "first", "second"]
        assert running.post().status_code == 200
        assert len(small.bodies) == 4


@pytest.mark.slow
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
        made = control.first(running.state.config)
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
        assert running.state.live.control.local == Local(old.url)
