"""The three batch APIs through the real SDKs: submit, find again, poll, read every outcome."""

import asyncio
import time
import traceback
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import pytest

from support.wires import HELLO, KEY, KEY_ENV, Answer, Server, error, good, service, serving
from understudy.errors import BadInput
from understudy.prompts import judge
from understudy.rehearsal.server import RehearsalServer
from understudy.services.base import BatchProvider, BatchState, CallFailed, Reply, Request, Usage
from understudy.services.providers import open_batch
from understudy.services.providers.rehearsal_base import json_lines

WIRES = ("openai", "anthropic", "google")
T = TypeVar("T")


@pytest.fixture(autouse=True)
def _planted_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_ENV, KEY)


def rehearsed(wire: str, url: str, use: Callable[[BatchProvider], Coroutine[Any, Any, T]]) -> T:
    """What `use` makes of a batch adapter that talks to the rehearsal server."""

    async def run() -> T:
        provider = open_batch(service(wire, rehearsal=True, max_output_tokens=500), url)
        try:
            return await use(provider)
        finally:
            await provider.close()

    return asyncio.run(run())


def wanted(count: int) -> list[tuple[str, Request]]:
    """Requests for verdicts, with custom ids as long as ours are."""
    return [
        (
            f"{number:064d}",
            Request(
                tuple(judge.render("default", "reference_first", f"Say {number}.", "one", "two")),
                schema=judge.schema("default"),
            ),
        )
        for number in range(count)
    ]


async def ended(provider: BatchProvider, batch_id: str) -> BatchState:
    while not (state := await provider.poll(batch_id)).is_ended:
        await asyncio.sleep(0.02)
    return state


async def read(provider: BatchProvider, batch_id: str) -> dict[str, Reply | CallFailed]:
    return {id_: outcome async for id_, outcome in provider.results(batch_id)}


@pytest.mark.slow
@pytest.mark.parametrize("wire", WIRES)
def test_a_batch_comes_back_whole_and_is_billed_as_a_batch(wire: str) -> None:
    async def use(provider: BatchProvider) -> dict[str, Reply | CallFailed]:
        batch_id = await provider.submit(wanted(3), "a-label")
        assert (await provider.poll(batch_id)).is_ended is False
        state = await ended(provider, batch_id)
        assert state.requests in (3, None)
        assert state.label == (None if wire == "anthropic" else "a-label")
        return await read(provider, batch_id)

    with RehearsalServer(batch_s=0.2, cached=0.5) as server:
        outcomes = rehearsed(wire, server.url, use)
        log = server.log
    assert set(outcomes) == {id_ for id_, _ in wanted(3)}
    replies = [outcome for outcome in outcomes.values() if isinstance(outcome, Reply)]
    assert all(isinstance(judge.parse(reply.text), judge.Scores) for reply in replies)
    assert {reply.usage for reply in replies} == {charge.usage for charge in log}
    assert [charge.mode for charge in log] == ["batch"] * 3


@pytest.mark.slow
@pytest.mark.parametrize("wire", WIRES)
def test_a_batch_whose_id_was_lost_is_found_again(wire: str) -> None:
    async def use(provider: BatchProvider) -> None:
        before = time.time()
        first = await provider.submit(wanted(1), "first")
        await asyncio.sleep(1.1)  # OpenAI's times are whole seconds
        between = time.time()
        second = await provider.submit(wanted(2), "second")
        assert [state.id for state in await provider.recent(before)] == [second, first]
        (found,) = await provider.recent(between)
        assert found.id == second
        assert found.created is not None
        assert found.label == (None if wire == "anthropic" else "second")

    with RehearsalServer(batch_s=0.0) as server:
        rehearsed(wire, server.url, use)


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("fault", ["expired", "failed"])
def test_items_that_were_not_answered_are_failures_that_heal(wire: str, fault: str) -> None:
    async def use(provider: BatchProvider) -> dict[str, Reply | CallFailed]:
        batch_id = await provider.submit(wanted(20), "some")
        await ended(provider, batch_id)
        return await read(provider, batch_id)

    with RehearsalServer(batch_s=0.0, faults=f"{fault}=0.5") as server:
        outcomes = rehearsed(wire, server.url, use)
        billed = len(server.log)
    failed = [each for each in outcomes.values() if isinstance(each, CallFailed)]
    assert (len(outcomes), len(failed)) == (20, 20 - billed)
    assert 0 < billed < 20
    assert {(each.fate, each.is_uncertain) for each in failed} == {("heal", False)}


@pytest.mark.parametrize("wire", WIRES)
def test_what_finished_a_reply_is_told_apart_in_batches_too(wire: str) -> None:
    def finish(fault: str, limit: int) -> str:
        async def use() -> str:
            facts = service(wire, rehearsal=True, max_output_tokens=limit)
            provider = open_batch(facts, server.url)
            batch_id = await provider.submit(wanted(1), "one")
            await ended(provider, batch_id)
            (outcome,) = (await read(provider, batch_id)).values()
            await provider.close()
            assert isinstance(outcome, Reply)
            return outcome.finish

        with RehearsalServer(batch_s=0.0, faults=fault) as server:
            return asyncio.run(use())

    assert finish("", 5) == "length"
    if wire != "google":  # it declines in plain text
        assert finish("refusal", 500) == "refusal"
    assert finish("blocked", 500) == "blocked"


@asynccontextmanager
async def scripted(wire: str, *answers: Answer) -> AsyncIterator[tuple[BatchProvider, Server]]:
    async with serving(answers) as server:
        url = server.url + ("/v1" if wire == "openai" else "")
        provider = open_batch(service(wire, base_url=url, timeout_s=1.0))
        try:
            yield provider, server
        finally:
            await provider.close()


STEPS: dict[str, Callable[[BatchProvider], Coroutine[Any, Any, Any]]] = {
    "submit": lambda provider: provider.submit([("a", Request(HELLO))], "label"),
    "poll": lambda provider: provider.poll("batches/1"),
    "recent": lambda provider: provider.recent(0.0),
    "results": lambda provider: read(provider, "batches/1"),
}


@pytest.mark.slow
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("wire", WIRES)
def test_every_step_fails_as_an_online_call_does(wire: str, step: str) -> None:
    async def fail(answer: Answer) -> CallFailed:
        async with scripted(wire, answer) as (provider, _):
            with pytest.raises(CallFailed) as caught:
                await STEPS[step](provider)
        assert KEY not in "".join(traceback.format_exception(caught.value))
        return caught.value

    async def run() -> None:
        busy = await fail(Answer(error(wire, KEY), 429, {"retry-after": "3"}))
        assert (busy.fate, busy.retry_after_s) == ("wait", 3)
        assert (await fail(Answer(error(wire, KEY), 500))).fate == "heal"
        assert (await fail(Answer(error(wire, KEY), 401))).fate == "stop"
        lost = await fail(Answer(good(wire), how="reset"))
        assert (lost.fate, lost.is_uncertain) == ("heal", True)
        page = Answer(b"<html>", content_type="text/html")
        assert (await fail(page)).fate == "heal"
        marked = Answer(error(wire), 500, {"x-understudy-rehearsal": "1"})
        assert (await fail(marked)).fate == "stop"

    asyncio.run(run())


def openai_batch(**changed: Any) -> Answer:
    batch = {"id": "batch-1", "object": "batch", "created_at": 5, "status": "completed"}
    rest = {"endpoint": "/v1/chat/completions", "completion_window": "24h", "input_file_id": "f"}
    return Answer(batch | rest | changed)


def test_an_openai_batch_that_never_started_says_why() -> None:
    def errors(code: str) -> Answer:
        data = [{"code": code, "message": "line 1 is odd", "line": 1}]
        return openai_batch(status="failed", errors={"object": "list", "data": data})

    async def fate(code: str) -> str:
        async with scripted("openai", errors(code)) as (provider, _):
            assert (await provider.poll("batch-1")).is_ended
            with pytest.raises(CallFailed, match="line 1 is odd") as caught:
                await read(provider, "batch-1")
            return caught.value.fate

    assert asyncio.run(fate("token_limit_exceeded")) == "wait"
    assert asyncio.run(fate("invalid_json_line")) == "stop"


def openai_items(url: str) -> list[Answer]:
    def line(id_: str, status: int, body: Any) -> dict[str, Any]:
        response = {"status_code": status, "request_id": f"req-{id_}", "body": body}
        return {"custom_id": id_, "response": response, "error": None}

    answered = [line("good", 200, good("openai")), line("unreadable", 200, {})]
    others = [
        line("filtered", 400, error("openai", code="content_filter")),
        line("bad", 400, error("openai", code="context_length_exceeded", param="messages")),
        line("broken", 500, error("openai")),
        {"custom_id": "late", "response": None, "error": {"code": "batch_expired"}},
    ]
    batch = openai_batch(output_file_id="out", error_file_id="err")
    return [batch, *(Answer(json_lines(items)) for items in (answered, others))]


def anthropic_items(url: str) -> list[Answer]:
    def errored(id_: str, kind: str, message: str = "no") -> dict[str, Any]:
        fault = error("anthropic", message, type=kind)
        return {"custom_id": id_, "result": {"type": "errored", "error": fault}}

    items = [
        {"custom_id": "good", "result": {"type": "succeeded", "message": good("anthropic")}},
        {"custom_id": "late", "result": {"type": "expired"}},
        {"custom_id": "gone", "result": {"type": "canceled"}},
        errored("bad", "invalid_request_error"),
        errored("poor", "invalid_request_error", "Your credit balance is too low"),
        errored("busy", "overloaded_error"),
        errored("broken", "api_error"),
        errored("filtered", "invalid_request_error", "Output blocked by content filtering policy"),
    ]
    counts = ("processing", "succeeded", "errored", "canceled", "expired")
    batch = {
        "id": "batch-1",
        "type": "message_batch",
        "processing_status": "ended",
        "created_at": "2026-11-01T00:00:00Z",
        "expires_at": "2026-11-02T00:00:00Z",
        "request_counts": dict.fromkeys(counts, 1),
        "results_url": f"{url}/v1/messages/batches/batch-1/results",
    }
    return [Answer(batch), Answer(json_lines(items), content_type="application/x-jsonl")]


def google_items(url: str) -> list[Answer]:
    def item(id_: str, **outcome: Any) -> dict[str, Any]:
        return {"metadata": {"key": id_}, **outcome}

    items = [
        item("good", response=good("google")),
        item("filtered", response={"promptFeedback": {"blockReason": "SAFETY"}}),
        item("bad", error={"code": 3, "message": "no"}),
        item("busy", error={"code": 8, "message": "no"}),
        item("late", error={"code": 4, "message": "no"}),
    ]
    metadata = {
        "state": "BATCH_STATE_SUCCEEDED",
        "createTime": "2026-11-01T00:00:00Z",
        "output": {"inlinedResponses": {"inlinedResponses": items}},
    }
    return [Answer({"name": "batches/1", "metadata": metadata, "done": True})]


ITEMS = {"openai": openai_items, "anthropic": anthropic_items, "google": google_items}
FATES: dict[str, dict[str, str]] = {
    "openai": {"unreadable": "heal", "bad": "row", "broken": "heal", "late": "heal"},
    "anthropic": {"late": "heal", "gone": "heal", "bad": "row", "poor": "stop"}
    | {"busy": "wait", "broken": "heal"},
    "google": {"bad": "row", "busy": "wait", "late": "heal"},
}


@pytest.mark.parametrize("wire", WIRES)
def test_each_item_of_a_batch_has_its_outcome(wire: str) -> None:
    async def run() -> dict[str, Reply | CallFailed]:
        async with scripted(wire) as (provider, server):
            server.answers = ITEMS[wire](server.url)
            return await read(provider, "batches/1")

    outcomes = asyncio.run(run())
    first, filtered = outcomes.pop("good"), outcomes.pop("filtered")
    assert isinstance(first, Reply)
    assert isinstance(filtered, Reply)
    assert (first.text, filtered.finish) == ("hi", "blocked")
    assert first.usage == Usage(20, 8, 12, 5, written=2 if wire == "anthropic" else 0)
    assert first.request_id == {"openai": "req-good"}.get(wire, first.request_id)
    fates = {id_: each.fate for id_, each in outcomes.items() if isinstance(each, CallFailed)}
    assert fates == FATES[wire]
    assert fates.keys() == outcomes.keys()


def no_answers(wire: str, url: str) -> list[Answer]:
    """An ended batch whose items all have a good status, and none an answer."""
    said = error(wire, "Overloaded")
    if wire == "openai":
        bodies = {"said": said, "odd": "busy", "none": None, "empty": good(wire, choices=[])}
        bodies |= {"text": good(wire, choices=[{"message": {}, "finish_reason": None}])}
        responses = {id_: {"status_code": 200, "body": body} for id_, body in bodies.items()}
        lines = [{"custom_id": id_, "response": one} for id_, one in responses.items()]
        content = json_lines(lines) + b'{"custom_id": "cut\n[]\n{"response": {}}\n'
        return [openai_batch(output_file_id="out"), Answer(content)]
    if wire == "anthropic":
        batch, _ = anthropic_items(url)
        results = {
            "said": {"type": "succeeded", "message": said},
            "empty": {"type": "succeeded", "message": good(wire, content=[], stop_reason=None)},
            "odd": {"type": "errored", "error": {}},
        }
        lines = [{"custom_id": id_, "result": one} for id_, one in results.items()]
        return [batch, Answer(json_lines(lines), content_type="application/x-jsonl")]
    odd = {"candidates": [{"finishReason": "OTHER"}]}
    (batch,) = google_items(url)
    items = [{"metadata": {"key": "empty"}, "response": {}}, {"response": good(wire)}]
    items += [{"metadata": {"key": "odd"}, "response": odd}]
    batch.body["metadata"]["output"]["inlinedResponses"]["inlinedResponses"] = items
    return [batch]


@pytest.mark.parametrize("wire", WIRES)
def test_an_item_with_a_good_status_that_is_no_answer_is_a_failure(wire: str) -> None:
    async def run() -> dict[str, Reply | CallFailed]:
        async with scripted(wire) as (provider, server):
            server.answers = no_answers(wire, server.url)
            return await read(provider, "batches/1")

    outcomes = asyncio.run(run())
    ids = {"openai": {"said", "odd", "none", "empty", "text"}, "google": {"odd", "empty"}}
    assert outcomes.keys() == ids.get(wire, {"said", "odd", "empty"})
    assert {getattr(outcome, "fate", None) for outcome in outcomes.values()} == {"heal"}
    if "said" in outcomes:
        assert "answered with an error: Overloaded" in str(outcomes["said"])


def test_anthropic_counts_the_requests_of_a_batch_by_what_became_of_them() -> None:
    async def run() -> BatchState:
        async with scripted("anthropic", *anthropic_items("")) as (provider, _):
            return await provider.poll("batch-1")

    assert asyncio.run(run()).requests == 5


def test_a_service_without_a_batch_api_says_so() -> None:
    with pytest.raises(BadInput, match="mode=online"):
        open_batch(service("openai_compatible", base_url="http://127.0.0.1:9/v1"))
