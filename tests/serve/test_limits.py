"""What a server refuses, in OpenAI's words, and what it survives."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import openai
import pytest
from pydantic import ValidationError

from support import configs, servers
from support.served_models import NO_END
from support.servers import QUESTION, Answer, Server, chat, get, metric, post
from understudy import locations
from understudy.errors import BadInput
from understudy.serve import process
from understudy.serve.chat import Body
from understudy.serve.model import of_directory
from understudy.serve.process import serving

TORN = (
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Content-Length: 99\r\n\r\n{"
)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    settings = {"batch_size": 2, "queue": 1, "max_body_bytes": 20_000, "max_tokens": 900}
    with servers.tiny(max_choices=2, **settings) as running:
        yield running


def refusal(answer: Answer) -> tuple[int, str | None, str | None]:
    """Status, `param` and `code`, of an error that has OpenAI's shape."""
    error = answer.json["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"].endswith(".")
    return answer.status, error["param"], error["code"]


TOOL = {"type": "function", "function": {"name": "f"}}


def form(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}


WRONG: dict[str, tuple[dict[str, Any], str | None]] = {
    "no messages": ({"messages": []}, "messages"),
    "messages of another kind": ({"messages": "hello"}, "messages"),
    "a role that is none": ({"messages": [{"role": "robot", "content": "x"}]}, "messages.0.role"),
    "no content": ({"messages": [{"role": "user"}]}, "messages.0.content"),
    "an image": (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
        "messages",
    ),
    "half a surrogate pair": ({"messages": [{"role": "user", "content": "\ud800"}]}, "messages"),
    "a hot temperature": ({"temperature": 3}, "temperature"),
    "a cold temperature": ({"temperature": -0.1}, "temperature"),
    "a temperature that is no number": ({"temperature": "warm"}, "temperature"),
    "a temperature that is NaN": ({"temperature": float("nan")}, "temperature"),
    "a nucleus below nothing": ({"top_p": -0.1}, "top_p"),
    "no answer": ({"n": 0}, "n"),
    "too many answers": ({"n": 3}, "n"),
    "half a token": ({"max_tokens": 1.5}, "max_tokens"),
    "no token": ({"max_tokens": 0}, "max_tokens"),
    "more tokens than the server gives": ({"max_tokens": 901}, "max_tokens"),
    "truth for a number": ({"max_tokens": True}, "max_tokens"),
    "five stop strings": ({"stop": list("abcde")}, "stop"),
    "a stop that is a number": ({"stop": 3}, "stop"),
    "a penalty beyond 2": ({"presence_penalty": 2.5}, "presence_penalty"),
    "a bias to no token": ({"logit_bias": {"99999": 1}}, "logit_bias"),
    "a bias to a token too long to read": ({"logit_bias": {"1" * 5000: 1}}, "logit_bias"),
    "too many likeliest tokens": ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
    "likeliest tokens without logprobs": ({"top_logprobs": 2}, "top_logprobs"),
    "a tool that is none": ({"tools": [{"type": "web_search"}]}, "tools.0"),
    "a choice among other tools": (
        {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "g"}}},
        "tool_choice",
    ),
    "a call without tools": ({"tool_choice": "required"}, "tool_choice"),
    "a result without a call": (
        {"messages": [{"role": "tool", "tool_call_id": "c1", "content": "x"}]},
        "messages.0.tool_call_id",
    ),
    "a form that is none": ({"response_format": {"type": "xml"}}, "response_format"),
    "a schema that cannot be kept to": (
        {"response_format": form({"type": "array", "uniqueItems": True})},
        "response_format",
    ),
    "a form beside a free choice of tools": (
        {"tools": [TOOL], "response_format": {"type": "json_object"}},
        "response_format",
    ),
    "a stop token that is none": ({"stop_token_ids": [99999]}, "stop_token_ids"),
    "audio": ({"modalities": ["text", "audio"]}, "modalities"),
    "a misspelt field": ({"temprature": 0.1}, "temprature"),
    "vLLM's repetition penalty": ({"repetition_penalty": 1.2}, "repetition_penalty"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_field_is_refused_and_named(server: Server, name: str) -> None:
    fields, param = WRONG[name]
    answer = post(server.url, chat(**fields))
    status, named, _ = refusal(answer)
    assert (status, named) == (400, param)
    assert str(param).partition(".")[0] in answer.json["error"]["message"] or param == "messages"


@pytest.mark.parametrize(
    "fields",
    [
        {"messages": [0] * 1000},
        {"messages": [{"role": "user", "content": [0] * 1000}]},
        {"messages": QUESTION, "stop": [0] * 1000},
    ],
    ids=["messages", "content", "stop"],
)
def test_a_long_list_of_wrong_items_is_read_to_the_first(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        Body.model_validate({"model": "tiny", **fields})
    assert caught.value.error_count() <= 2


def test_the_coldest_and_the_narrowest_sampling_are_greedy(server: Server) -> None:
    def said(**fields: Any) -> str:
        made = post(server.url, chat(**fields)).json
        return str(made["choices"][0]["message"]["content"])

    assert said(temperature=1e-38) == said(temperature=2, top_p=1e-50) == said()


def test_fields_that_change_no_answer_are_taken(server: Server) -> None:
    neutral = {
        **{"user": "me", "metadata": {"a": "b"}, "store": False, "service_tier": "auto"},
        **{"tools": [], "tool_choice": "none", "response_format": {"type": "text"}},
        **{"presence_penalty": 0, "frequency_penalty": None, "logit_bias": None, "seed": None},
        **{"parallel_tool_calls": True, "n": None, "stop": None, "stream_options": None},
    }
    assert post(server.url, chat(**neutral)).status == 200


def test_what_openai_lets_pass_passes(server: Server) -> None:
    turns = [*QUESTION, {"role": "assistant", "content": None}, *QUESTION]
    for fields in ({"top_p": 0}, {"top_logprobs": 0}, {"top_k": -1}, {"messages": turns}):
        made = post(server.url, chat(**fields))
        assert made.status == 200, made.text
        assert "system_fingerprint" not in made.json


def test_without_a_key_only_this_machine_is_answered_and_only_json(server: Server) -> None:
    assert refusal(post(server.url, chat(), Host="evil.example"))[::2] == (403, "wrong_host")
    page = post(server.url, chat(), Origin="https://evil.example")
    assert refusal(page) == (403, None, "wrong_origin")
    assert post(server.url, chat(), Origin="http://localhost:3000").status == 200
    form_of_a_page = post(server.url, chat(), **{"Content-Type": "text/plain"})
    assert refusal(form_of_a_page) == (415, None, "unsupported_media_type")
    assert refusal(get(server.url, "/v1/models", Host="evil.example"))[0] == 403


def test_an_address_for_others_needs_a_long_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(process.KEY, "x" * 15)
    with pytest.raises(BadInput, match="has 15 characters, and needs 16"):
        process.key_for("0.0.0.0")
    assert process.key_for("127.0.0.1") == "x" * 15
    monkeypatch.setenv(process.KEY, "x" * 16)
    assert process.key_for("0.0.0.0") == "x" * 16


BODIES = {
    "no JSON": b"{",
    "no object": b"[1]",
    "no UTF-8": b'{"model": "\xff"}',
    "a nest": b"[" * 15_000,
    "a number too long to read": b'{"seed": ' + b"9" * 10_000 + b"}",
    "nothing": b"",
}


@pytest.mark.parametrize("name", BODIES)
def test_a_body_that_is_no_request_is_refused(server: Server, name: str) -> None:
    assert refusal(post(server.url, BODIES[name])) == (400, None, None)


def test_other_models_paths_and_methods_do_not_exist(server: Server) -> None:
    assert refusal(post(server.url, chat(model="gpt-4o"))) == (404, "model", "model_not_found")
    assert refusal(post(server.url, chat(model="\ud800")))[0] == 404
    assert refusal(post(server.url, {"messages": QUESTION})) == (400, "model", None)
    assert refusal(get(server.url, "/v1/chat/completions"))[0] == 405
    assert refusal(get(server.url, "/v1/embeddings"))[0] == 404


def test_an_oversized_body_is_refused_and_the_client_hears_it(server: Server) -> None:
    body = chat(messages=[{"role": "user", "content": "x" * 200_000}])
    assert refusal(post(server.url, body)) == (413, None, "body_too_large")
    with (
        openai.OpenAI(api_key="none", base_url=f"{server.url}/v1", max_retries=0) as client,
        pytest.raises(openai.APIStatusError) as caught,
    ):
        client.chat.completions.create(**body)
    assert caught.value.status_code == 413


@pytest.mark.slow
def test_prompt_and_answer_must_fit_into_the_context(server: Server) -> None:
    long = [{"role": "user", "content": "the " * 900}]
    prompt = post(server.url, chat(messages=long, max_tokens=1)).json["usage"]["prompt_tokens"]
    assert 900 < prompt < 1024
    left = 1024 - prompt
    answer = post(server.url, chat(messages=long, max_tokens=left + 1))
    assert refusal(answer) == (400, "max_tokens", "context_length_exceeded")
    assert str(prompt) in answer.json["error"]["message"]
    filled = post(server.url, chat(messages=long, max_tokens=left, logit_bias=NO_END)).json
    assert filled["usage"]["total_tokens"] == 1024
    usual = chat(messages=long, max_tokens=None, logit_bias=NO_END)
    assert post(server.url, usual).json["usage"]["total_tokens"] == 1024
    too_long = [{"role": "user", "content": "the " * 1200}]
    answer = post(server.url, chat(messages=too_long, max_tokens=None))
    assert refusal(answer) == (400, "messages", "context_length_exceeded")


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.005)


@pytest.mark.slow
def test_requests_beyond_the_queue_are_told_to_come_again(server: Server) -> None:
    long = chat(max_tokens=250, logit_bias=NO_END)
    with ThreadPoolExecutor(3) as pool:
        under_way = [pool.submit(post, server.url, long) for _ in range(3)]
        until(lambda: metric(server.url, "understudy_answers") == 3)
        answer = post(server.url, chat())
        assert refusal(answer) == (429, None, "server_busy")
        assert int(answer.headers["retry-after"]) >= 1
        assert [one.result().status for one in under_way] == [200, 200, 200]
    assert post(server.url, chat()).status == 200


@pytest.mark.parametrize("is_streamed", [False, True])
def test_a_client_that_leaves_ends_its_generation(server: Server, is_streamed: bool) -> None:
    before = metric(server.url, "understudy_cancelled_total")
    fields = {"max_tokens": 900, "logit_bias": NO_END, "n": 2, "stream": is_streamed}
    with servers.sent(server.url, **fields) as client:
        if is_streamed:
            assert client.recv(10).startswith(b"HTTP/1.1 2")
        until(lambda: metric(server.url, "understudy_answers") == 2)
    until(lambda: metric(server.url, "understudy_answers") == 0)
    assert metric(server.url, "understudy_cancelled_total") == before + 1
    assert post(server.url, chat()).status == 200


def test_a_client_that_leaves_before_its_body_is_complete_is_forgotten(server: Server) -> None:
    with servers.connected(server.url) as client:
        client.sendall(TORN)
    until(lambda: metric(server.url, 'understudy_requests_total{status="499"}') >= 1)
    assert get(server.url, "/health").status == 200


def test_a_body_that_does_not_arrive_times_out() -> None:
    with servers.tiny(patience_s=0.1) as slow, servers.connected(slow.url) as client:
        client.sendall(TORN)
        assert client.recv(100).startswith(b"HTTP/1.1 408")


def test_a_key_is_demanded_everywhere_but_for_the_health() -> None:
    with servers.tiny(key="sesame") as guarded:
        url = guarded.url
        for answer in (
            post(url, chat()),
            post(url, chat(), Authorization="Bearer simsim"),
            post(url, chat(), Authorization="Bearer ünïcode".encode().decode("latin-1")),
            get(url, "/v1/models"),
            get(url, "/v1/models/tiny"),
            get(url, "/metrics"),
        ):
            assert refusal(answer) == (401, None, "invalid_api_key")
        assert get(url, "/health").status == 200
        assert get(url, "/v1/models", Authorization="Bearer sesame").status == 200
        with openai.OpenAI(api_key="sesame", base_url=f"{url}/v1", max_retries=0) as client:
            assert client.chat.completions.create(**chat()).usage is not None
            with pytest.raises(openai.AuthenticationError):
                client.with_options(api_key="wrong").chat.completions.create(**chat())


def test_the_name_and_the_limits_are_the_settings(server: Server) -> None:
    with servers.tiny(name="ours", context=64) as named:
        assert [m["id"] for m in get(named.url, "/v1/models").json["data"]] == ["ours"]
        body = chat(model="ours", max_tokens=None, logit_bias=NO_END)
        assert post(named.url, body).json["usage"]["total_tokens"] == 64
        assert post(named.url, chat()).status == 404


def test_nothing_is_left_running_when_a_server_has_ended() -> None:
    before = threading.active_count()
    with servers.tiny() as ended:
        assert post(ended.url, chat()).status == 200
    until(lambda: threading.active_count() <= before)
    with pytest.raises(OSError, match="refused"):
        get(ended.url, "/health")


def test_messages_that_the_chat_template_refuses_are_refused_in_its_words() -> None:
    served = replace(of_directory(locations.model("package:tiny")), name="strict")
    served.tokenizer.chat_template = (
        "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
        "{{ messages[-1].content }}"
    )
    body = chat(model="strict", messages=[{"role": "system", "content": "x"}])
    with serving(served, configs.serve()) as url:
        answer = post(url, body)
        assert refusal(answer) == (400, "messages", None)
        assert "refuses the messages: no system role" in answer.json["error"]["message"]


def test_failures_of_responses_and_of_streams_are_counted() -> None:
    served = of_directory(locations.model("package:tiny"))

    class Broken:
        """A model that cannot compute."""

        device = "cpu"

        def eval(self) -> "Broken":
            return self

        def __call__(self, **_: Any) -> Any:
            raise RuntimeError("no kernel image")

    def decode(*_: Any, **__: Any) -> str:
        raise KeyError("a fault of ours")

    failed = 'understudy_requests_total{status="500"}'
    with serving(replace(served, load=lambda kind: Broken()), configs.serve()) as url:
        assert post(url, chat()).status == 500
        assert metric(url, failed) == 1
        assert "engine_failed" in post(url, chat(stream=True)).text
        until(lambda: metric(url, failed) == 2)
        served.tokenizer.apply_chat_template = decode
        assert post(url, chat()).status == 500
        assert metric(url, failed) == 3
