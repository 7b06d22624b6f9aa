"""When the service fails: who answers then, and what it costs."""

import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from support.gateways import KEY, MODEL, ask, gateway, service, stage, until
from understudy.gateway.breaker import Breaker


def client(url: str, **options: Any) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0, **options)


# --- failures ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ({"status": 500}, "500"),
        ({"status": 429}, "429"),
        ({"status": 401}, "401"),  # the gateway's key, not the client's
        ({"how": "reset"}, "connection lost"),
        ({"how": "cut"}, "connection lost"),
        ({"how": "silent"}, "timeout"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_when_the_service_fails_the_local_model_answers(
    tmp_path: Path, how: dict[str, Any], why: str, stream: bool
) -> None:
    if how == {"how": "cut"} and stream:
        return  # a stream that has begun is not taken over: see the next test
    with (
        stage(**how) as star,
        stage(text="mine") as small,
        gateway(tmp_path, star.url, mode="failover", local=small.url, deadline_s=0.5) as running,
    ):
        began = time.monotonic()
        reply = running.post(ask(stream=stream))
        assert time.monotonic() - began < 1.5
        assert reply.status_code == 200
        assert reply.headers["x-understudy-by"] == "local"
        (line,) = running.lines("requests")
        assert line["tried"][0][:2] == ["service", why]
        is_billed = why in ("connection lost", "timeout")
        assert line["is_bound"] == is_billed
        assert (line["microusd"] > 0) == is_billed


OVERLOADED = b'{"error": {"message": "Overloaded, key %s.", "type": "overloaded"}}' % KEY.encode()
EVENTS, JSON = "text/event-stream; charset=utf-8", "application/json"
NO_ANSWERS = [
    (OVERLOADED, JSON, False, "error in a 200: Overloaded, key [key]."),
    (b'{"error": "Overloaded"}', JSON, False, "error in a 200: Overloaded"),
    (b'{"choices": [{"error": {"code": 502}}]}', JSON, False, "error in a 200: 502"),
    (b"", JSON, False, "empty answer"),
    (b" \n", "", False, "empty answer"),
    (b"<html>busy</html>", "text/html", False, "no answer in a 200: text/html"),
    (b"<html>busy</html>", "text/html", True, "no answer in a 200: text/html"),
    (b'{"choices": []}', JSON, False, "no answer in a 200: no choices in it"),
    (b'{"choices": [{}]}', JSON, False, "no answer in a 200: no message in it"),
    (b'{"choices": [{"message": null}]}', JSON, False, "no answer in a 200: no message in it"),
    (b'{"detail": "Overloaded"}', JSON, False, "error in a 200: Overloaded"),
    (b'{"object": "error", "message": "Busy"}', JSON, False, "error in a 200: Busy"),
    (b'[{"error": {"message": "Busy"}}]', JSON, False, "error in a 200: Busy"),
    (OVERLOADED, JSON, True, "error in a 200: Overloaded, key [key]."),
    (OVERLOADED, EVENTS, True, "error in a 200: Overloaded, key [key]."),
    (b"data: %s\n\n" % OVERLOADED, EVENTS, True, "error in a 200: Overloaded, key [key]."),
    (b": wait\n\ndata:%s\n\n" % OVERLOADED, EVENTS, True, "error in a 200: Overloaded, key [key]."),
    (b"event: error\ndata: busy\n\n", EVENTS, True, "error in a 200: busy"),
    (b"event: error\r\ndata: busy\r\n\r\n", EVENTS, True, "error in a 200: busy"),
    (b": wait\n\n", EVENTS, True, "empty stream"),
    (b"data: [DONE]\n\n", EVENTS, True, "empty stream"),
]


@pytest.mark.parametrize(("body", "kind", "stream", "why"), NO_ANSWERS)
def test_a_200_that_is_no_answer_is_a_failure_of_the_service(
    tmp_path: Path, body: bytes, kind: str, stream: bool, why: str
) -> None:
    with (
        stage(said=(body, kind)) as star,
        stage(text="mine") as small,
        gateway(tmp_path, star.url, mode="failover", local=small.url) as running,
    ):
        reply = running.post(ask(stream=stream))
        assert (reply.status_code, reply.headers["x-understudy-by"]) == (200, "local")
        (line,) = running.lines("requests")
        assert line["tried"][0][:2] == ["service", why]
        assert line["is_bound"]  # it may have been billed
        assert running.state.numbers.failovers["service", why.partition(":")[0]] == 1


# A comment begins the answer of a service that is alone, since clients are kept waiting by them.
BEGUN = b'data: {"choices": [{"index": 0, "delta": {"content": "Half an"}}]}\n\n'
BROKEN = [
    (BEGUN, "the stream ended early in the answer"),
    (BEGUN + b'data: {"choi', "the stream ended early in the answer"),
    (BEGUN + b"data: %s\n\n" % OVERLOADED, "error in a 200: Overloaded, key [key]. in the answer"),
    (
        BEGUN + b'data: {"error": {"message": "Busy"}}\n\ndata: [DONE]\n\n',
        "error in a 200: Busy in the answer",
    ),
    (BEGUN + b"event: error\ndata: busy\n\n", "error in a 200: busy in the answer"),
]


@pytest.mark.parametrize(("body", "why"), BROKEN)
def test_a_stream_that_breaks_off_is_a_failure_and_no_pair(
    tmp_path: Path, body: bytes, why: str
) -> None:
    # In one part, the error would be seen in time to ask the other.
    pieces = [BEGUN, body.removeprefix(BEGUN)]
    with (
        stage(streams=pieces) as star,
        gateway(tmp_path, star.url, mode="record") as running,
    ):
        reply = running.post(ask(stream=True))
        (line,) = running.lines("requests")
        assert running.lines("pairs") == []
    assert reply.content.startswith(BEGUN)
    assert b"error" in reply.content
    assert [entry[:2] for entry in line["tried"]] == [["service", why]]
    assert "input" not in line


@pytest.mark.parametrize("end", [b"data: [DONE]\n\n", b"data: [DONE]", b""])
def test_a_stream_that_says_why_it_ends_is_whole(tmp_path: Path, end: bytes) -> None:
    last = b'data: {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}\n\n'
    with (
        stage(streams=[BEGUN, last, end]) as star,
        gateway(tmp_path, star.url, mode="record") as running,
    ):
        assert running.post(ask(stream=True)).content == BEGUN + last + end
        assert len(running.lines("pairs")) == 1
        assert running.lines("requests")[0]["tried"] == []


SAID_ALONE = [case for case in NO_ANSWERS if not case[0].startswith(b":")]


@pytest.mark.slow
@pytest.mark.parametrize(("body", "kind", "stream", "why"), SAID_ALONE)
def test_a_client_that_nobody_else_can_answer_is_told_the_provider_s_reason(
    tmp_path: Path, body: bytes, kind: str, stream: bool, why: str
) -> None:
    with stage(said=(body, kind)) as star, gateway(tmp_path, star.url) as running:
        reply = running.post(ask(stream=stream))
        assert reply.status_code == 502
        assert why in reply.json()["error"]["message"]
        assert not running.lines("pairs")


def test_a_stream_that_breaks_off_ends_with_an_error_that_clients_raise(tmp_path: Path) -> None:
    with (
        stage(how="cut") as star,
        gateway(tmp_path, star.url, mode="failover", local=star.url) as running,
        client(running.url) as ours,
    ):
        messages: Any = [{"role": "user", "content": "hello"}]
        stream = ours.chat.completions.create(model=MODEL, messages=messages, stream=True)
        with pytest.raises(openai.APIError, match="broke off"):
            list(stream)
        until(lambda: running.lines("requests"))
        assert running.lines("requests")[0]["is_bound"]
        assert running.state.numbers.failovers["service", "connection lost in the answer"] == 1


@pytest.mark.parametrize(
    ("how", "status"), [({"status": 503}, 503), ({"status": 429}, 429), ({"how": "silent"}, 504)]
)
@pytest.mark.parametrize("mode", ["failover", "split"])
def test_what_only_the_service_could_do_is_worth_another_try(
    tmp_path: Path, how: dict[str, Any], status: int, mode: str
) -> None:
    settings = {"mode": mode, "share": 100.0, "deadline_s": 0.1}
    with (
        stage(**how) as star,
        stage(status=400) as small,
        gateway(
            tmp_path, star.url, of=service(timeout_s=0.1), local=small.url, **settings
        ) as running,
    ):
        assert running.post().status_code == status
        assert len(small.bodies) == len(star.bodies) == 1


@pytest.mark.slow
def test_a_client_that_says_how_long_it_waits_is_answered_before_that(tmp_path: Path) -> None:
    with (
        stage(how="silent") as star,
        stage(text="mine") as small,
        gateway(tmp_path, star.url, mode="failover", local=small.url) as running,
        client(running.url, timeout=2.0) as ours,
    ):
        messages: Any = [{"role": "user", "content": "hello"}]
        reply = ours.chat.completions.create(model=MODEL, messages=messages)
        assert reply.choices[0].message.content == "mine"


@pytest.mark.slow
def test_the_breaker_leaves_the_service_alone_and_finds_out_when_it_is_back(
    tmp_path: Path,
) -> None:
    rest = {"breaker_failures": 3, "breaker_s": 0.6}
    with (
        stage(status=503) as star,
        stage() as small,
        gateway(tmp_path, star.url, mode="failover", local=small.url, **rest) as running,
    ):
        for _ in range(10):
            assert running.post().headers["x-understudy-by"] == "local"
        assert len(star.bodies) == 3
        assert running.get("/health").json()["resting"] == ["service"]
        time.sleep(0.65)
        running.post()  # one trial, which fails
        running.post()
        assert len(star.bodies) == 4
        star.status = 200
        time.sleep(0.65)
        assert running.post().headers["x-understudy-by"] == "service"
        assert running.post().headers["x-understudy-by"] == "service"
        assert running.get("/health").json()["resting"] == []


def test_of_the_calls_of_an_open_breaker_only_the_trial_decides() -> None:
    now = [0.0]
    breaker = Breaker(1, 10.0, lambda: now[0])
    breaker.failed()
    now[0] = 9.0
    breaker.failed()  # a call of before, late: the rest is not longer for it
    now[0] = 10.0
    assert breaker.lets_in()
    breaker.gave_up(is_trial=False)
    breaker.failed()
    assert not breaker.lets_in()  # the trial is still under way
    breaker.failed(is_trial=True)
    assert not breaker.lets_in()
    now[0] = 20.0
    assert breaker.lets_in()
    breaker.gave_up(is_trial=True)
    assert breaker.lets_in()
    breaker.succeeded()
    assert not breaker.is_open


@pytest.mark.slow
@pytest.mark.parametrize("how", ["dies", "silent"])
def test_a_service_that_fails_under_load_costs_no_client_an_answer(
    tmp_path: Path, how: str
) -> None:
    deadline = 0.3
    with (
        stage(latency_s=0.02) as star,
        stage(text="mine") as small,
        gateway(
            tmp_path, star.url, mode="failover", local=small.url, deadline_s=deadline
        ) as running,
        ThreadPoolExecutor(8) as pool,
    ):
        web = httpx2.Client(timeout=30.0, trust_env=False)

        def call(number: int) -> tuple[int, str, float]:
            began = time.monotonic()
            body = ask(f"n {number}", stream=number % 2 == 0)
            reply = web.post(f"{running.url}/v1/chat/completions", json=body)
            ends = (b"[DONE]\n\n", b"}}\n\n") if number % 2 == 0 else (b"}",)
            assert reply.content.endswith(ends)  # at worst an error within a stream
            return reply.status_code, reply.headers["x-understudy-by"], time.monotonic() - began

        futures = [pool.submit(call, number) for number in range(300)]
        until(lambda: len(star.bodies) > 60)
        if how == "dies":
            star.close()
        star.how = how
        found = [future.result() for future in futures]
        web.close()
        assert {status for status, _, _ in found} == {200}
        assert {by for _, by, _ in found} == {"service", "local"}
        assert max(seconds for _, _, seconds in found) < deadline + 1


def test_nobody_to_answer_is_a_bad_gateway_in_openai_s_shape(tmp_path: Path) -> None:
    with gateway(tmp_path) as running:
        reply = running.post()
        assert reply.status_code == 502
        assert reply.json()["error"]["code"] == "no_upstream"


def test_a_client_that_leaves_ends_the_call_and_is_counted_at_its_bound(tmp_path: Path) -> None:
    with stage(how="silent") as star, gateway(tmp_path, star.url) as running:
        body = json.dumps(ask()).encode()
        head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\n"
        head += b"content-type: application/json\r\n"
        port = int(running.url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port)) as line:
            line.sendall(head + b"content-length: %d\r\n\r\n" % len(body) + body)
            until(lambda: star.open == 1)
        until(lambda: star.open == 0)
        until(lambda: running.lines("requests"))
        (written,) = running.lines("requests")
        assert (written["status"], written["is_bound"]) == (499, True)
        assert running.state.numbers.in_flight == 0
