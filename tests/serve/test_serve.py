"""OpenAI's chat completions as three clients see them: openai, huggingface_hub and curl."""

import json
import os
import subprocess
import sys
from typing import Any

import openai
import pytest

from support import servers
from support.servers import QUESTION, Server, chat, get, post
from understudy.inference import Generated, PromptSample, Sampling, decode


@pytest.fixture(scope="module")
def alone(server: Server) -> Generated:
    """The greedy answer to the question, decoded by itself."""
    import torch

    ids = prompt_ids(server)
    sampling = Sampling(0, 0.0, 16, server.served.stop_ids, ())
    model = server.served.load(torch.float32)
    wanted = PromptSample("", "", tuple(ids), (0,))
    return decode.generate(model, server.served.tokenizer, [wanted], sampling)[0]


def prompt_ids(server: Server) -> list[int]:
    ids: list[int] = server.served.tokenizer.apply_chat_template(
        QUESTION, add_generation_prompt=True, return_dict=False
    )
    return ids


def counted(server: Server, made: Generated) -> tuple[int, int, int]:
    prompt, completion = len(prompt_ids(server)), len(made.tokens) + made.is_stopped
    return prompt, completion, prompt + completion


def test_openai_gets_the_answer_of_the_model_and_its_usage(
    server: Server, client: openai.OpenAI, alone: Generated
) -> None:
    made = client.chat.completions.create(**chat())
    assert made.choices[0].message.content == alone.text
    assert made.choices[0].finish_reason == ("stop" if alone.is_stopped else "length")
    usage = made.usage
    assert usage is not None
    found = usage.prompt_tokens, usage.completion_tokens, usage.total_tokens
    assert found == counted(server, alone)


def test_openai_streams_the_same_answer_and_the_usage_at_its_end(
    server: Server, client: openai.OpenAI, alone: Generated
) -> None:
    options: Any = {"include_usage": True}
    chunks = list(client.chat.completions.create(**chat(), stream=True, stream_options=options))
    texts = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "".join(texts) == alone.text
    assert len([text for text in texts if text]) > 3
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-2].choices[0].finish_reason is not None
    usage = chunks[-1].usage
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == counted(
        server, alone
    )
    assert all(chunk.usage is None for chunk in chunks[:-1])


def test_a_stream_brings_no_usage_that_nobody_asked_for(client: openai.OpenAI) -> None:
    chunks = list(client.chat.completions.create(**chat(), stream=True))
    assert all(chunk.choices and chunk.usage is None for chunk in chunks)


def test_openais_n_gives_different_answers_that_usage_adds_up(
    server: Server, client: openai.OpenAI
) -> None:
    made = client.chat.completions.create(
        **chat(n=4, temperature=1.5, seed=7), extra_body={"return_token_ids": True}
    )
    assert [choice.index for choice in made.choices] == [0, 1, 2, 3]
    assert len({choice.message.content for choice in made.choices}) == 4
    assert made.usage is not None
    tokens = sum(len(choice.token_ids) for choice in made.choices)  # type: ignore[attr-defined]
    assert made.usage.completion_tokens == tokens
    assert made.usage.prompt_tokens == len(prompt_ids(server))
    assert made.prompt_token_ids == prompt_ids(server)  # type: ignore[attr-defined]


def test_a_seed_gives_the_same_answer_again_and_none_another(client: openai.OpenAI) -> None:
    def said(**fields: Any) -> str | None:
        made = client.chat.completions.create(**chat(temperature=2, max_tokens=24, **fields))
        return made.choices[0].message.content

    assert said(seed=3) == said(seed=3) != said(seed=4)
    assert said() != said()


def test_streamed_choices_are_those_of_one_response(client: openai.OpenAI) -> None:
    fields = chat(n=3, temperature=1.2, seed=11)
    whole = client.chat.completions.create(**fields)
    texts, ends = ["", "", ""], [""] * 3
    for chunk in client.chat.completions.create(**fields, stream=True):
        (choice,) = chunk.choices
        texts[choice.index] += choice.delta.content or ""
        ends[choice.index] = choice.finish_reason or ends[choice.index]
    assert texts == [choice.message.content for choice in whole.choices]
    assert ends == [choice.finish_reason for choice in whole.choices]


@pytest.mark.parametrize("is_streamed", [False, True])
def test_a_stop_string_across_tokens_ends_the_answer_before_it(
    client: openai.OpenAI, alone: Generated, is_streamed: bool
) -> None:
    stop = alone.text[5:12]
    made: Any = client.chat.completions.create(**chat(stop=[stop, "\x00"]), stream=is_streamed)
    if is_streamed:
        choices = [chunk.choices[0] for chunk in made]
        text = "".join(choice.delta.content or "" for choice in choices)
    else:
        choices, text = made.choices, made.choices[0].message.content
    assert text == alone.text.partition(stop)[0]
    assert choices[-1].finish_reason == "stop"


def test_max_tokens_by_either_name_cuts_the_answer(client: openai.OpenAI) -> None:
    for name in ("max_tokens", "max_completion_tokens"):
        fields = {key: value for key, value in chat().items() if key != "max_tokens"}
        made = client.chat.completions.create(**fields, **{name: 3})
        assert made.usage is not None
        assert (made.choices[0].finish_reason, made.usage.completion_tokens) == ("length", 3)


def test_log_probabilities_come_with_bytes_and_the_likeliest_tokens(
    client: openai.OpenAI, alone: Generated
) -> None:
    made = client.chat.completions.create(**chat(logprobs=True, top_logprobs=2))
    logprobs = made.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    assert len(logprobs.content) == len(alone.tokens) + alone.is_stopped
    for one in logprobs.content:
        assert one.token == one.top_logprobs[0].token
        assert one.top_logprobs[0].logprob >= one.top_logprobs[1].logprob
    spelled = b"".join(bytes(one.bytes or []) for one in logprobs.content[: len(alone.tokens)])
    assert spelled.decode() == alone.text
    ids = post_ids(client)
    assert all(token.startswith("token_id:") for token in ids)


def post_ids(client: openai.OpenAI) -> list[str]:
    extra = {"return_tokens_as_token_ids": True}
    made = client.chat.completions.create(**chat(logprobs=True), extra_body=extra)
    logprobs = made.choices[0].logprobs
    assert logprobs is not None
    return [one.token for one in logprobs.content or []]


def test_streamed_log_probabilities_are_those_of_one_response(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(**chat(logprobs=True)).choices[0].logprobs
    assert whole is not None
    found = []
    for chunk in client.chat.completions.create(**chat(logprobs=True), stream=True):
        logprobs = chunk.choices[0].logprobs
        found += (logprobs.content if logprobs else None) or []
    told = whole.content or []
    assert [one.token for one in found] == [one.token for one in told]
    assert [one.logprob for one in found] == pytest.approx([one.logprob for one in told])


def test_system_and_developer_messages_and_parts_of_text_reach_the_template(
    server: Server,
) -> None:
    plain = [{"role": "system", "content": "Be brief."}, QUESTION[0]]
    parts = [
        {"type": "text", "text": "What is the colour "},
        {"type": "text", "text": "of the sky?"},
    ]
    other = [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": parts}]
    ids = [
        post(server.url, chat(messages=messages, return_token_ids=True)).json["prompt_token_ids"]
        for messages in (plain, other)
    ]
    assert ids[0] == ids[1] != prompt_ids(server)


def test_the_models_are_listed(server: Server, client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["tiny"]
    assert client.models.retrieve("tiny").owned_by == "understudy"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-4o")


_THIRD_PARTY = """
import json, sys
from huggingface_hub import InferenceClient

url, messages, stop = json.loads(sys.argv[1])
client = InferenceClient(base_url=url, api_key="none")
made = client.chat_completion(messages, model="tiny", temperature=0.0, max_tokens=16)
options = {"model": "tiny", "temperature": 0.0, "max_tokens": 16, "stop": [stop]}
stream = client.chat_completion(messages, stream=True, **options)
text = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
usage = made.usage
counted = usage.prompt_tokens, usage.completion_tokens, usage.total_tokens
print(json.dumps([made.choices[0].message.content, counted, text]))
"""


@pytest.mark.slow
def test_huggingface_hubs_client_is_answered_and_streamed_to(
    server: Server, alone: Generated
) -> None:
    stop = alone.text[4:9]
    # A process of its own: offline, as the tests are, the library asks no server, ours neither.
    told = subprocess.run(
        [sys.executable, "-c", _THIRD_PARTY, json.dumps([f"{server.url}/v1", QUESTION, stop])],
        env={**os.environ, "HF_HUB_OFFLINE": "0"},
        stdout=subprocess.PIPE,
        check=True,
    ).stdout
    text = alone.text
    assert json.loads(told) == [text, list(counted(server, alone)), text.partition(stop)[0]]


def curl(*arguments: str) -> str:
    return subprocess.run(
        ["curl", "-sS", "--max-time", "60", *arguments], capture_output=True, text=True, check=True
    ).stdout


def test_curl_is_answered_and_streamed_to(server: Server, alone: Generated) -> None:
    url = f"{server.url}/v1/chat/completions"
    kind = ("-H", "Content-Type: application/json")
    told = json.loads(curl(url, *kind, "-d", json.dumps(chat())))
    assert told["choices"][0]["message"]["content"] == alone.text
    assert told["object"] == "chat.completion"
    lines = curl("-N", url, *kind, "-d", json.dumps(chat(stream=True))).splitlines()
    events = [line.removeprefix("data: ") for line in lines if line]
    assert events[-1] == "[DONE]"
    deltas = [json.loads(text)["choices"][0]["delta"] for text in events[:-1]]
    assert "".join(delta.get("content", "") for delta in deltas) == alone.text


def test_health_and_metrics_tell_of_the_server(server: Server) -> None:
    assert get(server.url, "/health").json == {"status": "ok"}
    before = servers.metric(server.url, 'understudy_tokens_total{kind="completion"}')
    usage = post(server.url, chat()).json["usage"]
    after = servers.metric(server.url, 'understudy_tokens_total{kind="completion"}')
    assert after - before == usage["completion_tokens"]
    assert servers.metric(server.url, "understudy_answers") == 0
    assert servers.metric(server.url, 'understudy_requests_total{status="200"}') >= 1
