"""The batch endpoints through the real SDKs."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import anthropic
import httpx2
import openai
import pytest
from google.genai import types

from support.rehearsals import (
    JUDGINGS,
    MODELS,
    PRICES,
    anthropic_sdk,
    google,
    heard,
    openai_sdk,
    prices,
)
from understudy.prompts import judge
from understudy.rehearsal.server import RehearsalServer
from understudy.services import money

COUNT = 12
Outcomes = dict[str, str]  # custom id → the answer, or the word for what became of it


def run(coroutine: Coroutine[Any, Any, Outcomes]) -> Outcomes:
    return asyncio.run(coroutine)


async def until(is_ended: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(10):
        while not await is_ended():
            await asyncio.sleep(0.02)


def openai_line(number: int) -> str:
    body = {"model": MODELS["openai"], "messages": JUDGINGS[number]}
    about = {"custom_id": f"c{number}", "method": "POST", "url": "/v1/chat/completions"}
    return json.dumps(about | {"body": body})


async def openai_batch(url: str) -> Outcomes:
    async with openai_sdk(url) as sdk:
        lines = "".join(f"{openai_line(number)}\n" for number in range(COUNT)).encode()
        file = await sdk.files.create(file=("calls.jsonl", lines), purpose="batch")
        assert (file.bytes, file.purpose) == (len(lines), "batch")
        submitted = await sdk.batches.create(
            input_file_id=file.id,
            endpoint="/v1/chat/completions",
            completion_window="24h",
            metadata={"label": "ours"},
        )
        assert submitted.status == "in_progress"
        seen = submitted

        async def is_ended() -> bool:
            nonlocal seen
            seen = await sdk.batches.retrieve(submitted.id)
            return seen.status in ("completed", "expired")

        await until(is_ended)
        listed = [batch async for batch in sdk.batches.list(limit=1)]
        assert [batch.id for batch in listed] == [submitted.id]
        assert listed[0].metadata == {"label": "ours"}
        outcomes: Outcomes = {"": seen.status}
        for file_id in (seen.output_file_id, seen.error_file_id):
            if file_id is not None:
                content = await sdk.files.content(file_id)
                outcomes |= dict(map(openai_outcome, content.text.splitlines()))
        assert seen.request_counts is not None
        answered = sum(text.startswith("{") for text in outcomes.values())
        assert (seen.request_counts.completed, seen.request_counts.total) == (answered, COUNT)
    return outcomes


def openai_outcome(line: str) -> tuple[str, str]:
    read = json.loads(line)
    if read["response"] is None:
        return read["custom_id"], read["error"]["code"]
    if read["response"]["status_code"] != 200:
        return read["custom_id"], read["response"]["body"]["error"]["type"]
    completion = openai.types.chat.ChatCompletion.model_validate(read["response"]["body"])
    return read["custom_id"], completion.choices[0].message.content or ""


def anthropic_request(number: int) -> Any:
    params = {"model": MODELS["anthropic"], "max_tokens": 4096, "messages": JUDGINGS[number]}
    return {"custom_id": f"c{number}", "params": params}


async def anthropic_batch(url: str) -> Outcomes:
    async with anthropic_sdk(url) as sdk:
        batches = sdk.messages.batches
        submitted = await batches.create(requests=map(anthropic_request, range(COUNT)))
        assert submitted.request_counts.processing == COUNT

        async def is_ended() -> bool:
            return (await batches.retrieve(submitted.id)).processing_status == "ended"

        await until(is_ended)
        listed = [batch async for batch in batches.list(limit=1)]
        assert [batch.id for batch in listed] == [submitted.id]
        outcomes: Outcomes = {}
        async for entry in await batches.results(submitted.id):
            result = entry.result
            if result.type == "succeeded":
                (block,) = result.message.content
                assert block.type == "text"
                outcomes[entry.custom_id] = block.text
            else:
                outcomes[entry.custom_id] = result.type
        counts = listed[0].request_counts
        answered = sum(text.startswith("{") for text in outcomes.values())
        assert (counts.succeeded, counts.processing) == (answered, 0)
    return outcomes


async def google_batch(url: str) -> Outcomes:
    async with google(url) as sdk:
        requests = [
            types.InlinedRequest(
                contents=JUDGINGS[number][0]["content"],
                metadata={"key": f"c{number}"},
                config=types.GenerateContentConfig(max_output_tokens=4096),
            )
            for number in range(COUNT)
        ]
        submitted = await sdk.aio.batches.create(
            model=MODELS["google"],
            src=types.BatchJobSource(inlined_requests=requests),
            config=types.CreateBatchJobConfig(display_name="ours"),
        )
        assert submitted.name is not None
        assert not submitted.done
        seen = submitted

        async def is_ended() -> bool:
            nonlocal seen
            seen = await sdk.aio.batches.get(name=submitted.name or "")
            return seen.done

        await until(is_ended)
        assert seen.state == types.JobState.JOB_STATE_SUCCEEDED
        listed = [job async for job in await sdk.aio.batches.list(config={"page_size": 1})]
        assert [job.display_name for job in listed] == ["ours"]
        assert seen.dest is not None
        outcomes: Outcomes = {}
        for entry in seen.dest.inlined_responses or []:
            assert entry.metadata is not None
            if entry.response is not None:
                outcomes[entry.metadata["key"]] = entry.response.text or ""
            else:
                assert entry.error is not None
                outcomes[entry.metadata["key"]] = str(entry.error.code)
    return outcomes


BATCH = {"openai": openai_batch, "anthropic": anthropic_batch, "google": google_batch}
WORDS = {
    "openai": {"batch_expired", "server_error"},
    "anthropic": {"expired", "errored"},
    "google": {"4", "13"},
}
each_wire = pytest.mark.parametrize("wire", list(BATCH))


@each_wire
def test_a_batch_is_answered_whole_at_the_batch_price(wire: str) -> None:
    with RehearsalServer(batch_s=0.1, prices=prices()) as server:
        outcomes = run(BATCH[wire](server.url))
        log = server.log
    assert outcomes.pop("", "completed") == "completed"
    assert set(outcomes) == {f"c{number}" for number in range(COUNT)}
    assert all(isinstance(judge.parse(text), judge.Scores) for text in outcomes.values())
    assert [charge.mode for charge in log] == ["batch"] * COUNT
    assert all(c.microusd == money.cost(c.usage, PRICES, "batch") for c in log)


@each_wire
def test_expired_and_failed_items_are_told_apart_and_free(wire: str) -> None:
    with RehearsalServer(batch_s=0, faults="expired=0.35,failed=0.35") as server:
        outcomes = run(BATCH[wire](server.url))
        faults, log = server.bill().faults, server.log
    assert outcomes.pop("", "expired") == "expired"
    assert len(outcomes) == COUNT
    bad = [text for text in outcomes.values() if not text.startswith("{")]
    assert set(bad) == WORDS[wire]
    assert len(bad) == faults["expired"] + faults["failed"] == COUNT - len(log)


@each_wire
def test_a_batch_of_one_call_says_what_the_call_alone_says(wire: str) -> None:
    with RehearsalServer(batch_s=0, repeatable=True) as server:
        batched = run(BATCH[wire](server.url))["c3"]
        assert batched == heard(server.url, wire, JUDGINGS[3])[0]


def test_a_reset_at_submission_comes_after_the_batch_was_made() -> None:
    async def main(url: str) -> list[str]:
        async with anthropic_sdk(url) as sdk:
            with pytest.raises(anthropic.APIConnectionError):
                await sdk.messages.batches.create(requests=[anthropic_request(0)])
            with pytest.raises(anthropic.APIConnectionError):
                await sdk.messages.batches.list()
            return [batch.id async for batch in sdk.messages.batches.list()]

    with RehearsalServer(faults="reset") as server:
        assert len(asyncio.run(main(server.url))) == 1
        assert server.bill().requests["anthropic.submit"] == 1


def test_batches_are_listed_newest_first_page_by_page_and_only_to_their_key() -> None:
    async def main(url: str) -> tuple[list[str], list[str], int]:
        async with anthropic_sdk(url) as sdk:
            made = [
                (await sdk.messages.batches.create(requests=[anthropic_request(number)])).id
                for number in range(5)
            ]
            listed = [batch.id async for batch in sdk.messages.batches.list(limit=2)]
            others = sdk.with_options(api_key="sk-somebody-else", auth_token=None)
            theirs = [batch async for batch in others.messages.batches.list()]
        return made, listed, len(theirs)

    with RehearsalServer() as server:
        made, listed, theirs = asyncio.run(main(server.url))
    assert listed == made[::-1]
    assert theirs == 0


def test_custom_ids_must_be_unique_and_well_formed() -> None:
    async def main(url: str) -> list[int]:
        statuses: list[int] = []
        twice = [anthropic_request(1), anthropic_request(1)]
        odd = [anthropic_request(1) | {"custom_id": "has a space"}]
        async with anthropic_sdk(url) as sdk:
            for requests in (twice, odd, []):
                with pytest.raises(anthropic.BadRequestError) as caught:
                    await sdk.messages.batches.create(requests=requests)
                statuses.append(caught.value.status_code)
        return statuses

    with RehearsalServer() as server:
        assert asyncio.run(main(server.url)) == [400, 400, 400]
        assert server.log == []


def test_results_of_an_unfinished_batch_and_unknown_things_are_not_found() -> None:
    async def main(url: str) -> list[int]:
        root, headers = f"{url}/anthropic/v1/messages/batches", {"x-api-key": "k"}
        async with httpx2.AsyncClient(headers=headers) as client:
            made = await client.post(root, json={"requests": [anthropic_request(0)]})
            paths = [
                f"{root}/{made.json()['id']}/results",
                f"{root}/msgbatch_unknown",
                f"{url}/anthropic/v1/nowhere",
            ]
            return [(await client.get(path)).status_code for path in paths]

    with RehearsalServer(batch_s=60) as server:
        assert asyncio.run(main(server.url)) == [404, 404, 404]
