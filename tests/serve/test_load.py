"""A thousand mixed requests, 32 in flight: right answers, right usage, nothing left behind."""

import asyncio
import json
import random
import time
from collections import Counter
from pathlib import Path
from typing import Any

import openai
import pytest

from support.served_models import NO_END, process
from support.servers import chat, get, metric, post
from understudy import locations

IN_FLIGHT = 32
QUESTIONS = [f"What is the colour of item {n}, and of {'the other one ' * n}?" for n in range(12)]


def asked(number: int) -> dict[str, Any]:
    """A greedy request that is the same every twelve numbers."""
    messages = [{"role": "user", "content": QUESTIONS[number % 12]}]
    return chat(messages=messages, max_tokens=4 + 5 * (number % 12), model="tiny")


class Client:
    """Sends requests of all kinds and counts what came back."""

    def __init__(self, url: str, alone: list[tuple[str, int]]) -> None:
        self.url, self.alone = url, alone
        self.sdk = openai.AsyncOpenAI(api_key="none", base_url=f"{url}/v1", max_retries=0)
        self.seen: Counter[str] = Counter()

    async def plain(self, number: int) -> None:
        made = await self.sdk.chat.completions.create(**asked(number))
        self.check(number, made.choices[0].message.content or "", made.usage)

    async def streamed(self, number: int) -> None:
        text, usage = "", None
        options: Any = {"include_usage": True}
        stream = await self.sdk.chat.completions.create(
            **asked(number), stream=True, stream_options=options
        )
        async for chunk in stream:
            text += (chunk.choices[0].delta.content or "") if chunk.choices else ""
            usage = chunk.usage
        self.check(number, text, usage)

    def check(self, number: int, text: str, usage: Any) -> None:
        assert (text, usage.completion_tokens) == self.alone[number % 12]
        assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens

    async def several(self, number: int) -> None:
        made = await self.sdk.chat.completions.create(
            **{**asked(number), "n": 3, "temperature": 1.0, "seed": number},
            extra_body={"return_token_ids": True},
        )
        tokens = sum(len(choice.token_ids) for choice in made.choices)  # type: ignore[attr-defined]
        assert made.usage is not None
        assert (len(made.choices), made.usage.completion_tokens) == (3, tokens)

    async def stopped(self, number: int) -> None:
        stop = self.alone[number % 12][0][3:6]
        made = await self.sdk.chat.completions.create(**{**asked(number), "stop": stop})
        assert made.choices[0].message.content == self.alone[number % 12][0].partition(stop)[0]

    async def left(self, number: int) -> None:
        long = {**asked(number), "max_tokens": 600, "logit_bias": NO_END}
        stream = await self.sdk.chat.completions.create(**long, stream=True)
        async for _ in stream:
            break
        await stream.close()

    async def wrong(self, number: int) -> None:
        bodies: list[tuple[Any, int]] = [
            (b"{", 400),
            ({**asked(number), "model": "gpt-4o"}, 404),
            ({**asked(number), "temperature": 9}, 400),
            ({**asked(number), "user": "x" * 1_100_000}, 413),
        ]
        body, status = bodies[number // 7 % 4]
        answer = await asyncio.to_thread(post, self.url, body)
        assert answer.status == status

    async def play(self, count: int) -> None:
        kinds = (
            *(self.plain, self.streamed) * 2,
            self.several,
            self.stopped,
            self.left,
            self.wrong,
        )
        free, draw = asyncio.Semaphore(IN_FLIGHT), random.Random(0)

        async def one(number: int) -> None:
            async with free:
                kind = draw.choice(kinds)
                await asyncio.wait_for(kind(number), 120)
                self.seen[kind.__name__] += 1

        await asyncio.gather(*(one(number) for number in range(count)))


def state(pid: int) -> dict[str, int]:
    """Memory in kB, threads and open files of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    found = {line.partition(":")[0]: line.split()[1] for line in lines if line.split()[1:]}
    files = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    return {"kB": int(found["VmRSS"]), "threads": int(found["Threads"]), "files": files}


@pytest.mark.slow
def test_a_thousand_mixed_requests_leave_nothing_behind() -> None:
    arguments = (str(locations.model("package:tiny")), "serve.max_choices=4", "--port", "0")
    with process(*arguments) as (child, url):
        alone = []
        for number in range(12):
            made = post(url, asked(number)).json
            text = made["choices"][0]["message"]["content"]
            alone.append((text, made["usage"]["completion_tokens"]))

        async def play(count: int) -> Counter[str]:
            client = Client(url, alone)
            await client.play(count)
            await client.sdk.close()
            return client.seen

        asyncio.run(play(300))  # warms up
        before = settled(child.pid, url)
        began = time.monotonic()
        seen = asyncio.run(play(1000))
        took = time.monotonic() - began
        after = settled(child.pid, url)
        print(json.dumps({"seen": seen, "seconds": took, "before": before, "after": after}))
        assert sum(seen.values()) == 1000
        assert after["kB"] - before["kB"] < 50_000  # malloc keeps half of that, or gives it back
        assert after["threads"] <= before["threads"]
        assert after["files"] <= before["files"]
        statuses = [
            line.partition('status="')[2][:3]
            for line in get(url, "/metrics").text.splitlines()
            if line.startswith("understudy_requests_total")
        ]
        assert not [status for status in statuses if status.startswith("5")]
        assert metric(url, "understudy_cancelled_total") > 0


def settled(pid: int, url: str) -> dict[str, int]:
    """The state once all answers have ended, which it waits for."""
    deadline = time.monotonic() + 30
    while metric(url, "understudy_answers"):
        assert time.monotonic() < deadline, "answers are still under way"
        time.sleep(0.01)
    time.sleep(0.3)
    return state(pid)
