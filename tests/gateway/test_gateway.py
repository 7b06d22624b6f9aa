"""The gateway before a service: bytes go through, and who may come in does."""

import contextlib
import json
import socket
import threading
import time
from pathlib import Path
from typing import Any

import openai
import pytest

from support.gateways import KEY, MODEL, TOOL, ask, gateway, stage, until

KEYS = ("sk-service-0123456789abcdef", "sk-client-0123456789abcdef")


def client(url: str, **options: Any) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0, **options)


# --- what goes through ---------------------------------------------------------------------------


def test_a_request_and_its_answer_go_through_byte_for_byte(tmp_path: Path) -> None:
    odd = b'{ "model":"star-1",\n "messages":[{"role":"user","content":"caf\xc3\xa9 \\ud83d"}] }'
    with stage() as star, gateway(tmp_path, star.url) as running:
        reply = running.post(odd)
        assert star.bodies == [odd]
        assert reply.content == star.sent[0] == star.whole(ask())
        assert reply.headers["x-odd"] == "Kept"
        assert reply.headers["x-understudy-by"] == "service"
        streamed = running.post(ask(stream=True))
        shown = [part for part in star.sent[1:] if b'"usage"' not in part]  # which nobody asked for
        assert streamed.content == b"".join(shown)
        assert json.loads(star.bodies[1])["stream_options"] == {"include_usage": True}
        before = len(star.sent)
        asked = running.post(ask(stream=True, stream_options={"include_usage": True}))
        assert asked.content == b"".join(star.sent[before:])
        assert streamed.headers["content-type"] == "text/event-stream; charset=utf-8"


def test_the_service_gets_its_own_key_and_never_the_client_s(tmp_path: Path) -> None:
    with stage() as star, gateway(tmp_path, star.url) as running:
        running.post(headers={"authorization": f"Bearer {KEYS[1]}", "openai-project": "p1"})
        assert star.headers[0]["authorization"] == f"Bearer {KEY}"
        assert star.headers[0]["openai-project"] == "p1"


def test_without_a_key_of_its_own_the_client_s_goes_through(tmp_path: Path) -> None:
    with stage() as star, gateway(tmp_path, star.url, key="") as running:
        running.post(headers={"authorization": f"Bearer {KEYS[1]}"})
        assert star.headers[0]["authorization"] == f"Bearer {KEYS[1]}"


def test_the_official_client_gets_tool_calls_streamed_and_not(tmp_path: Path) -> None:
    tools: Any = [{"type": "function", "function": {"name": "look", "parameters": {}}}]
    messages: Any = [{"role": "user", "content": "hello"}]
    with stage(tools=True) as star, gateway(tmp_path, star.url) as running:
        with client(running.url) as ours:
            whole = ours.chat.completions.create(model=MODEL, messages=messages, tools=tools)
            (call,) = whole.choices[0].message.tool_calls or ()
            assert call.model_dump() == TOOL
            chunks = list(
                ours.chat.completions.create(
                    model=MODEL, messages=messages, tools=tools, stream=True,
                    stream_options={"include_usage": True},
                )
            )  # fmt: skip
        (delta,) = chunks[0].choices[0].delta.tool_calls or ()
        assert delta.function is not None
        assert (delta.id, delta.function.arguments) == ("call_1", '{"x":1}')
        assert chunks[-1].usage is not None
        assert chunks[-1].usage.total_tokens == 1100
        assert [line["output"] for line in running.lines("requests")] == [100, 100]


def test_the_first_piece_of_a_stream_does_not_wait_for_the_last(tmp_path: Path) -> None:
    with stage(piece_s=0.3) as star, gateway(tmp_path, star.url) as running:
        times = list[float]()
        with client(running.url) as ours:
            messages: Any = [{"role": "user", "content": "hello"}]
            for _ in ours.chat.completions.create(model=MODEL, messages=messages, stream=True):
                times.append(time.monotonic())
        assert times[-1] - times[0] > 0.55  # three pauses come after the first piece


@pytest.mark.parametrize("status", [400, 404, 422])
def test_what_the_service_says_to_a_wrong_call_is_what_the_client_hears(
    tmp_path: Path, status: int
) -> None:
    with stage(status=status) as star, gateway(tmp_path, star.url) as running:
        reply = running.post()
        assert reply.status_code == status
        assert "no: Bearer" in reply.text
        assert running.lines("pairs") == []
        assert running.lines("requests")[0]["microusd"] == 0


# --- who is let in -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"{", {}, 400),
        (b"[]", {}, 400),
        (b'{"messages": 3}', {}, 400),
        (b"\xff\xfe{}", {}, 400),
        (b"[" * 100_000, {}, 400),
        (b'{"messages": [' + b"9" * 5000 + b"]}", {}, 400),
        (b'{"messages": []}', {"content-type": "text/plain"}, 415),
        (b'{"messages": []}', {"content-encoding": "gzip"}, 415),
        (b'{"messages": ["' + b"x" * 3_000_000 + b'"]}', {}, 413),
        (b'{"messages": []}', {"host": "evil.example"}, 403),
        (b'{"messages": []}', {"host": "["}, 403),
    ],
)
def test_what_is_no_request_is_answered_here(
    tmp_path: Path, body: bytes, headers: dict[str, str], status: int
) -> None:
    with stage() as star, gateway(tmp_path, star.url, max_body_mb=2.0) as running:
        reply = running.post(body, headers=headers)
        assert reply.status_code == status
        assert reply.json()["error"]["message"]
        assert star.bodies == []


def test_with_a_key_nobody_comes_in_without_it(tmp_path: Path) -> None:
    shown = {"authorization": f"Bearer {KEYS[1]}"}
    with stage() as star, gateway(tmp_path, star.url, client_key=KEYS[1]) as running:
        for path in ("/", "/metrics", "/v1/models"):
            assert running.get(path).status_code == 401
            assert running.get(path, headers=shown).status_code == 200
            assert running.get(path, auth=("me", KEYS[1])).status_code == 200
        assert running.post().status_code == 401
        assert running.post(headers={"authorization": "Bearer é".encode()}).status_code == 401
        assert running.post(headers=shown | {"host": "gateway.lan"}).status_code == 200
        assert running.get("/health").json() == {"status": "ok"}  # it lives: no more than that
        assert running.get("/health", headers=shown).json()["mode"] == "record"


def test_without_a_key_a_name_that_is_none_is_let_in_nowhere(tmp_path: Path) -> None:
    with stage() as star, gateway(tmp_path, star.url) as running:
        for path in ("/", "/metrics", "/v1/models"):
            assert running.get(path, headers={"host": "["}).status_code == 403
        assert running.get("/health", headers={"host": "["}).json() == {"status": "ok"}


def test_no_key_is_in_any_file(tmp_path: Path) -> None:
    shown = {"authorization": f"Bearer {KEYS[1]}"}
    with (
        stage() as star,
        gateway(tmp_path, star.url, client_key=KEYS[1], log_prompts=True) as running,
    ):
        running.post(headers=shown)
        running.post(ask(f"my key is {KEYS[1]}, the service's {KEY}"), headers=shown)
        star.status = 401
        running.post(headers=shown)
    texts = [path.read_text(encoding="utf-8") for path in tmp_path.rglob("*") if path.is_file()]
    assert any("my key is [key]" in text for text in texts)
    assert not [text for text in texts for key in KEYS if key in text]


def test_prompts_are_in_the_log_of_requests_only_when_asked(tmp_path: Path) -> None:
    with (
        stage() as star,
        gateway(tmp_path, star.url, mode="failover", local=star.url, record_share=0.0) as running,
    ):
        running.post(ask("a secret of mine"))
        texts = [path.read_text(encoding="utf-8") for path in tmp_path.rglob("*.jsonl")]
        assert len(texts) == 1
        assert "secret" not in texts[0]


# --- clients that are slow on purpose ------------------------------------------------------------


@pytest.mark.parametrize("sent", [b"", b"POST /v1/ch", b"POST /v1/chat/completions HTTP/1.1\r\n"])
def test_who_sends_no_whole_head_is_hung_up_on(tmp_path: Path, sent: bytes) -> None:
    with stage() as star, gateway(tmp_path, star.url, client_s=0.3) as running:
        port = int(running.url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=5) as line:
            threading.Thread(target=_drip, args=(line, sent)).start()
            assert line.recv(1000) == b""


def test_who_sends_no_whole_body_is_told_and_hung_up_on(tmp_path: Path) -> None:
    with stage() as star, gateway(tmp_path, star.url, client_s=0.3) as running:
        port = int(running.url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=5) as line:
            line.sendall(
                b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n"
                b"content-type: application/json\r\ncontent-length: 100\r\n\r\n{"
            )
            said = b""
            while part := line.recv(1000):
                said += part
            assert said.startswith(b"HTTP/1.1 408")


@pytest.mark.slow
def test_who_takes_nothing_of_a_long_answer_is_hung_up_on(tmp_path: Path) -> None:
    with (
        stage(text="x" * 20_000_000) as star,
        gateway(tmp_path, star.url, client_s=0.3) as running,
    ):
        port = int(running.url.rpartition(":")[2])
        body = json.dumps(ask()).encode()
        with socket.create_connection(("127.0.0.1", port), timeout=5) as line:
            line.sendall(
                b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n"
                b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body) + body
            )
            until(lambda: running.lines("requests"))
            time.sleep(0.8)
            taken = 0
            with contextlib.suppress(ConnectionResetError):
                while part := line.recv(1 << 20):
                    taken += len(part)
            assert 0 < taken < 20_000_000


def _drip(line: socket.socket, sent: bytes) -> None:
    for byte in sent:
        try:
            line.sendall(bytes([byte]))
        except OSError:
            return
        time.sleep(0.02)


def test_a_stand_in_for_the_service_never_passes_for_it(tmp_path: Path) -> None:
    from understudy.rehearsal.server import RehearsalServer

    with RehearsalServer() as star, gateway(tmp_path, f"{star.url}/openai/v1") as running:
        reply = running.post()
        assert reply.status_code == 502
        assert "rehearsal.url is not given" in reply.text
