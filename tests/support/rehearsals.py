"""What clients ask of the rehearsal server, and what it charges."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anthropic
import httpx2
import openai
import pytest
from google import genai
from google.genai import types

from understudy import playground
from understudy.config import Prices
from understudy.prompts import judge
from understudy.services.base import Usage

PAIRS = playground.generate("closed_qa", seed=0, start=0, count=16)


JUDGINGS = [
    judge.render("default", "reference_first", *pair, f"{pair.response} I think") for pair in PAIRS
]


JUDGING = JUDGINGS[0]


PRICES = Prices(input=2.5, cached=1.25, output=10.0, batch=0.5, date="2026-11-01", source="test")


KEY = "sk-planted-0123456789"


MODELS = {"openai": "gpt-test", "anthropic": "claude-test", "google": "gemini-test"}


class Heard(tuple[str | None, str | None, Usage]):
    """(text, finish in the provider's word, usage)."""


def openai_sdk(url: str) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{url}/openai/v1", api_key=KEY, max_retries=0)


def anthropic_sdk(url: str) -> anthropic.AsyncAnthropic:
    return anthropic.AsyncAnthropic(base_url=f"{url}/anthropic", api_key=KEY, max_retries=0)


async def ask_openai(url: str, messages: Any, limit: int = 4096, **more: Any) -> Heard:
    async with openai_sdk(url) as sdk:
        reply = await sdk.chat.completions.create(
            model=MODELS["openai"], messages=messages, max_completion_tokens=limit, **more
        )
    usage, choice = reply.usage, reply.choices[0]
    assert usage is not None
    assert usage.prompt_tokens_details is not None
    assert usage.completion_tokens_details is not None
    counts = Usage(
        usage.prompt_tokens,
        usage.prompt_tokens_details.cached_tokens or 0,
        usage.completion_tokens,
        usage.completion_tokens_details.reasoning_tokens or 0,
    )
    return Heard((choice.message.content, choice.finish_reason, counts))


async def ask_anthropic(url: str, messages: Any, limit: int = 4096, **more: Any) -> Heard:
    async with anthropic_sdk(url) as sdk:
        reply = await sdk.messages.create(
            model=MODELS["anthropic"], messages=messages, max_tokens=limit, **more
        )
    usage = reply.usage
    assert usage.output_tokens_details is not None
    cached = usage.cache_read_input_tokens or 0
    counts = Usage(
        usage.input_tokens + cached,
        cached,
        usage.output_tokens,
        usage.output_tokens_details.thinking_tokens,
    )
    text = "".join(block.text for block in reply.content if block.type == "text")
    return Heard((text, reply.stop_reason, counts))


@asynccontextmanager
async def google(url: str) -> AsyncIterator[genai.Client]:
    # The SDK's own choice, aiohttp, warns of itself.
    async with httpx2.AsyncClient() as client:
        options = types.HttpOptions(base_url=f"{url}/google", httpx_async_client=client)
        yield genai.Client(api_key=KEY, http_options=options)


async def ask_google(url: str, messages: Any, limit: int = 4096, **more: Any) -> Heard:
    contents: Any = [
        {
            "role": "model" if message["role"] == "assistant" else "user",
            "parts": [{"text": message["content"]}],
        }
        for message in messages
    ]
    async with google(url) as sdk:
        reply = await sdk.aio.models.generate_content(
            model=MODELS["google"],
            contents=contents,
            config=types.GenerateContentConfig(max_output_tokens=limit, **more),
        )
    usage = reply.usage_metadata
    assert usage is not None
    reasoning = usage.thoughts_token_count or 0
    counts = Usage(
        usage.prompt_token_count or 0,
        usage.cached_content_token_count or 0,
        (usage.candidates_token_count or 0) + reasoning,
        reasoning,
    )
    candidate = reply.candidates[0] if reply.candidates else None
    reason = candidate.finish_reason.value if candidate and candidate.finish_reason else None
    return Heard((reply.text, reason, counts))


Ask = Callable[..., Awaitable[Heard]]


ASK: dict[str, Ask] = {"openai": ask_openai, "anthropic": ask_anthropic, "google": ask_google}


each_wire = pytest.mark.parametrize("wire", list(ASK))


def heard(url: str, wire: str, messages: Any = JUDGING, **more: Any) -> Heard:
    async def main() -> Heard:
        return await ASK[wire](url, messages, **more)

    return asyncio.run(main())


def prices() -> dict[str, Prices]:
    return dict.fromkeys(MODELS.values(), PRICES)
