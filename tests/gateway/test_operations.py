"""What who runs a gateway needs: times, ids, checks after a change, retries, keys, traces."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from prometheus_client.parser import text_string_to_metric_families

from support.gateways import MODEL, ask, gateway, service, stage, until
from understudy.config.gateway import CallerKey
from understudy.errors import BadInput
from understudy.gateway import control
from understudy.gateway.calls import RequestRefused
from understudy.gateway.keys import Caller
from understudy.gateway.latency import LAST, Latencies, quantiles
from understudy.gateway.probation import Probation
from understudy.gateway.retries import pause_s


def sent(found: Mapping[str, Any]) -> dict[str, str]:
    return {"content-type": "application/json"} | dict(found)


# --- times ---------------------------------------------------------------------------------------


def test_quantiles_are_values_that_were_measured() -> None:
    assert quantiles([float(n) for n in range(100, 0, -1)]) == (50.0, 90.0, 99.0)
    assert quantiles([7.0]) == (7.0, 7.0, 7.0)
    assert quantiles([]) == ()


def test_only_the_last_calls_of_a_side_count() -> None:
    latencies = Latencies("x")
    for number in range(LAST + 500):
        latencies.add("service", 9.0 if number < 500 else 1.0, 2.0)
    latencies.add("local", 0.5, 0.6)
    took = latencies.took()
    assert took["service"].first == (1.0, 1.0, 1.0)
    assert took["local"] == (1, (0.5,) * 3, (0.6,) * 3)


def test_page_and_metrics_show_how_long_answers_take(tmp_path: Path) -> None:
    with stage() as star, gateway(tmp_path, star.url) as running:
        assert "id=latency" not in running.get("/").text
        running.post()
        star.status = 500
        running.post()  # an error says nothing of the time that answers take
        page = running.get("/").text
        found = {
            tuple(sample.labels.values()): sample.value
            for family in text_string_to_metric_families(running.get("/metrics").text)
            for sample in family.samples
            if family.name == "understudy_gateway_latency_seconds"
        }
        took = running.state.numbers.latencies.took()
    assert took["service"].calls == 1
    assert "<table id=latency>" in page
    assert "p99 first byte" in page
    assert set(found) == {
        ("service", of, quantile)
        for of in ("first_byte", "whole")
        for quantile in ("0.5", "0.9", "0.99")
    }
    assert found["service", "whole", "0.99"] == took["service"].whole[2] > 0


# --- ids -----------------------------------------------------------------------------------------


def test_every_answer_has_an_id_that_its_log_line_knows(tmp_path: Path) -> None:
    mine = {"x-request-id": "mine-1"}
    settings: dict[str, Any] = {"mode": "failover"}
    with stage() as star, stage() as small:
        with gateway(tmp_path, star.url, local=small.url, **settings) as running:
            reply = running.post(headers=mine)
            assert reply.headers["x-request-id"] == "req_1"  # the service's: its support asks so
            star.status = small.status = 500
            reply = running.post(headers=mine)
            assert reply.headers["x-request-id"] == "mine-1"
            assert small.headers[-1]["x-request-id"] == "mine-1"
            reply = running.post()
            assert reply.headers["x-request-id"] == reply.headers["x-understudy-id"]
            refused = running.post(b"{", headers=mine)
            assert refused.headers["x-request-id"] == "mine-1"
            passed = running.get("/v1/files", headers=mine)
            assert passed.headers["x-request-id"] == "mine-1"
            assert running.get("/health").headers["x-request-id"]
        lines = running.lines("requests")
    assert [line.get("x-request-id") for line in lines] == ["req_1", "mine-1", None, "mine-1"]


def test_an_odd_id_of_a_client_is_none(tmp_path: Path) -> None:
    with stage(status=500) as star, gateway(tmp_path, star.url) as running:
        reply = running.post(headers={"x-request-id": "a b" + "c" * 500})
        assert reply.headers["x-request-id"] == reply.headers["x-understudy-id"]
        (line,) = running.lines("requests")
        assert "x-request-id" not in line


def test_the_official_sdks_find_the_id(tmp_path: Path) -> None:
    turns: Any = [{"role": "user", "content": "hello"}]
    with stage() as star, stage() as small, gateway(
        tmp_path, star.url, mode="local", local=small.url
    ) as running:  # fmt: skip
        with openai.OpenAI(base_url=f"{running.url}/v1", api_key="x" * 20) as sdk:
            said = sdk.chat.completions.create(model=MODEL, messages=turns)
            assert said._request_id == "req_1"
        with anthropic.Anthropic(base_url=running.url, api_key="x" * 20) as claude:
            message = claude.messages.create(model=MODEL, messages=turns, max_tokens=9)
            assert message._request_id == "req_1"


# --- checks after a change -----------------------------------------------------------------------


@pytest.mark.slow
def test_a_local_model_that_dies_after_set_is_found_out_without_a_call(tmp_path: Path) -> None:
    with (
        stage() as star,
        stage() as small,
        gateway(tmp_path, star.url, trial_s=12.0) as running,  # asked every 0.2 s
    ):
        path = tmp_path / "control.json"
        found = control.read(path)
        assert found is not None
        control.write(path, control.changed(found, {"local": small.url, "mode": "local"}))
        until(lambda: running.state.live.control.mode == "local")
        asked = len(small.bodies)
        until(lambda: len(small.bodies) > asked + 2)  # it answers, so it stays
        assert running.state.live.control.mode == "local"
        small.status = 500
        until(lambda: running.state.live.control.mode == "record")
        assert any("back to mode record" in note for note in running.state.notes)
        assert running.lines("requests") == []


def test_who_is_heard_of_is_not_asked_again() -> None:
    now = [0.0]
    before: Any = control.Control("record")
    trial = Probation(before, None, 600.0, lambda: now[0])
    now[0] = 10.0
    assert trial.is_silent(10.0)
    trial.ends_badly(False)
    assert not trial.is_silent(10.0)
    now[0] = 600.0
    assert not trial.is_silent(10.0)  # it is over


# --- retries -------------------------------------------------------------------------------------

_RETRY_INFO = b'{"error": {"details": [{"@type": "x/google.rpc.RetryInfo", "retryDelay": "1.5s"}]}}'
_DAILY = b'{"quotaId": "RequestsPerDayPerProject", "retryDelay": "9s"}'


@pytest.mark.parametrize(
    ("status", "headers", "body", "pause"),
    [
        (429, {"retry-after": "3"}, b"", 3.0),
        (429, {"retry-after-ms": "250", "retry-after": "1"}, b"", 0.25),
        (503, {"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, b"", 0.0),
        (529, {"retry-after": "2"}, b"", 2.0),
        (429, {}, _RETRY_INFO, 1.5),
        (429, {}, b"", None),
        (500, {}, b"", None),
        (400, {"retry-after": "3"}, b"", None),
        (400, {"retry-after": "3", "x-should-retry": "true"}, b"", 3.0),
        (429, {"retry-after": "3", "x-should-retry": "false"}, b"", None),
        (429, {"retry-after": "3"}, b'{"error": {"code": "insufficient_quota"}}', None),
        (429, {}, _DAILY, None),
    ],
)
def test_a_maker_says_after_how_long_to_come_again(
    status: int, headers: dict[str, str], body: bytes, pause: float | None
) -> None:
    assert pause_s(status, headers, body) == pause


BUSY = (429, {"retry-after-ms": "1"})


def test_a_call_is_tried_again_where_the_service_says_when(tmp_path: Path) -> None:
    with stage(failing=[BUSY, BUSY]) as star, gateway(tmp_path, star.url) as running:
        assert running.post().status_code == 200
        assert len(star.bodies) == 3
        star.failing = [BUSY] * 3
        assert running.post(ask(stream=True)).status_code == 429  # retries=2
        star.failing = [(500, {})]
        assert running.post().status_code == 500  # it says nothing
        star.failing = [(429, {"retry-after": "3600"})]
        reply = running.post()
        assert (reply.status_code, reply.headers["retry-after"]) == (429, "3600")
        star.failing = [BUSY]
        reply = running.post(headers={"x-stainless-retry-count": "0"})
        assert reply.status_code == 429  # the SDK does it
        assert len(star.bodies) == 3 + 3 + 1 + 1 + 1
        first = running.lines("requests")[0]
        assert [why for _, why, _ in first["tried"]] == ["429, again in 0.001 s"] * 2
        assert first["microusd"] == 3000


def test_another_path_is_tried_again_too(tmp_path: Path) -> None:
    with stage() as star, gateway(tmp_path, star.url) as running:
        star.failing_others = [BUSY, BUSY]
        assert running.get("/v1/files").status_code == 200
        assert [path for _, path, _ in star.others] == ["/v1/files"] * 3


def test_where_another_can_answer_nobody_waits(tmp_path: Path) -> None:
    with (
        stage(failing=[(429, {"retry-after": "30"})]) as star,
        stage(text="mine") as small,
        gateway(tmp_path, star.url, mode="failover", local=small.url) as running,
    ):
        assert "mine" in running.post().text
        assert len(star.bodies) == 1


# --- keys ----------------------------------------------------------------------------------------

KEYS = {"search": "search-key-0123456789", "chat": "chat-key-0123456789ab"}


@pytest.fixture
def keyed(monkeypatch: pytest.MonkeyPatch) -> dict[str, CallerKey]:
    for name, key in KEYS.items():
        monkeypatch.setenv(f"{name.upper()}_KEY", key)
    return {
        "search": CallerKey("SEARCH_KEY", usd_per_day=0.02),
        "chat": CallerKey("CHAT_KEY", requests_per_minute=2),
    }


def shown(name: str) -> dict[str, str]:
    return {"authorization": f"Bearer {KEYS[name]}"}


def test_each_key_has_its_budget_and_a_restart_forgets_nothing(
    tmp_path: Path, keyed: dict[str, CallerKey]
) -> None:
    with stage() as star:
        with gateway(tmp_path, star.url, keys=keyed) as running:
            assert running.post().status_code == 401
            said = [running.post(headers=shown("search")).status_code for _ in range(6)]
            assert said == [200] * 4 + [429] * 2  # the fifth could pass: 12,000 + 10,142
            reply = running.post(headers=shown("search"))
            assert "of search of 0.0200 USD a day" in reply.json()["error"]["message"]
            assert int(reply.headers["retry-after"]) > 0
            assert running.post(headers=shown("chat")).status_code == 200
            assert "<td>search</td><td class=n>7</td>" in running.get("/").text
            metrics = running.get("/metrics").text
            line = r'understudy_gateway_caller_spent_usd_total\{caller="search"\} 0.012'
            assert re.search(line, metrics)
        assert {line["caller"] for line in running.lines("requests")} == {"search", "chat"}
        with gateway(tmp_path, star.url, keys=keyed) as running:
            assert running.post(headers=shown("search")).status_code == 429
            assert running.state.spend.spent == 15_000


def test_when_a_key_s_budget_is_spent_the_local_model_answers(
    tmp_path: Path, keyed: dict[str, CallerKey]
) -> None:
    with (
        stage() as star,
        stage(text="mine") as small,
        gateway(tmp_path, star.url, mode="failover", local=small.url, keys=keyed) as running,
    ):
        by = [running.post(headers=shown("search")).headers["x-understudy-by"] for _ in range(6)]
        assert by == ["service"] * 4 + ["local"] * 2


def test_each_key_has_its_rate() -> None:
    now = [0.0]
    caller = Caller("a", "k", CallerKey("K", requests_per_minute=2), lambda: now[0])
    caller.enter()
    caller.enter()
    with pytest.raises(RequestRefused, match="2 times a minute: come again in 30 s") as refused:
        caller.enter()
    assert (refused.value.status, refused.value.retry_s) == (429, 30)
    now[0] = 30.0
    caller.enter()
    assert (caller.requests, caller.refused) == (4, 1)


def test_no_caller_sees_the_others_nor_a_key_in_a_file(
    tmp_path: Path, keyed: dict[str, CallerKey]
) -> None:
    own = {"authorization": "Bearer the-gateway-s-own-key"}
    with (
        stage() as star,
        gateway(
            tmp_path, star.url, client_key="the-gateway-s-own-key", keys=keyed, log_prompts=True
        ) as running,
    ):
        text = f"my key is {KEYS['chat']}"
        assert running.post(ask(text), headers=shown("search")).status_code == 200
        assert running.post(headers=own).status_code == 200
        assert running.get("/v1/models", headers=shown("chat")).status_code == 200
        for path in ("/", "/metrics"):
            assert running.get(path, headers=shown("chat")).status_code == 401
            assert running.get(path, headers=own).status_code == 200
        assert KEYS["search"] not in str(star.headers)
    kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert not any(key.encode() in kept for key in KEYS.values())


def test_a_key_that_is_missing_short_or_twice_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_KEY", "a" * 16)
    monkeypatch.setenv("B_KEY", "a" * 16)
    monkeypatch.setenv("C_KEY", "short")
    for keys, words in (
        ({"x": CallerKey("NO_KEY")}, "gateway.keys.x.key_env=NO_KEY"),
        ({"x": CallerKey("C_KEY")}, "16 characters"),
        ({"x": CallerKey("A_KEY"), "y": CallerKey("B_KEY")}, "y and gateway.keys.x have the same"),
    ):
        with pytest.raises(BadInput, match=words), gateway(tmp_path, keys=keys):
            pass
    priceless = service(prices=None)
    cheap = {"x": CallerKey("A_KEY", usd_per_day=1.0)}
    with pytest.raises(BadInput, match=r"keys\.x\.usd_per_day=1 needs the prices"), gateway(
        tmp_path, of=priceless, keys=cheap
    ):  # fmt: skip
        pass


# --- traces --------------------------------------------------------------------------------------


def test_calls_are_told_to_opentelemetry_by_its_conventions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    parent = {"traceparent": f"00-{trace}-b7ad6b7169203331-01"}
    with stage() as star, stage(status=500) as small, stage() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url.removesuffix("/v1"))
        with gateway(
            tmp_path, star.url, mode="split", share=100.0, local=small.url, otel=True
        ) as running:
            secret = ask("my secret", temperature=0.5, max_tokens=7)
            assert running.post(secret, headers=parent).status_code == 200
            star.status = 500
            running.post()
        bodies = {path: [b for _, p, b in collector.others if p == path] for path in PATHS}
        spans = [
            span
            for body in bodies["/v1/traces"]
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]
        measured = {
            metric.name: metric.histogram.data_points
            for body in bodies["/v1/metrics"]
            for resource in ExportMetricsServiceRequest.FromString(body).resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }
    good, bad = spans
    assert good.name == f"chat {MODEL}"
    assert good.trace_id.hex() == trace
    facts = {one.key: one.value for one in good.attributes}
    assert facts["gen_ai.operation.name"].string_value == "chat"
    assert facts["gen_ai.provider.name"].string_value == "openai"
    assert facts["gen_ai.request.model"].string_value == MODEL
    assert facts["gen_ai.request.max_tokens"].int_value == 7
    assert facts["gen_ai.usage.input_tokens"].int_value == 1000
    assert facts["gen_ai.usage.output_tokens"].int_value == 100
    assert facts["server.address"].string_value == "127.0.0.1"
    assert facts["understudy.by"].string_value == "service"
    assert good.end_time_unix_nano >= good.start_time_unix_nano
    assert good.status.code == 0
    assert bad.status.code == 2
    assert {one.key: one.value.string_value for one in bad.attributes}["error.type"] == "500"
    tokens = {point.attributes[-1].value.string_value: point.sum for point in measured[TOKENS]}
    assert tokens == {"input": 1000, "output": 100}
    assert sum(point.count for point in measured["gen_ai.client.operation.duration"]) == 2
    assert all(b"my secret" not in body for found in bodies.values() for body in found)


PATHS = ("/v1/traces", "/v1/metrics")
TOKENS = "gen_ai.client.token.usage"
