"""OpenAI's SDK calls Responses and completions: any service answers, and the local model."""

import json
from pathlib import Path
from typing import Any

import openai
import pytest

from support.gateways import CLIENT, MODEL, TOOL, Running, gateway, service, stage, until
from understudy.services.providers.openai import completions, responses
from understudy.services.providers.translation import CannotSay

LOOK: Any = {
    "type": "function",
    "name": "look",
    "description": "Look.",
    "parameters": {"type": "object"},
    "strict": True,
}
FORM: Any = {"type": "json_schema", "name": "one", "schema": {"type": "object"}, "strict": True}
TALK: Any = {
    "model": "gpt-x",
    "instructions": "Be brief.",
    "max_output_tokens": 9,
    "stream": True,
    "store": True,
    "include": ["reasoning.encrypted_content"],
    "reasoning": {"effort": "low", "summary": "auto"},
    "text": {"format": FORM},
    "tools": [LOOK],
    "tool_choice": {"type": "function", "name": "look"},
    "input": [
        {
            "role": "user",
            "content": [
                {"type": "input_text", "text": "what?"},
                {"type": "input_image", "image_url": "data:image/png;base64,AAAA", "detail": "low"},
            ],
        },
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "x"},
        {
            "type": "message",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "I look.", "annotations": []}],
        },
        {"type": "function_call", "call_id": "t1", "name": "look", "arguments": '{"x":1}'},
        {"type": "function_call", "call_id": "t2", "name": "look", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "t1", "output": "42"},
        {
            "type": "function_call_output",
            "call_id": "t2",
            "output": [{"type": "input_text", "text": "43"}],
        },
        {"role": "developer", "content": "Hurry."},
    ],
}
TEXT = "It is 42, and all is well."


def sdk(running: Running) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{running.url}/v1", api_key="any", max_retries=0)


def called(id_: str, arguments: str) -> dict[str, Any]:
    return {"id": id_, "type": "function", "function": {"name": "look", "arguments": arguments}}


def test_a_response_is_asked_of_others_as_a_chat_completion() -> None:
    image = {"url": "data:image/png;base64,AAAA", "detail": "low"}
    function = {name: LOOK[name] for name in ("name", "description", "parameters", "strict")}
    notes: list[str] = []
    assert responses.chat_request(TALK, notes) == {
        "model": "gpt-x",
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": 9,
        "reasoning_effort": "low",
        "tools": [{"type": "function", "function": function}],
        "tool_choice": {"type": "function", "function": {"name": "look"}},
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "one", "schema": {"type": "object"}, "strict": True},
        },
        "messages": [
            {"role": "system", "content": "Be brief."},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "what?"},
                    {"type": "image_url", "image_url": image},
                ],
            },
            {
                "role": "assistant",
                "content": "I look.",
                "tool_calls": [called("t1", '{"x":1}'), called("t2", "{}")],
            },
            {"role": "tool", "tool_call_id": "t1", "content": "42"},
            {"role": "tool", "tool_call_id": "t2", "content": "43"},
            {"role": "system", "content": "Hurry."},
        ],
    }
    assert len(notes) == 1
    assert "reasoning of earlier turns" in notes[0]


@pytest.mark.parametrize(
    "odd",
    [
        {"previous_response_id": "resp_1"},
        {"conversation": "conv_1"},
        {"prompt": {"id": "pmpt_1"}},
        {"background": True},
        {"tools": [{"type": "web_search"}]},
        {"tool_choice": {"type": "file_search"}},
        {"input": [{"type": "item_reference", "id": "rs_1"}]},
        {"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "f"}]}]},
        {"top_logprobs": 3},
    ],
)
def test_what_only_openai_can_answer_is_refused_by_name(odd: dict[str, Any]) -> None:
    with pytest.raises(CannotSay):
        responses.chat_request({"model": "m", "input": "hello"} | odd)


def told(stream: Any) -> list[Any]:
    return list(stream)


@pytest.mark.parametrize("mode", ["local", "record"])
def test_the_local_model_and_another_maker_answer_responses(tmp_path: Path, mode: str) -> None:
    """In mode record the service is one that has chat completions alone."""
    of = service(provider="openai_compatible")
    with (
        stage(text=TEXT) as star,
        gateway(tmp_path, star.url, of=of, mode=mode, local=star.url) as running,
        sdk(running) as ours,
    ):
        star.status_other = 404
        said = ours.responses.create(model=MODEL, input="hello", instructions="Be brief.")
        assert (said.output_text, said.status, said.store) == (TEXT, "completed", False)
        assert said.usage is not None
        assert (said.usage.input_tokens, said.usage.output_tokens) == (1000, 100)
        assert said.instructions == "Be brief."
        events = told(ours.responses.create(model=MODEL, input="hello", stream=True))
        kinds = [event.type for event in events]
        deltas = ["response.output_text.delta"] * star.pieces
        assert kinds == [
            *("response.created", "response.in_progress", "response.output_item.added"),
            *("response.content_part.added", *deltas, "response.output_text.done"),
            *("response.content_part.done", "response.output_item.done", "response.completed"),
        ]
        assert [event.sequence_number for event in events] == list(range(len(events)))
        assert events[-1].response.output_text == TEXT
        assert events[-1].response.usage.output_tokens == 100
        with ours.responses.stream(model=MODEL, input="hello") as stream:
            assert stream.get_final_response().output_text == TEXT

        star.tools = True
        one = {"id": "call_1", "name": "look", "arguments": '{"x":1}'}
        used = ours.responses.create(model=MODEL, input="hello", tools=[LOOK])
        (call,) = used.output
        assert call.type == "function_call"
        assert {"id": call.call_id, "name": call.name, "arguments": call.arguments} == one
        with ours.responses.stream(model=MODEL, input="hello", tools=[LOOK]) as stream:
            kinds = [event.type for event in stream]
            (call,) = stream.get_final_response().output  # type: ignore[assignment]
        assert "response.function_call_arguments.done" in kinds
        assert call.type == "function_call"
        assert {"id": call.call_id, "name": call.name, "arguments": call.arguments} == one
        again: Any = [{"role": "user", "content": "hello"}, call.to_dict()]
        again.append({"type": "function_call_output", "call_id": "call_1", "output": "42"})
        ours.responses.create(model=MODEL, input=again)
        turns = json.loads(star.bodies[-1])["messages"]
        assert turns[1] == {"role": "assistant", "content": None, "tool_calls": [TOOL]}
        assert turns[2] == {"role": "tool", "tool_call_id": "call_1", "content": "42"}

        lines = running.lines("requests")
        assert {line["path"] for line in lines} == {"/responses"}
        assert running.state.spend.spent == (0 if mode == "local" else 6 * 3000)
        assert running.state.spend.bounded == 0
        assert len(running.lines("local_pairs" if mode == "local" else "pairs")) == 6
        if mode == "record":  # it was asked for the path once, and never again
            assert [path for _, path, _ in star.others] == ["/v1/responses"]


def test_a_cut_answer_is_incomplete_and_a_broken_stream_an_error(tmp_path: Path) -> None:
    cut = {"index": 0, "message": {"content": "It"}, "finish_reason": "length"}
    whole = json.dumps({"id": "c", "choices": [cut]}).encode(), "application/json"
    with (
        stage() as star,
        gateway(tmp_path, star.url, mode="local", local=star.url) as running,
        sdk(running) as ours,
    ):
        star.said = whole
        said = ours.responses.create(model=MODEL, input="hello", max_output_tokens=1)
        assert said.status == "incomplete"
        assert said.incomplete_details is not None
        assert said.incomplete_details.reason == "max_output_tokens"
        star.said, star.how = None, "cut"
        with pytest.raises(openai.APIError, match="broke off"):
            told(ours.responses.create(model=MODEL, input="hello", stream=True))
        star.how, star.status = "whole", 500
        with pytest.raises(openai.APIStatusError):
            ours.responses.create(model=MODEL, input="hello")


def test_what_is_stored_is_openai_s_and_refused_where_the_local_model_would_answer(
    tmp_path: Path,
) -> None:
    stored = b'{"id": "resp_2", "object": "response", "output": [], "usage": %s}'
    stored %= b'{"input_tokens": 1000, "output_tokens": 100}'
    with (
        stage(other=stored) as star,
        gateway(tmp_path / "local", star.url, mode="local", local=star.url) as running,
        gateway(tmp_path / "record", star.url) as recording,
        sdk(running) as ours,
        sdk(recording) as theirs,
    ):
        with pytest.raises(openai.BadRequestError) as no:
            ours.responses.create(model=MODEL, input="more", previous_response_id="resp_1")
        assert no.value.code == "response_not_stored"
        with pytest.raises(openai.NotFoundError):
            ours.responses.retrieve("resp_1")
        assert star.others == []
        assert star.bodies == []

        theirs.responses.create(model=MODEL, input="more", previous_response_id="resp_1")
        theirs.responses.retrieve("resp_2")
        paths = [path for _, path, _ in star.others]
        assert paths == ["/v1/responses", "/v1/responses/resp_2"]
        assert recording.state.spend.spent == 3000
        with pytest.raises(openai.BadRequestError, match="made by the gateway"):
            theirs.responses.create(
                model=MODEL, input="more", previous_response_id="resp_gateway_0"
            )
        assert len(star.others) == 2


DONE = {
    "id": "resp_1", "object": "response", "status": "completed", "model": MODEL,
    "output": [{"type": "message", "role": "assistant",
                "content": [{"type": "output_text", "text": "It is"}]}],
    "usage": {"input_tokens": 1000, "output_tokens": 100},
}  # fmt: skip
EVENTS = (
    {"type": "response.created", "response": DONE | {"status": "in_progress", "usage": None}},
    {"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": "It is"},
    {"type": "response.completed", "response": DONE},
)


@pytest.mark.parametrize("stream", [True, False])
def test_openai_s_service_gets_and_gives_responses_as_they_are(
    tmp_path: Path, stream: bool
) -> None:
    lines = (f"event: {one['type']}\ndata: {json.dumps(one)}\n\n" for one in EVENTS)
    said = "".join(lines).encode() if stream else json.dumps(DONE, indent=1).encode()
    kind = "text/event-stream" if stream else "application/json"
    body = b'{ "model":"star-1",\n "input":"hello", "prompt_cache_key": "k", "stream": %s}'
    body %= b"true" if stream else b"false"
    with (
        stage(other=said, other_kind=kind) as star,
        stage(text="It was") as small,
        gateway(tmp_path, star.url, mode="shadow", local=small.url) as running,
    ):
        headers = {"content-type": "application/json"}
        reply = CLIENT.post(f"{running.url}/v1/responses", content=body, headers=headers)
        assert reply.content == said
        assert star.others == [("POST", "/v1/responses", body)]
        assert (running.state.spend.spent, running.state.spend.bounded) == (3000, 0)
        (pair,) = running.lines("pairs")
        assert pair["request"] == json.loads(body)
        until(lambda: running.lines("shadow"))
        (row,) = running.lines("shadow")
        assert (row["reference"], row["candidate"]) == ("It is", "It was")


def test_when_openai_fails_the_local_model_answers_responses(tmp_path: Path) -> None:
    with (
        stage(status=500) as star,
        stage(text="mine") as small,
        gateway(tmp_path, star.url, mode="failover", local=small.url) as running,
        sdk(running) as ours,
    ):
        said = ours.responses.create(model=MODEL, input="hello")
        assert said.output_text == "mine"
        assert said.id.startswith("resp_gateway_")


@pytest.mark.parametrize(
    "odd",
    [
        {"prompt": ["a", "b"]}, {"prompt": [1, 2]}, {"echo": True}, {"logprobs": 0},
        {"suffix": "x"}, {"best_of": 3},
    ],
)  # fmt: skip
def test_a_completion_that_no_chat_can_be_is_refused_by_name(odd: dict[str, Any]) -> None:
    with pytest.raises(CannotSay):
        completions.chat_request({"model": "m", "prompt": "hello"} | odd)


def test_the_local_model_answers_completions(tmp_path: Path) -> None:
    with (
        stage(text=TEXT) as star,
        gateway(tmp_path, star.url, mode="local", local=star.url) as running,
        sdk(running) as ours,
    ):
        said = ours.completions.create(model=MODEL, prompt="hello")
        assert (said.object, said.choices[0].text) == ("text_completion", TEXT)
        assert said.usage is not None
        assert said.usage.completion_tokens == 100
        asked = json.loads(star.bodies[0])
        assert asked["messages"] == [{"role": "user", "content": "hello"}]
        assert asked["max_tokens"] == 16
        for wanted in (True, False):
            options: Any = {"include_usage": wanted}
            parts = told(
                ours.completions.create(
                    model=MODEL, prompt="hello", stream=True, stream_options=options
                )
            )
            assert "".join(part.choices[0].text for part in parts if part.choices) == TEXT
            assert any(part.usage for part in parts) is wanted
            assert parts[-1 - wanted].choices[0].finish_reason == "stop"
        star.how = "cut"
        with pytest.raises(openai.APIError, match="broke off"):
            told(ours.completions.create(model=MODEL, prompt="hello", stream=True))
        with pytest.raises(openai.BadRequestError, match="echo"):
            ours.completions.create(model=MODEL, prompt="hello", echo=True)


@pytest.mark.parametrize("stream", [True, False])
def test_openai_s_completions_are_priced_exactly_and_kept_as_chats(
    tmp_path: Path, stream: bool
) -> None:
    head = {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": MODEL}
    choice = {"index": 0, "text": "It is", "logprobs": None, "finish_reason": "stop"}
    usage = {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100}
    if stream:
        parts = [head | {"choices": [choice]}, head | {"choices": [], "usage": usage}]
        said = b"".join(b"data: " + json.dumps(one).encode() + b"\n\n" for one in parts)
        said += b"data: [DONE]\n\n"
    else:
        said = json.dumps(head | {"choices": [choice], "usage": usage}).encode()
    kind = "text/event-stream" if stream else "application/json"
    with (
        stage(other=said, other_kind=kind) as star,
        stage(text="It was") as small,
        gateway(tmp_path, star.url, mode="shadow", local=small.url) as running,
        sdk(running) as ours,
    ):
        made: Any = ours.completions.create(model=MODEL, prompt="hello", stream=stream)
        if stream:
            (part,) = made
            assert part.choices[0].text == "It is"
            assert json.loads(star.others[0][2])["stream_options"] == {"include_usage": True}
        else:
            assert made.choices[0].text == "It is"
        assert (running.state.spend.spent, running.state.spend.bounded) == (3000, 0)
        until(lambda: running.lines("shadow"))
        (row,), (pair,) = running.lines("shadow"), running.lines("pairs")
        assert (row["reference"], row["candidate"]) == ("It is", "It was")
        assert pair["response"]["choices"][0]["message"]["content"] == "It is"
