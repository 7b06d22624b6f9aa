"""Google's own SDK before a gateway: any service answers it, and the local model."""

import json
from pathlib import Path
from typing import Any

import pytest
from google import genai
from google.genai import errors, types

from support.gateways import CLIENT, MODEL, Running, gateway, service, stage, until
from understudy.services.providers.google import inbound
from understudy.services.providers.translation import CannotSay

SCHEMA = {
    "type": "OBJECT",
    "properties": {
        "type": {"type": "STRING", "nullable": True, "max_length": "9"},
        "many": {"type": "ARRAY", "items": {"type": "INTEGER"}},
    },
    "propertyOrdering": ["type"],
    "required": ["type"],
}
AS_JSON = {
    "type": "object",
    "properties": {
        "type": {"type": ["string", "null"], "maxLength": 9},
        "many": {"type": "array", "items": {"type": "integer"}},
    },
    "required": ["type"],
}
TALK: Any = {
    "model": "gemini-x",
    "stream": True,
    "systemInstruction": {"parts": [{"text": "Be brief."}]},
    "contents": [
        {
            "role": "user",
            "parts": [
                {"text": "what?"},
                {"inlineData": {"mimeType": "image/png", "data": "AAAA"}},
            ],
        },
        {
            "role": "model",
            "parts": [
                {"text": "hm", "thought": True},
                {"text": "I look."},
                {"functionCall": {"name": "look", "args": {"x": 1}}},
                {"functionCall": {"name": "look", "args": {}}},
            ],
        },
        {
            "role": "user",
            "parts": [
                {"functionResponse": {"name": "look", "response": {"result": "42"}}},
                {"function_response": {"name": "look", "response": {"a": 1, "b": 2}}},
            ],
        },
    ],
    "tools": [{"functionDeclarations": [{"name": "look", "parameters": SCHEMA}]}],
    "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["look"]}},
    "generationConfig": {
        "maxOutputTokens": 9,
        "stop_sequences": ["END"],
        "topK": 4,
        "thinkingConfig": {"thinkingBudget": 0},
        "responseMimeType": "application/json",
        "responseSchema": SCHEMA,
    },
}
TOOLS: Any = [
    {"function_declarations": [{"name": "look", "parameters_json_schema": {"type": "object"}}]}
]


def sdk(running: Running) -> genai.Client:
    options: Any = {"base_url": running.url, "retry_options": {"attempts": 1}}
    return genai.Client(api_key="any", http_options=options)


def called(id_: str, arguments: str) -> dict[str, Any]:
    return {"id": id_, "type": "function", "function": {"name": "look", "arguments": arguments}}


def test_contents_are_asked_of_others_as_a_chat_completion() -> None:
    notes: list[str] = []
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    function = {"name": "look", "description": "", "parameters": AS_JSON}
    assert inbound.chat_request(TALK, notes) == {
        "model": "gemini-x",
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": 9,
        "stop": ["END"],
        "top_k": 4,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": AS_JSON},
        },
        "tools": [{"type": "function", "function": function}],
        "tool_choice": {"type": "function", "function": {"name": "look"}},
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "what?"}, image]},
            {
                "role": "assistant",
                "content": "I look.",
                "tool_calls": [called("call_2_0", '{"x": 1}'), called("call_2_1", "{}")],
            },
            {"role": "tool", "tool_call_id": "call_2_0", "content": "42"},
            {"role": "tool", "tool_call_id": "call_2_1", "content": '{"a": 1, "b": 2}'},
        ],
    }
    assert len(notes) == 1


@pytest.mark.parametrize(
    "odd",
    [
        {"cachedContent": "cachedContents/1"},
        {"tools": [{"googleSearch": {}}]},
        {"generationConfig": {"responseModalities": ["IMAGE"]}},
        {"generation_config": {"response_logprobs": True}},
        {"contents": [{"parts": [{"inlineData": {"mimeType": "audio/wav", "data": "AA"}}]}]},
        {"contents": [{"parts": [{"functionResponse": {"name": "f", "response": {}}}]}]},
    ],
)
def test_what_only_google_can_answer_is_refused_by_name(odd: dict[str, Any]) -> None:
    with pytest.raises(CannotSay):
        inbound.chat_request({"model": "m", "contents": [{"parts": [{"text": "hello"}]}]} | odd)


@pytest.mark.parametrize("mode", ["local", "record"])
def test_the_local_model_and_openai_s_service_answer_google_s_sdk(
    tmp_path: Path, mode: str
) -> None:
    settings: dict[str, Any] = {"mode": mode}
    config = types.GenerateContentConfig(system_instruction="Be brief.", max_output_tokens=9)
    with (
        stage(text="It is 42.") as star,
        gateway(tmp_path, star.url, local=star.url, **settings) as running,
    ):
        client = sdk(running)  # which closes when it is gone
        ours = client.models
        said = ours.generate_content(model="gemini-x", contents="hello", config=config)
        assert said.text == "It is 42."
        assert said.candidates is not None
        assert said.candidates[0].finish_reason == "STOP"
        assert said.usage_metadata is not None
        assert said.usage_metadata.candidates_token_count == 100
        asked = json.loads(star.bodies[0])
        assert asked["model"] == ("small-1" if mode == "local" else MODEL)
        assert [turn["content"] for turn in asked["messages"]] == ["Be brief.", "hello"]
        parts = list(ours.generate_content_stream(model="gemini-x", contents="hello"))
        assert "".join(part.text or "" for part in parts) == "It is 42."
        assert parts[-1].usage_metadata is not None
        assert parts[-1].usage_metadata.prompt_token_count == 1000

        star.tools = True
        options = types.GenerateContentConfig(tools=TOOLS)
        used = ours.generate_content(model="gemini-x", contents="hello", config=options)
        (call,) = used.function_calls or ()
        assert (call.name, call.args) == ("look", {"x": 1})
        stream = ours.generate_content_stream(model="gemini-x", contents="hello", config=options)
        (call,) = [call for part in stream for call in part.function_calls or ()]
        assert (call.name, call.args) == ("look", {"x": 1})
        result = types.Part.from_function_response(name="look", response={"result": "42"})
        content = used.candidates[0].content if used.candidates else None
        assert content is not None
        turns: Any = [types.Content(role="user", parts=[types.Part(text="hello")]), content]
        turns.append(types.Content(role="user", parts=[result]))
        ours.generate_content(model="gemini-x", contents=turns, config=options)
        *_, last = json.loads(star.bodies[-1])["messages"]
        assert last == {"role": "tool", "tool_call_id": "call_1", "content": "42"}
        assert running.state.spend.spent == (0 if mode == "local" else 5 * 3000)
        assert len(running.lines("local_pairs" if mode == "local" else "pairs")) == 5


def test_errors_and_broken_streams_are_google_s(tmp_path: Path) -> None:
    with stage(status=404) as star, gateway(tmp_path, star.url) as running:
        client = sdk(running)  # which closes when it is gone
        ours = client.models
        with pytest.raises(errors.ClientError, match="NOT_FOUND"):
            ours.generate_content(model="gemini-x", contents="hello")
        odd: Any = [{"google_search": {}}]
        config = types.GenerateContentConfig(tools=odd)
        with pytest.raises(errors.ClientError, match="Google's own"):
            ours.generate_content(model="gemini-x", contents="hello", config=config)
        star.status, star.how = 200, "cut"
        with pytest.raises(errors.APIError, match="broke off"):
            list(ours.generate_content_stream(model="gemini-x", contents="hello"))
        body = {"contents": [{"parts": [{"text": "hello"}]}]}
        path = f"{running.url}/v1beta/models/gemini-x:streamGenerateContent"
        assert CLIENT.post(path, json=body).json()["error"]["status"] == "INVALID_ARGUMENT"


def test_half_a_call_of_a_tool_is_none() -> None:
    function = {"name": "look", "arguments": '{"x'}
    delta = {"tool_calls": [{"index": 0, "id": "t", "function": function}]}
    for reason, wanted in (("length", "MAX_TOKENS"), ("tool_calls", "MALFORMED_FUNCTION_CALL")):
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        stream = inbound.events({}, "1")
        stream.feed(b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n")
        (candidate,) = json.loads(stream.end()[5:])["candidates"]
        assert (candidate["finishReason"], candidate["content"]["parts"]) == (wanted, [])


PARTS = (
    {"candidates": [{"content": {"role": "model", "parts": [{"text": "It "}]}, "index": 0}]},
    {"candidates": [{"content": {"role": "model", "parts": [{"text": "is"}]},
                     "finishReason": "STOP", "index": 0}],
     "modelVersion": MODEL,
     "usageMetadata": {"promptTokenCount": 1000, "candidatesTokenCount": 60,
                       "thoughtsTokenCount": 40}},
)  # fmt: skip


@pytest.mark.parametrize("stream", [True, False])
def test_google_s_service_gets_and_gives_the_bytes_as_they_are(
    tmp_path: Path, stream: bool
) -> None:
    whole = PARTS[1] | {
        "candidates": [{"content": {"parts": [{"text": "It is"}]}, "finishReason": "STOP"}]
    }
    said = json.dumps(whole, indent=1).encode()
    if stream:
        said = b"".join(b"data: " + json.dumps(one).encode() + b"\r\n\r\n" for one in PARTS)
    kind = "text/event-stream" if stream else "application/json"
    body = b'{ "contents":[{"parts":[{"text":"hello"}]}],\n "safetySettings": []}'
    verb = "streamGenerateContent?alt=sse" if stream else "generateContent"
    path = f"/v1beta/models/{MODEL}:{verb}"
    with (
        stage(other=said, other_kind=kind) as star,
        stage(text="It was") as small,
        gateway(
            tmp_path,
            star.url.removesuffix("/v1"),
            of=service(provider="google"),
            mode="shadow",
            local=small.url,
        ) as running,
    ):
        headers = {"content-type": "application/json", "x-goog-api-key": "any"}
        reply = CLIENT.post(f"{running.url}{path}", content=body, headers=headers)
        assert reply.content == said
        assert star.others == [("POST", path, body)]
        assert (running.state.spend.spent, running.state.spend.bounded) == (3000, 0)
        (pair,) = running.lines("pairs")
        assert pair["request"] == json.loads(body)
        until(lambda: running.lines("shadow"))
        (row,) = running.lines("shadow")
        assert (row["reference"], row["candidate"]) == ("It is", "It was")


def test_when_google_fails_the_local_model_answers_its_sdk(tmp_path: Path) -> None:
    of = service(provider="google")
    with (
        stage(status=500) as star,
        stage(text="mine") as small,
        gateway(
            tmp_path, star.url.removesuffix("/v1"), of=of, mode="failover", local=small.url
        ) as running,
    ):
        client = sdk(running)
        said = client.models.generate_content(model=MODEL, contents="hello")
        assert said.text == "mine"
