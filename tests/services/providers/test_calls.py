"""The four adapters against real sockets: what they send, what they make of every answer."""

import asyncio
import subprocess
import sys
import traceback
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from support.wires import (
    HELLO,
    KEY,
    KEY_ENV,
    WIRES,
    Answer,
    call,
    error,
    failures,
    good,
    outcomes,
    service,
    serving,
)
from understudy.errors import BadInput, EnvironmentFailed
from understudy.prompts import judge
from understudy.rehearsal.server import RehearsalServer
from understudy.services.base import CallFailed, Request, Room, Usage
from understudy.services.providers import endpoint_of, open_provider
from understudy.services.providers.translation import translation_of

MARK = "x-understudy-rehearsal"
SCHEMA = judge.schema("default")
TALK = Request(
    (
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": "hi"},
        {"role": "user", "content": "again"},
    ),
    schema=SCHEMA,
)


@pytest.fixture(autouse=True)
def _planted_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_ENV, KEY)


def sent(wire: str, request: Request = TALK, **changed: Any) -> dict[str, Any]:
    _, server = outcomes(wire, [Answer(good(wire))], request, **changed)
    body: dict[str, Any] = server.bodies[0]
    return body


def failure(wire: str, answer: Answer, **changed: Any) -> CallFailed:
    return failures(wire, [answer], **changed)[0]


def test_openai_is_sent_the_whole_conversation_and_a_strict_schema() -> None:
    format_ = {"name": "reply", "strict": True, "schema": SCHEMA}
    assert sent("openai") == {
        "model": "model-1",
        "messages": list(TALK.messages),
        "max_completion_tokens": 100,
        "response_format": {"type": "json_schema", "json_schema": format_},
    }


def test_a_compatible_server_is_sent_the_older_name_of_the_limit() -> None:
    body = sent("openai_compatible", structured=False)
    assert body == {"model": "model-1", "messages": list(TALK.messages), "max_tokens": 100}


def test_anthropic_gets_system_messages_apart() -> None:
    assert sent("anthropic") == {
        "model": "model-1",
        "max_tokens": 100,
        "system": "be brief",
        "messages": list(TALK.messages[1:]),
        "output_config": {"format": {"type": "json_schema", "schema": SCHEMA}},
    }


def test_google_gets_system_messages_apart_and_roles_of_its_own() -> None:
    assert sent("google") == {
        "systemInstruction": {"parts": [{"text": "be brief"}], "role": "user"},
        "contents": [
            {"role": "user", "parts": [{"text": "hello"}]},
            {"role": "model", "parts": [{"text": "hi"}]},
            {"role": "user", "parts": [{"text": "again"}]},
        ],
        "generationConfig": {
            "maxOutputTokens": 100,
            "responseMimeType": "application/json",
            "responseJsonSchema": SCHEMA,
        },
    }


@pytest.mark.parametrize("wire", WIRES)
def test_the_schema_stays_away_where_it_is_not_understood(wire: str) -> None:
    assert "score" not in str(sent(wire, structured=False))


@pytest.mark.parametrize("wire", WIRES)
def test_a_temperature_is_sent_only_when_there_is_one(wire: str) -> None:
    def temperature(**changed: Any) -> Any:
        body = sent(wire, **changed)
        return body.get("generationConfig", body).get("temperature")

    assert temperature() is None
    assert temperature(temperature=0.25) == 0.25


@pytest.mark.parametrize(
    ("wire", "reasoning", "where", "expected"),
    [
        ("openai", "low", "reasoning_effort", "low"),
        ("openai_compatible", "high", "reasoning_effort", "high"),
        ("anthropic", 2048, "thinking", {"type": "enabled", "budget_tokens": 2048}),
        ("anthropic", "none", "thinking", {"type": "disabled"}),
        ("anthropic", "low", "output_config", {"effort": "low"}),
        ("google", 512, "thinkingConfig", {"thinking_budget": 512}),
        ("google", "none", "thinkingConfig", {"thinking_budget": 0}),
        ("google", "low", "thinkingConfig", {"thinking_level": "LOW"}),
    ],
)
def test_reasoning_is_bounded_as_the_provider_has_it(
    wire: str, reasoning: Any, where: str, expected: Any
) -> None:
    body = sent(wire, reasoning=reasoning, structured=False)
    assert body.get("generationConfig", body)[where] == expected


@pytest.mark.parametrize("wire", WIRES)
def test_a_reply_has_its_text_its_bill_and_its_names(wire: str) -> None:
    names = {"x-request-id": "req-1", "request-id": "req-1"}
    reply = call(wire, Answer(good(wire), headers=names))
    assert (reply.text, reply.finish, reply.model) == ("hi", "stop", "model-1-dated")
    written = 2 if wire == "anthropic" else 0
    assert reply.usage == Usage(input=20, cached=8, output=12, reasoning=5, written=written)
    assert reply.request_id == ("resp-1" if wire == "google" else "req-1")


def openai(finish: str, content: str | None = "part", refusal: str | None = None) -> Any:
    message = {"role": "assistant", "content": content, "refusal": refusal}
    return good("openai", choices=[{"index": 0, "message": message, "finish_reason": finish}])


def anthropic(stop: str, category: str | None = None) -> Any:
    details = {"type": "refusal", "category": category, "explanation": None}
    return good("anthropic", "part", stop_reason=stop, stop_details=details)


def google(finish: str, parts: Any = ({"text": "part"},)) -> Any:
    candidate = {"content": {"role": "model", "parts": list(parts)}, "finishReason": finish}
    return good("google", candidates=[candidate])


@pytest.mark.parametrize(
    ("wire", "body", "finish", "text"),
    [
        ("openai", openai("length"), "length", "part"),
        ("openai", openai("stop", None, "I will not."), "refusal", "I will not."),
        ("openai", openai("content_filter", None), "blocked", ""),
        ("openai", openai("stop", None), "stop", ""),
        ("openai_compatible", openai("eos"), "stop", "part"),
        ("anthropic", anthropic("max_tokens"), "length", "part"),
        ("anthropic", anthropic("model_context_window_exceeded"), "length", "part"),
        ("anthropic", anthropic("refusal"), "refusal", "part"),
        ("anthropic", anthropic("refusal", "bio"), "blocked", "part"),
        ("anthropic", good("anthropic", content=[]), "stop", ""),
        ("google", google("MAX_TOKENS"), "length", "part"),
        ("google", google("SAFETY", ()), "blocked", ""),
        ("google", google("PROHIBITED_CONTENT", ()), "blocked", ""),
        ("google", google("CONTINUATION"), "length", "part"),
        ("google", google("STOP", ()), "stop", ""),
        (
            "google",
            {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 3}},
            "blocked",
            "",
        ),
    ],
)
def test_refusals_blocks_and_length_stops_are_told_apart(
    wire: str, body: Any, finish: str, text: str
) -> None:
    reply = call(wire, Answer(body))
    assert (reply.finish, reply.text) == (finish, text)


@pytest.mark.parametrize(
    ("wire", "body"),
    [
        ("openai", error("openai", code="content_filter")),
        ("anthropic", error("anthropic", "Output blocked by content filtering policy")),
    ],
)
def test_a_prompt_that_the_filter_stops_is_blocked_and_free(wire: str, body: Any) -> None:
    reply = call(wire, Answer(body, 400))
    assert (reply.finish, reply.usage) == ("blocked", Usage())


@pytest.mark.parametrize("wire", WIRES)
def test_a_reply_without_usage_says_so(wire: str) -> None:
    body = good(wire)
    body.pop("usageMetadata" if wire == "google" else "usage")
    reply = call(wire, Answer(body))
    assert reply.text == "hi"
    assert reply.usage is None


FATES = {
    "row": (400, 413, 422),
    "stop": (401, 402, 403, 404),
    "heal": (408, 409, 500, 502, 503, 504),
    "wait": (429, 529),
}
STATUSES = {status: fate for fate, statuses in FATES.items() for status in statuses}


@pytest.mark.parametrize("wire", WIRES)
def test_each_status_has_its_fate_and_is_not_billed(wire: str) -> None:
    failed = failures(wire, [Answer(error(wire), status) for status in STATUSES])
    assert [each.fate for each in failed] == list(STATUSES.values())
    assert not any(each.is_uncertain for each in failed)
    assert all(f"our_{wire}" in str(each) for each in failed)


@pytest.mark.parametrize("wire", WIRES)
def test_an_error_page_that_is_no_json_has_the_fate_of_its_status(wire: str) -> None:
    page = b"<html>Bad Gateway</html>"
    pages = [Answer(page, status, content_type="text/html") for status in STATUSES]
    assert [failed.fate for failed in failures(wire, pages)] == list(STATUSES.values())


@pytest.mark.parametrize(
    ("wire", "status", "body", "fate"),
    [
        ("openai", 429, error("openai", code="insufficient_quota"), "stop"),
        ("openai", 400, error("openai", code="unsupported_value", param="temperature"), "stop"),
        ("openai", 400, error("openai", param="response_format"), "stop"),
        ("openai", 400, error("openai", code="context_length_exceeded", param="messages"), "row"),
        ("openai_compatible", 400, error("openai", param="input_tokens"), "row"),
        ("anthropic", 402, error("anthropic", type="billing_error"), "stop"),
        (
            "anthropic",
            400,
            error("anthropic", "Your credit balance is too low", type="invalid_request_error"),
            "stop",
        ),
        ("anthropic", 529, error("anthropic", type="overloaded_error"), "wait"),
        (
            "google",
            400,
            error(
                "google", details=[{"@type": "x/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}]
            ),
            "stop",
        ),
        ("google", 400, error("google", status="FAILED_PRECONDITION"), "stop"),
        (
            "google",
            429,
            error(
                "google",
                details=[
                    {
                        "@type": "type.googleapis.com/google.rpc.QuotaFailure",
                        "violations": [{"quotaId": "GenerateRequestsPerDayPerProjectPerModel"}],
                    }
                ],
            ),
            "stop",
        ),
    ],
)
def test_the_body_of_an_error_knows_better_than_its_status(
    wire: str, status: int, body: Any, fate: str
) -> None:
    failed = failure(wire, Answer(body, status))
    assert failed.fate == fate
    is_money = any(word in str(body) for word in ("insufficient", "billing", "credit", "PerDay"))
    assert ("the quota is used up" in str(failed)) == is_money


@pytest.mark.parametrize("wire", WIRES)
def test_retry_after_is_read_as_seconds_milliseconds_or_a_date(wire: str) -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    texts = ["7", "0.5", "soon", "-3", "inf", date]
    headers = [{"retry-after": text} for text in texts]
    headers += [{"retry-after-ms": "250", "retry-after": "1"}, {}]
    answers = [Answer(error(wire), 429, each) for each in headers]
    waits = [failed.retry_after_s for failed in failures(wire, answers)]
    assert waits[:5] == [7, 0.5, None, 0, None]
    assert 50 < (waits[5] or 0) <= 60
    assert waits[6:] == [0.25, None]


def test_google_says_in_the_body_how_long_to_wait() -> None:
    info = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "13.5s"}
    failed = failure("google", Answer(error("google", details=[info]), 429))
    assert failed.retry_after_s == 13.5


def test_openai_headers_tell_the_room() -> None:
    headers = {
        "x-ratelimit-limit-requests": "500",
        "x-ratelimit-remaining-requests": "499",
        "x-ratelimit-reset-requests": "120ms",
        "x-ratelimit-limit-tokens": "30000",
        "x-ratelimit-remaining-tokens": "29000",
        "x-ratelimit-reset-tokens": "1m2.5s",
    }
    room = Room(500, 499, 0.12, 30000, 29000, 62.5)
    reply = call("openai", Answer(good("openai"), headers=headers))
    assert reply.room == room
    assert failure("openai", Answer(error("openai"), 429, headers)).room == room


def test_anthropic_headers_tell_the_room() -> None:
    reset = f"{datetime.now(UTC) + timedelta(seconds=30):%Y-%m-%dT%H:%M:%SZ}"
    headers = {
        "anthropic-ratelimit-requests-limit": "50",
        "anthropic-ratelimit-requests-remaining": "49",
        "anthropic-ratelimit-requests-reset": reset,
        "anthropic-ratelimit-tokens-limit": "40000",
    }
    reply = call("anthropic", Answer(good("anthropic"), headers=headers))
    assert reply.room is not None
    assert reply.room.requests_reset_s is not None
    assert 25 < reply.room.requests_reset_s <= 30
    assert (reply.room.requests_per_minute, reply.room.requests_left) == (50, 49)
    assert (reply.room.tokens_per_minute, reply.room.tokens_left) == (40000, None)


@pytest.mark.parametrize("wire", WIRES)
def test_a_response_without_limits_tells_of_no_room(wire: str) -> None:
    reply = call(wire, Answer(good(wire)))
    assert reply.room is None


@pytest.mark.parametrize("wire", WIRES)
def test_a_body_that_cannot_be_read_heals_and_may_have_been_billed(wire: str) -> None:
    bodies = [
        b'{"choices": [{"mess',
        b"",
        {},
        [],
        "hi",
        {"choices": [], "content": None, "candidates": []},
        {"choices": [{}], "content": [{"type": "text"}], "candidates": [7]},
        {"error": {"message": "in a 200"}},
    ]
    answers = [Answer(body) for body in bodies]
    answers.append(Answer(b"<html>hi</html>", content_type="text/html"))
    for failed in failures(wire, answers):
        assert (failed.fate, failed.is_uncertain) == ("heal", True)


@pytest.mark.parametrize("wire", WIRES)
def test_an_error_in_a_200_is_told_in_the_provider_s_words(wire: str) -> None:
    said = [
        {"error": {"message": f"Overloaded, {KEY}.", "type": "overloaded_error"}},
        {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}},
        {"error": "Overloaded"},
        {"error": {"code": 429, "message": "Overloaded"}, "choices": []},
    ]
    for failed in (found := failures(wire, [Answer(body) for body in said])):
        assert "answered with an error: Overloaded" in str(failed)
        assert failed.is_uncertain
        assert KEY not in str(failed)
    assert [failed.fate for failed in found] == ["heal", "heal", "heal", "wait"]
    assert "it is empty" in str(failure(wire, Answer(b"")))


def test_an_error_in_a_choice_is_told_in_the_provider_s_words() -> None:
    broken = {"error": {"message": "Upstream busy"}, "message": {"role": "assistant"}}
    failed = failure("openai_compatible", Answer(good("openai", choices=[broken])))
    assert "answered with an error: Upstream busy" in str(failed)


@pytest.mark.parametrize(
    "body",
    [
        {"object": "error", "message": "Overloaded", "type": "x", "code": 500},
        {"detail": "Overloaded"},
        {"detail": [{"msg": "Overloaded", "loc": []}]},
        {"success": False, "errors": [{"code": 10013, "message": "Overloaded"}]},
        [{"error": {"code": 503, "message": "Overloaded", "status": "UNAVAILABLE"}}],
        {"choices": [], "error": {"type": "Overloaded", "message": ""}},
        {"error": {"code": "503", "message": "Overloaded"}},
    ],
)
@pytest.mark.parametrize("wire", WIRES)
def test_an_error_is_told_however_a_server_spells_it(wire: str, body: Any) -> None:
    failed = failure(wire, Answer(body))
    assert "answered with an error: Overloaded" in str(failed)
    assert (failed.fate, failed.is_uncertain) == ("heal", True)


@pytest.mark.parametrize("wire", WIRES)
def test_a_page_in_place_of_an_answer_is_told_by_how_it_begins(wire: str) -> None:
    page = b"<html><script>no()</script><title>Busy</title> come <b>later</b></html>"
    failed = failure(wire, Answer(page, content_type="text/html"))
    assert "it is text/html, not JSON: Busy come later" in str(failed)


NO_ANSWERS: dict[str, list[dict[str, Any]]] = {
    "openai": [
        {"choices": [{"message": {"content": None}, "finish_reason": None}]},
        {"choices": [{"message": {"content": ""}, "finish_reason": "error"}]},
        {"choices": [{"message": {"content": "half an"}, "finish_reason": "error"}]},
        {"choices": [{"message": None, "finish_reason": "stop"}]},
        {"choices": []},
    ],
    "anthropic": [{"content": [], "stop_reason": None}],
    "google": [
        {"candidates": [{"content": {"parts": []}, "finishReason": "OTHER"}]},
        {"candidates": [{"finishReason": "MALFORMED_RESPONSE"}]},
        {"candidates": [{"content": {"parts": [{"text": "hm", "thought": True}]}}]},
        {"candidates": []},
    ],
}
NO_ANSWERS["openai_compatible"] = NO_ANSWERS["openai"]


@pytest.mark.parametrize("wire", WIRES)
def test_a_200_without_a_word_and_without_an_end_is_no_answer(wire: str) -> None:
    answers = [Answer(good(wire, **changed)) for changed in NO_ANSWERS[wire]]
    for failed in failures(wire, answers):
        assert (failed.fate, failed.is_uncertain) == ("heal", True)


def test_an_empty_answer_that_ended_well_is_an_answer() -> None:
    empty = {"choices": [{"message": {"content": ""}, "finish_reason": "stop"}]}
    assert call("openai", Answer(good("openai", **empty))).text == ""
    assert call("anthropic", Answer(good("anthropic", content=[]))).text == ""


def test_a_refusal_and_a_filter_are_told_wherever_they_stand() -> None:
    parts = [{"type": "refusal", "refusal": "I cannot."}]
    refused = {"choices": [{"message": {"content": parts}, "finish_reason": "stop"}]}
    reply = call("openai", Answer(good("openai", **refused)))
    assert (reply.text, reply.finish) == ("I cannot.", "refusal")
    reason = "content_filter: RECITATION"  # of Gemini behind OpenAI's protocol
    filtered = {"choices": [{"message": {"content": None}, "finish_reason": reason}]}
    assert call("openai_compatible", Answer(good("openai", **filtered))).finish == "blocked"


def test_content_in_parts_is_text_without_the_reasoning() -> None:
    parts = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "Is it 3?"}]},
        {"type": "text", "text": "It is "},
        {"type": "text", "text": "4."},
    ]
    message = {"role": "assistant", "content": parts}
    body = good("openai", choices=[{"index": 0, "message": message, "finish_reason": "stop"}])
    assert call("openai_compatible", Answer(body)).text == "It is 4."


@pytest.mark.parametrize("wire", WIRES)
def test_a_good_body_of_the_wrong_type_is_not_believed(wire: str) -> None:
    failed = failure(wire, Answer(good(wire), content_type="text/plain"))
    assert (failed.fate, failed.is_uncertain) == ("heal", True)
    assert "text/plain" in str(failed)


@pytest.mark.slow
@pytest.mark.parametrize("wire", WIRES)
def test_an_answer_that_does_not_arrive_may_have_been_billed(wire: str) -> None:
    lost = [Answer(good(wire), how=how) for how in ("cut", "reset", "silent", "drip")]
    cut, reset, silent, drip = failures(wire, lost, timeout_s=0.3)
    for failed in (cut, reset, silent, drip):
        assert (failed.fate, failed.is_uncertain) == ("heal", True)
    assert "timeout_s=0.3" in str(silent)
    assert "timeout_s=0.3" in str(drip)


@pytest.mark.parametrize("wire", WIRES)
def test_half_a_character_is_sent_as_a_question_mark(wire: str) -> None:
    halves = Request(({"role": "user", "content": "é \ud83d"},))
    assert "é ?" in str(sent(wire, halves))


@pytest.mark.parametrize("wire", WIRES)
def test_a_call_that_never_left_was_not_billed(wire: str) -> None:
    failed = failure(wire, Answer(), base_url="http://127.0.0.1:9/v1")
    assert (failed.fate, failed.is_uncertain) == ("heal", False)


@pytest.mark.parametrize("wire", WIRES)
def test_the_key_is_in_no_message_and_no_traceback(wire: str) -> None:
    body = error(wire, f"Incorrect API key: {KEY}")
    echoes = [Answer(body, status) for status in (200, *STATUSES)]
    for failed in failures(wire, echoes):
        assert KEY not in "".join(traceback.format_exception(failed)) + repr(failed)


@pytest.mark.parametrize("wire", WIRES)
def test_a_rehearsal_server_is_refused_by_a_real_run(wire: str) -> None:
    marked = [Answer(good(wire), 200, {MARK: "1"}), Answer(error(wire), 500, {MARK: "1"})]
    for failed in failures(wire, marked):
        assert failed.fate == "stop"
        assert "rehearsal server" in str(failed)


@pytest.mark.parametrize("wire", WIRES)
def test_a_real_server_is_refused_by_a_rehearsal(wire: str) -> None:
    async def one() -> None:
        async with serving([Answer(good(wire))]) as server:
            provider = open_provider(service(wire, rehearsal=True), server.url)
            try:
                await provider.complete(Request(HELLO))
            finally:
                await provider.close()
                assert KEY not in str(server.headers)

    with pytest.raises(CallFailed, match=r"no rehearsal server") as caught:
        asyncio.run(one())
    assert caught.value.fate == "stop"


@pytest.mark.parametrize("wire", WIRES)
def test_no_other_variable_moves_the_endpoint(wire: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_BASE_URL", "ANTHROPIC_BASE_URL", "GOOGLE_GEMINI_BASE_URL"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY"):
        monkeypatch.setenv(name, "another-key")
    _, server = outcomes(wire, [Answer(good(wire))])
    assert KEY in str(server.headers)
    assert "another-key" not in str(server.headers)
    makers = endpoint_of(service(wire, base_url=None)) if wire != "openai_compatible" else None
    assert makers is None or makers.base_url.startswith("https://")


@pytest.mark.parametrize(
    ("wire", "changed", "sentence"),
    [
        ("openai", {"key_env": "UNDERSTUDY_NO_SUCH_KEY"}, "UNDERSTUDY_NO_SUCH_KEY"),
        ("openai_compatible", {}, "base_url=None"),
        ("openai", {"base_url": "localhost:8000"}, "base_url=localhost:8000"),
        ("openai", {"reasoning": 1024}, "reasoning=1024"),
        ("google", {"reasoning": "extreme"}, "minimal"),
        ("anthropic", {"rehearsal": True}, "rehearsal.url"),
    ],
)
def test_a_service_that_cannot_be_opened_says_what_to_mend(
    wire: str, changed: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(BadInput, match=sentence):
        open_provider(service(wire, **changed))


def test_a_key_with_a_stray_character_is_not_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_ENV, f"{KEY}\n")
    assert endpoint_of(service("openai")).key == KEY
    assert KEY not in repr(endpoint_of(service("openai")))
    monkeypatch.setenv(KEY_ENV, f"{KEY}\u2026")
    with pytest.raises(BadInput) as caught:
        endpoint_of(service("openai"))
    assert KEY not in str(caught.value)


@pytest.mark.parametrize(
    ("wire", "package", "extra"),
    [("openai_compatible", "openai", "openai"), ("google", "google.genai", "google")],
)
def test_a_missing_sdk_says_what_to_install(
    wire: str, package: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in {wire, extra}:
        name = f"understudy.services.providers.{folder}.calls"
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(EnvironmentFailed, match=rf"pip install 'understudy\[{extra}\]'"):
        open_provider(service(wire, base_url="http://127.0.0.1:9/v1"))


@pytest.mark.parametrize(("wire", "sdk"), [("anthropic", "anthropic"), ("google", "google.genai")])
def test_a_gateway_without_the_sdk_says_what_to_install(
    wire: str, sdk: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("calls", "translation"):
        monkeypatch.delitem(
            sys.modules, f"understudy.services.providers.{wire}.{name}", raising=False
        )
    monkeypatch.setitem(sys.modules, sdk, None)
    with pytest.raises(EnvironmentFailed, match=rf"pip install 'understudy\[{wire}\]'"):
        translation_of(service(wire))


@pytest.mark.slow
def test_only_the_chosen_sdk_is_imported() -> None:
    code = (
        "import sys; from understudy.services import providers\n"
        "assert not {'openai', 'anthropic', 'google.genai', 'httpx2'} & set(sys.modules)\n"
        "import understudy.services.providers.openai.calls\n"
        "assert not {'anthropic', 'google.genai'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[3])


@pytest.mark.parametrize("model", ["gpt-4o", "claude-3-sonnet-20240229"])
@pytest.mark.parametrize("wire", WIRES)
def test_the_rehearsal_judges_through_the_real_sdk(wire: str, model: str) -> None:
    messages = judge.render("default", "reference_first", "Say hi.", "hi", "hello")

    async def one(url: str) -> Any:
        provider = open_provider(
            service(wire, rehearsal=True, model=model, max_output_tokens=500), url
        )
        try:
            return await provider.complete(Request(tuple(messages), schema=judge.schema("default")))
        finally:
            await provider.close()

    with RehearsalServer(cached=0.5) as server:
        reply = asyncio.run(one(server.url))
        (charge,) = server.log
    assert isinstance(judge.parse(reply.text), judge.Scores)
    assert (reply.finish, reply.usage, reply.model) == ("stop", charge.usage, model)
