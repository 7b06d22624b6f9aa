"""What applications meet that change their base_url and nothing else."""

import json
import os
import stat
import time
from pathlib import Path
from typing import Any

import openai
import pytest

from support import configs
from support import gateway_process as processes
from support.gateways import KEY, MODEL, Running, ask, gateway, service, stage, until
from understudy.cli.main import main
from understudy.errors import BadInput
from understudy.gateway import control
from understudy.gateway.control import Control, Local
from understudy.services.providers.translation import CannotSay, translation_of

DEAD = "http://127.0.0.1:9/v1"


def client(url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0)


def tile(running: Running, name: str) -> str:
    return running.get("/").text.partition(f'id="{name}"><b>')[2].partition("</div>")[0]


# --- other paths ---------------------------------------------------------------------------------


def test_what_is_no_chat_completion_goes_to_the_service_untouched(tmp_path: Path) -> None:
    body = b'{ "model": "embed-1",\n "input": "caf\xc3\xa9" }'
    with stage() as star, gateway(tmp_path, star.url) as running:
        url = f"{running.url}/v1/embeddings?x=1"
        reply = httpx_post(url, body)
        assert reply.status_code == 200
        assert reply.content == star.other
        assert reply.headers["x-odd"] == "Kept"
        assert star.others == [("POST", "/v1/embeddings?x=1", body)]
        assert star.headers[-1]["authorization"] == f"Bearer {KEY}"
        (line,) = running.lines("requests")
        assert (line["path"], line["status"], line["by"]) == ("/v1/embeddings", 200, "service")
        assert "caf" not in json.dumps(line)
        assert "/v1/embeddings" in running.get("/").text


def httpx_post(url: str, body: bytes, **headers: str) -> Any:
    from support.gateways import CLIENT

    return CLIENT.post(url, content=body, headers={"content-type": "application/json"} | headers)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (
            "application/json",
            b'{"object": "response", "usage": {"input_tokens": 1000, "output_tokens": 100}}',
        ),
        (
            "text/event-stream",
            b'event: response.completed\ndata: {"type": "response.completed", "response": '
            b'{"usage": {"input_tokens": 1000, "output_tokens": 100}}}\n\n',
        ),
    ],
)
def test_what_goes_through_is_priced_where_its_usage_is_said(
    tmp_path: Path, kind: str, said: bytes
) -> None:
    with stage(other=said, other_kind=kind) as star, gateway(tmp_path, star.url) as running:
        body = json.dumps({"model": MODEL, "input": "hello", "previous_response_id": "r1"}).encode()
        assert httpx_post(f"{running.url}/v1/responses", body).content == said
        assert running.state.spend.spent == 3000
        assert running.lines("requests")[0]["microusd"] == 3000


@pytest.mark.slow
def test_bodies_of_other_paths_stream_both_ways(tmp_path: Path) -> None:
    from support.gateways import CLIENT

    size = 24 << 20  # more than max_body_mb: a file is never held

    with (
        stage(other=b"ab", other_kind="audio/mpeg", piece_s=0.4) as star,
        gateway(tmp_path, star.url) as running,
    ):
        parts = (b"x" * (1 << 20) for _ in range(size >> 20))
        kind = {"content-type": "multipart/form-data; boundary=x"}
        began = time.monotonic()
        url = f"{running.url}/v1/files"
        with CLIENT.stream("POST", url, content=parts, headers=kind) as reply:
            pieces = [(piece, time.monotonic() - began) for piece in reply.iter_raw()]
        assert [piece for piece, _ in pieces] == [b"a", b"b"]
        assert pieces[1][1] - pieces[0][1] > 0.2
        assert len(star.others[0][2]) == size


def test_in_mode_local_the_service_is_asked_for_other_paths_only_when_told(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"mode": "local"}
    with stage() as star, stage() as small:
        for passes, status in (("unless_local", 404), ("always", 200), ("never", 404)):
            with gateway(
                tmp_path / passes, star.url, local=small.url, pass_through=passes, **settings
            ) as running:
                reply = httpx_post(f"{running.url}/v1/embeddings", b'{"model": "m"}')
                assert reply.status_code == status
                assert status == 200 or "pass_through" in reply.json()["error"]["message"]
        assert len(star.others) == 1


def test_other_paths_stop_at_the_cap(tmp_path: Path) -> None:
    with stage() as star, gateway(tmp_path, star.url, usd_per_day=0.003) as running:
        running.state.spend._purse.spent = 3000
        reply = httpx_post(f"{running.url}/v1/responses", json.dumps({"model": MODEL}).encode())
        assert (reply.status_code, reply.json()["error"]["code"]) == (429, "spend_cap")
        reply = httpx_post(f"{running.url}/v1/embeddings", b'{"model": "embed-1"}')
        assert (reply.status_code, reply.json()["error"]["code"]) == (404, "model_not_found")
        assert running.get("/v1/files").status_code == 200
        assert [path for _, path, _ in star.others] == ["/v1/files"]


def test_azure_s_paths_and_key_header_are_understood(tmp_path: Path) -> None:
    with stage() as star, gateway(tmp_path, star.url, client_key=KEY[::-1]) as running:
        with openai.AzureOpenAI(
            azure_endpoint=running.url, api_key=KEY[::-1], api_version="2024-10-21", max_retries=0
        ) as ours:
            messages: Any = [{"role": "user", "content": "hello"}]
            reply = ours.chat.completions.create(model=MODEL, messages=messages)
            assert reply.choices[0].message.content == "all right"
            wrong = ours.with_options(api_key="another")
            with pytest.raises(openai.AuthenticationError):
                wrong.chat.completions.create(model=MODEL, messages=messages)
        assert star.headers[0]["authorization"] == f"Bearer {KEY}"
        assert "api-key" not in star.headers[0]


# --- money ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options", [{}, {"stream_options": None}, {"stream_options": {"include_usage": False}}]
)
def test_a_stream_that_asks_for_no_usage_is_paid_exactly_and_shows_none(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    with stage() as star, gateway(tmp_path, star.url) as running:
        reply = running.post(ask(stream=True, **options))
        asked = json.loads(star.bodies[0])
        assert asked["stream_options"] == {"include_usage": True}
        assert b'"usage"' not in reply.content
        assert reply.content.endswith(b"data: [DONE]\n\n")
        assert reply.content.count(b"data: ") == len(star.sent) - 1
        assert running.state.spend.spent == 3000
        (line,) = running.lines("requests")
        assert (line["microusd"], line["is_bound"]) == (3000, False)
        assert running.lines("pairs")[0]["request"] == ask(stream=True, **options)


def test_usage_is_asked_once_of_a_server_that_does_not_take_it(tmp_path: Path) -> None:
    with stage(takes_options=False) as star, gateway(tmp_path, star.url) as running:
        for _ in range(2):
            assert running.post(ask(stream=True)).status_code == 200
        assert ["stream_options" in json.loads(body) for body in star.bodies] == [
            True,
            False,
            False,
        ]


def test_the_share_of_spend_that_is_a_bound_is_shown(tmp_path: Path) -> None:
    with stage(usage=False) as star, gateway(tmp_path, star.url, usd_per_day=5.0) as running:
        running.post()
        star.usage = True
        running.post()
        assert running.state.spend.bounded == running.state.spend.spent - 3000
        assert "at most" in tile(running, "spend")
        name = "understudy_gateway_spent_bound_usd_total"
        found = float(running.get("/metrics").text.partition(f"\n{name} ")[2].split()[0])
        assert found == pytest.approx(running.state.spend.bounded / 1e6)


def test_a_cap_below_one_call_s_bound_says_so(tmp_path: Path) -> None:
    with stage() as star, gateway(tmp_path, star.url, usd_per_day=0.005) as running:
        said = running.post().json()["error"]["message"]
        assert "0.0000 USD" in said
        assert "0.0101 USD" in said  # what the call can cost: 1,000 tokens and what it heard
        assert "0.005 USD spent" not in said
        assert "less than one call can cost (0.0100 USD" in str(running.state.spend.warning)


# --- what is counted -----------------------------------------------------------------------------


def test_no_more_requests_fail_than_there_are(tmp_path: Path) -> None:
    with stage() as star, gateway(tmp_path, star.url) as running:
        running.post()
        for _ in range(5):
            running.post(b"{")
        assert tile(running, "errors").startswith("83.33%")
        assert tile(running, "requests").startswith("6<")


def test_a_stream_that_broke_off_counts_as_broken(tmp_path: Path) -> None:
    with stage(how="cut") as star, gateway(tmp_path, star.url) as running:
        running.post(ask(stream=True))
        assert running.lines("requests")[0]["is_broken"] is True
        assert tile(running, "errors").startswith("100.00%")
        assert 'status="broken"' in running.get("/metrics").text


# --- sides ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "named", [{"user": "app"}, {"metadata": {"session_id": "s"}}, {"safety_identifier": "x"}]
)
def test_an_id_that_all_share_does_not_put_all_on_one_side(
    tmp_path: Path, named: dict[str, Any]
) -> None:
    with (
        stage() as star,
        stage() as small,
        gateway(tmp_path, star.url, mode="split", share=50.0, local=small.url) as running,
    ):
        by = [running.post(ask(f"n {n}", **named)).headers["x-understudy-by"] for n in range(120)]
        assert 20 < by[30:].count("local") < 70
        assert "the same in" in running.get("/").text
        assert running.get("/health").json()["notes"]


# --- settings ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_next_command_line_wins_and_both_values_are_said(tmp_path: Path) -> None:
    with stage() as star, stage() as small:
        words = ("gateway.mode=split", "gateway.share=20", f"gateway.local={small.url}")
        with processes.process(tmp_path, star.url, *words):
            pass
        with processes.process(tmp_path, star.url, "gateway.share=60") as (running, url):
            assert httpx_get(f"{url}/health")["share"] == 60
            assert httpx_get(f"{url}/health")["mode"] == "split"
            running.kill()
            said = running.communicate()[1]
        assert "share=60" in said
        assert "share=20" in said


def httpx_get(url: str) -> dict[str, Any]:
    from support.gateways import CLIENT

    found: dict[str, Any] = CLIENT.get(url).json()
    return found


def test_a_start_that_fails_keeps_nothing(tmp_path: Path) -> None:
    held = tmp_path / "gateway"
    with stage() as star, gateway(tmp_path / "other", star.url) as running:
        port = running.url.rpartition(":")[2]
        words = ["gateway.service=openai_compatible", f"gateway.service.base_url={star.url}"]
        words += [f"gateway.port={port}", "gateway.mode=failover", f"gateway.local={DEAD}"]
        assert main(["gateway", *words, "--root", str(tmp_path)]) == 4
        assert not (held / "control.json").exists()


# --- translation ---------------------------------------------------------------------------------


def put(maker: str, **more: Any) -> tuple[dict[str, Any], list[str]]:
    of, notes = service(provider=maker), list[str]()
    wire: Any = translation_of(of)
    return wire.request(ask() | more, of, notes), notes


IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
CALL = {"id": "t1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
SHOWN = [
    {"role": "user", "content": "look"},
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "t1", "content": [{"type": "text", "text": "see"}, IMAGE]},
]


def test_gemini_is_told_what_it_takes() -> None:
    made, notes = put(
        "google", frequency_penalty=0.5, presence_penalty=-0.5, seed=3, temperature=1.6,
        stop=["\n"], service_tier="flex", messages=SHOWN,
    )  # fmt: skip
    settings = made["generationConfig"]
    assert (settings["frequencyPenalty"], settings["presencePenalty"]) == (0.5, -0.5)
    assert (settings["seed"], settings["temperature"], settings["stopSequences"]) == (
        3,
        1.6,
        ["\n"],
    )
    result = made["contents"][-1]["parts"][0]["functionResponse"]
    assert result["parts"] == [{"inlineData": {"mimeType": "image/png", "data": "AAAA"}}]
    assert made["serviceTier"] == "flex"
    assert notes == []


def test_anthropic_is_told_what_it_takes_and_what_was_adapted_is_said() -> None:
    made, notes = put(
        "anthropic", temperature=1.6, seed=3, metadata={"a": "b"}, user="ann", frequency_penalty=0,
        service_tier="default", logit_bias={}, messages=SHOWN,
    )  # fmt: skip
    assert made["temperature"] == 1
    assert made["metadata"] == {"user_id": "ann"}
    assert made["service_tier"] == "standard_only"
    result = made["messages"][-1]["content"][0]
    assert [block["type"] for block in result["content"]] == ["text", "image"]
    assert [note.partition(":")[0] for note in notes] == ["temperature", "seed", "metadata"]


@pytest.mark.parametrize("maker", ["anthropic", "google"])
@pytest.mark.parametrize("empty", ["", None, [], [{"type": "text", "text": ""}]])
def test_a_turn_that_says_nothing_is_left_out(maker: str, empty: Any) -> None:
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": empty}]
    made, notes = put(maker, messages=[*turns, {"role": "user", "content": "b"}])
    turn = (made.get("messages") or made.get("contents"))[0]
    assert len(turn.get("content") or turn["parts"]) == 2  # both of the user's
    assert len(notes) == 1


@pytest.mark.parametrize(
    ("maker", "more"),
    [
        ("anthropic", {"frequency_penalty": 0.5}),
        ("anthropic", {"presence_penalty": 0.5}),
        ("anthropic", {"logit_bias": {"50": -100}}),
        ("anthropic", {"stop": ["\n"]}),
        ("google", {"logit_bias": {"50": -100}}),
        ("anthropic", {"messages": [{"role": "system", "content": [IMAGE]}, *SHOWN]}),
        ("google", {"messages": [{"role": "system", "content": [IMAGE]}, *SHOWN]}),
    ],
)
def test_what_would_change_the_answer_is_refused_not_left_out(
    maker: str, more: dict[str, Any]
) -> None:
    with pytest.raises(CannotSay) as error:
        put(maker, **more)
    assert error.value.code == "unsupported_parameter"


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (400, "invalid_request_error", None),
        (401, "invalid_request_error", "invalid_api_key"),
        (404, "invalid_request_error", "model_not_found"),
        (429, "rate_limit_error", "rate_limit_exceeded"),
        (500, "server_error", None),
    ],
)
@pytest.mark.parametrize("maker", ["anthropic", "google"])
def test_a_maker_s_error_is_of_openai_s_type(
    maker: str, status: int, kind: str, code: str | None
) -> None:
    wire: Any = translation_of(service(provider=maker))
    body = {"error": {"type": "x_error", "status": "X", "code": status, "message": "no"}}
    said = wire.error(body, status)["error"]
    assert (said["type"], said["message"]) == (kind, "no")
    assert code is None or said["code"] == code


# --- shadows and pairs ---------------------------------------------------------------------------


@pytest.mark.slow
def test_shadows_wait_for_their_turn(tmp_path: Path) -> None:
    with (
        stage() as star,
        stage(latency_s=0.05) as small,
        gateway(tmp_path, star.url, mode="shadow", local=small.url, shadow_in_flight=2) as running,
    ):
        for number in range(20):
            running.post(ask(f"n {number}"))
        until(lambda: len(running.lines("shadow")) == 20)
        assert running.state.numbers.shadows["skipped"] == 0


@pytest.mark.parametrize("mode", ["split", "failover", "local", "record"])
@pytest.mark.parametrize("share", [0.0, 50.0, 100.0])
def test_pairs_are_kept_in_every_mode_by_their_share(
    tmp_path: Path, mode: str, share: float
) -> None:
    settings: dict[str, Any] = {"mode": mode, "share": 50.0, "record_share": share}
    with (
        stage() as star,
        stage() as small,
        gateway(tmp_path, star.url, local=small.url, **settings) as running,
    ):
        for number in range(40):
            running.post(ask(f"n {number}"))
        kept = running.lines("pairs"), running.lines("local_pairs")
        asked = len(star.bodies), len(small.bodies)
    if share == 50.0:
        assert 5 < len(kept[0]) + len(kept[1]) < 35
    else:
        assert tuple(map(len, kept)) == (asked if share else (0, 0))
    assert {line["metadata"]["by"] for line in kept[1]} <= {"local"}  # never collected as its


def test_logs_are_cut_into_files_and_old_ones_go(tmp_path: Path) -> None:
    for kind in ("pairs", "requests"):
        (tmp_path / kind).mkdir()
        for day in ("2020-01-01", "2020-01-01.2"):
            (tmp_path / kind / f"{day}.jsonl").write_text('{"microusd": 5}\n')
    with stage() as star, gateway(tmp_path, star.url, keep=30, file_mb=0.002) as running:
        for _ in range(20):
            running.post()
        spent = running.state.spend.spent
        assert spent == 60_000
    for kind in ("pairs", "requests"):
        files = sorted((tmp_path / kind).iterdir())
        assert len(files) > 2
        assert max(path.stat().st_size for path in files) < 5_000
        assert not [path for path in files if path.name.startswith("2020")]
        assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    with stage() as star, gateway(tmp_path, star.url) as running:
        assert running.state.spend.spent == spent  # of all files of the day


# --- the local model's health --------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("how", ["dead", "broken", "silent"])
def test_a_local_model_that_does_not_answer_comes_not_into_force(tmp_path: Path, how: str) -> None:
    wrong: dict[str, Any] = {"status": 500} if how == "broken" else {}
    wrong = {"how": "silent"} if how == "silent" else wrong
    with (
        stage() as star,
        stage(**wrong) as small,
        gateway(tmp_path, star.url, deadline_s=0.5) as running,
    ):
        url = DEAD if how == "dead" else small.url
        control.write(tmp_path / "control.json", Control("local", 0.0, (Local(url, "m"),)))
        until(lambda: running.get("/health").json()["problem"], 5)
        assert url in running.get("/health").json()["problem"]
        assert running.post().headers["x-understudy-by"] == "service"


def test_a_local_model_that_fails_after_set_brings_the_control_before_back(tmp_path: Path) -> None:
    with stage() as star, stage() as small, gateway(tmp_path, star.url) as running:
        path = tmp_path / "control.json"
        control.write(path, Control("split", 100.0, (Local(small.url),)))
        until(lambda: running.get("/health").json()["mode"] == "split")
        assert running.post().headers["x-understudy-by"] == "local"
        small.status = 500
        for _ in range(12):
            assert running.post().status_code == 200
        until(lambda: running.get("/health").json()["mode"] == "record", 5)
        assert "back" in str(running.get("/health").json()["notes"])
        found = control.read(path)
        assert found is not None
        assert found.mode == "record"


# --- the rest ------------------------------------------------------------------------------------


def test_the_service_is_asked_through_the_proxy_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with stage() as proxy:
        monkeypatch.setenv("http_proxy", proxy.url.removesuffix("/v1"))
        monkeypatch.setenv("no_proxy", "")
        with gateway(tmp_path, "http://star.invalid/v1") as running:
            assert running.post().status_code == 200
            assert proxy.headers[0]["host"] == "star.invalid"


def test_an_idle_connection_is_kept_longer_than_clients_keep_it(tmp_path: Path) -> None:
    from understudy.gateway import server

    with stage() as star, gateway(tmp_path, star.url) as running:
        assert server.server(running.state).config.timeout_keep_alive > 75


def test_the_url_is_there_when_it_is_said(tmp_path: Path) -> None:
    import socket

    from understudy.gateway import server
    from understudy.gateway.state import GatewayState
    from understudy.services.providers import Endpoint

    settings = configs.gateway(service=service(), port=0)
    state = GatewayState(settings, tmp_path, Endpoint(DEAD, KEY), None)
    with server.bound(state) as (_, url):
        socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=1).close()


def test_collect_hides_what_was_hidden_and_keeps_the_mark_of_a_rehearsal(tmp_path: Path) -> None:
    from understudy.rehearsal.server import RehearsalServer

    of = service(rehearsal=True)
    with (
        RehearsalServer() as star,
        gateway(tmp_path, f"{star.url}/openai/v1", of=of, key="rehearsal") as running,
    ):
        running.post(ask("What is 2 plus 2?"))
    (pairs,) = (tmp_path / "pairs").iterdir()
    out = tmp_path / "coverage.jsonl"
    before = os.umask(0o022)
    try:
        assert main(["collect", str(pairs), "--out", str(out)]) == 0
    finally:
        os.umask(before)
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert json.loads(out.read_text())["source"].startswith("rehearsal:")


def test_a_router_is_found_in_the_folder_above_it(tmp_path: Path) -> None:
    (tmp_path / "router").mkdir()
    (tmp_path / "router" / "router.json").write_text("{}")
    local = {"local": "http://a/v1", "mode": "route", "router": str(tmp_path)}
    assert control.changed(Control("record"), local).router == str(tmp_path / "router")
    with pytest.raises(BadInput, match=r"holds no router\.json"):
        control.changed(Control("record"), local | {"router": str(tmp_path.parent)})


def test_every_verb_takes_the_gateway_s_service_by_its_name(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["config", "gateway.service=gpt_4o"]) == 0
    assert "gateway.service.model: 'gpt-4o'" in capsys.readouterr().out


@pytest.mark.slow
def test_rehearse_plays_the_service_before_a_gateway(tmp_path: Path) -> None:
    import signal
    import subprocess
    import sys

    words = ["rehearse", "--", "gateway", "gateway.service=gpt_4o", "gateway.port=0"]
    command = [sys.executable, "-m", "understudy", *words, "--root", str(tmp_path)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout is not None
        url = running.stdout.readline().partition("/v1")[0]
        assert url.startswith("http"), running.communicate()[1]
        until(lambda: processes.answers(url))
        for _ in range(3):
            body = json.dumps(ask("What is 2 plus 2?", model="gpt-4o")).encode()
            assert httpx_post(f"{url}/v1/chat/completions", body).status_code == 200
        running.send_signal(signal.SIGINT)
        _, said = running.communicate(timeout=30)
        assert running.returncode == 0
    assert "3 calls" in said
    assert "equal" in said
